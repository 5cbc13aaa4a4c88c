"""The benchmarks' own arithmetic, charts and pages; no time is looked at."""

import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import chart, report
from benchmarks.harness import (
    Contest,
    Goal,
    Outcome,
    Side,
    Taken,
    Timing,
    WrongAnswer,
    check,
    hold,
    measured_of,
    quartiles,
)
from benchmarks.raw import Statement
from benchmarks.rows import ROWS
from benchmarks.values import Token, group_keys, group_prefix, key_of, value_of
from secretstore.orm import statements, write_statements

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
# What has to be measured, each with what it should reach.
WANTED = {
    "get-cold": "≤ 0.9 ×",
    "get-unprepared": "≤ 1.3 ×",
    "get-in-transaction": "≤ 0.75 ×",
    "threads-get": "≥ 1.4 ×",
    "get-async": "≤ 1.2 ×",
    "set": "≤ 1.5 ×",
    "set-in-transaction": "≤ 1.2 ×",
    "set-many-new": "≤ 1.2 ×",
    "set-many-existing": "≤ 1.2 ×",
    "get-many": "≤ 1.1 ×",
    "cached-dict": "≤ 5 µs",
    "cached-model": "≤ 10 µs",
    "metrics": "≤ 8 µs",
    "cached-threads": "≤ 2 ×",
    "threads-set": "≥ 0.75 ×",
    "get-granted": "≤ 1.3 ×",
    "get-recorded": "≤ 2 ×",
    "growth-get": "≤ 1.3 ×",
    "growth-first-page": "≤ 1.3 ×",
    "growth-last-page": "≤ 1.3 ×",
    "memory-import": "≤ 300 MiB",
    "memory-export": "≤ 300 MiB",
    "memory-rotate": "≤ 300 MiB",
    "import": "≤ 1.2 ×",
}
PEERS = {"peers-get", "peers-set", "peers-threads"}


def side(name: str, taken: Sequence[float] = (0.0,), answer: Callable[[int], object] = int) -> Side:
    """Return a side whose rounds take what they are said to."""
    left = iter(taken)
    return Side(name, lambda _: Taken(next(left)), answer)


def contest(*sides: Side, operations: int = 1, rounds: int = 1, numbers: range = range(100)) -> Contest:
    """Return a contest of numbers that stay what they are."""
    return Contest(sides, int, numbers, operations, rounds)


def outcome(row: str, *sides: tuple[str, float], goal: Goal | None = None) -> Outcome:
    """Return an outcome of some medians."""
    timings = tuple(Timing(name, median, median) for name, median in sides)
    return Outcome(row, f"title of {row}", goal, timings, 1.5, 1.4, 1.25, 1.75, ("a remark",))


@pytest.fixture
def made() -> report.Report:
    """A report of made-up figures."""
    return report.Report(
        at=datetime(2026, 1, 2, tzinfo=UTC),
        size="full",
        secrets=100_000,
        commit="abc123",
        machine="2 × processor",
        versions={"python": "3.11"},
        postgresql_settings={"autovacuum": "off"},
        outcomes=(
            outcome("get-cold", ("ours", 81.5), ("raw", 99.5), goal=Goal(0.9, "time")),
            outcome("cached-dict", ("ours", 3.25), goal=Goal(5, "µs")),
            Outcome("cached-model", "title of cached-model", Goal(10, "µs"), remarks=("failed: x",)),
            outcome("peers-get", ("secretstore", 150.5), ("this & <that>", 1234.5)),
            outcome("peers-set", ("secretstore", 750.5), ("this & <that>", 4321.5)),
        ),
    )


def test_every_row_is_there_with_its_goal() -> None:
    """Each operation that has a goal is measured against that goal, and the peers are measured; none twice."""
    assert {row.name: str(row.goal) for row in ROWS if row.goal} == WANTED
    assert {row.name for row in ROWS if not row.goal} == PEERS
    assert len(ROWS) == len(WANTED) + len(PEERS)


def test_every_row_has_one_way_to_be_measured() -> None:
    """A row is a contest, or it measures itself."""
    assert all((row.open is None) != (row.measure is None) for row in ROWS)


def test_a_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    """Times become µs for an operation; the ratio is of the medians, the quartiles those of the single rounds."""
    held = contest(side("ours", [2e-6, 4e-6, 8e-6]), side("raw", [2e-6, 2e-6, 2e-6]), operations=2, rounds=3)

    measured = measured_of(held, hold(held, random.Random(0)), "time")
    assert measured.sides == (Timing("ours", 2.0, 1.5), Timing("raw", 1.0, 1.0))
    assert (measured.value, measured.value_p25) == pytest.approx((2.0, 1.5))
    assert (measured.low, measured.high) == pytest.approx((1.5, 3.0))


def test_throughput_is_the_ratio_the_other_way_round() -> None:
    """Twice as fast is a throughput of 2."""
    held = contest(side("ours", [1e-6] * 3), side("raw", [2e-6] * 3), rounds=3)

    measured = measured_of(held, hold(held, random.Random(0)), "throughput")
    assert (measured.value, measured.low, measured.high) == pytest.approx((2.0, 2.0, 2.0))


def test_a_goal_in_time_looks_at_ours_alone() -> None:
    """Of µs there is no ratio."""
    held = contest(side("ours", [3e-6, 5e-6, 4e-6]), rounds=3)

    measured = measured_of(held, hold(held, random.Random(0)), "µs")
    assert (measured.value, measured.low, measured.high) == pytest.approx((4.0, 3.5, 4.5))


@pytest.mark.parametrize(
    ("goal", "reached", "missed"),
    [(Goal(0.9, "time"), 0.9, 0.91), (Goal(1.4, "throughput"), 1.4, 1.39), (Goal(300, "MiB"), 299, 301)],
    ids=str,
)
def test_a_goal_is_a_bound_from_its_own_side(goal: Goal, reached: float, missed: float) -> None:
    """Less time is better, and more throughput."""
    assert (goal.is_met(reached), goal.is_met(missed)) == (True, False)


def test_quartiles_of_a_single_number_are_that_number() -> None:
    """A quick run may have one round."""
    assert quartiles([7.0]) == (7.0, 7.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)


def test_the_sides_of_a_round_have_the_same_numbers_in_an_order_that_is_drawn() -> None:
    """No side has the better secrets, or always the better place."""
    seen: list[tuple[str, tuple[int, ...]]] = []

    def seeing(name: str) -> Side:
        return Side(name, lambda numbers: seen.append((name, tuple(numbers))), int)

    hold(contest(seeing("a"), seeing("b"), operations=3, rounds=8), random.Random(0))
    rounds = list(zip(seen[::2], seen[1::2], strict=True))
    assert all(first[1] == second[1] and len(set(first[1])) == 3 for first, second in rounds)
    assert {(first[0], second[0]) for first, second in rounds} == {("a", "b"), ("b", "a")}
    assert len({first[1] for first, _ in rounds}) > 1


def test_more_operations_than_numbers_draw_some_twice() -> None:
    """A few hot secrets can be read many times in a round."""
    seen: list[int] = []

    hold(contest(Side("ours", seen.extend, int), operations=50, numbers=range(3)), random.Random(0))
    assert (len(seen), set(seen)) == (50, {0, 1, 2})


def test_what_is_prepared_is_what_is_timed() -> None:
    """A side gets what it has made of the numbers."""
    seen: list[object] = []
    prepared = Side("ours", seen.append, int, lambda numbers: [f"key{number}" for number in numbers])

    hold(contest(prepared, numbers=range(1)), random.Random(0))
    assert seen == [["key0"]]


def test_a_side_that_does_not_do_the_work_is_not_measured() -> None:
    """A wrong result of either side is an error that names the side."""
    check(contest(side("ours"), side("raw")))
    with pytest.raises(WrongAnswer, match="raw gives a wrong answer for 40"):
        check(contest(side("ours"), side("raw", answer=lambda number: 0 if number == 40 else number)))


def test_a_secret_is_four_hundred_bytes_of_a_model_of_six_fields() -> None:
    """The values are those that the table speaks of."""
    text = json.dumps(value_of(99_999), separators=(",", ":"))

    assert 390 <= len(text) <= 410
    assert len(Token.model_fields) == 6
    assert Token.model_validate(value_of(7)).model_dump() == value_of(7)


def test_a_group_is_a_tenth_of_all_keys_in_their_order() -> None:
    """The pages of keys that are measured are those that the store has to give."""
    expected = sorted(key for key in map(key_of, range(1000)) if key.startswith(group_prefix()))

    assert group_keys(1000) == expected
    assert len(expected) == 100


@pytest.mark.parametrize(
    "build",
    [statements.select_value, statements.select_values, statements.select_heads, write_statements.write_secrets],
)
def test_the_twins_send_statements_of_the_library_with_all_their_parameters(build: Callable[[], object]) -> None:
    """The text is whole: nothing is left in it that only SQLAlchemy could fill in, and no constant is missing."""
    statement = Statement.of(build())  # type: ignore[arg-type]  # each builds a statement
    fixed = dict.fromkeys(statement.fixed, "")

    assert "POSTCOMPILE" not in statement.text
    given = dict.fromkeys(name for name in _names(statement.text) if name.startswith("given_"))
    assert statement.text % (given | fixed)


def _names(text: str) -> list[str]:
    return [part.partition(")s")[0] for part in text.split("%(")[1:]]


@pytest.mark.parametrize("colours", [chart.LIGHT, chart.DARK], ids=["light", "dark"])
def test_a_chart_is_well_formed_and_has_every_number(made: report.Report, colours: chart.Colours) -> None:
    """The SVG parses; each bar has its name and its number, is as long as its number says, and stays within the chart."""
    root = ET.fromstring(chart.draw(chart.panels_of(made), colours))

    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert [text for text in texts if text in {"3.25", "150", "1,234", "750", "4,322"}] == [
        "3.25",
        "150",
        "1,234",
        "750",
        "4,322",
    ]
    assert texts.count("this & <that>") == 2
    bars = [
        (float(bar.get("x", 0)), float(bar.get("width", 0)), float(bar.get("y", 0))) for bar in root.iter(f"{SVG}rect")
    ]
    assert len(bars) == 5
    assert bars[1][1] / bars[2][1] == pytest.approx(150.5 / 1234.5, abs=0.01)
    assert all(x + width < chart.WIDTH and y < float(root.get("height", 0)) for x, width, y in bars)


def test_a_run_without_peers_has_nothing_to_draw(made: report.Report) -> None:
    """Part of the rows is no chart."""
    few = report.Report(**{**{name: getattr(made, name) for name in made.__slots__}, "outcomes": made.outcomes[:1]})

    assert chart.panels_of(few) == []


def test_a_report_survives_as_json(made: report.Report) -> None:
    """What was written is what is read."""
    assert report.from_json(report.as_json(made)) == made


def test_the_figures_of_a_page_are_put_in_their_place_again_and_again(made: report.Report) -> None:
    """Only what stands between the marks changes; every row with a goal has a line, and the others stand side by side."""
    page = f"before\n{report.BEGIN}\nformer\n{report.END}\nafter\n"

    written = report.with_figures(page, made)
    assert (written[:7], written[-7:], "former" in written) == ("before\n", "\nafter\n", False)
    assert "| title of get-cold; a remark | ours: 81.5 µs | raw: 99.5 µs | 1.50 × (1.25–1.75) | ≤ 0.9 × |" in written
    assert "| title of cached-model; failed: x |  |  | – | ≤ 10 µs |" in written
    assert "| title of peers-set | 750 | 4,322 |" in written
    assert report.with_figures(written, made) == written


@pytest.mark.source
def test_the_page_and_the_charts_are_those_of_the_result_that_is_kept() -> None:
    """Figures, charts and docs/benchmark.json are of the same run: `nox -s bench -- --write-docs` writes all of them."""
    kept = report.from_json((DOCS / "benchmark.json").read_bytes())
    page = (DOCS / "performance.md").read_text(encoding="utf-8")

    assert report.with_figures(page, kept) == page
    for name, colours in (("light", chart.LIGHT), ("dark", chart.DARK)):
        drawn = (DOCS / f"benchmark-{name}.svg").read_text(encoding="utf-8")
        assert drawn == chart.draw(chart.panels_of(kept), colours)
