"""Connections of a pool, lent for one statement each."""

import os
import time
from contextlib import suppress

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from secretstore.orm import wire

# Of a pool of ten, and ten more.
KEPT_CONNECTIONS = 10
_FRESH_SECONDS = 1.0


class Lender:
    """Lends connections of an engine's pool.

    It may keep a few in hand, because taking one out of the pool and bringing it back takes longer than a read.  Whoever
    lets it do so has to close it.  Safe to use from many threads.
    """

    def __init__(self, engine: Engine, *, keeps: int = 0) -> None:
        self.engine = engine
        self._keeps = keeps
        self._kept: list[tuple[PoolProxiedConnection, float]] = []
        self._process_id = os.getpid()

    def take(self) -> PoolProxiedConnection:
        """Return a connection at rest, of this process, that the server has not closed as far as its socket knows."""
        if self._process_id != os.getpid():
            # After a fork they are the parent's; the pool has its own way to find that out.
            self._process_id, self._kept = os.getpid(), []
        while self._kept:
            try:
                lent, given_back = self._kept.pop()
            except IndexError:  # another thread was faster
                break
            # Looking takes longer than all else here, and what is lost within a moment is read again by the client.
            if time.monotonic() - given_back < _FRESH_SECONDS or not wire.is_closed_by_server(lent.driver_connection):
                return lent
            lent.invalidate()
            lent.close()
        return self.engine.raw_connection()

    def give_back(self, lent: PoolProxiedConnection) -> None:
        """Take a connection back; one that is not at rest is closed."""
        if not wire.is_free(lent.driver_connection):
            lent.invalidate()
            lent.close()
            return
        self._kept.append((lent, time.monotonic()))
        if len(self._kept) > self._keeps:
            self._let_go(self._keeps)

    def count_kept(self) -> int:
        """Return how many connections are kept in hand, at rest."""
        return len(self._kept)

    def close(self) -> None:
        """Bring back to the pool what is kept, and keep nothing more."""
        self._keeps = 0
        self._let_go(0)

    def _let_go(self, keeps: int) -> None:
        # Many threads may be in here at once, and each sees to it that not too many are kept.
        while len(self._kept) > keeps:
            with suppress(IndexError):
                self._kept.pop()[0].close()
