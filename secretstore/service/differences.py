"""What differs between two JSON values, place by place."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

_Place: TypeAlias = "tuple[_Place, str] | None"  # linked steps: long paths are written out only where they differ

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two values differ.

    `path` is a JSON pointer (RFC 6901); the empty one is the whole value.  `old` is None where a part was added, `new`
    where it was removed.
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    old: object = field(repr=False)
    new: object = field(repr=False)


def differences(old: Any, new: Any) -> list[Difference]:  # any JSON values
    """Return where two JSON values differ, in the order of the old one; what was added to an object comes last in it.

    Objects are compared member by member, lists index by index, all else as a whole: 1, 1.0 and true are three values.
    """
    found = []
    left: list[tuple[_Place, Any, Any]] = [(None, old, new)]  # instead of recursion: no depth is too deep
    while left:
        place, before, after = left.pop()
        if _are_alike(before, after):
            left.extend(reversed([((place, step), *sides) for step, sides in _parts(before, after)]))
        elif not _are_same(before, after):
            found.append(_difference(place, before, after))
    return found


def _are_alike(old: Any, new: Any) -> bool:
    return any(isinstance(old, kind) and isinstance(new, kind) for kind in (dict, list))


def _parts(old: Any, new: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Return the parts of two objects or two lists side by side, each with its name or index."""
    if isinstance(old, dict):
        names = dict.fromkeys([*old, *new])
        return ((name, (old.get(name, _ABSENT), new.get(name, _ABSENT))) for name in names)
    return ((str(index), sides) for index, sides in enumerate(zip_longest(old, new, fillvalue=_ABSENT)))


def _are_same(old: Any, new: Any) -> bool:
    # To Python 1, 1.0 and True are equal, and so are 0.0 and -0.0.
    if type(old) is not type(new):
        return False
    return repr(old) == repr(new) if isinstance(old, float) else bool(old == new)


def _difference(place: _Place, old: Any, new: Any) -> Difference:
    pointer = _pointer(place)
    if old is _ABSENT:
        return Difference(pointer, "added", None, new)
    if new is _ABSENT:
        return Difference(pointer, "removed", old, None)
    return Difference(pointer, "changed", old, new)


def _pointer(place: _Place) -> str:
    steps: list[str] = []
    while place is not None:
        place, step = place
        steps.append("/" + step.replace("~", "~0").replace("/", "~1"))
    return "".join(reversed(steps))
