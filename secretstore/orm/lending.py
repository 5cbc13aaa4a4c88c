"""Connections of a pool, lent for one statement each."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from secretstore.orm import wire

# Of a pool of ten, and ten more.
KEPT_CONNECTIONS = 10
_FRESH_SECONDS = 1.0


@dataclass(slots=True)
class Lent:
    """A connection of a pool, and what every statement asks of it, which takes the pool longer to tell than to keep."""

    connection: PoolProxiedConnection
    driver: Any  # of psycopg
    info: dict[Any, Any]
    is_free: bool
    given_back: float = 0.0

    @classmethod
    def of(cls, connection: PoolProxiedConnection) -> Self:
        """Ask a connection once."""
        driver = connection.driver_connection
        return cls(connection, driver, connection.info, wire.is_free(driver))

    def close(self) -> None:
        """Bring the connection back to the pool."""
        self.connection.close()

    def give_up(self) -> None:
        """Close the connection to the server, too."""
        self.connection.invalidate()
        self.connection.close()


class Lender:
    """Lends connections of an engine's pool.

    It may keep a few in hand, because taking one out of the pool and bringing it back takes longer than a read.  Whoever
    lets it do so has to close it.  Safe to use from many threads.
    """

    def __init__(self, engine: Engine, *, keeps: int = 0) -> None:
        self.engine = engine
        self._keeps = keeps
        self._kept: list[Lent] = []
        self._process_id = os.getpid()

    def take(self) -> Lent:
        """Return a connection at rest, of this process, that the server has not closed as far as its socket knows."""
        if self._process_id != os.getpid():
            # After a fork they are the parent's; the pool has its own way to find that out.
            self._process_id, self._kept = os.getpid(), []
        while self._kept:
            try:
                lent = self._kept.pop()
            except IndexError:  # another thread was faster
                break
            # Looking takes longer than all else here, and what is lost within a moment is read again by the client.
            if time.monotonic() - lent.given_back < _FRESH_SECONDS or not wire.is_closed_by_server(lent.driver):
                return lent
            lent.give_up()
        return Lent.of(self.engine.raw_connection())

    def give_back(self, lent: Lent) -> None:
        """Take a connection back, to keep it if it is free; one that is not at rest is closed."""
        if wire.is_free(lent.driver):
            lent.given_back = time.monotonic()
            self._kept.append(lent)
            if len(self._kept) > self._keeps:
                self._let_go(self._keeps)
        elif wire.is_at_rest(lent.driver):
            lent.close()
        else:
            lent.give_up()

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
                self._kept.pop().close()
