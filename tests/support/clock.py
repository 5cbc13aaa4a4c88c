"""A clock for what takes the time as an argument."""

from dataclasses import dataclass


@dataclass
class Clock:
    """A time that passes when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now
