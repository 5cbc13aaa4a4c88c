"""The verbs: set, patch, get, list, describe, delete."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from secretstore import PastSecretClient, SecretClient, SecretInfo
from secretstore.cli import output
from secretstore.cli.arguments import (
    parse_duration,
    parse_expected_version,
    parse_label_texts,
    parse_time,
    parse_version,
)
from secretstore.cli.chains import (
    ChainUrls,
    WantedOfChain,
    chain_named,
    explain,
    list_chain,
    opened_chain,
    refuse_options,
)
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.json_text import parse_json
from secretstore.cli.options import (
    DatabaseUrl,
    NamespaceName,
    OutputFormat,
    SecretKey,
    SecretKeys,
    format_of,
    opened_store,
)
from secretstore.cli.output import MASK, Format
from secretstore.cli.values import read_text
from secretstore.domain.names import parse_keys

_LIST_COLUMNS = ("key", "version", "updated_at", "labels")

SET_EXAMPLES = """
Examples:

  secretstore set api.github                      # asks twice, shows nothing

  some-command | secretstore set api.github       # drops one line end

  secretstore set tls.key --file key.pem          # stores every byte

  secretstore set db.main --json --file db.json   # an object, not a text

  secretstore set api.trial --ttl 14d             # missing after two weeks
"""
PATCH_EXAMPLES = """
Examples:

  echo '{"port": 5433}' | secretstore patch db.main    # sets one member

  echo '{"ssl": null}' | secretstore patch db.main     # removes one

  secretstore patch db.main --file change.json
"""
GET_EXAMPLES = """
Examples:

  secretstore get api.github                         # ******** on a terminal

  secretstore get api.github --reveal                # in clear

  TOKEN=$(secretstore get api.github --plain)        # the text alone

  secretstore get db.main --field hosts.0.password   # one field

  secretstore get app --resolve                      # with its references

  secretstore get api.github --at 2026-08-01T12:00Z  # as it was then

  secretstore get api.github --explain               # who answers, no value
"""
LIST_EXAMPLES = """
Examples:

  secretstore list api. --label team=web   # by beginning and label

  secretstore list --expiring-within 7d    # what needs a new value soon

  secretstore list --unchanged-for 90d     # what is overdue for a new one
"""


ValueArgument = Annotated[
    str | None,
    typer.Argument(metavar="VALUE", help="The value, with a warning; - reads it from stdin.", show_default=False),
]
ValueFile = Annotated[Path | None, typer.Option("--file", "-f", metavar="PATH", help="Read the value from a file.")]


class ValueCommand(typer.core.TyperCommand):
    """A command whose errors repeat no argument: one of them may be the value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # its type is no public name of Typer's
        """Parse the arguments."""
        where = "too many arguments, or no such option"
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            where = f"{error.param.get_error_hint()} is missing or wrong" if error.param else where
        except typer.TyperException:
            pass
        raise CommandError(
            f"{where}; a value that begins with a dash comes from a pipe; see `{ctx.command_path} --help`",
            ExitCode.USAGE,
        )


def set_secret(  # noqa: PLR0913 - an option each
    key: SecretKey,
    value: ValueArgument = None,
    *,
    file: ValueFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="The value is JSON, not text.")] = False,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=TEXT",
            help="A label, in the place of those that the secret has; several times for several.  Not encrypted.",
        ),
    ] = None,
    ttl: Annotated[
        timedelta | None,
        typer.Option("--ttl", parser=parse_duration, metavar="TIME", help="Expire after 90d, 12h, 30m, 45s or 1d12h."),
    ] = None,
    expires_at: Annotated[
        datetime | None,
        typer.Option(
            "--expires-at", parser=parse_time, metavar="TIME", help="Expire then: ISO 8601 with an offset or Z."
        ),
    ] = None,
    expected_version: Annotated[
        int | None,
        typer.Option(
            parser=parse_expected_version,
            metavar="N",
            help="Write only over this version; 0: only where there is none.",
        ),
    ] = None,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Store an empty text too.")] = False,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Store a value as the next version of a secret.

    The value comes from a pipe, a file, or else a hidden prompt.  It is text unless --json says otherwise.
    The new version expires only where --ttl or --expires-at says so: then the secret reads as missing.
    """
    if ttl is not None and expires_at is not None:
        raise CommandError("give either --ttl or --expires-at, not both", ExitCode.USAGE)
    given = parse_label_texts(labels)
    text = read_text(value, file, allow_empty=allow_empty)
    parsed = parse_json(text) if as_json else text
    with opened_store(database_url, namespace) as store:
        info = store.set_secret(
            key, parsed, expected_version=expected_version, labels=given, expires_at=expires_at, ttl=ttl
        )
    output.say(f"stored {key}, {with_expiry(info)}")


def patch_secret(
    key: SecretKey,
    patch: ValueArgument = None,
    *,
    file: ValueFile = None,
    expected_version: Annotated[
        int | None,
        typer.Option(parser=parse_version, metavar="N", help="Change this version, and no other."),
    ] = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Change parts of a value by a JSON merge patch.

    A member that is null in the patch is removed (RFC 7396).  The patch comes from a pipe, a file, or else a hidden prompt.
    The result is the next version; labels and expiry stay as they are.
    """
    changes = parse_json(read_text(patch, file, allow_empty=True))
    with opened_store(database_url, namespace) as store:
        info = store.patch_secret(key, changes, expected_version=expected_version)
    output.say(f"stored {key}, {with_expiry(info)}")


def get_secret(  # noqa: PLR0913 - an option each
    key: SecretKey,
    *,
    version: Annotated[
        int | None, typer.Option(parser=parse_version, metavar="N", help="This version, not the newest.")
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option("--at", parser=parse_time, metavar="TIME", help="As it was then: ISO 8601 with an offset or Z."),
    ] = None,
    resolve: Annotated[
        bool, typer.Option("--resolve", help="Put in what references point at: {'$ref': 'other.key#/json/pointer'}.")
    ] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the value on a terminal.")] = False,
    field: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Print one field: names of members and places in lists, with dots between."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print the value alone: text as it is, anything else as JSON.")
    ] = False,
    explained: Annotated[
        bool,
        typer.Option(
            "--explain", help="Print which provider answers, and what the others hold, in place of the value."
        ),
    ] = False,
    chain: ChainUrls = None,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Print the value of a secret; a terminal shows it masked.

    --reveal shows it there too, and so do --plain and --field, which print one raw value.
    One line end follows it, which $(…) and `set` drop again.
    """
    if output_format and (plain or field is not None):
        raise CommandError("--plain and --field print one raw value; leave --format out", ExitCode.USAGE)
    urls = chain_named(chain, database_url, namespace)
    if urls is not None or explained:
        refuse_options("with a chain, nor with --explain", at=at, resolve=resolve)
    if explained:
        refuse_options("with --explain", version=version, reveal=reveal, field=field is not None, plain=plain)
        with opened_chain(urls, database_url, namespace) as links:
            explain(links, key, format_of(output_format))
        return
    shown = _Shown(field=field, plain=plain, output_format=output_format, reveal=reveal)
    if urls is not None:
        with opened_chain(urls, database_url, namespace) as links:
            shown.show(WantedOfChain(links, key, version))
        return
    with opened_store(database_url, namespace) as store:
        shown.show(_Wanted(store if at is None else store.as_of(at), key, version, resolve))


def list_secrets(  # noqa: PLR0913 - an option each
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only keys that begin like this.")] = "",
    *,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="NAME=TEXT", help="Only secrets with this label; several times: with all of them."
        ),
    ] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also deleted ones.")] = False,
    expired: Annotated[bool, typer.Option("--expired", help="Only expired ones, which read as missing.")] = False,
    expiring_within: Annotated[
        timedelta | None,
        typer.Option("--expiring-within", parser=parse_duration, metavar="TIME", help="Only what expires within 7d."),
    ] = None,
    unchanged_for: Annotated[
        timedelta | None,
        typer.Option(
            "--unchanged-for", parser=parse_duration, metavar="TIME", help="Only what has had its value for 90d."
        ),
    ] = None,
    after: Annotated[str | None, typer.Option(metavar="KEY", help="Only keys after this one: the next page.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many.")] = None,
    chain: ChainUrls = None,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """List secrets by key, without values; decrypts nothing.

    Of a chain it lists the keys that any of the providers has, each with the one that answers.
    """
    wanted = format_of(output_format)
    urls = chain_named(chain, database_url, namespace)
    if urls is not None:
        dates = {"expiring_within": expiring_within, "unchanged_for": unchanged_for}
        refuse_options("with a chain", label=labels, deleted=deleted, expired=expired, **dates)
        list_chain(urls, prefix, after=after, limit=limit, wanted=wanted)
        return
    if expired and (deleted or expiring_within is not None):
        raise CommandError("--expired goes neither with --deleted nor with --expiring-within", ExitCode.USAGE)
    with opened_store(database_url, namespace) as store:
        infos = store.list_secrets(
            prefix,
            labels=parse_label_texts(labels),
            include_deleted=deleted,
            expired=expired,
            expiring_within=expiring_within,
            unchanged_for=unchanged_for,
            after=after,
            limit=limit,
        )
    asked = {"expires_at": expired or expiring_within is not None, "deleted_at": deleted}
    columns = (*_LIST_COLUMNS, *(column for column, is_asked in asked.items() if is_asked))
    output.show_records([asdict(info) for info in infos], columns, wanted)


def describe_secret(
    key: SecretKey,
    *,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Show what is known of a secret without its value."""
    wanted = format_of(output_format)
    with opened_store(database_url, namespace) as store:
        info = described(store, key)
    output.show_record(asdict(info), wanted)


def delete_secrets(
    keys: SecretKeys,
    *,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Delete secrets; ends with 3 where one was missing.

    Those that are there are deleted all the same.  `undelete` brings them back.
    """
    missing = []
    with opened_store(database_url, namespace) as store:
        for key in parse_keys(keys):
            if store.delete_secret(key):
                output.say(f"deleted {key}")
            else:
                missing.append(repr(str(key)))
    if missing:
        raise CommandError(f"there is no secret {', '.join(missing)}", ExitCode.NOT_FOUND)


def described(reader: SecretClient | PastSecretClient, key: str) -> SecretInfo:
    """Return what is known of a secret; ends with 3 where there is none."""
    info = reader.describe_secret(key)
    if info is None:
        raise CommandError(f"there is no secret {key!r}", ExitCode.NOT_FOUND)
    return info


def with_expiry(info: SecretInfo) -> str:
    """Return in words which version was written, and when it expires."""
    expiry = "" if info.expires_at is None else f", which expires at {output.printed_time(info.expires_at)}"
    return f"version {info.version}{expiry}"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The value to read, among secrets as they are or as they were."""

    reader: SecretClient | PastSecretClient
    key: str
    version: int | None
    resolve: bool

    def read(self, version: int | None = None) -> Any:
        return self.reader.get_secret_or_raise(self.key, version=version or self.version, resolve=self.resolve)

    def row(self, *, masked: bool) -> dict[str, Any]:
        """Return the value beside what is known of that very version."""
        info = described(self.reader, self.key)
        version = self.version or info.version
        if self.version is None:
            # The version of the history is shown, whose number is sure; but what programs read has to open too.
            self.read()
        # Read also where it is masked, so that the exit code says whether it opens.
        value = self.read(version)
        return {
            "key": self.key,
            "version": version,
            **({"updated_at": info.updated_at} if version == info.version else {}),
            "value": MASK if masked else output.raw_text(value),
        }


@dataclass(frozen=True, slots=True)
class _Shown:
    """How a value is printed: raw, or in a format."""

    field: str | None
    plain: bool
    output_format: Format | None
    reveal: bool

    def show(self, wanted: _Wanted | WantedOfChain) -> None:
        if self.plain or self.field is not None:
            stored = wanted.read()
            output.show_raw(stored if self.field is None else _field_of(stored, self.field, wanted.key))
        else:
            self._show_formatted(wanted, format_of(self.output_format))

    def _show_formatted(self, wanted: _Wanted | WantedOfChain, output_format: Format) -> None:
        masked = not self.reveal and (output.on_terminal() or output_format is Format.TABLE)
        if output_format is Format.TABLE:
            output.show_record(wanted.row(masked=masked), output_format)
        else:
            value = wanted.read()
            output.show_data(MASK if masked else value, output_format)
        if masked:
            output.say("the value is hidden; add --reveal to see it")


def _field_of(value: Any, path: str, key: str) -> Any:
    for step in path.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and step.isascii() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise CommandError(f"there is no field {path!r} in secret {key!r}", ExitCode.NOT_FOUND)
    return value
