"""Reads from the cache."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.clients import CACHED, PREPARED, client
from benchmarks.harness import Contest, Goal, Row
from benchmarks.reads import reading
from benchmarks.stage import Stage
from benchmarks.threads import THREADS, each, executor_of, in_threads
from benchmarks.values import Token, key_of, value_of
from secretstore.metrics import Metrics

# So few that they are all in the cache from the first round on.
HOT = range(500)


@contextmanager
def plain(stage: Stage) -> Iterator[Contest]:
    """Values as `dict`."""
    with client(stage, PREPARED | CACHED) as store:
        side = reading("client.get_secret", store.get_secret)
        yield Contest((side,), value_of, HOT, 10 * stage.size.operations, stage.size.rounds)


@contextmanager
def typed(stage: Stage) -> Iterator[Contest]:
    """Values as a pydantic model of six fields."""
    with client(stage, PREPARED | CACHED) as store:
        side = reading("client.get_secret", lambda key: store.get_secret(key, Token))
        yield Contest((side,), _token, HOT, 10 * stage.size.operations, stage.size.rounds)


@contextmanager
def in_eight_threads(stage: Stage) -> Iterator[Contest]:
    """Eight threads, beside one that reads as much alone."""
    with ExitStack() as stack:
        store = stack.enter_context(client(stage, PREPARED | CACHED))
        executor = stack.enter_context(executor_of(THREADS))
        sides = (
            in_threads(
                f"{threads} threads" if threads > 1 else "one thread",
                [each(store.get_secret)] * threads,
                lambda number: store.get_secret(key_of(number)),
                executor,
            )
            for threads in (THREADS, 1)
        )
        operations = 10 * THREADS * stage.size.operations
        yield Contest(tuple(sides), value_of, HOT, operations, stage.size.rounds, "anywhere")


@contextmanager
def observed(stage: Stage) -> Iterator[Contest]:
    """Counted by `Metrics`, beside a client that nobody looks at."""
    with (
        client(stage, PREPARED | CACHED) as plainly,
        client(stage, PREPARED | CACHED | {"observer": Metrics()}) as counted,
    ):
        sides = (reading("with metrics", counted.get_secret), reading("without", plainly.get_secret))
        yield Contest(sides, value_of, HOT, 10 * stage.size.operations, stage.size.rounds)


def _token(number: int) -> Token:
    return Token.model_validate(value_of(number))


ROWS = (
    Row("cached-dict", "`client.get_secret` from the cache, as `dict`", Goal(5, "µs"), plain),
    Row("cached-model", "the same as a pydantic model of six fields", Goal(10, "µs"), typed),
    Row("metrics", "`client.get_secret` from the cache with metrics, beside one without", Goal(8, "µs"), observed),
    Row("cached-threads", f"the same with {THREADS} threads, against one", Goal(2, "time"), in_eight_threads),
)
