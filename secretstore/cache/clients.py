"""The cache of a client and of its siblings on other namespaces: entries, and a listener from the first load on.

A process that was forked begins anew: it holds nothing, and listens on a connection of its own.
"""

import os
import threading
import weakref
from collections.abc import Awaitable, Callable

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from secretstore.cache.config import CacheConfig, CacheStatistics
from secretstore.cache.entries import Entries
from secretstore.cache.listeners import TaskListener, ThreadListener
from secretstore.cache.loading import get_or_load, get_or_load_async
from secretstore.service.committed import Changed
from secretstore.service.keeping import Found


class _OfProcess:
    """What a cache has in one process, once begun; a listener holds on to this, and not to the cache."""

    def __init__(self, config: CacheConfig) -> None:
        self.pid = os.getpid()
        self.entries = Entries(config, on_new_space=self.wake)
        self.listener: ThreadListener | TaskListener | None = None
        self.is_closed = False
        self._lock = threading.Lock()

    def start(self, make: Callable[[], ThreadListener]) -> None:
        """Begin to listen, once for all threads."""
        with self._lock:
            if self.listener is None and not self.is_closed:
                listener = self.listener = make()
                listener.start()

    def wake(self) -> None:
        """Let the listener look at once."""
        if self.listener is not None:
            self.listener.wake()

    def end(self) -> None:
        """Let the listener stop."""
        if self.listener is not None:
            self.listener.end()


class _Cache:
    """What both kinds have in common."""

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self._by_pid: dict[int, _OfProcess] = {}
        self._current = self._begin()

    def get(self, namespace: str, key: str) -> Found | None:
        """Return what is kept of a key and may be served."""
        return self._of_process().entries.get(namespace, key)

    def let_go(self, changed: Changed) -> None:
        """Let go of what this process has changed."""
        self._of_process().entries.drop(changed.namespace, changed.keys)

    def clear_namespace(self, namespace: str) -> None:
        """Let go of a namespace."""
        self._of_process().entries.clear_namespace(namespace)

    def statistics(self) -> CacheStatistics:
        """Return what the cache did in this process, and how it is."""
        return self._of_process().entries.statistics()

    def _of_process(self) -> _OfProcess:
        current = self._current
        return current if current.pid == os.getpid() else self._begin()

    def _begin(self) -> _OfProcess:
        # A lock of the parent may be held for ever by a thread that is not here, so there is none: one of many wins.
        begun = self._by_pid.setdefault(os.getpid(), _OfProcess(self._config))
        self._current = begun
        weakref.finalize(self, begun.end)
        return begun

    def _close(self) -> _OfProcess:
        current = self._of_process()
        current.is_closed = True
        current.entries.clear()
        current.end()
        return current


class ClientCache(_Cache):
    """The cache of a blocking client."""

    def __init__(self, config: CacheConfig, engine: Engine, listen_engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine
        self._listen_engine = listen_engine

    def load(self, namespace: str, key: str, load: Callable[[], Found]) -> Found:
        """Load a key, once for all threads that want it, and keep what comes."""
        current = self._of_process()
        if current.is_closed:
            return load()
        if current.listener is None:
            current.start(lambda: ThreadListener(current.entries, self._engine, self._listen_engine))
        return get_or_load(current.entries, namespace, key, load)

    def close(self) -> None:
        """Let go of everything, and stop listening."""
        listener = self._close().listener
        if isinstance(listener, ThreadListener):
            listener.join()


class AsyncClientCache(_Cache):
    """The cache of an async client."""

    def __init__(self, config: CacheConfig, engine: AsyncEngine, listen_engine: AsyncEngine) -> None:
        super().__init__(config)
        self._engine = engine
        self._listen_engine = listen_engine

    async def load(self, namespace: str, key: str, load: Callable[[], Awaitable[Found]]) -> Found:
        """Load a key, once for all tasks that want it, and keep what comes."""
        current = self._of_process()
        if current.is_closed:
            return await load()
        listener = current.listener
        if not isinstance(listener, TaskListener) or not listener.is_at_work:
            current.listener = TaskListener(current.entries, self._engine, self._listen_engine)
        return await get_or_load_async(current.entries, namespace, key, load)

    async def close(self) -> None:
        """Let go of everything, and stop listening."""
        listener = self._close().listener
        if isinstance(listener, TaskListener):
            await listener.join()
