"""A provider whose calls are told."""

import re
from collections.abc import Callable
from typing import TypeVar

from secretstore.domain.observing import Observer, told
from secretstore.domain.providers import SecretProvider
from secretstore.providers.delegating import Delegating

T = TypeVar("T")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class ObservedProvider(Delegating):
    """Tells an observer of every call of a provider, and of its kind: the scheme of its URL."""

    def __init__(self, provider: SecretProvider, observer: Observer) -> None:
        super().__init__(provider)
        self._observer = observer
        scheme = _SCHEME.match(provider.name)
        self._kind = scheme[0].lower() if scheme else "other"

    def _ask(self, operation: str, do: Callable[[], T]) -> T:
        # "read a secret" is `read_secret`.
        name = operation.replace(" a ", " ").replace(" ", "_")
        with told(self._observer, "provider", name, self._kind):
            return do()
