"""Which namespaces, keys, prefixes, labels and names of actors are legal."""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import NewType

from secretstore.errors import InvalidSecretKeyError

Namespace = NewType("Namespace", str)
Key = NewType("Key", str)

MAX_NAMESPACE_LENGTH = 128
MAX_KEY_LENGTH = 512
MAX_LABELS = 64
MAX_LABEL_KEY_LENGTH = 128
MAX_LABEL_VALUE_LENGTH = 512
MAX_ACTOR_LENGTH = 256
MAX_REQUEST_ID_LENGTH = 128

_LAST_CHARACTER = "\U0010ffff"
_AFTER_EVERY_KEY = _LAST_CHARACTER * (MAX_KEY_LENGTH + 1)
_SURROGATES = range(0xD800, 0xE000)


def parse_namespace(text: object) -> Namespace:
    """Return `text` as a namespace, or raise `InvalidSecretKeyError`."""
    return Namespace(_parse_name("namespace", text, MAX_NAMESPACE_LENGTH))


def parse_key(text: object) -> Key:
    """Return `text` as a key, or raise `InvalidSecretKeyError`."""
    # For most keys one look is enough, and every read takes it.
    if (
        type(text) is str
        and 0 < len(text) <= MAX_KEY_LENGTH
        and text.isascii()
        and text.isprintable()
        and text[0] != " " != text[-1]
    ):
        return Key(text)
    return Key(_parse_name("key", text, MAX_KEY_LENGTH))


def parse_keys(texts: Iterable[object]) -> list[Key]:
    """Return each different key once, in the order given."""
    if isinstance(texts, str):
        raise InvalidSecretKeyError("keys are a collection of keys, not one text; write [key]")
    return list(dict.fromkeys(parse_key(text) for text in texts))


def parse_prefix(text: object) -> str:
    """Return `text` as the beginning of a key; unlike a key it may be empty or end in a space."""
    prefix = _parse_text("prefix", text, MAX_KEY_LENGTH)
    return _without_control_characters("prefix", prefix)


def prefix_end(prefix: str) -> str:
    """Return a text that sorts after every key that begins with `prefix`, and before every other later key.

    Code points and their UTF-8 bytes sort alike, so the last character is counted up by one.
    """
    kept = prefix.rstrip(_LAST_CHARACTER)
    if not kept:
        return _AFTER_EVERY_KEY
    following = ord(kept[-1]) + 1
    if following in _SURROGATES:
        following = _SURROGATES.stop
    return kept[:-1] + chr(following)


def parse_labels(labels: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return labels as plain texts, or raise `InvalidSecretKeyError`; None stays None."""
    if labels is None:
        return None
    if not isinstance(labels, Mapping):
        raise InvalidSecretKeyError(f"labels are a mapping of texts, not {type(labels).__name__}")
    if len(labels) > MAX_LABELS:
        raise InvalidSecretKeyError(f"{len(labels)} labels are more than {MAX_LABELS}")
    return dict(_parse_label(name, text) for name, text in labels.items())


def parse_actor(text: object) -> str:
    """Return `text` as the name of an actor, or raise `InvalidSecretKeyError`."""
    return _parse_name("name of an actor", text, MAX_ACTOR_LENGTH)


def parse_request_id(text: object) -> str:
    """Return `text` as the id of a request, or raise `InvalidSecretKeyError`."""
    return _parse_name("request id", text, MAX_REQUEST_ID_LENGTH)


def _parse_label(name: object, text: object) -> tuple[str, str]:
    label = _parse_name("label", name, MAX_LABEL_KEY_LENGTH)
    value = _parse_text(f"value of label {label!r}", text, MAX_LABEL_VALUE_LENGTH)
    if "\0" in value:
        raise InvalidSecretKeyError(f"the value of label {label!r} holds a NUL character")
    return label, value


def _parse_name(kind: str, text: object, longest: int) -> str:
    name = _parse_text(kind, text, longest)
    if not name:
        raise InvalidSecretKeyError(f"a {kind} is 1 to {longest} characters long; this one is empty")
    if name != name.strip():
        raise InvalidSecretKeyError(f"{kind} {name!r} begins or ends with white space")
    return _without_control_characters(kind, name)


def _parse_text(kind: str, text: object, longest: int) -> str:
    if not isinstance(text, str):
        raise InvalidSecretKeyError(f"a {kind} is text, not {type(text).__name__}")
    if len(text) > longest:
        raise InvalidSecretKeyError(f"a {kind} is at most {longest} characters long; this one has {len(text)}")
    if not text.isascii() and any(ord(character) in _SURROGATES for character in text):
        raise InvalidSecretKeyError(f"a {kind} is valid Unicode; this one holds a lone surrogate")
    return text


def _without_control_characters(kind: str, text: str) -> str:
    if not text.isprintable() and any(unicodedata.category(character) == "Cc" for character in text):
        raise InvalidSecretKeyError(f"{kind} {text!r} holds a control character")
    return text
