"""From one provider to another: copy, and diff, which also compares two versions of a secret."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from secretstore import CopiedSecret, ProviderDifference, compare_providers, copy_secrets, open_provider
from secretstore.cli import history, output
from secretstore.cli.arguments import parse_version
from secretstore.cli.asking import confirm, refuse_unasked
from secretstore.cli.chains import refuse_options
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.files import new_file
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, format_of, warn_of_password
from secretstore.cli.output import Format, counted
from secretstore.domain.providers import SecretProvider
from secretstore.errors import ConfigurationError
from secretstore.moving.mapping import SAME_KEYS
from secretstore.settings import load_moving_settings

COPY_EXAMPLES = """
Examples:

  secretstore copy --from vault://vault:8200/secret/app --to postgresql://app@db/app --dry-run

  secretstore copy --from env://?prefix=APP_ --to embedded --map 'old/{key}' --verify

  secretstore copy --report moved.jsonl      # URLs from SECRETSTORE_FROM_URL and SECRETSTORE_TO_URL
"""
DIFF_EXAMPLES = f"""{history.DIFF_EXAMPLES.rstrip()}

  secretstore diff --from vault://vault:8200/secret/app --to postgresql://app@db/app
"""

_KINDS = ("added", "changed", "same", "extra", "unreadable")
_COLUMNS = ("key", "kind", "differs", "source_version", "target_version", "left_behind", "problem")
_COPY_COLUMNS = ("key", "kind", "outcome", "differs", "version", "left_behind", "problem")
_LOSSES = {
    "labels": "the labels of {} are left behind: {} keeps none",
    "expiry": "the expiry of {} is left behind: in {} they do not expire",
    "history": "the older versions of {} are left behind: {} keeps none",
}

FromUrl = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="URL",
        help="The provider to read. Else SECRETSTORE_FROM_URL, which no list of processes shows, or the file that "
        "SECRETSTORE_FROM_URL_FILE names.",
        show_default=False,
    ),
]
ToUrl = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="URL",
        help="The provider to compare with, or to write. Else SECRETSTORE_TO_URL, or SECRETSTORE_TO_URL_FILE.",
        show_default=False,
    ),
]
Prefix = Annotated[str, typer.Option(metavar="P", help="Only keys that begin like this.")]
MapTo = Annotated[
    str,
    typer.Option(
        "--map", metavar="MAP", help="What a key becomes: text and then {key}, or {rest} for the key without --prefix."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing, and show what would change.")]
DeleteExtra = Annotated[
    bool,
    typer.Option(
        "--delete-extra", help="Delete what the source does not have; only keys that begin as the copied ones do."
    ),
]
WithHistory = Annotated[
    bool, typer.Option("--history/--no-history", help="Older versions too, of what the target does not have yet.")
]
Verify = Annotated[bool, typer.Option("--verify", help="Read back and compare what was written.")]
ReportPath = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="PATH",
        help="A new file, which only you may read: a line of JSON for each secret, without its value.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="With --delete-extra: do not ask.")]
AllowEmptySource = Annotated[
    bool, typer.Option("--allow-empty-source", help="With --delete-extra: also where the source has nothing at all.")
]


def copy(  # noqa: PLR0913 - an option each
    *,
    from_url: FromUrl = None,
    to_url: ToUrl = None,
    prefix: Prefix = "",
    map_to: MapTo = SAME_KEYS,
    dry_run: DryRun = False,
    delete_extra: DeleteExtra = False,
    with_history: WithHistory = True,
    verify: Verify = False,
    report: ReportPath = None,
    yes: Yes = False,
    allow_empty_source: AllowEmptySource = False,
    output_format: OutputFormat = None,
) -> None:
    """Copy secrets from one provider to another.

    What is the same is not written, so running it again goes on where it was broken off.  No value is shown.
    Ends with 1 where a secret could not be copied; all others are copied all the same.
    """
    wanted = format_of(output_format)
    danger = "this deletes every secret of the target that the source does not have"
    refuse_unasked(danger, yes=yes or dry_run or not delete_extra)
    with _opened(from_url, to_url, prefix, map_to) as providers, _reported(report) as write_line:
        shown = _Shown(providers.target.name, write_line)
        if dry_run:
            _compare(providers, shown)
        else:
            if delete_extra and not yes:
                _confirm_deletion(providers)
            with _telling_what_stays(shown), output.progress("copying") as tell:
                copy_secrets(
                    providers.source,
                    providers.target,
                    prefix=prefix,
                    map_to=map_to,
                    delete_extra=delete_extra,
                    allow_empty_source=allow_empty_source,
                    history=with_history,
                    verify=verify,
                    on_secret=lambda one: tell(shown.add_copied(one), None),
                )
        shown.end(wanted, _COLUMNS if dry_run else _COPY_COLUMNS)
    if dry_run:
        output.say("dry run: nothing was written")
    shown.complain_of_failures()


def diff(  # noqa: PLR0913 - an option each
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="Compare two versions of this secret.", show_default=False)
    ] = None,
    old: Annotated[
        int | None, typer.Argument(metavar="A", parser=parse_version, help="A version.", show_default=False)
    ] = None,
    new: Annotated[
        int | None, typer.Argument(metavar="B", parser=parse_version, help="Another.", show_default=False)
    ] = None,
    *,
    reveal: Annotated[bool, typer.Option("--reveal", help="With KEY: show the values too.")] = False,
    from_url: FromUrl = None,
    to_url: ToUrl = None,
    prefix: Prefix = "",
    map_to: MapTo = SAME_KEYS,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Show how versions of a secret, or two providers, differ.

    Of two versions (KEY A B) it shows paths (JSON pointers, RFC 6901) that were added, removed or changed; the empty path is the whole value.
    The values are masked in every format, also in a pipe, unless --reveal asks for them.

    Of two providers (without KEY) it shows keys that are added, changed, or extra in the target, never values, and ends with 8 where there are any.
    """
    if key is None:
        refuse_options("without KEY", reveal=reveal, database_url=database_url, namespace=namespace)
        _diff_providers(_opened(from_url, to_url, prefix, map_to), format_of(output_format))
    elif old is None or new is None or from_url or to_url:
        raise CommandError("give KEY and two versions of it, or --from and --to without KEY", ExitCode.USAGE)
    else:
        refuse_options("with KEY", prefix=prefix, map=map_to != SAME_KEYS)
        history.diff_versions(
            key, old, new, reveal=reveal, output_format=output_format, database_url=database_url, namespace=namespace
        )


@dataclass(frozen=True, slots=True)
class _Providers:
    source: SecretProvider
    target: SecretProvider
    prefix: str
    map_to: str

    def differences(self) -> Iterator[ProviderDifference]:
        return compare_providers(self.source, self.target, prefix=self.prefix, map_to=self.map_to)


def _diff_providers(opened: AbstractContextManager[_Providers], wanted: Format) -> None:
    with opened as providers:
        shown = _Shown(providers.target.name)
        _compare(providers, shown)
        shown.end(wanted, _COLUMNS)
    shown.complain_of_failures()
    if shown.records:
        raise CommandError("the providers differ", ExitCode.CHECK_FAILED)


@dataclass(slots=True)
class _Shown:
    """What is shown of secrets, as it is found."""

    target: str
    write_line: Callable[[Mapping[str, Any]], None] = lambda _: None
    records: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    left_behind: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    def add(self, found: ProviderDifference, *, failed: bool, **more: object) -> int:
        """Take one in, and return how many it were."""
        record = asdict(found) | more
        self.write_line(record)
        self.counts[found.kind] += 1
        self.left_behind.update(found.left_behind)
        self.failed += failed
        if found.kind != "same":
            self.records.append(record)
        return self.counts.total()

    def add_copied(self, one: CopiedSecret) -> int:
        """Take in what became of one."""
        failed = one.outcome == "failed"
        return self.add(one.difference, failed=failed, outcome=one.outcome, version=one.version, problem=one.problem)

    def end(self, wanted: Format, columns: tuple[str, ...]) -> None:
        """Print what differs, how many there are of each kind, and what is left behind."""
        counts = {kind: self.counts[kind] for kind in _KINDS}
        summary = {"counts": counts, "left_behind": dict(self.left_behind)}
        self.write_line(summary)
        if wanted is not Format.TABLE:
            output.show_data({"secrets": self.records, **summary}, wanted)
        elif self.records:
            output.show_records([_row(record) for record in self.records], columns, wanted)
        if wanted is Format.TABLE:
            output.say(", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or "there are no secrets")
        for loss, number in self.left_behind.items():
            output.warn(_LOSSES[loss].format(counted(number, "secret"), self.target))

    def complain_of_failures(self) -> None:
        if self.failed:
            raise CommandError(f"{self.failed} of {counted(self.counts.total(), 'secret')} failed; see why beside each")


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: ", ".join(member) if isinstance(member, tuple) else member for name, member in record.items()}


def _compare(providers: _Providers, shown: _Shown) -> None:
    with output.progress("comparing") as tell:
        for found in providers.differences():
            tell(shown.add(found, failed=found.kind == "unreadable"), None)


def _confirm_deletion(providers: _Providers) -> None:
    extra = 0
    with output.progress("comparing") as tell:
        for done, found in enumerate(providers.differences(), 1):
            extra += found.kind == "extra"
            tell(done, None)
    if extra:
        danger = f"this deletes {counted(extra, 'secret')} of {providers.target.name}, which the source does not have"
        confirm(danger, "delete", yes=False)


@contextmanager
def _opened(from_url: str | None, to_url: str | None, prefix: str, map_to: str) -> Iterator[_Providers]:
    settings = load_moving_settings(from_url=from_url, to_url=to_url)
    urls = _named(settings.from_url, "from"), _named(settings.to_url, "to")
    warn_of_password("--from", from_url, variable="SECRETSTORE_FROM_URL")
    warn_of_password("--to", to_url, variable="SECRETSTORE_TO_URL")
    with ExitStack() as stack:
        source, target = (stack.enter_context(closing(open_provider(url))) for url in urls)
        yield _Providers(source, target, prefix, map_to)


def _named(url: SecretStr | None, option: str) -> str:
    if url is None:
        raise ConfigurationError(
            f"no provider to copy or compare {option} is named: give --{option} or set SECRETSTORE_{option.upper()}_URL"
        )
    return url.get_secret_value()


@contextmanager
def _reported(path: Path | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    with nullcontext() if path is None else new_file(path) as file:
        if file is None:
            yield lambda _: None
        else:
            yield lambda record: print(json.dumps(record, ensure_ascii=False), file=file)


@contextmanager
def _telling_what_stays(shown: _Shown) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if shown.counts:
            output.say("broken off; what was copied so far stays, and running it again goes on")
        raise
