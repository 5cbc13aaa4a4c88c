"""`.env` files: names and texts, as python-dotenv reads them; `${NAME}` stays what it is."""

import io
import re

from dotenv.parser import Binding, parse_stream

from secretstore.domain.names import Key, parse_key
from secretstore.errors import InvalidSecretKeyError, InvalidSecretValueError

_LINE_END = re.compile(r"\r\n|\n|\r")


def parse_dotenv(text: str) -> list[tuple[Key, str]]:
    """Return keys and texts in their order; errors name the line, and nothing of it."""
    parsed: dict[Key, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if not binding.error and binding.key is None:
            continue  # a comment, or nothing
        key, value = _pair_of(binding)
        if key in parsed:
            raise _refused(binding, "has a name that an earlier line has too")
        parsed[key] = value
    return list(parsed.items())


def _pair_of(binding: Binding) -> tuple[Key, str]:
    if binding.error:
        raise _refused(binding, "is not NAME=value, or a quote that it opens is never closed")
    if binding.value is None:
        raise _refused(binding, "has no =; an empty text is written NAME=")
    try:
        return parse_key(binding.key), binding.value
    except InvalidSecretKeyError:
        pass
    # The name is not shown: in a file with a slip it may be a part of a value.
    raise InvalidSecretKeyError(f"line {_line_of(binding)} of the file: its name breaks a rule of keys")


def _refused(binding: Binding, words: str) -> InvalidSecretValueError:
    return InvalidSecretValueError(f"the file is not .env: line {_line_of(binding)} {words}")


def _line_of(binding: Binding) -> int:
    """Return the line of the name; the parser counts from the blank lines before it."""
    read = binding.original.string
    blank = read[: len(read) - len(read.lstrip())]
    return binding.original.line + len(_LINE_END.findall(blank))
