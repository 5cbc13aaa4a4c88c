"""Runs the benchmarks: `python -m benchmarks`, or `nox -s bench`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import chart, report
from benchmarks.harness import Outcome, Row, run
from benchmarks.rows import ROWS
from benchmarks.stage import FULL, QUICK, Stage, built

DOCS = report.ROOT / "docs"
KEPT = DOCS / "benchmark.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write; the answer is 1 where a row could not be measured, and never speaks of time."""
    given = _parser().parse_args(arguments)
    # What goes into a file has room for the whole table.
    console = Console(width=None if sys.stdout.isatty() else 150)
    measured = report.from_json(given.from_json.read_bytes()) if given.from_json else _measured(given)
    report.show(measured, console)
    if not given.from_json:
        given.json.write_bytes(report.as_json(measured))
        console.print(f"written to {given.json}")
    if given.write_docs:
        write_docs(measured)
        console.print(f"written to {report.PAGE} and the charts beside it")
    return int(any(_has_failed(outcome) for outcome in measured.outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute; its figures mean little")
    parser.add_argument("--row", action="append", metavar="NAME", help="rows whose names begin so; may be repeated")
    parser.add_argument("--json", type=Path, default=Path("benchmark.json"), help="where the result goes")
    parser.add_argument("--from-json", type=Path, metavar="PATH", help="measure nothing, and take this result")
    parser.add_argument("--write-docs", action="store_true", help="rewrite the figures and charts in docs/")
    return parser


def _measured(given: argparse.Namespace) -> report.Report:
    rows = [row for row in ROWS if not given.row or row.name.startswith(tuple(given.row))]
    words = Console(stderr=True)
    with built(QUICK if given.quick else FULL) as stage:
        outcomes = [_told(row, stage, words) for row in rows]
        return report.new_report(stage, "quick" if given.quick else "full", outcomes)


def _told(row: Row, stage: Stage, words: Console) -> Outcome:
    stage.tidy()
    start = time.monotonic()
    outcome = _tried(row, stage)
    words.print(f"{row.name}: {report.value_text(outcome)} in {time.monotonic() - start:.0f} s", *outcome.remarks)
    return outcome


def _tried(row: Row, stage: Stage) -> Outcome:
    try:
        return run(row, stage)
    except Exception as error:  # noqa: BLE001 - the other rows are still to be measured; the answer tells of this one
        return Outcome(row.name, row.title, row.goal, remarks=(f"{_FAILED}{type(error).__name__}: {error}",))


_FAILED = "failed: "


def _has_failed(outcome: Outcome) -> bool:
    return any(remark.startswith(_FAILED) for remark in outcome.remarks)


def write_docs(measured: report.Report) -> None:
    """Rewrite the figures of docs/performance.md, the charts, and the result that they come from."""
    KEPT.write_bytes(report.as_json(measured))
    page = report.PAGE.read_text(encoding="utf-8")
    report.PAGE.write_text(report.with_figures(page, measured), encoding="utf-8")
    panels = chart.panels_of(measured)
    for name, colours in (("light", chart.LIGHT), ("dark", chart.DARK)):
        (DOCS / f"benchmark-{name}.svg").write_text(chart.draw(panels, colours), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
