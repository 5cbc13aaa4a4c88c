"""The one place that prints: data to stdout, words to stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from secretstore.cli.yaml_text import to_yaml

MASK = "********"

# Wide enough that nothing is cut or wrapped where no terminal says how wide it is.
_PIPE_WIDTH = 100_000


class Format(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def on_terminal() -> bool:
    """Tell whether a person sees the data."""
    return sys.stdout.isatty()


def chosen_format(wanted: str | None) -> Format:
    """Return the format that was asked for, else a table for a person and JSON for a program."""
    return Format(wanted) if wanted else Format.TABLE if on_terminal() else Format.JSON


def say(words: str) -> None:
    """Tell a person something, in one line."""
    _speak(Text(printable(words)))


def warn(words: str) -> None:
    """Tell a person of a danger."""
    _speak(Text.assemble(("warning: ", "yellow"), printable(words)))


def complain(words: str) -> None:
    """Tell a person why the command ends, in one line."""
    _speak(Text.assemble(("error: ", "red"), printable(words)))


def show_text(text: str) -> None:
    """Print text as it is, with a line end."""
    show_exactly(f"{text}\n")


def show_exactly(text: str) -> None:
    """Print text as it is, and nothing else."""
    # As bytes, because data are UTF-8 whatever the locale says.
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def show_raw(value: Any) -> None:
    """Print one value for a program: text as it is, anything else as JSON."""
    show_text(raw_text(value))


def raw_text(value: Any) -> str:
    """Return text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show_data(data: Any, wanted: Format) -> None:
    """Print JSON or YAML."""
    show_text(to_yaml(data) if wanted is Format.YAML else _json_text(data))


def show_list(name: str, records: Iterable[Mapping[str, Any]], rest: Mapping[str, Any], wanted: Format) -> None:
    """Print JSON or YAML with a list of any length at its top, and behind it the rest as it is when the list ends."""
    sys.stdout.flush()
    for piece in (_yaml_pieces if wanted is Format.YAML else _json_pieces)(name, records, rest):
        sys.stdout.buffer.write(piece.encode())
    sys.stdout.buffer.flush()


def _json_pieces(name: str, records: Iterable[Mapping[str, Any]], rest: Mapping[str, Any]) -> Iterator[str]:
    between = f"{{\n  {json.dumps(name)}: ["
    end = "]"
    for record in records:
        yield between + f"\n{_json_text(record)}".replace("\n", "\n    ")
        between, end = ",", "\n  ]"
    yield ("" if between == "," else between) + f"{end},{_json_text(rest)[1:]}\n"


def _yaml_pieces(name: str, records: Iterable[Mapping[str, Any]], rest: Mapping[str, Any]) -> Iterator[str]:
    head = f"{to_yaml(name)}:"
    for record in records:
        yield f"{head}\n" if head else ""
        yield f"{to_yaml([record])}\n"
        head = ""
    yield f"{head} []\n" if head else ""
    yield f"{to_yaml(rest)}\n"


def _json_text(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, indent=2)


def show_records(records: Sequence[Mapping[str, Any]], columns: Sequence[str], wanted: Format) -> None:
    """Print records: all of each as JSON or YAML, some columns of each as a table."""
    if wanted is not Format.TABLE:
        show_data([plain(record) for record in records], wanted)
        return
    table = _table(*columns)
    for record in records:
        table.add_row(*(_cell(record[column]) for column in columns))
    _show_table(table)


def show_record(record: Mapping[str, Any], wanted: Format) -> None:
    """Print one record; as a table it has a line for each member."""
    if wanted is not Format.TABLE:
        show_data(plain(record), wanted)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, member in record.items():
        table.add_row(name, _cell(member))
    _show_table(table)


def show_calls(title: str, calls: Sequence[tuple[str, str]]) -> None:
    """Print calls and what came of each under a title: a panel for a person, plain lines otherwise."""
    lines: list[RenderableType] = []
    for call, outcome in calls:
        lines += [
            Text(printable(call), style="cyan"),
            Padding(Text(f"→ {printable(outcome)}"), (0, 0, 0, 2), expand=False),
        ]
    console = _console(sys.stdout)
    if console.is_terminal:
        console.print(Panel(Group(*lines), title=Text(title), title_align="left", border_style="blue"))
    else:
        console.print(Text(title), *lines, sep="\n")


def show_row(cells: Sequence[Any], widths: Sequence[int], *, style: str = "") -> None:
    """Print one line of a table that has no end, at once; the last cell has no width."""
    texts = [printed_time(cell) if isinstance(cell, datetime) else printable(str(cell)) for cell in cells]
    line = "  ".join([*(text.ljust(width) for text, width in zip(texts, widths, strict=False)), texts[-1]])
    if on_terminal():
        _console(sys.stdout).print(Text(line, style), soft_wrap=True)
    else:
        show_text(line)


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """Show a person that something takes a while; nothing is left of it."""
    console = _console(sys.stderr)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(words)):
        yield


@contextmanager
def progress(words: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a person a bar with a rate; the function that is given is told how much is done, and of how much if known."""
    console = _console(sys.stderr)
    if not console.is_terminal:
        yield lambda _, __: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Rate())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(printable(words), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Rate(ProgressColumn):
    """How much is done in a second."""

    def render(self, task: Task) -> Text:
        """Return the rate of now, or at the end that of the whole."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


def printable(text: str) -> str:
    """Return text that cannot steer a terminal, nor break a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """Return how many of something there are, in words for a person."""
    return f"{number} {noun}{'s' * (number != 1)}"


def printed_time(time: datetime) -> str:
    """Return a time as people read it."""
    return time.astimezone(UTC).isoformat(" ", "seconds")


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else _PIPE_WIDTH
    # Only colours, nothing bold: so Rich prints plain text where NO_COLOR is set.
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _speak(words: Text) -> None:
    # The data so far come first where both streams go to one place.
    sys.stdout.flush()
    _console(sys.stderr).print(words, soft_wrap=True)


def _show_table(table: Table) -> None:
    console = _console(sys.stdout)
    if on_terminal():
        console.print(table)
        return
    with console.capture() as printed:
        console.print(table)
    show_text("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD if on_terminal() else None, pad_edge=False, header_style="cyan")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _cell(member: Any) -> Text:
    if isinstance(member, datetime):
        return Text(printed_time(member))
    if isinstance(member, Mapping):
        return Text(printable(", ".join(f"{name}={text}" for name, text in member.items())))
    lines = "" if member is None else str(member)
    return Text("\n".join(printable(line) for line in lines.split("\n")))


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as JSON has it."""
    return {name: member.isoformat() if isinstance(member, datetime) else member for name, member in record.items()}
