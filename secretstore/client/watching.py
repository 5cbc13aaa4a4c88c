"""The loops behind `client.watch`.

Where PostgreSQL is away they try again, longer and longer apart, and go on after the change that they gave last.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Protocol, TypeVar

from sqlalchemy.orm import Session

from secretstore.client.patience import Patience
from secretstore.domain.records import Change
from secretstore.errors import StoreUnavailableError
from secretstore.orm.listening import AsyncListener, Listener
from secretstore.service.changes import ChangeReader

T = TypeVar("T")

PAGE = 500
_PATIENCE_SECONDS = 60.0


class Transactions(Protocol):
    """Runs a function in a transaction of its own."""

    def __call__(self, do: Callable[[Session], T]) -> T:
        """Return what the function returns."""


class AsyncTransactions(Protocol):
    """As `Transactions`, awaited."""

    def __call__(self, do: Callable[[Session], T]) -> Awaitable[T]:
        """Return what the function returns."""


def watch(
    transactions: Transactions, listener: Listener, reader: ChangeReader, *, after: int | None, poll_seconds: float
) -> Generator[Change, None, None]:
    """Give changes after a number, or from now on, for ever."""
    position = _patiently(lambda: transactions(reader.start)) if after is None else after
    while True:
        page = _patiently(lambda: transactions(lambda session: reader.read(session, position, PAGE)))  # noqa: B023
        # Only now, after its commit, do the numbers stand.
        position = page.after
        yield from page.changes
        if page.is_last:
            listener.wait(poll_seconds)


async def watch_async(
    transactions: AsyncTransactions,
    listener: AsyncListener,
    reader: ChangeReader,
    *,
    after: int | None,
    poll_seconds: float,
) -> AsyncGenerator[Change, None]:
    """As `watch`, awaited."""
    position = await _patiently_async(lambda: transactions(reader.start)) if after is None else after
    while True:
        page = await _patiently_async(
            lambda: transactions(lambda session: reader.read(session, position, PAGE))  # noqa: B023
        )
        position = page.after
        for change in page.changes:
            yield change
        if page.is_last:
            await listener.wait(poll_seconds)


def _patiently(call: Callable[[], T]) -> T:
    patience = Patience(_PATIENCE_SECONDS)
    while True:
        try:
            return call()
        except StoreUnavailableError as error:
            pause = patience.next_pause(error)
        time.sleep(pause)


async def _patiently_async(call: Callable[[], Awaitable[T]]) -> T:
    patience = Patience(_PATIENCE_SECONDS)
    while True:
        try:
            return await call()
        except StoreUnavailableError as error:
            pause = patience.next_pause(error)
        await asyncio.sleep(pause)
