"""The verbs: set, get, list, describe, delete."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from secretstore import SecretClient, SecretInfo
from secretstore.cli import output
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, format_of, opened_store
from secretstore.cli.output import MASK, Format
from secretstore.cli.values import parse_json, read_text
from secretstore.domain.names import parse_keys

SecretKey = Annotated[str, typer.Argument(metavar="KEY", help="The name of the secret.", show_default=False)]

_LIST_COLUMNS = ("key", "version", "updated_at", "labels")

SET_EXAMPLES = """
Examples:

  secretstore set api.github                      # asks twice, shows nothing

  some-command | secretstore set api.github       # drops one line end

  secretstore set tls.key --file key.pem          # stores every byte

  secretstore set db.main --json --file db.json   # an object, not a text
"""
GET_EXAMPLES = """
Examples:

  secretstore get api.github                         # ******** on a terminal

  secretstore get api.github --reveal                # in clear

  TOKEN=$(secretstore get api.github --plain)        # the text alone

  secretstore get db.main --field hosts.0.password   # one field
"""


class SetCommand(typer.core.TyperCommand):
    """`set`, whose errors repeat no argument: one of them may be the value."""

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
            f"{where}; a value that begins with a dash comes from a pipe; see `secretstore set --help`", ExitCode.USAGE
        )


def set_secret(
    key: SecretKey,
    value: Annotated[
        str | None,
        typer.Argument(metavar="VALUE", help="The value, with a warning; - reads it from stdin.", show_default=False),
    ] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="PATH", help="Read the value from a file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The value is JSON, not text.")] = False,
    expected_version: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Write only over this version; 0: only where there is none."),
    ] = None,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Store an empty text too.")] = False,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Store a value as the next version of a secret.

    The value comes from a pipe, a file, or else a hidden prompt.  It is text unless --json says otherwise.
    """
    text = read_text(value, file, allow_empty=allow_empty)
    parsed = parse_json(text) if as_json else text
    with opened_store(database_url, namespace) as store:
        info = store.set_secret(key, parsed, expected_version=expected_version)
    output.say(f"stored {key}, version {info.version}")


def get_secret(
    key: SecretKey,
    *,
    version: Annotated[int | None, typer.Option(min=1, metavar="N", help="This version, not the newest.")] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the value on a terminal.")] = False,
    field: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Print one field: names of members and places in lists, with dots between."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print the value alone: text as it is, anything else as JSON.")
    ] = False,
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
    with opened_store(database_url, namespace) as store:
        if plain or field is not None:
            stored = store.get_secret_or_raise(key, version=version)
            output.show_raw(stored if field is None else _field_of(stored, field, key))
        else:
            _show(store, key, version, reveal=reveal, wanted=format_of(output_format))


def list_secrets(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only keys that begin like this.")] = "",
    *,
    after: Annotated[str | None, typer.Option(metavar="KEY", help="Only keys after this one: the next page.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many.")] = None,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """List secrets by key, without values; decrypts nothing."""
    wanted = format_of(output_format)
    with opened_store(database_url, namespace) as store:
        infos = store.list_secrets(prefix, after=after, limit=limit)
    output.show_records([asdict(info) for info in infos], _LIST_COLUMNS, wanted)


def describe_secret(
    key: SecretKey,
    *,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Show what is known of a secret but its value; decrypts nothing."""
    wanted = format_of(output_format)
    with opened_store(database_url, namespace) as store:
        info = _described(store, key)
    output.show_record(asdict(info), wanted)


def delete_secrets(
    keys: Annotated[list[str], typer.Argument(metavar="KEY…", help="The names of the secrets.", show_default=False)],
    *,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Delete secrets; ends with 3 where one was missing.

    Those that are there are deleted all the same.
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


def _show(store: SecretClient, key: str, version: int | None, *, reveal: bool, wanted: Format) -> None:
    masked = not reveal and (output.on_terminal() or wanted is Format.TABLE)
    if wanted is Format.TABLE:
        output.show_record(_row(store, key, version, masked=masked), wanted)
    else:
        value = store.get_secret_or_raise(key, version=version)
        output.show_data(MASK if masked else value, wanted)
    if masked:
        output.say("the value is hidden; add --reveal to see it")


def _row(store: SecretClient, key: str, version: int | None, *, masked: bool) -> dict[str, Any]:
    """Return the value beside what is known of that very version."""
    info = _described(store, key)
    if version is None:
        # The version of the history is shown, whose number is sure; but what programs read has to open too.
        store.get_secret_or_raise(key)
    # Read also where it is masked, so that the exit code says whether it opens.
    value = store.get_secret_or_raise(key, version=version or info.version)
    is_current = version in (None, info.version)
    return {
        "key": key,
        "version": version or info.version,
        **({"updated_at": info.updated_at} if is_current else {}),
        "value": MASK if masked else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
    }


def _described(store: SecretClient, key: str) -> SecretInfo:
    info = store.describe_secret(key)
    if info is None:
        raise CommandError(f"there is no secret {key!r}", ExitCode.NOT_FOUND)
    return info


def _field_of(value: Any, path: str, key: str) -> Any:
    for step in path.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and step.isascii() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise CommandError(f"there is no field {path!r} in secret {key!r}", ExitCode.NOT_FOUND)
    return value
