"""JSON as others would read it too: a value as a whole, and a file of any length a member at a time."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from secretstore.errors import InvalidSecretValueError
from secretstore.service.typed import MAX_VALUE_BYTES

# However it is written: with \u for each character, or deeply indented.
MAX_CHARACTERS = 8 * MAX_VALUE_BYTES
# No word, number or escape that breaks off at the end of a piece is refused at a place farther from the end.
_TAIL = 16
_SPACE = re.compile(r"[ \t\n\r]*")


class _RefusedError(ValueError):
    """Says what Python would take for JSON and others would not."""


def parse_json(text: str) -> Any:
    """Return the JSON value of a text; errors say where, and not what."""
    reader = JsonReader([text], what="the value", longest=len(text))
    value = reader.value()
    reader.check_end()
    return value


class JsonReader:
    """Reads JSON from the pieces of a text, and holds no more of it than the value that it is at."""

    LONG: Final = object()

    def __init__(self, pieces: Iterable[str], *, what: str = "the file", longest: int = MAX_CHARACTERS) -> None:
        self._pieces = iter(pieces)
        self._what = what
        self._longest = longest
        self._text = ""
        self._at = 0
        self._is_whole = False
        # Of the beginning of the text in hand.
        self._line = self._column = 1

    def members(self, otherwise: str) -> Iterator[str]:
        """Give the names of an object's members; each value has to be read before the next name.

        `otherwise` says what is wrong where something else stands there.
        """
        self._begin_object(otherwise)
        if self._next() == "}":
            self._take("}")
            return
        while True:
            yield self._name()
            if self._take(",}") == "}":
                return

    def value(self) -> Any:
        """Return the value that comes next; raises `InvalidSecretValueError`."""
        value = self.short_value()
        if value is self.LONG:
            raise InvalidSecretValueError(f"{self._what} holds a value that is longer than any that can be stored")
        return value

    def short_value(self) -> Any:
        """Return the value that comes next, or `LONG`, and then it is still to be read."""
        self._next()
        while True:
            decoded = self._decoded()
            if (len(self._text) if decoded is None else decoded[1]) - self._at > self._longest:
                return self.LONG
            if decoded is not None:
                value, self._at = decoded
                return value
            self._fill()

    def check_end(self) -> None:
        """Raise `InvalidSecretValueError` where something comes behind the end."""
        if self._next():
            raise self._wrong(self._place(self._at))

    def _begin_object(self, otherwise: str) -> None:
        first = self._next()
        if first == "{":
            self._take("{")
            return
        if first not in {"[", '"'}:
            self.value()
        raise InvalidSecretValueError(otherwise)

    def _name(self) -> str:
        if self._next() != '"':
            raise self._wrong(self._place(self._at))
        name = str(self.value())
        self._take(":")
        return name

    def _take(self, wanted: str) -> str:
        found = self._next()
        if not found or found not in wanted:
            raise self._wrong(self._place(self._at))
        self._at += 1
        return found

    def _next(self) -> str:
        """Go to what is no white space and return it; an empty text at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = self._at if space is None else space.end()
            if self._at < len(self._text) or self._is_whole:
                return self._text[self._at : self._at + 1]
            self._fill()

    def _decoded(self) -> tuple[Any, int] | None:
        """Return a value and where it ends, or None where more of the text has to be seen."""
        try:
            value, end = _DECODER.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            # A text or word that breaks off may go on; what is wrong before stays wrong.
            goes_on = error.msg.startswith("Unterminated") or self._is_near_end(error.pos)
            problem = None if goes_on and not self._is_whole else self._place(error.pos)
        except _RefusedError as error:
            problem = str(error)
        except (ValueError, RecursionError):
            problem = "a number in it is too long, or it is nested too deep"
        else:
            return (value, end) if self._is_whole or not self._is_near_end(end) else None
        if problem is not None:
            raise self._wrong(problem)
        return None

    def _is_near_end(self, place: int) -> bool:
        return place > len(self._text) - _TAIL

    def _fill(self) -> None:
        """Drop what was read, and take as much again as is left, so that a long value is not tried too often."""
        self._line, self._column = self._line_and_column(self._at)
        parts = [self._text[self._at :]]
        missing = max(len(parts[0]), 1)
        while missing > 0 and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            missing -= len(piece)
        self._is_whole = missing > 0
        self._text, self._at = "".join(parts), 0

    def _place(self, at: int) -> str:
        line, column = self._line_and_column(at)
        return f"see line {line}, column {column}"

    def _line_and_column(self, at: int) -> tuple[int, int]:
        lines = self._text.count("\n", 0, at)
        return self._line + lines, at - self._text.rfind("\n", 0, at) if lines else self._column + at

    def _wrong(self, problem: str) -> InvalidSecretValueError:
        return InvalidSecretValueError(f"{self._what} is not JSON: {problem}")


def _object(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(members)
    if len(parsed) != len(members):
        raise _RefusedError("an object has two members of the same name")
    return parsed


def _refuse(_: str) -> None:
    raise _RefusedError("NaN and infinities are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)
