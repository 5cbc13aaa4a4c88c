"""Writes accesses from memory to the record, many at once, a moment after they were made.

What cannot be written because the database is away waits for it, as long as there is room.  What is refused, or finds no
room, is dropped, counted, and told of once until something is written again.  Decision 18 says more.
"""

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore.domain.accesses import Stamped
from secretstore.domain.names import Namespace
from secretstore.errors import SecretStoreError, StoreUnavailableError
from secretstore.orm.event_repository import EventRepository
from secretstore.orm.models import AccessEvent
from secretstore.orm.translate import translated

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_LOGGER = logging.getLogger("secretstore.client")

# How late an access is in the record at most, where the database takes it.
DELAY_SECONDS = 1.0
MOST_WAITING = 10_000
_MOST_AT_ONCE = 1000
_FLUSH_SECONDS = 2.0


class Losses:
    """How many accesses are missing from the record."""

    def __init__(self) -> None:
        self.dropped = 0
        self._is_told = False

    def add(self, accesses: int, why: str) -> None:
        """Count what is lost, and tell of it, once until something is written again."""
        self.dropped += accesses
        if accesses and not self._is_told:
            self._is_told = True
            _LOGGER.warning(
                "accesses are missing from the record: %s", why, extra={"secretstore_accesses_dropped": self.dropped}
            )

    def end(self) -> None:
        """Tell of the next loss again."""
        self._is_told = False


class Waiting:
    """Accesses of one process that are not written yet."""

    def __init__(self, losses: Losses) -> None:
        self.process_id = os.getpid()
        self.rows: list[tuple[Namespace, Stamped]] = []
        self._losses = losses

    @property
    def is_full(self) -> bool:
        """Whether they are so many that they are written at once."""
        return len(self.rows) >= _MOST_AT_ONCE

    def add(self, namespace: Namespace, accesses: Sequence[Stamped]) -> None:
        """Let some wait, or drop those for which there is no room."""
        room = max(MOST_WAITING - len(self.rows), 0)
        self.rows += [(namespace, one) for one in accesses[:room]]
        self._losses.add(len(accesses[room:]), f"{MOST_WAITING:,} wait already")

    def next_batch(self) -> tuple[Namespace, list[Stamped]] | None:
        """Return accesses of the namespace that has waited longest; they stay until they are `done`."""
        if not self.rows:
            return None
        namespace = self.rows[0][0]
        return namespace, [one for name, one in self.rows if name == namespace][:_MOST_AT_ONCE]

    def done(self, batch: Sequence[Stamped]) -> None:
        """Forget what was written."""
        self._forget(batch)
        self._losses.end()

    def refused(self, batch: Sequence[Stamped], problem: SecretStoreError) -> None:
        """Drop what the database does not take, now and later."""
        self._forget(batch)
        self._losses.add(len(batch), str(problem))

    def give_up(self) -> None:
        """Drop everything."""
        self.refused([one for _, one in self.rows], StoreUnavailableError("the database is away"))

    def _forget(self, batch: Sequence[Stamped]) -> None:
        gone = {one.id for one in batch}
        self.rows = [(name, one) for name, one in self.rows if one.id not in gone]


class AccessBuffer:
    """Writes from a thread of its own, which the first access starts; a forked process gets its own.

    What waits when the interpreter ends is written then.
    """

    def __init__(self, engine: Engine, losses: Losses) -> None:
        self._engine = engine
        self._losses = losses
        self._work = self._begin()

    def add(self, namespace: Namespace, accesses: Sequence[Stamped]) -> None:
        """Let accesses be written soon; raises nothing and waits for nobody."""
        work = self._of_process()
        # A thread cannot be started while the interpreter ends; then the end of it writes.
        with work.condition, suppress(RuntimeError):
            work.waiting.add(namespace, accesses)
            work.condition.notify_all()
            if work.thread is None:
                thread = threading.Thread(target=_write_all, args=(work,), name="secretstore-accesses", daemon=True)
                thread.start()
                work.thread = thread

    def flush(self) -> None:
        """Wait until everything is written, though not for long; what is left then is dropped."""
        _write_the_rest(self._of_process())

    def _of_process(self) -> "_Work":
        work = self._work
        if work.waiting.process_id != os.getpid():
            work = self._work = self._begin()
        return work

    def _begin(self) -> "_Work":
        work = _Work(self._engine, Waiting(self._losses))
        weakref.finalize(self, _write_the_rest, work)
        return work


class _Work:
    """What the thread of one process has to do."""

    def __init__(self, engine: Engine, waiting: Waiting) -> None:
        self.engine = engine
        self.condition = threading.Condition()
        self.waiting = waiting
        self.thread: threading.Thread | None = None
        self.is_ending = False

    def wait(self) -> bool:
        """Wait until it is time to write; return whether there is anything, else the thread ends."""
        with self.condition:
            if not self.is_ending:
                self.condition.wait_for(lambda: self.is_ending or self.waiting.is_full, DELAY_SECONDS)
            if not self.waiting.rows:
                self.thread = None
                self.condition.notify_all()
            return bool(self.waiting.rows)

    def write(self) -> bool:
        """Write what waits; return False where the database is away."""
        while True:
            with self.condition:
                batch = self.waiting.next_batch()
            if batch is None:
                return True
            try:
                _write(self.engine, *batch)
            except StoreUnavailableError:
                return False
            except SecretStoreError as error:
                with self.condition:
                    self.waiting.refused(batch[1], error)
            else:
                with self.condition:
                    self.waiting.done(batch[1])


def _write_all(work: _Work) -> None:
    while work.wait():
        if not work.write() and work.is_ending:
            _give_up(work)


def _write_the_rest(work: _Work) -> None:
    if work.waiting.process_id != os.getpid():
        return
    with work.condition:
        work.is_ending = True
        work.condition.notify_all()
        work.condition.wait_for(lambda: work.thread is None, _FLUSH_SECONDS)
        work.is_ending = False
        is_left = bool(work.waiting.rows) and work.thread is None
    if is_left:
        work.write()
    _give_up(work)


def _give_up(work: _Work) -> None:
    with work.condition:
        work.waiting.give_up()


def _write(engine: Engine, namespace: Namespace, accesses: Sequence[Stamped]) -> None:
    with translated(), Session(engine) as session, session.begin():
        EventRepository(session, namespace, AccessEvent).record_accesses(accesses)


class AsyncAccessBuffer:
    """As `AccessBuffer`, from a task of the loop that lasts as long as something waits.

    Where the loop ends by `asyncio.run`, the task is cancelled and writes what waits then.
    """

    def __init__(self, engine: "AsyncEngine", losses: Losses) -> None:
        self._engine = engine
        self._waiting = Waiting(losses)
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, namespace: Namespace, accesses: Sequence[Stamped]) -> None:
        """See `AccessBuffer.add`; to be called in the loop."""
        self._waiting.add(namespace, accesses)
        if self._waiting.is_full:
            self._hurry.set()
        if self._task is None or self._task.done():
            self._hurry = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    async def flush(self) -> None:
        """See `AccessBuffer.flush`."""
        self._hurry.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_FLUSH_SECONDS)
        self._waiting.give_up()

    async def _write_all(self) -> None:
        try:
            while self._waiting.rows:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), DELAY_SECONDS)
                self._hurry.clear()
                await self._write()
        except asyncio.CancelledError:
            await self._write()
            raise

    async def _write(self) -> None:
        from sqlalchemy.ext.asyncio import AsyncSession  # noqa: PLC0415 - who blocks does not wait for it

        while batch := self._waiting.next_batch():
            namespace, accesses = batch
            try:
                with translated():
                    async with AsyncSession(self._engine) as session, session.begin():
                        await session.run_sync(_record, namespace, accesses)
            except StoreUnavailableError:
                return
            except SecretStoreError as error:
                self._waiting.refused(accesses, error)
            else:
                self._waiting.done(accesses)


def _record(session: Session, namespace: Namespace, accesses: Sequence[Stamped]) -> None:
    EventRepository(session, namespace, AccessEvent).record_accesses(accesses)
