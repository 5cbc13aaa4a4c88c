"""Calls of providers: tried again while a place asks for that, and told apart by whom their failure concerns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from secretstore.client.patience import Patience
from secretstore.domain.providers import SecretProvider
from secretstore.errors import (
    DecryptionError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    PermissionDeniedError,
    ProviderError,
    SecretNotFoundError,
    VersionConflictError,
)
from secretstore.providers.delegating import Delegating

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_SECONDS = 60.0
_UNTIL_FIRST_ANSWER_SECONDS = 5.0

_OF_ONE_KEY = (
    DecryptionError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    PermissionDeniedError,
    ProviderError,
    SecretNotFoundError,
    VersionConflictError,
)


class Patient(Delegating):
    """Asks again after temporary failures, for so many seconds after the first; sooner gives up who never got an answer."""

    def __init__(self, provider: SecretProvider, *, seconds: float, wait: Callable[[float], None]) -> None:
        super().__init__(provider)
        self._seconds = seconds
        self._wait = wait
        self._has_answered = False

    def _ask(self, operation: str, do: Callable[[], T]) -> T:  # noqa: ARG002 - the error of the place names it
        patience = Patience(self._seconds if self._has_answered else min(self._seconds, _UNTIL_FIRST_ANSWER_SECONDS))
        while True:
            try:
                answer = do()
            except ProviderError as error:
                if not error.is_temporary:
                    raise
                failure = error
            else:
                self._has_answered = True
                return answer
            self._wait(patience.next_pause(failure))


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one key could not be dealt with."""

    words: str


def of_one_key(call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | Problem:
    """Return what a call for one key returns, or its problem where other keys may fare better."""
    try:
        return call(*arguments, **options)
    except _OF_ONE_KEY as error:
        if isinstance(error, ProviderError) and error.is_temporary:
            raise
        return Problem(str(error))
