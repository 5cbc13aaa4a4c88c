"""The forms in which a text or a key could have been written down, for searches that must not find it."""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from functools import partial


def base64_at(offset: int, data: bytes, encode: Callable[[bytes], bytes] = b64encode) -> bytes:
    """Return the base64 characters that depend on `data` alone, where so many bytes of something else come before it."""
    start, end = -(-offset * 8 // 6), (offset + len(data)) * 8 // 6
    return encode(bytes(offset) + data)[start:end]


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "hex": lambda data: data.hex().encode(),
    "capital hex": lambda data: data.hex().upper().encode(),
    "UTF-16, low byte first": lambda data: b"".join(bytes([byte, 0]) for byte in data)[:-1],
    "UTF-16, high byte first": lambda data: b"".join(bytes([0, byte]) for byte in data)[1:],
    **{f"base64 at {offset}": partial(base64_at, offset) for offset in range(3)},
    **{f"base64 for URLs at {offset}": partial(base64_at, offset, encode=urlsafe_b64encode) for offset in range(3)},
}


def forms_of(data: bytes) -> set[bytes]:
    """Return data in each form in which it could have been written down."""
    return {form(data) for form in FORMS.values()}
