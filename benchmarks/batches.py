"""Many secrets in one call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import psycopg

from benchmarks.clients import PREPARED, client, raw
from benchmarks.harness import Contest, Goal, Row, Side
from benchmarks.stage import Stage
from benchmarks.values import NAMESPACE, key_of, keys_of, value_of

READ = 1_000
BATCH = 10_000
NEW = "new."

Values = dict[str, object]
_EMPTY = (
    "DELETE FROM secretstore.change_event WHERE namespace = %s AND starts_with(key, %s)",
    "DELETE FROM secretstore.secret_version WHERE namespace = %s AND starts_with(key, %s)",
    "DELETE FROM secretstore.secret_store WHERE namespace = %s AND starts_with(key, %s)",
)


@contextmanager
def many_read(stage: Stage) -> Iterator[Contest]:
    """A thousand values in one call."""
    with client(stage, PREPARED) as store, raw(stage) as twin:
        sides = _reading("client.get_secrets", store.get_secrets), _reading("raw psycopg", twin.get_many)
        yield Contest(sides, _one, stage.numbers, READ, max(3, stage.size.rounds // 2))


def _reading(name: str, get_many: Callable[[list[str]], Mapping[str, object]]) -> Side:
    return Side(name, get_many, lambda number: dict(get_many([key_of(number)])), keys_of)


def _one(number: int) -> Values:
    return {key_of(number): value_of(number)}


@contextmanager
def new(stage: Stage) -> Iterator[Contest]:
    """Ten thousand secrets that are not there."""
    with _writing(stage, NEW) as contest:
        yield contest


@contextmanager
def existing(stage: Stage) -> Iterator[Contest]:
    """Ten thousand secrets that are there."""
    with _writing(stage, "") as contest:
        yield contest


@contextmanager
def _writing(stage: Stage, prefix: str) -> Iterator[Contest]:
    with client(stage, PREPARED) as store, raw(stage, autocommit=False) as twin, raw(stage) as reader:

        def values_of(numbers: Sequence[int]) -> Values:
            if prefix:
                empty(reader.connection, prefix)
            return {prefix + key_of(number): value_of(number) for number in numbers}

        def side(name: str, write: Callable[[Values], object]) -> Side:
            def answer(number: int) -> object:
                write(values_of([number]))
                return reader.get(prefix + key_of(number))

            return Side(name, write, answer, values_of)

        sides = (
            side("client.set_secrets", store.set_secrets),
            side("COPY, upsert, history, events", twin.set_many),
            side("the same without events", partial(twin.set_many, with_events=False)),
        )
        size = stage.size
        remarks = () if size.batch == BATCH else (f"{size.batch:,} secrets",)
        yield Contest(sides, value_of, stage.numbers, size.batch, size.batch_rounds, remarks=remarks)
        if prefix:
            empty(reader.connection, prefix)


def empty(connection: psycopg.Connection, prefix: str) -> None:
    """Remove secrets with a prefix."""
    for statement in _EMPTY:
        connection.execute(statement, [NAMESPACE, prefix])


ROWS = (
    Row("set-many-new", "`client.set_secrets` of 10,000 new", Goal(1.2, "time"), new),
    Row("set-many-existing", "`client.set_secrets` of 10,000 existing", Goal(1.2, "time"), existing),
    Row("get-many", "`client.get_secrets` of 1,000", Goal(1.1, "time"), many_read),
)
