"""Contests: the same work done in two or more ways, in many short rounds in random order."""

import gc
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import median, quantiles
from typing import Any, Literal, TypeAlias

from benchmarks.stage import Place, Stage

Kind: TypeAlias = Literal["time", "throughput", "µs", "MiB"]

_CHECKED = 5


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row should reach: at most so many times the time, or µs, or MiB; or at least so many times the throughput."""

    limit: float
    kind: Kind

    def is_met(self, value: float) -> bool:
        """Return whether a value reaches it."""
        return value >= self.limit if self.kind == "throughput" else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.kind == "throughput" else "≤"
        return f"{sign} {self.limit:g} {'×' if self.kind in {'time', 'throughput'} else self.kind}"


@dataclass(frozen=True, slots=True)
class Side:
    """One way to do the work.

    `do` does a round with what `prepare` made of the round's numbers, which is not timed.  `answer` does one operation in
    the same way, and returns what came of it.
    """

    name: str
    do: Callable[[Any], object]  # takes what its own `prepare` returns
    answer: Callable[[int], object]
    prepare: Callable[[Sequence[int]], Any] = list


@dataclass(frozen=True, slots=True)
class Taken:
    """What a round took, where it has measured itself."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Contest:
    """Ours first, then what it is measured by, then what is shown beside them."""

    sides: tuple[Side, ...]
    expected: Callable[[int], object]
    numbers: range
    operations: int
    rounds: int
    place: Place = "one core"
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """What one side needs for an operation: µs, or MiB."""

    name: str
    median: float
    p25: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a row.  `value` is what the goal speaks of; a quarter of the rounds lies below `low`, one above `high`."""

    row: str
    title: str
    goal: Goal | None
    sides: tuple[Timing, ...] = ()
    value: float | None = None
    value_p25: float | None = None
    low: float | None = None
    high: float | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """What a row has measured, before it is given the row's name."""

    sides: tuple[Timing, ...]
    value: float
    value_p25: float
    low: float
    high: float
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a contest, which is open while it is held, or something that measures itself."""

    name: str
    title: str
    goal: Goal | None
    open: Callable[[Stage], AbstractContextManager[Contest]] | None = None
    measure: Callable[[Stage], Measured] | None = None


class WrongAnswer(Exception):  # noqa: N818 - says what it is
    """A side does not do the work that it is measured by."""


@dataclass(slots=True)
class Times:
    """Seconds of each round of each side."""

    by_side: dict[str, list[float]] = field(default_factory=dict)

    def add(self, side: str, seconds: float) -> None:
        """Keep what a round took."""
        self.by_side.setdefault(side, []).append(seconds)


def run(row: Row, stage: Stage) -> Outcome:
    """Measure a row."""
    measured = row.measure(stage) if row.measure is not None else _hold(row, stage)
    return Outcome(
        row.name,
        row.title,
        row.goal,
        measured.sides,
        measured.value,
        measured.value_p25,
        measured.low,
        measured.high,
        measured.remarks,
    )


def _hold(row: Row, stage: Stage) -> Measured:
    assert row.open is not None  # noqa: S101 - a row has one or the other
    with row.open(stage) as contest, stage.placed(contest.place) as placing:
        check(contest)
        _warm_up(contest)
        remarks = contest.remarks + placing.pin()
        times = hold(contest, random.Random(0))  # noqa: S311 - an order of rounds, which may be the same each time
        return measured_of(contest, times, "time" if row.goal is None else row.goal.kind, remarks)


def check(contest: Contest) -> None:
    """Raise `WrongAnswer` where a side does not come to the right result."""
    step = max(1, len(contest.numbers) // _CHECKED)
    for side in contest.sides:
        for number in contest.numbers[::step][:_CHECKED]:
            if side.answer(number) != contest.expected(number):
                raise WrongAnswer(f"{side.name} gives a wrong answer for {number}")


def _warm_up(contest: Contest) -> None:
    numbers = list(islice(cycle(contest.numbers), contest.operations))
    for side in contest.sides:
        side.do(side.prepare(numbers))


def hold(contest: Contest, chance: random.Random) -> Times:
    """Run all rounds; within a round each side has the same numbers, and a place in the order that is drawn."""
    times = Times()
    for _ in range(contest.rounds):
        numbers = _drawn(contest, chance)
        for side in chance.sample(contest.sides, len(contest.sides)):
            times.add(side.name, _timed(side, numbers))
    return times


def _drawn(contest: Contest, chance: random.Random) -> list[int]:
    if contest.operations <= len(contest.numbers):
        return chance.sample(contest.numbers, contest.operations)
    return chance.choices(contest.numbers, k=contest.operations)


def _timed(side: Side, numbers: Sequence[int]) -> float:
    prepared = side.prepare(numbers)
    gc.collect()
    start = time.perf_counter()
    done = side.do(prepared)
    seconds = time.perf_counter() - start
    return done.seconds if isinstance(done, Taken) else seconds


def measured_of(contest: Contest, times: Times, kind: Kind, remarks: tuple[str, ...] = ()) -> Measured:
    """Return medians, 25th percentiles, and what the goal speaks of, with the spread of its single rounds."""
    per_operation = [
        [seconds / contest.operations * 1e6 for seconds in times.by_side[side.name]] for side in contest.sides
    ]
    timings = tuple(
        Timing(side.name, median(rounds), quartiles(rounds)[0])
        for side, rounds in zip(contest.sides, per_operation, strict=True)
    )
    if kind == "µs":
        low, high = quartiles(per_operation[0])
        return Measured(timings, timings[0].median, timings[0].p25, low, high, remarks)
    ours, theirs = (1, 0) if kind == "throughput" else (0, 1)
    pairs = [a / b for a, b in zip(per_operation[ours], per_operation[theirs], strict=True)]
    low, high = quartiles(pairs)
    ratio = timings[ours].median / timings[theirs].median
    return Measured(timings, ratio, timings[ours].p25 / timings[theirs].p25, low, high, remarks)


def quartiles(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the 25th and the 75th percentile."""
    if len(numbers) == 1:
        return numbers[0], numbers[0]
    first, _, third = quantiles(numbers, n=4, method="inclusive")
    return first, third
