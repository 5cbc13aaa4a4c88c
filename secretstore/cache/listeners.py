"""What carries out the steps of `following`: a thread, or a task of a loop.  Neither holds on to the client."""

import asyncio
import logging
import os
import selectors
import threading
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from secretstore.cache.entries import Entries
from secretstore.cache.following import Ask, Connect, Following, Hear, Pause, Probe, Step
from secretstore.errors import SecretStoreError, StoreUnavailableError
from secretstore.orm.event_repository import send_notice
from secretstore.orm.listening import AsyncLine, CannotListenError, Line
from secretstore.orm.translate import translated
from secretstore.service.news import RecordClosedError

_LOGGER = logging.getLogger("secretstore.cache")
_EXPECTED = (SecretStoreError, CannotListenError, RecordClosedError)
_END_SECONDS = 5.0


class _Waker:
    """Ends a wait on a socket from another thread."""

    def __init__(self) -> None:
        # Whoever is told to end by the garbage collector may be in here already.
        self._lock = threading.RLock()
        self._pipe: tuple[int, int] | None = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)

    def wake(self) -> None:
        # The lock, because once the pipe is closed its number may belong to another file.
        with self._lock, suppress(BlockingIOError):
            if self._pipe is not None:
                os.write(self._pipe[1], b".")

    def wait(self, seconds: float, line: Line | None) -> None:
        if self._pipe is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe[0], selectors.EVENT_READ)
            if line is not None:
                selector.register(line.fileno(), selectors.EVENT_READ)
            selector.select(seconds)
        with suppress(BlockingIOError):
            os.read(self._pipe[0], 4096)

    def close(self) -> None:
        with self._lock:
            pipe, self._pipe = self._pipe, None
        for end in pipe or ():
            os.close(end)


class ThreadListener:
    """A daemon thread that follows changes until it is told to end."""

    def __init__(self, entries: Entries, engine: Engine, listen_engine: Engine) -> None:
        self._following = Following(entries)
        self._engine = engine
        self._listen_engine = listen_engine
        self._line: Line | None = None
        self._waker = _Waker()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="secretstore cache", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once."""
        self._waker.wake()

    def end(self) -> None:
        """Stop soon."""
        self._is_ending = True
        self._waker.wake()

    def join(self) -> None:
        """Wait until it has stopped, but not for a database that does not answer."""
        if self._thread is not threading.current_thread():
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        steps = self._following.run()
        try:
            step = next(steps)
            while not self._is_ending:
                answer, error = self._carried_out(step)
                step = steps.send(answer) if error is None else steps.throw(error)
        finally:
            steps.close()
            self._close_line()
            self._waker.close()

    def _carried_out(self, step: Step) -> tuple[Any, Exception | None]:
        try:
            return self._carry_out(step), None
        except _EXPECTED as error:
            return None, error
        except Exception as error:  # noqa: BLE001 - a cache that does not follow any more would be a surprise
            return None, _unexpected(error)

    def _carry_out(self, step: Step) -> Any:
        match step:
            case Connect(listens):
                self._connect(listens=listens)
            case Probe(payload):
                with translated(), Session(self._engine) as session, session.begin():
                    send_notice(session, payload)
            case Ask(do):
                return self._connected().ask(do)
            case Hear(seconds):
                return self._hear(seconds)
            case Pause(seconds):
                self._waker.wait(seconds, None)
        return None

    def _hear(self, seconds: float) -> list[str]:
        line = self._connected()
        payloads = line.take()
        if not payloads:
            self._waker.wait(seconds, line)
            payloads = line.take()
        return payloads

    def _connect(self, *, listens: bool) -> None:
        self._close_line()
        self._line = Line(self._listen_engine if listens else self._engine)
        if listens:
            self._line.listen()

    def _connected(self) -> Line:
        if self._line is None:
            raise StoreUnavailableError("the connection to PostgreSQL broke")
        return self._line

    def _close_line(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


class TaskListener:
    """A task that follows changes until it is told to end."""

    def __init__(self, entries: Entries, engine: AsyncEngine, listen_engine: AsyncEngine) -> None:
        self._entries = entries
        self._following = Following(entries)
        self._engine = engine
        self._listen_engine = listen_engine
        self._line: AsyncLine | None = None
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="secretstore cache")

    @property
    def is_at_work(self) -> bool:
        """Whether it follows, in the loop that runs."""
        return not self._task.done() and self._loop is asyncio.get_running_loop()

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    def end(self) -> None:
        """Stop soon; from any thread."""
        # A loop that is closed has ended its tasks.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def join(self) -> None:
        """Wait until it has stopped, but not for a database that does not answer."""
        if self._loop is asyncio.get_running_loop():
            await asyncio.wait([self._task], timeout=_END_SECONDS)

    async def _run(self) -> None:
        steps = self._following.run()
        try:
            step = next(steps)
            while True:
                answer, error = await self._carried_out(step)
                step = steps.send(answer) if error is None else steps.throw(error)
        finally:
            steps.close()
            # A hit starts nothing, so that in another loop the first read has to be a miss.
            self._entries.clear()
            await self._close_line()

    async def _carried_out(self, step: Step) -> tuple[Any, Exception | None]:
        try:
            return await self._carry_out(step), None
        except _EXPECTED as error:
            return None, error
        except Exception as error:  # noqa: BLE001 - as in the thread
            return None, _unexpected(error)

    async def _carry_out(self, step: Step) -> Any:
        match step:
            case Connect(listens):
                await self._connect(listens=listens)
            case Probe(payload):
                await self._probe(payload)
            case Ask(do):
                return await self._connected().ask(do)
            case Hear(seconds):
                return await self._hear(seconds)
            case Pause(seconds):
                await self._wait(seconds)
        return None

    async def _probe(self, payload: str) -> None:
        with translated():
            async with AsyncSession(self._engine) as session, session.begin():
                await session.run_sync(partial(send_notice, payload=payload))

    async def _hear(self, seconds: float) -> list[str]:
        line = self._connected()
        payloads = await line.take()
        if not payloads:
            socket = line.fileno()
            self._loop.add_reader(socket, self._woken.set)
            try:
                await self._wait(seconds)
            finally:
                self._loop.remove_reader(socket)
            payloads = await line.take()
        return payloads

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()

    async def _connect(self, *, listens: bool) -> None:
        await self._close_line()
        self._line = await AsyncLine.open(self._listen_engine if listens else self._engine)
        if listens:
            await self._line.listen()

    def _connected(self) -> AsyncLine:
        if self._line is None:
            raise StoreUnavailableError("the connection to PostgreSQL broke")
        return self._line

    async def _close_line(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()


def _unexpected(error: Exception) -> StoreUnavailableError:
    # Its text is not known, and could repeat anything.
    kind = type(error).__name__
    _LOGGER.warning("the cache could not follow changes for a moment: %s", kind, extra={"secretstore_error": kind})
    return StoreUnavailableError("following changes failed")
