"""Seals the record now and then in the background, for as long as a block lasts."""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Protocol

from secretstore.domain.names import Namespace
from secretstore.domain.sealing import Sealing
from secretstore.errors import SecretStoreError
from secretstore.service.flows import OnProgress

_LOGGER = logging.getLogger("secretstore.client")


class _Left(Exception):  # noqa: N818 - no error: the block was left, and its end goes on with the rest
    """The thread is to end."""


class Seal(Protocol):
    """Seals what is there."""

    def __call__(self, *, on_progress: OnProgress) -> Sealing:
        """Return what was sealed."""


@contextmanager
def sealing(seal: Seal, namespace: Namespace, every: float) -> Iterator[None]:
    """Seal in a thread of its own, which a process that was forked has not, and does not wait for."""
    process_id, left = os.getpid(), threading.Event()

    def stop_if_left(*_: int) -> None:
        if left.is_set():
            raise _Left

    def work() -> None:
        with suppress(_Left):
            while not left.wait(every):
                with _logging(namespace):
                    seal(on_progress=stop_if_left)

    thread = threading.Thread(target=work, name="secretstore-sealing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        if os.getpid() == process_id:
            left.set()
            thread.join()
            with _logging(namespace):
                seal(on_progress=lambda *_: None)


@asynccontextmanager
async def sealing_async(
    seal: Callable[[], Awaitable[Sealing]], namespace: Namespace, every: float
) -> AsyncIterator[None]:
    """Seal in a task of its own."""
    left = asyncio.Event()

    async def work() -> None:
        while not await _happens(left, every):
            with _logging(namespace):
                await seal()

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        left.set()
        await task
        with _logging(namespace):
            await seal()


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, though not for longer; return whether it has happened."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


@contextmanager
def _logging(namespace: Namespace) -> Iterator[None]:
    """Go on after what failed: what is not sealed now is sealed the next time."""
    try:
        yield
    except SecretStoreError as error:
        _LOGGER.warning(
            "the record of namespace %r was not sealed: %s",
            namespace,
            error,
            extra={"secretstore_namespace": namespace},
        )
