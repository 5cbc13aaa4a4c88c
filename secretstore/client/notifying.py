"""Tells other processes of changes just after their commit, many at once.

PostgreSQL lets one committer through at a time where transactions carry notices.  Here the commits carry none: what they
changed is gathered, and told of a moment later.  Notices that cannot be sent are dropped, because the record of changes is
the truth, and whoever listens looks there now and then anyway.
"""

import asyncio
import json
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from secretstore.domain.names import Key, Namespace
from secretstore.orm import event_statements, statements
from secretstore.orm.event_repository import CHANNEL
from secretstore.service.committed import Changed

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_BETWEEN_SECONDS = 0.005
# A thread that has nothing to do ends after so long, and the next change starts another one.
_IDLE_SECONDS = 1.0
_FLUSH_SECONDS = 2.0
# PostgreSQL takes less than 8,000 bytes.
_MAX_BYTES = 7900
_MAX_KEYS = 1000


class Gathered:
    """Changes that nobody was told of yet."""

    def __init__(self) -> None:
        self._keys: dict[Namespace, dict[Key, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, change: Changed) -> None:
        """Gather one more."""
        keys = self._keys.setdefault(change.namespace, {})
        if len(keys) <= _MAX_KEYS:
            keys.update(dict.fromkeys(change.keys))

    def take(self) -> list[str]:
        """Return the notices, one for each namespace, and begin anew."""
        gathered, self._keys = self._keys, {}
        return [_notice(namespace, list(keys)) for namespace, keys in gathered.items()]


def _notice(namespace: Namespace, keys: list[Key]) -> str:
    whole = json.dumps({"namespace": namespace, "keys": keys}, ensure_ascii=False)
    if len(keys) <= _MAX_KEYS and len(whole.encode()) <= _MAX_BYTES:
        return whole
    return json.dumps({"namespace": namespace}, ensure_ascii=False)


class Notifier:
    """Sends notices from a thread of its own, which the first change starts; a forked process gets its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._work = _Work()

    def add(self, change: Changed) -> None:
        """Tell of a change soon; raises nothing and waits for nobody."""
        if self._work.process_id != os.getpid():
            self._work = _Work()
        work = self._work
        # A thread cannot be started while the interpreter ends.
        with work.condition, suppress(RuntimeError):
            work.gathered.add(change)
            work.condition.notify_all()
            if work.thread is None:
                thread = threading.Thread(target=self._send_all, args=(work,), name="secretstore-notices", daemon=True)
                thread.start()
                work.thread = thread

    def flush(self) -> None:
        """Wait until everything was told, though not for long."""
        work = self._work
        if work.process_id == os.getpid():
            with work.condition:
                work.condition.wait_for(lambda: not work.is_busy, _FLUSH_SECONDS)

    def _send_all(self, work: "_Work") -> None:
        while notices := work.next_notices():
            with suppress(SQLAlchemyError):
                self._send(notices)
            time.sleep(_BETWEEN_SECONDS)

    def _send(self, notices: Sequence[str]) -> None:
        with self._engine.connect() as connection:
            connection.execute(event_statements.notify_all(), _parameters(notices))


class _Work:
    """What the thread of one process has to do."""

    def __init__(self) -> None:
        self.process_id = os.getpid()
        self.condition = threading.Condition()
        self.gathered = Gathered()
        self.thread: threading.Thread | None = None
        self._is_sending = False

    @property
    def is_busy(self) -> bool:
        """Whether there is something that nobody was told of yet."""
        return bool(self.gathered) or self._is_sending

    def next_notices(self) -> list[str]:
        """Wait for changes and return their notices; none where the thread has to end."""
        with self.condition:
            self._is_sending = False
            self.condition.notify_all()
            self._is_sending = self.condition.wait_for(lambda: bool(self.gathered), _IDLE_SECONDS)
            if not self._is_sending:
                self.thread = None
            return self.gathered.take()


class AsyncNotifier:
    """As `Notifier`, from a task of the loop that lasts as long as there is something to tell."""

    def __init__(self, engine: "AsyncEngine") -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._gathered = Gathered()
        self._task: asyncio.Task[None] | None = None

    def add(self, change: Changed) -> None:
        """See `Notifier.add`; to be called in the loop."""
        self._gathered.add(change)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send_all())

    async def flush(self) -> None:
        """See `Notifier.flush`."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_FLUSH_SECONDS)

    async def _send_all(self) -> None:
        while notices := self._gathered.take():
            with suppress(SQLAlchemyError):
                async with self._engine.connect() as connection:
                    await connection.execute(event_statements.notify_all(), _parameters(notices))
            await asyncio.sleep(_BETWEEN_SECONDS)


def _parameters(notices: Sequence[str]) -> dict[str, object]:
    return statements.parameters(channel=CHANNEL, payloads=list(notices))
