"""Commands on the records of changes and of accesses: who did what, when, and for which request."""

import csv
import io
import shlex
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any

import typer

from secretstore import SecretClient
from secretstore.cli import output
from secretstore.cli.arguments import parse_count, parse_place, parse_since
from secretstore.cli.changes import Show, json_line, shower, until_nobody_reads
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, format_of, opened_store
from secretstore.cli.output import Format
from secretstore.domain.accesses import ATTEMPTS, OUTCOMES
from secretstore.domain.records import ACTIONS, Event
from secretstore.errors import StoreUnavailableError

LIST_EXAMPLES = """
Examples:

  secretstore audit list --since 24h                    # what happened today

  secretstore audit list --key db.password              # who changed it

  secretstore audit list --actor user:alice --action destroy

  secretstore audit list --reads --key db.password      # who read it

  secretstore audit list --reads --outcome denied       # who tried in vain
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
_COLUMNS_OF_READS = ("seq", "occurred_at", "action", "outcome", "version", "actor", "request_id", "key")
_WIDTHS_OF_READS = (8, 25, 8, 7, 7, 16, 12)
_NAMES = tuple(one.name for one in fields(Event))
_LOOK_SECONDS = 1.0

Action = StrEnum("Action", {name.upper(): name for name in (*ATTEMPTS, *ACTIONS)})  # type: ignore[misc] # of those there are
Outcome = StrEnum("Outcome", {name.upper(): name for name in OUTCOMES})  # type: ignore[misc] # ditto


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

Reads = Annotated[
    bool, typer.Option("--reads", help="The record of reads, and of refused and failed calls, in the place of changes.")
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
    outcome: Annotated[Outcome | None, typer.Option(help="Only reads with this outcome.", show_default=False)] = None,
    reads: Reads = False,
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

    Changes of data keys have an empty key.  What a role may not number itself comes as others number it.
    """
    if outcome is not None and not reads:
        raise typer.BadParameter("changes have one outcome; take --reads, too", param_hint="--outcome")
    show = _shower(output_format, reads=reads)
    only = {"key": key, "actor": actor, "action": action, "since": since}
    with until_nobody_reads(), opened_store(database_url, namespace) as store:
        record = _accesses(store, outcome=outcome, **only) if reads else _changes(store, **only)
        for event in islice((event for page in _pages(record, after) for event in page), limit):
            show(event)


@group.command("export", epilog=EXPORT_EXAMPLES)
def export_events(
    *,
    file_format: Annotated[FileFormat, typer.Option("--format", help="A JSON object a line, or CSV.")] = (
        FileFormat.JSONL
    ),
    reads: Reads = False,
    since: Since = None,
    after: After = "0",  # type: ignore[assignment] # ditto
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Write all recorded changes until now to standard output, the oldest first; memory holds a page of them."""
    write = _csv_text if file_format is FileFormat.CSV else _json_lines
    with until_nobody_reads(), opened_store(database_url, namespace) as store:
        record = _accesses(store, since=since) if reads else _changes(store, since=since)
        if file_format is FileFormat.CSV:
            output.show_exactly(_csv_rows([_NAMES]))
        for page in _pages(record, after):
            output.show_exactly(write(page))


@group.command("tail")
def tail_events(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", metavar="NUMBER", parser=parse_count, help="Begin with so many of the last ones.")
    ] = "10",  # type: ignore[assignment] # ditto
    reads: Reads = False,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Print the last recorded changes, and with -f each one that comes."""
    show = _shower(output_format, reads=reads)
    with until_nobody_reads(), opened_store(database_url, namespace) as store:
        record = _accesses(store) if reads else _changes(store)
        last = record.last()
        for event in record.read(max(0, last - lines), lines):
            show(event)
        if follow:
            _follow(store, record, last, show, reads=reads)


@dataclass(frozen=True, slots=True)
class _Record:
    """A record as the commands read it: a page after a number, and the number of the last event until now."""

    read: Callable[[int, int], Sequence[Event]]
    last: Callable[[], int]


def _changes(store: SecretClient, **only: Any) -> _Record:  # what a list is asked for
    return _Record(
        lambda after, limit: store.list_changes(with_data_keys=True, after=after, limit=limit, **only),
        store.last_change_number,
    )


def _accesses(store: SecretClient, **only: Any) -> _Record:  # ditto
    audit = store.audit
    return _Record(lambda after, limit: audit.list_accesses(after=after, limit=limit, **only), audit.last_access_number)


def _shower(output_format: Format | None, *, reads: bool) -> Show:
    columns, widths = (_COLUMNS_OF_READS, _WIDTHS_OF_READS) if reads else (_COLUMNS, _WIDTHS)
    return shower(format_of(output_format), columns, widths)


def _pages(record: _Record, after: int) -> Iterator[list[Event]]:
    """Give pages after a number, up to what is the last event now."""
    last = record.last()
    while page := [event for event in record.read(after, _PAGE) if event.seq <= last]:
        yield page
        after = page[-1].seq


def _follow(store: SecretClient, record: _Record, place: int, show: Show, *, reads: bool) -> None:
    coming = _coming(record, place) if reads else store.watch(with_data_keys=True, after=place)
    try:
        with closing(coming) as events:
            for event in events:
                show(event)
                place = event.seq
    except (KeyboardInterrupt, SystemExit, StoreUnavailableError):
        words = ["secretstore", "audit", "list", *(["--reads"] if reads else []), "--after", str(place)]
        output.say(f"to go on: {shlex.join([*words, '--namespace', store.keys.namespace])}")
        raise


def _coming(record: _Record, place: int) -> Generator[Event, None, None]:
    """Give what comes after a number; nobody is told of an access, so that it is looked for."""
    while True:
        page = record.read(place, _PAGE)
        for event in page:
            yield event
            place = event.seq
        if len(page) < _PAGE:
            time.sleep(_LOOK_SECONDS)


def _json_lines(page: Sequence[Event]) -> str:
    return "".join(f"{json_line(event)}\n" for event in page)


def _csv_text(page: Sequence[Event]) -> str:
    return _csv_rows([tuple(output.plain(asdict(event)).values()) for event in page])


def _csv_rows(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
