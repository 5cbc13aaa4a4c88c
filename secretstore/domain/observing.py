"""Who is told of calls: what was called, where, for how long, and how it ended; never a key, a value or a message."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import wraps
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast

from secretstore.errors import (
    ConfigurationError,
    DecryptionError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    KeyInUseError,
    MasterKeyError,
    PermissionDeniedError,
    ProviderError,
    SecretNotFoundError,
    StoreUnavailableError,
    VersionConflictError,
)

T = TypeVar("T")

# What is called: a client or a service, a provider, or a master key in a key server.
Part: TypeAlias = Literal["client", "provider", "key_server"]
# Is called at the end of a call, with what was raised.
End: TypeAlias = Callable[[BaseException | None], object]
# How a call ended.
Outcome: TypeAlias = Literal[
    "ok",
    "not_found",
    "conflict",
    "invalid",
    "cannot_decrypt",
    "denied",
    "unavailable",
    "failed",
    "broken_off",
]

_OUTCOMES: tuple[tuple[type[Exception], Outcome], ...] = (
    (SecretNotFoundError, "not_found"),
    (VersionConflictError, "conflict"),
    (InvalidSecretKeyError, "invalid"),
    (InvalidSecretValueError, "invalid"),
    (ConfigurationError, "invalid"),
    (KeyInUseError, "conflict"),
    (DecryptionError, "cannot_decrypt"),
    (MasterKeyError, "cannot_decrypt"),
    (PermissionDeniedError, "denied"),
    (StoreUnavailableError, "unavailable"),
    (Exception, "failed"),
)


class Observer(Protocol):
    """Is told of every call, from many threads and tasks at once.

    It must not raise, and what it does is waited for.
    """

    def begin(self, part: Part, operation: str, place: str) -> End:
        """Take note that a call begins, and return what is called at its end, in the same thread or task.

        `place` is the namespace, or the kind of the provider or of the master key.
        """


# As people import it; inside, a type checker would take it for a member of the protocol.
Observer.__module__ = "secretstore"


def outcome_of(error: BaseException | None) -> Outcome:
    """Return how a call ended that raised an error, or none."""
    if error is None:
        return "ok"
    if isinstance(error, ProviderError | MasterKeyError) and error.is_temporary:
        return "unavailable"
    return next((outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), "broken_off")


class Observers:
    """Several observers as one; each is inside those before it."""

    __module__ = "secretstore"

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def begin(self, part: Part, operation: str, place: str) -> End:
        """Tell all of them."""
        ends = [observer.begin(part, operation, place) for observer in self._observers]

        def end(error: BaseException | None) -> None:
            for one in reversed(ends):
                one(error)

        return end


class Observed:
    """What instances of observed classes have beside their own."""

    _observer: Observer
    _place: str


def observed(thing: T, kind: type[T], observer: Observer, place: str) -> T:
    """Return a twin of a thing that shares all it has, of a class whose methods tell an observer.

    Where one is told already, both are.
    """
    twin: Any = copy(thing)
    before = getattr(thing, "_observer", None)
    twin.__class__ = kind
    vars(twin).update(_observer=observer if before is None else Observers(observer, before), _place=place)
    return cast("T", twin)


@contextmanager
def told(observer: Observer, part: Part, operation: str, place: str) -> Iterator[None]:
    """Tell of a call that is made inside."""
    end = observer.begin(part, operation, place)
    try:
        yield
    except BaseException as error:
        end(error)
        raise
    end(None)


def telling(method: Callable[..., Any], part: Part, operation: str) -> Callable[..., Any]:
    """Return a method of an observed class that tells of its calls."""
    if inspect.iscoroutinefunction(method):
        return _telling_async(method, part, operation)

    @wraps(method)
    def call(self: Observed, *args: Any, **kwargs: Any) -> Any:
        end = self._observer.begin(part, operation, self._place)
        try:
            answer = method(self, *args, **kwargs)
        except BaseException as error:
            end(error)
            raise
        end(None)
        return answer

    return call


def _telling_async(method: Callable[..., Any], part: Part, operation: str) -> Callable[..., Any]:
    @wraps(method)
    async def call(self: Observed, *args: Any, **kwargs: Any) -> Any:
        end = self._observer.begin(part, operation, self._place)
        try:
            answer = await method(self, *args, **kwargs)
        except BaseException as error:
            end(error)
            raise
        end(None)
        return answer

    return call
