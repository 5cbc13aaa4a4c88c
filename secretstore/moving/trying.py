"""Calls of providers: tried again while a place asks for that, and told apart by whom their failure concerns."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from secretstore.client.patience import Patience
from secretstore.errors import (
    DecryptionError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    PermissionDeniedError,
    ProviderError,
    SecretNotFoundError,
    VersionConflictError,
)

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_SECONDS = 60.0

_OF_ONE_KEY = (
    DecryptionError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    PermissionDeniedError,
    ProviderError,
    SecretNotFoundError,
    VersionConflictError,
)


@dataclass(frozen=True, slots=True)
class Patiently:
    """Calls again after temporary failures, for so many seconds after the first of them."""

    seconds: float = PATIENCE_SECONDS
    wait: Callable[[float], None] = time.sleep

    def __call__(self, call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Return what the call returns; raises its last error."""
        patience = Patience(self.seconds)
        while True:
            try:
                return call(*arguments, **options)
            except ProviderError as error:
                if not error.is_temporary:
                    raise
                failure = error
            self.wait(patience.next_pause(failure))


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
