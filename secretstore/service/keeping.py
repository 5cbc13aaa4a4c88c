"""Reads a value for somebody who keeps it."""

from dataclasses import dataclass, field
from typing import Any

from secretstore.crypto.envelope import ValuePlace
from secretstore.domain.accesses import Accessed
from secretstore.domain.names import Key
from secretstore.errors import SecretNotFoundError
from secretstore.orm.reads import SecretReads
from secretstore.service.data_keys import DataKeyGoneError
from secretstore.service.reading import SecretReader
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

    def accessed(self) -> Accessed:
        """Return what is recorded where somebody is given it."""
        return Accessed(self.place.key, self.place.version, outcome="missing" if self.text is None else "done")

    def value(self, as_type: Any, default: Any) -> Any:
        """Return the value as a type, or the default where there is none."""
        return default if self.text is None else from_json_as(self.text, as_type, name=self.place)

    def value_or_raise(self, as_type: Any) -> Any:
        """Return the value as a type, or raise `SecretNotFoundError`."""
        if self.text is None:
            raise SecretNotFoundError(self.place.namespace, self.place.key)
        return from_json_as(self.text, as_type, name=self.place)


def find_to_keep(reader: SecretReader, key: Key) -> Found:
    """Return what there is of a secret, read as it is now."""
    try:
        return _find(reader, key)
    except DataKeyGoneError:
        # Since its value was read, the data key may have been replaced and destroyed; then there is another envelope.
        return _find(reader, key)


def _find(reader: SecretReader, key: Key) -> Found:
    source = reader._source
    assert isinstance(source, SecretReads)  # noqa: S101 - only the past has another one, and nobody keeps the past
    stored = source.find_value_to_keep(key)
    if stored is None:
        # What is denied is not kept as missing.
        source.check_may([key], "read")
        return Found(ValuePlace(reader._namespace, key, 0), None)
    opened = reader._open(stored.value)
    return Found(opened.place, opened.text, stored.seconds_left)
