"""Commands on the record of changes: who did what, when, and for which request."""

import csv
import io
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, fields
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer

from secretstore import Change, SecretClient
from secretstore.cli import output
from secretstore.cli.arguments import parse_count, parse_place, parse_since
from secretstore.cli.changes import Show, json_line, shower, until_nobody_reads
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, format_of, opened_store
from secretstore.domain.records import ACTIONS
from secretstore.errors import StoreUnavailableError

LIST_EXAMPLES = """
Examples:

  secretstore audit list --since 24h                    # what happened today

  secretstore audit list --key db.password              # who changed it

  secretstore audit list --actor user:alice --action destroy
"""
EXPORT_EXAMPLES = """
Examples:

  secretstore audit export --format csv > changes.csv

  secretstore audit export --since 2026-08-01T00:00Z | gzip > august.jsonl.gz

  secretstore audit export --after 1041                 # what came after change 1041
"""

group = typer.Typer(no_args_is_help=True, help="Read the record of changes: who did what, and when.")

_PAGE = 500
_COLUMNS = ("seq", "occurred_at", "action", "version", "actor", "request_id", "key")
_WIDTHS = (8, 25, 8, 7, 16, 12)
_NAMES = tuple(one.name for one in fields(Change))

Action = StrEnum("Action", {name.upper(): name for name in ACTIONS})  # type: ignore[misc] # of the names that there are


class FileFormat(StrEnum):
    """How a file holds changes."""

    JSONL = "jsonl"
    CSV = "csv"


Since = Annotated[
    datetime | None,
    typer.Option(
        metavar="TIME",
        parser=parse_since,
        help="Only changes from then on: 24h, 30d, or 2026-08-01T12:00Z.",
        show_default=False,
    ),
]
After = Annotated[
    int, typer.Option(metavar="SEQ", parser=parse_place, help="Only changes after the one with this number.")
]


@group.command("list", epilog=LIST_EXAMPLES)
def list_events(  # noqa: PLR0913 - options
    *,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Only changes of this secret.", show_default=False)
    ] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only changes by this actor.", show_default=False)
    ] = None,
    action: Annotated[Action | None, typer.Option(help="Only changes of this kind.", show_default=False)] = None,
    since: Since = None,
    after: After = "0",  # type: ignore[assignment] # a default is parsed, too
    limit: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", parser=parse_count, help="So many changes at most.", show_default=False),
    ] = None,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Print recorded changes, the oldest first; in a pipe a line is a JSON object.

    Changes of data keys have an empty key.  Numbering changes needs the right to update the column seq of change_event.
    """
    show = shower(format_of(output_format), _COLUMNS, _WIDTHS)
    with until_nobody_reads(), opened_store(database_url, namespace) as store:

        def read(place: int) -> list[Change]:
            return store.list_changes(
                key=key, actor=actor, action=action, since=since, with_data_keys=True, after=place, limit=_PAGE
            )

        for change in islice((change for page in _pages(store, read, after) for change in page), limit):
            show(change)


@group.command("export", epilog=EXPORT_EXAMPLES)
def export_events(
    *,
    file_format: Annotated[FileFormat, typer.Option("--format", help="A JSON object a line, or CSV.")] = (
        FileFormat.JSONL
    ),
    since: Since = None,
    after: After = "0",  # type: ignore[assignment] # ditto
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Write all recorded changes until now to standard output, the oldest first; memory holds a page of them."""
    write = _csv_text if file_format is FileFormat.CSV else _json_lines
    with until_nobody_reads(), opened_store(database_url, namespace) as store:

        def read(place: int) -> list[Change]:
            return store.list_changes(since=since, with_data_keys=True, after=place, limit=_PAGE)

        if file_format is FileFormat.CSV:
            output.show_exactly(_csv_rows([_NAMES]))
        for page in _pages(store, read, after):
            output.show_exactly(write(page))


@group.command("tail")
def tail_events(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", metavar="NUMBER", parser=parse_count, help="Begin with so many of the last ones.")
    ] = "10",  # type: ignore[assignment] # ditto
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Print the last recorded changes, and with -f each one that comes."""
    show = shower(format_of(output_format), _COLUMNS, _WIDTHS)
    with until_nobody_reads(), opened_store(database_url, namespace) as store:
        last = store.last_change_number()
        for change in store.list_changes(with_data_keys=True, after=max(0, last - lines), limit=lines):
            show(change)
        if follow:
            _follow(store, last, show)


def _pages(store: SecretClient, read: Callable[[int], list[Change]], after: int) -> Iterator[list[Change]]:
    """Give pages after a number, up to what is the last change now."""
    last = store.last_change_number()
    while page := [change for change in read(after) if change.seq <= last]:
        yield page
        after = page[-1].seq


def _follow(store: SecretClient, place: int, show: Show) -> None:
    try:
        with closing(store.watch(with_data_keys=True, after=place)) as changes:
            for change in changes:
                show(change)
                place = change.seq
    except (KeyboardInterrupt, SystemExit, StoreUnavailableError):
        words = ["secretstore", "audit", "list", "--after", str(place), "--namespace", store.keys.namespace]
        output.say(f"to go on: {shlex.join(words)}")
        raise


def _json_lines(page: Sequence[Change]) -> str:
    return "".join(f"{json_line(change)}\n" for change in page)


def _csv_text(page: Sequence[Change]) -> str:
    return _csv_rows([tuple(output.plain(asdict(change)).values()) for change in page])


def _csv_rows(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
