"""Who makes a change, and on whose request."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from secretstore.domain.names import parse_actor, parse_request_id
from secretstore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts, else the database role, and the request that it is for, if there is one."""

    actor: str | None = None
    request_id: str | None = None


_NOBODY = Acting()
_AROUND = ContextVar("secretstore_acting", default=_NOBODY)


@contextmanager
def acting_as(actor: str | None = None, *, request_id: str | None = None) -> Iterator[None]:
    """Record changes inside the block as made by this actor, for this request; what is not given stays as it is around.

    It holds for the thread or task that enters the block, and for the tasks and `asyncio.to_thread` calls that it begins
    there; another thread has to be given `contextvars.copy_context()`.  Wins over the actor of a client or service.  An
    actor that is no name of 1 to 256 characters, or a request id of 1 to 128, is an `InvalidSecretKeyError`.
    """
    around = _AROUND.get()
    inside = Acting(
        around.actor if actor is None else parse_actor(actor),
        around.request_id if request_id is None else parse_request_id(request_id),
    )
    token = _AROUND.set(inside)
    try:
        yield
    finally:
        _AROUND.reset(token)


@dataclass(frozen=True, slots=True)
class Actors:
    """Who acts for a client where no block around says so, and whether somebody has to be named."""

    default: str | None = None
    is_required: bool = False

    def __post_init__(self) -> None:
        if self.default is not None:
            parse_actor(self.default)

    def known(self) -> Acting:
        """Return who acts now, as far as somebody is named."""
        around = _AROUND.get()
        return Acting(around.actor or self.default, around.request_id)

    def acting(self) -> Acting:
        """Return who acts now; raises `ConfigurationError` where somebody has to be named and nobody is."""
        known = self.known()
        if known.actor is None and self.is_required:
            raise ConfigurationError(
                "a change needs an actor here, and none is named: make it inside `with secretstore.acting_as(…)`, or give "
                "actor= or SECRETSTORE_ACTOR"
            )
        return known


# Whoever the database role is.
ANYBODY = Actors()

# As people import it.
acting_as.__module__ = "secretstore"
