"""No storm on a place that is down: after a failure that may pass, it is left alone for a while.

Meanwhile every call fails at once.  Then one call goes through, and as it ends, all of them do, or the next while begins.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from secretstore.domain.providers import Ability, SecretProvider
from secretstore.errors import InvalidSecretKeyError, InvalidSecretValueError, ProviderError, SecretStoreError
from secretstore.providers.delegating import Delegating

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_MOST_DOUBLINGS = 10


class BackOff:
    """When a place may be asked.  Safe to use from many threads."""

    def __init__(self, *, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self._is_tried = False
        # Counts the times that it was found to fail or to work again: what was asked before says nothing new.
        self._epoch = 0

    def begin(self) -> int | None:
        """Return a ticket, with which the call ends; None where the place may not be asked."""
        with self._lock:
            if self._failures:
                if self._is_tried or self._clock() < self._until:
                    return None
                self._is_tried = True
            return self._epoch

    def end(self, ticket: int, *, has_failed: bool | None) -> None:
        """Take note of how a call ended; None where that says nothing of the place."""
        with self._lock:
            if ticket != self._epoch:
                return
            self._is_tried = False
            if has_failed:
                self._failures += 1
                self._epoch += 1
                self._until = self._clock() + self._pause()
            elif has_failed is False and self._failures:
                self._failures = 0
                self._epoch += 1

    def seconds_left(self) -> float:
        """Return for how long the place is left alone at least."""
        return max(self._until - self._clock(), 0.0)

    def _pause(self) -> float:
        doubled = _FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, _MOST_DOUBLINGS)
        # Between a half and the whole, so that processes that failed together do not try again together.
        return min(doubled, _LONGEST_PAUSE_SECONDS) * (1 + self._chance()) / 2


class BackingOff(Delegating):
    """Leaves a provider alone for half a second after a temporary failure, then for twice as long, up to 30 seconds.

    Whoever asks meanwhile gets a temporary `ProviderError` at once; see the head of the file.
    """

    def __init__(
        self,
        provider: SecretProvider,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(provider)
        self._back_off = BackOff(clock=clock, chance=chance)

    def _ask(self, operation: str, do: Callable[[], T]) -> T:
        ticket = self._back_off.begin()
        if ticket is None:
            left = self._back_off.seconds_left()
            problem = f"it failed a moment ago, and is not asked again for {left:.1f} s"
            raise self.failed(operation, problem, is_temporary=True)
        has_failed = None
        try:
            answer = do()
            has_failed = False
        except SecretStoreError as error:
            has_failed = _tells_of_failure(error)
            raise
        finally:
            self._back_off.end(ticket, has_failed=has_failed)
        return answer


def _tells_of_failure(error: SecretStoreError) -> bool | None:
    """Return whether an error says that the place fails; None where it may have been raised before the place was asked."""
    if isinstance(error, ProviderError):
        is_refusal = error.operation in set(Ability)
        return error.is_temporary or (None if is_refusal else False)
    return None if isinstance(error, InvalidSecretKeyError | InvalidSecretValueError) else False
