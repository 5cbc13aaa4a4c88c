"""Tells whether values are equal without keeping them."""

import json
import secrets
from hashlib import blake2b
from typing import Any


class Digests:
    """Digests under a key that nobody knows and that goes with this object: one that leaks says nothing of its value."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, value_json: bytes) -> bytes:
        """Return the digest of a value: the same whatever the spaces and the order of members, but 1 and 1.0 differ."""
        return blake2b(_in_one_form(value_json), key=self._key, digest_size=32).digest()


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _in_one_form(value_json: bytes) -> bytes:
    try:
        value = json.loads(value_json, parse_int=_Number, parse_float=_Number)
        return _canonical(value).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        # No JSON, or nested too deep: the error would hold the value, and its bytes tell it from others as well.
        return value_json


def _canonical(value: Any) -> str:  # any JSON value
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return str(value) if isinstance(value, _Number) else json.dumps(value)
