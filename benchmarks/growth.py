"""Reads of a table that has grown, beside the same reads of a small one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks.clients import PREPARED, client
from benchmarks.harness import Contest, Goal, Row, Side
from benchmarks.reads import reads
from benchmarks.stage import Stage
from benchmarks.values import group_keys, group_prefix, key_of, keys_of, value_of
from secretstore import SecretClient

PAGE = 1_000
# So many secrets are read, in all parts of a table, however large; the others are only in the way.
_READ = 9_000


def readable(count: int) -> range:
    """Return the secrets of a table that can be read, from all of its groups: about as many of a large table as of a small."""
    return range(0, count, max(1, count // 10_000) | 1)


@contextmanager
def get(stage: Stage) -> Iterator[Contest]:
    """Single secrets of the largest table, of the smallest, and of the one between."""
    small, middle, large = stage.size.growth
    with _sides(stage, (large, small, middle), _getting) as sides:
        # Each was read before: what a page costs that PostgreSQL has to fetch first is not what grows.
        for side in sides:
            side.do(side.prepare(range(_READ)))
        yield reads(stage, *sides, expected=_itself, numbers=range(_READ))


def _getting(store: SecretClient, count: int) -> Side:
    numbers = readable(count)

    def do(keys: Sequence[str]) -> None:
        for key in keys:
            store.get_secret(key)

    def answer(position: int) -> object:
        number = numbers[position]
        return position if store.get_secret(key_of(number)) == value_of(number) else None

    return Side(_name(count), do, answer, lambda positions: keys_of(numbers[position] for position in positions))


@contextmanager
def first_page(stage: Stage) -> Iterator[Contest]:
    """The first thousand keys with a prefix."""
    with _listing(stage, is_last=False) as contest:
        yield contest


@contextmanager
def last_page(stage: Stage) -> Iterator[Contest]:
    """The last thousand keys with a prefix."""
    with _listing(stage, is_last=True) as contest:
        yield contest


@contextmanager
def _listing(stage: Stage, *, is_last: bool) -> Iterator[Contest]:
    _, middle, large = stage.size.growth
    with _sides(stage, (large, middle), partial(_listing_side, is_last=is_last)) as sides:
        yield reads(stage, *sides, expected=_itself, numbers=range(10), operations=5)


def _listing_side(store: SecretClient, count: int, *, is_last: bool) -> Side:
    keys = group_keys(count)
    after = keys[-PAGE - 1] if is_last else None
    expected = keys[-PAGE:] if is_last else keys[:PAGE]

    def page() -> list[str]:
        return store.list_secret_keys(group_prefix(), after=after, limit=PAGE)

    def do(numbers: Sequence[int]) -> None:
        for _ in numbers:
            page()

    return Side(_name(count), do, lambda number: number if page() == expected else None)


@contextmanager
def _sides(
    stage: Stage, counts: Sequence[int], side: Callable[[SecretClient, int], Side]
) -> Iterator[tuple[Side, ...]]:
    with ExitStack() as stack:
        names = [stage.filled(f"growth_{count}", count, readable=readable(count)) for count in counts]
        stores = [stack.enter_context(client(stage, PREPARED, database=name)) for name in names]
        yield tuple(side(store, count) for store, count in zip(stores, counts, strict=True))


def _name(count: int) -> str:
    return f"{count:,} secrets"


def _itself(number: int) -> int:
    return number


ROWS = (
    Row("growth-get", "growth: cold `get_secret`, the largest table against the smallest", Goal(1.3, "time"), get),
    Row("growth-first-page", "growth: first page of 1,000 keys by prefix", Goal(1.3, "time"), first_page),
    Row("growth-last-page", "growth: last page of 1,000 keys by prefix", Goal(1.3, "time"), last_page),
)
