"""References inside values to other secrets of the namespace, and to parts of them.

An object whose only member is `$ref` with a text is a reference, and what it points at takes its place:

    {"$ref": "other.key#/json/pointer"}

Before the first `#` stands a key, or nothing for the very secret that holds the reference; after it a JSON pointer in the
form that URIs have (RFC 6901, section 6), or nothing for the whole value.  In both, `%25` is `%`, and in a key `%23` is
`#`; in a step of a pointer `~1` is `/` and `~0` is `~`.

Errors name the path of references, and no value: `'app' → 'db.main#/password' → 'app' is a cycle of references`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from secretstore.domain.names import Key, parse_key
from secretstore.errors import InvalidSecretKeyError, InvalidSecretValueError

MAX_DEPTH = 16  # references in a chain
MAX_REFERENCES = 10_000  # replacements in all values together
MAX_SIZE = 16 * 1024 * 1024  # of all that they put in
MAX_NESTING = 100  # levels of a value; no deeper one can be stored

_MEMBER = "$ref"
_SIZE_OF_A_PART = 8  # a place in a list or an object; texts count besides
_ABSENT = object()

_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_LONE_TILDE = re.compile("~(?![01])")
_INDEX = re.compile("0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A place: a key, and the steps from its value down to a part of it."""

    key: Key
    pointer: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The reference as it can be written."""
        key = self.key.replace("%", "%25").replace("#", "%23")
        return f"{key}#{_pointer_text(self.pointer).replace('%', '%25')}" if self.pointer else key


def parse_reference(text: str, *, holder: Key, name: object) -> Reference:
    """Return the text of a reference as a record; `holder` is the secret that it stands in, `name` what errors call it.

    Raises `InvalidSecretValueError`, which does not repeat the text.
    """
    key, _, pointer = text.partition("#")
    with suppress(ValueError, InvalidSecretKeyError):
        return Reference(parse_key(_percent_decoded(key)) if key else holder, _steps(_percent_decoded(pointer)))
    raise InvalidSecretValueError(
        f"{name} holds a malformed reference; write other.key#/json/pointer, with %25 for %, in a key %23 for #, "
        "in a step of the pointer ~1 for / and ~0 for ~"
    )


def resolve(values: Mapping[Key, Any], load: Callable[[Sequence[Key]], Mapping[Key, Any]]) -> dict[Key, Any]:
    """Return values with what their references point at in place of the references, down to the last one.

    `load` returns the values of those keys that exist; it is asked once a level, for all keys that are not known yet.
    Raises `InvalidSecretValueError`.  The result shares no object or list with the values, nor within itself.
    """
    known = dict(values)
    while True:
        attempt = _Attempt(known)
        resolved = {key: attempt.resolved(key) for key in values}
        if not attempt.missing:
            return resolved
        missing = sorted(attempt.missing)
        loaded = load(missing)
        known.update((key, loaded.get(key, _ABSENT)) for key in missing)


@dataclass(frozen=True, slots=True)
class _Path:
    """How a part came into a value: the value itself, and the references that led from one to the next."""

    places: tuple[Reference, ...]

    def __str__(self) -> str:
        return " → ".join(repr(str(place)) for place in self.places)

    @property
    def end(self) -> Reference:
        return self.places[-1]

    @property
    def has_references(self) -> bool:
        return len(self.places) > 1

    def to(self, reference: Reference) -> "_Path":
        longer = _Path((*self.places, reference))
        if reference in self.places:
            raise InvalidSecretValueError(f"{longer} is a cycle of references")
        if len(self.places) > MAX_DEPTH:
            raise InvalidSecretValueError(f"{longer} is a chain of more than {MAX_DEPTH} references")
        return longer


@dataclass(repr=False, eq=False, slots=True)
class _Attempt:
    """One walk through all values, as far as the known ones reach; it notes the keys that are missing to go on.

    A few small values can grow beyond all bounds: ten references to ten references to ten …, or ten thousand to one large
    part.  So nothing that was resolved is kept and put in a second time uncounted.  Each replacement is made anew, and
    counts each time, with all parts and characters that it brings; so the limits bound time and memory of a walk, and
    the number of levels, which is at most `MAX_DEPTH`, bounds the number of walks.
    """

    known: Mapping[Key, Any]
    missing: set[Key] = field(default_factory=set)
    replaced: int = 0
    size: int = 0

    def resolved(self, key: Key) -> Any:
        return self._expanded(self.known[key], _Path((Reference(key),)), 0)

    def _expanded(self, value: Any, path: _Path, depth: int) -> Any:
        if depth > MAX_NESTING:
            raise InvalidSecretValueError(f"{path} leads to a value that is nested deeper than {MAX_NESTING} levels")
        if _is_reference(value):
            return self._replacement(value[_MEMBER], path, depth)
        if path.has_references:
            self._count(value, path)
        if isinstance(value, dict):
            return {name: self._expanded(part, path, depth + 1) for name, part in value.items()}
        if isinstance(value, list):
            return [self._expanded(part, path, depth + 1) for part in value]
        return value

    def _replacement(self, text: str, path: _Path, depth: int) -> Any:
        reference = parse_reference(text, holder=path.end.key, name=path)
        longer = path.to(reference)
        self.replaced += 1
        if self.replaced > MAX_REFERENCES:
            raise InvalidSecretValueError(f"{longer} is one of more than {MAX_REFERENCES} references in all")
        self._count(text, longer)
        if reference.key not in self.known:
            self.missing.add(reference.key)
            return None  # of an attempt that will be made again
        return self._expanded(_part(self.known[reference.key], longer), longer, depth)

    def _count(self, value: Any, path: _Path) -> None:
        names = value if isinstance(value, dict) else ()
        texts = value if isinstance(value, str) else "".join(names)
        self.size += _SIZE_OF_A_PART + len(texts)
        if self.size > MAX_SIZE:
            raise InvalidSecretValueError(
                f"{path} is one of the references that put in more than {MAX_SIZE} bytes in all"
            )


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_MEMBER), str)


def _part(value: Any, path: _Path) -> Any:
    """Return what the last reference of a path points at in the value of its key."""
    if value is _ABSENT:
        raise InvalidSecretValueError(f"{path} leads nowhere: there is no secret {path.end.key!r}")
    for step in path.end.pointer:
        if _is_reference(value):
            raise InvalidSecretValueError(
                f"{path} leads through a reference in secret {path.end.key!r}; point at what that one points at"
            )
        value = _inner(value, step)
        if value is _ABSENT:
            raise InvalidSecretValueError(
                f"{path} leads nowhere: secret {path.end.key!r} has no {_pointer_text(path.end.pointer)!r}"
            )
    return value


def _inner(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step, _ABSENT)
    if isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
        return value[int(step)]
    return _ABSENT


def _percent_decoded(text: str) -> str:
    """Return text without percent-encoding; raises `ValueError`."""
    if _LONE_PERCENT.search(text):
        raise ValueError
    return unquote_to_bytes(text).decode()


def _steps(pointer: str) -> tuple[str, ...]:
    """Return a JSON pointer as its steps; raises `ValueError`."""
    first, *steps = pointer.split("/")
    if first or _LONE_TILDE.search(pointer):
        raise ValueError
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)


def _pointer_text(steps: tuple[str, ...]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
