"""Real threads, started together or one after another, whose errors come back to the test."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import psycopg

T = TypeVar("T")

DEADLINE_SECONDS = 20.0

# PostgreSQL's own workers, such as those of autovacuum, are none of those that a test looks for.
CLIENT_BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
)
BLOCKED = f"{CLIENT_BACKENDS} AND wait_event_type = 'Lock'"


def run_together(*functions: Callable[[], T]) -> list[T]:
    """Run each function in a thread of its own, all from one moment on; return their answers or raise an error."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], T]) -> T:
        barrier.wait(DEADLINE_SECONDS)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(run, function) for function in functions]
        return answers(futures)


def answers(futures: Sequence["Future[T]"]) -> list[T]:
    """Return what the threads returned, or raise the first error."""
    return [future.result(DEADLINE_SECONDS * 2) for future in futures]


@contextmanager
def in_thread(function: Callable[[], T]) -> Iterator["Future[T]"]:
    """Start a function; the block goes on beside it, and the end of the block waits for it."""
    pool = ThreadPoolExecutor(1)
    ended_well = False
    try:
        yield pool.submit(function)
        ended_well = True
    finally:
        # After a failure the thread may wait for a lock that only the outer block lets go.
        pool.shutdown(wait=ended_well)


def wait_until_blocked(raw: psycopg.Connection, count: int = 1) -> None:
    """Wait until that many connections of the database wait for a lock, or fail."""
    wait_until(raw, BLOCKED, count)


def wait_until(raw: psycopg.Connection, question: str, answer: int) -> None:
    """Ask PostgreSQL until a count is at least `answer`, or fail."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while number(raw, question) < answer:
        assert time.monotonic() < deadline, f"fewer than {answer}: {question}"
        time.sleep(0.005)


def number(raw: psycopg.Connection, question: str) -> int:
    """Return the one number that a statement answers with."""
    row = raw.execute(question.encode()).fetchone()
    assert row is not None
    return int(row[0])
