"""Work in many steps, written once for both faces: a generator hands out its steps, and a client carries them out.

A step in a transaction is given a session; what may wait for a key server, or takes the processor for a while, stands
outside.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from sqlalchemy.orm import Session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InTransaction:
    """A step that is a transaction of its own."""

    do: Callable[[Session], Any]  # the flow knows what its own step returns


@dataclass(frozen=True, slots=True)
class Outside:
    """A step outside any transaction."""

    do: Callable[[], Any]  # ditto


Step: TypeAlias = InTransaction | Outside
# What a flow is sent is what its step returned, and so it is of any type.
Flow: TypeAlias = Generator[Step, Any, T]
# Is told how much is done, and how much there is to do.
OnProgress: TypeAlias = Callable[[int, int], object]


def unseen(*_: int) -> None:
    """Nobody looks at the progress."""
