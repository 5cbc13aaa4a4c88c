"""How long to wait after failures in a row: longer and longer, never in step with others, and not for ever."""

import random
import time
from collections.abc import Callable

from secretstore.errors import SecretStoreError

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 2.0


class Patience:
    """The pauses after failures in a row; it ends so many seconds after the first of them."""

    def __init__(
        self,
        seconds: float,
        *,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._chance = chance
        self._clock = clock
        self._pause = _FIRST_PAUSE_SECONDS
        self._end: float | None = None

    def next_pause(self, error: SecretStoreError) -> float:
        """Return for how many seconds to wait, or raise the error."""
        now = self._clock()
        if self._end is None:
            self._end = now + self._seconds
        if now >= self._end:
            raise error
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        # Between a half and the whole, so that those who failed together do not try again together.
        return min(pause * (1 + self._chance()) / 2, self._end - now)
