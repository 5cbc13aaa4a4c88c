"""Reads a value for somebody who keeps it."""

from dataclasses import dataclass, field
from typing import Any

from secretstore.crypto.envelope import ValuePlace
from secretstore.domain.names import Key
from secretstore.errors import SecretNotFoundError
from secretstore.orm.repository import StoredValue, ValueToKeep
from secretstore.service.synchronous import SecretService
from secretstore.service.typed import from_json_as


@dataclass(frozen=True, slots=True)
class Found:
    """The current value of a secret as JSON text, or None where there is none, in version 0.

    It may be kept for `seconds_left` from before it was asked for; None for ever.  The text is parsed anew each time, so
    that whatever a caller does to a value stays with that caller.
    """

    place: ValuePlace
    text: bytes | None = field(repr=False)
    seconds_left: float | None = None

    def value(self, as_type: Any, default: Any) -> Any:
        """Return the value as a type, or the default where there is none."""
        return default if self.text is None else from_json_as(self.text, as_type, name=self.place)

    def value_or_raise(self, as_type: Any) -> Any:
        """Return the value as a type, or raise `SecretNotFoundError`."""
        if self.text is None:
            raise SecretNotFoundError(self.place.namespace, self.place.key)
        return from_json_as(self.text, as_type, name=self.place)


def find_to_keep(service: SecretService, key: Key) -> Found:
    """Return what there is of a secret."""
    found: list[ValueToKeep] = []

    def find() -> list[StoredValue]:
        stored = service._repository.find_value_to_keep(key)
        found[:] = [] if stored is None else [stored]
        return [to_keep.value for to_keep in found]

    opened = service._open_all(find)
    if not found:
        return Found(ValuePlace(service._namespace, key, 0), None)
    return Found(opened[key].place, opened[key].text, found[0].seconds_left)
