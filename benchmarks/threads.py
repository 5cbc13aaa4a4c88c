"""Eight threads that share one client."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from benchmarks.clients import CACHED, PREPARED, Options, client, raw
from benchmarks.harness import Contest, Goal, Row, Side
from benchmarks.reads import reads
from benchmarks.stage import Stage
from benchmarks.values import items_of, key_of, keys_of, value_of
from secretstore import SecretClient

THREADS = 8


def in_threads(
    name: str,
    workers: Sequence[Callable[[Sequence[str]], object]],
    answer: Callable[[int], object],
    executor: ThreadPoolExecutor,
) -> Side:
    """Return a side of which each worker reads its part of the keys in a thread of its own."""

    def do(keys: Sequence[str]) -> None:
        parts = [keys[position :: len(workers)] for position in range(len(workers))]
        for _ in executor.map(lambda worker, part: worker(part), workers, parts):
            pass

    return Side(name, do, answer, keys_of)


def each(get: Callable[[str], object]) -> Callable[[Sequence[str]], None]:
    """Return what reads one key after another."""

    def do(keys: Sequence[str]) -> None:
        for key in keys:
            get(key)

    return do


@contextmanager
def executor_of(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads that start with the first work, and so run where whoever gives it does."""
    with ThreadPoolExecutor(threads) as executor:
        yield executor


@contextmanager
def cold(stage: Stage) -> Iterator[Contest]:
    """One client in eight threads, beside a connection in each of eight."""
    with ExitStack() as stack:
        store = stack.enter_context(client(stage, PREPARED))
        twins = [stack.enter_context(raw(stage)) for _ in range(THREADS)]
        executor = stack.enter_context(executor_of(THREADS))
        yield reads(
            stage,
            in_threads(
                "client.get_secret",
                [each(store.get_secret)] * THREADS,
                lambda number: store.get_secret(key_of(number)),
                executor,
            ),
            in_threads(
                "raw psycopg",
                [each(twin.get) for twin in twins],
                lambda number: twins[number % THREADS].get(key_of(number)),
                executor,
            ),
            operations=THREADS * stage.size.operations,
            place="two cores",
        )


@contextmanager
def writing_with_notices(stage: Stage) -> Iterator[Contest]:
    """Eight threads that write different keys, with notices after the commit and a cache that hears them, or without."""
    after_commit: Options = {"notify": "after_commit"}
    with ExitStack() as stack:
        executor = stack.enter_context(executor_of(THREADS))
        telling = stack.enter_context(client(stage, PREPARED | after_commit | CACHED))
        silent = stack.enter_context(client(stage, PREPARED | {"notify": "off"}))
        exact = stack.enter_context(client(stage, PREPARED | {"notify": "transaction"}))
        yield reads(
            stage,
            _writing("notices after the commit", telling, executor),
            _writing("no notices", silent, executor),
            _writing("notices with the commit", exact, executor),
            operations=THREADS * max(4, stage.size.operations // 10),
            place="two cores",
        )


def _writing(name: str, store: SecretClient, executor: ThreadPoolExecutor) -> Side:
    def write(items: Sequence[tuple[str, object]]) -> None:
        for key, value in items:
            store.set_secret(key, value)

    def do(items: Sequence[tuple[str, object]]) -> None:
        list(executor.map(write, (items[position::THREADS] for position in range(THREADS))))

    def answer(number: int) -> object:
        store.set_secret(key_of(number), value_of(number))
        return store.get_secret(key_of(number))

    return Side(name, do, answer, items_of)


ROWS = (
    Row("threads-get", f"{THREADS} threads, one client", Goal(1.4, "throughput"), cold),
    Row(
        "threads-set",
        f"{THREADS} threads that write, invalidation on (`after_commit`), against off",
        Goal(0.75, "throughput"),
        writing_with_notices,
    ),
)
