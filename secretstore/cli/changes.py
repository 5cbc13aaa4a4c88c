"""The record of changes, as it goes on: watch; and gc, which takes away what nobody needs any more."""

import json
import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import timedelta
from types import FrameType
from typing import Annotated

import typer

from secretstore import Change, SecretClient
from secretstore.cli import output
from secretstore.cli.arguments import parse_duration, parse_place
from secretstore.cli.asking import confirm, refuse_unasked
from secretstore.cli.history import Yes
from secretstore.cli.keys import opened_namespaces
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, format_of, opened_store
from secretstore.cli.output import Format, counted
from secretstore.cli.yaml_text import to_yaml
from secretstore.domain.records import Collection, Event
from secretstore.errors import StoreUnavailableError

WATCH_EXAMPLES = """
Examples:

  secretstore watch                      # what comes, until Ctrl-C

  secretstore watch db. --after 1041     # what came after change 1041, and what comes

  secretstore watch --once | jq .key     # all that there is
"""
GC_EXAMPLES = """
Examples:

  secretstore gc --dry-run                     # how much there is

  secretstore gc --deleted-for 90d             # asks

  secretstore gc --all --yes                   # every night
"""

_PAGE = 500
_COLUMNS = ("seq", "occurred_at", "action", "version", "actor", "key")
_WIDTHS = (8, 25, 8, 7, 12)

Show = Callable[[Event], None]


def watch_changes(
    prefix: Annotated[
        str, typer.Argument(metavar="[PREFIX]", help="Only keys that begin so.", show_default=False)
    ] = "",
    *,
    after: Annotated[
        int | None,
        typer.Option(
            metavar="SEQ", parser=parse_place, help="Begin after the change with this number.", show_default=False
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print what there is after SEQ, else all, and end.")] = False,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Print each committed change as it comes, one line for each.

    In a pipe a line is a JSON object.  When it is ended it says the number to go on after: so nothing is missed.
    Without --after and --once it begins with what comes.  What a role may not number itself comes as others number it.
    """
    show = shower(format_of(output_format), _COLUMNS, _WIDTHS)
    with until_nobody_reads(), opened_store(database_url, namespace) as store:
        if once:
            _show_each(_all_after(store, prefix, after or 0), show)
        else:
            _follow(store, prefix, after, show)


def collect_garbage(
    *,
    deleted_for: Annotated[
        timedelta,
        typer.Option(
            "--deleted-for",
            parser=parse_duration,
            metavar="TIME",
            help="Purge what was deleted or expired at least so long ago: 30d, 12h.",
        ),
    ] = "30d",  # type: ignore[assignment] # a default is parsed, too
    of_all: Annotated[bool, typer.Option("--all", help="In all namespaces that have a data key.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much it would be.")] = False,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Purge what is long deleted or expired, and prune old versions.

    It works in small transactions, so that it can be broken off and run again.
    """
    if not dry_run:
        refuse_unasked("this removes secrets and versions for good", yes=yes)
    with opened_namespaces(database_url, namespace, of_all=of_all) as stores:
        if dry_run:
            for store in stores:
                _tell(store, store.gc(deleted_for=deleted_for, dry_run=True), "would purge {}, prune {}")
        elif yes or _wanted(stores, deleted_for, of_all=of_all):
            _collect_each(stores, deleted_for)


def shower(wanted: Format, columns: Sequence[str], widths: Sequence[int]) -> Show:
    """Return what prints one change at once; a table begins with its head."""
    if wanted is Format.TABLE:
        output.show_row(columns, widths, style="cyan")
        return lambda change: output.show_row([_cell(change, name) for name in columns], widths)
    if wanted is Format.YAML:
        # Together the lines are one list, however many there will be.
        return lambda change: output.show_text(to_yaml([output.plain(asdict(change))]))
    return lambda change: output.show_text(json_line(change))


def json_line(change: Event) -> str:
    """Return a change as a JSON object in one line."""
    return json.dumps(output.plain(asdict(change)), ensure_ascii=False)


def _cell(change: Event, name: str) -> object:
    member = getattr(change, name)
    return "" if member is None else member


def _show_each(changes: Iterator[Change], show: Show) -> None:
    for change in changes:
        show(change)


def _all_after(store: SecretClient, prefix: str, after: int) -> Iterator[Change]:
    while page := store.list_changes(prefix, after=after, limit=_PAGE):
        yield from page
        after = page[-1].seq


def _follow(store: SecretClient, prefix: str, after: int | None, show: Show) -> None:
    # Asked first, so that the place to go on is known before anything has come.
    place = store.last_change_number() if after is None else after
    try:
        with closing(store.watch(prefix, after=place)) as changes:
            for change in changes:
                show(change)
                place = change.seq
    except (KeyboardInterrupt, SystemExit, StoreUnavailableError):
        output.say(f"to go on: {_command(store, prefix, place)}")
        raise


def _command(store: SecretClient, prefix: str, after: int) -> str:
    words = ["secretstore", "watch", *([prefix] if prefix else []), "--after", str(after)]
    return shlex.join([*words, "--namespace", store.keys.namespace])


class _NobodyReadsError(BaseException):
    """The other end of standard output is closed; no `Exception`, which whatever is under way could catch."""


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """End the block quietly when standard output is a pipe and its reader ends, also while nothing is printed."""
    if not hasattr(signal, "SIGPIPE"):
        yield
        return
    before = signal.signal(signal.SIGPIPE, _FirstSignal())
    threading.Thread(target=_wait_until_nobody_reads, args=(sys.stdout.fileno(),), daemon=True).start()
    try:
        # Twice: the signal may come while a write that has failed is seen to.
        with _ending_quietly(), _ending_quietly():
            yield
    finally:
        signal.signal(signal.SIGPIPE, before)


@contextmanager
def _ending_quietly() -> Iterator[None]:
    try:
        yield
    except (_NobodyReadsError, BrokenPipeError):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        # What is left in the buffer goes nowhere, and the interpreter's last flush does not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _wait_until_nobody_reads(stdout: int) -> None:
    poll = select.poll()
    # Errors are told without being asked for.
    poll.register(stdout, 0)
    poll.poll()
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGPIPE)


class _FirstSignal:
    """Ends what is done at the first signal, and passes over the others: a write that fails brings one, and the thread too."""

    def __init__(self) -> None:
        self._has_come = False

    def __call__(self, _: int, __: FrameType | None) -> None:
        if not self._has_come:
            self._has_come = True
            raise _NobodyReadsError


def _wanted(stores: Sequence[SecretClient], deleted_for: timedelta, *, of_all: bool) -> bool:
    with output.waiting("looking"):
        found = [store.gc(deleted_for=deleted_for, dry_run=True) for store in stores]
    purged, pruned = sum(one.purged for one in found), sum(one.pruned for one in found)
    if not purged and not pruned:
        output.say("there is nothing to collect")
        return False
    danger = f"this purges {counted(purged, 'secret')} and prunes {counted(pruned, 'version')}, and cannot be undone"
    confirm(danger, "all" if of_all else stores[0].keys.namespace, yes=False)
    return True


def _collect_each(stores: Sequence[SecretClient], deleted_for: timedelta) -> None:
    try:
        for store in stores:
            with output.progress("collecting") as report:
                done = store.gc(deleted_for=deleted_for, on_progress=lambda number: report(number, None))
            _tell(store, done, "purged {}, pruned {}")
    except (KeyboardInterrupt, SystemExit, StoreUnavailableError):
        output.say("what is done stays done; run it again to do the rest")
        raise


def _tell(store: SecretClient, done: Collection, words: str) -> None:
    counts = words.format(counted(done.purged, "secret"), counted(done.pruned, "version"))
    output.say(f"{counts} of namespace {store.keys.namespace}")
