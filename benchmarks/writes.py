"""Writes of single secrets: head, history, change event and notice."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.clients import PREPARED, client, raw
from benchmarks.harness import Contest, Goal, Row, Side
from benchmarks.reads import reads
from benchmarks.stage import Stage
from benchmarks.values import items_of, key_of, value_of

Set = Callable[[str, object], object]
Items = list[tuple[str, dict[str, object]]]


def writing(
    name: str,
    write: Set,
    read: Callable[[str], object],
    prepare: Callable[[Sequence[int]], Items] = items_of,
) -> Side:
    """Return a side that writes secrets one after another; its answer is read by `read`."""

    def do(items: Items) -> None:
        for key, value in items:
            write(key, value)

    def answer(number: int) -> object:
        assert write(key_of(number), value_of(number)) is not None  # noqa: S101 - a row of the head that was written
        return read(key_of(number))

    return Side(name, do, answer, prepare)


def writes(stage: Stage, *sides: Side, **more: Any) -> Contest:  # what a contest takes
    """Return a contest of writes, of which a round has fewer than one of reads."""
    return reads(stage, *sides, operations=max(10, stage.size.operations // 5), **more)


@contextmanager
def committed(stage: Stage) -> Iterator[Contest]:
    """A client's call, beside its statements on one connection, each with BEGIN and COMMIT."""
    with client(stage, PREPARED) as store, raw(stage, autocommit=False) as twin, raw(stage) as reader:
        yield writes(
            stage,
            writing("client.set_secret", store.set_secret, reader.get),
            writing("raw psycopg", twin.set_and_commit, reader.get),
        )


@contextmanager
def in_transaction(stage: Stage) -> Iterator[Contest]:
    """A service on a caller's session, beside a connection in a transaction; none is committed."""
    with (
        client(stage, PREPARED) as store,
        Session(store.engine) as session,
        raw(stage, autocommit=False) as twin,
    ):

        def begin(numbers: Sequence[int]) -> Items:
            # Neither waits for what the other has written.
            session.rollback()
            twin.connection.rollback()
            session.execute(text("SELECT 1"))
            return items_of(numbers)

        def twin_set(key: str, value: object) -> object:
            return twin.set(key, value)

        def read(key: str) -> object:
            # The answer of either is read in its own transaction, which then ends.
            answer = service.get_secret(key) if session.in_transaction() else twin.get(key)
            session.rollback()
            twin.connection.rollback()
            return answer

        service = store.bind(session)
        yield writes(
            stage,
            writing("service.set_secret", service.set_secret, read, begin),
            writing("raw psycopg", twin_set, read, begin),
        )


ROWS = (
    Row("set", "`client.set_secret`, commit included", Goal(1.5, "time"), committed),
    Row("set-in-transaction", "`service.set_secret` in the caller's transaction", Goal(1.2, "time"), in_transaction),
)
