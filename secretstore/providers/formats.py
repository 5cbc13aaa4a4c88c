"""How the JSON of a value stands in a place that holds text.

    json   the JSON text itself; what is there must be JSON
    text   the text of a JSON string; whatever is there is a string, and nothing else can be written
    auto   a JSON object is an object, and everything else is a string; nothing else can be written, nor can a string that
           would be read as an object

What each of them writes it reads back as it was.  What is read is hidden until it is decoded: where that fails, some tools
show the locals of every frame.
"""

import json
from enum import StrEnum

from pydantic import Secret
from pydantic_core import from_json

from secretstore.errors import InvalidSecretValueError


class Format(StrEnum):
    """How values stand in a place that holds text."""

    JSON = "json"
    TEXT = "text"
    AUTO = "auto"


def decoded(text: Secret[str], form: Format, *, name: object) -> bytes:
    """Return what is there as JSON in UTF-8; `name` is what errors call it.  Raises `InvalidSecretValueError`."""
    if form is Format.TEXT or (form is Format.AUTO and not _is_object(text.get_secret_value())):
        return _as_string(text, name)
    if _is_json(text.get_secret_value()):
        return text.get_secret_value().encode()
    raise InvalidSecretValueError(f"{name} is not JSON; open its provider with format=text if it holds plain texts")


def encoded(value_json: bytes, form: Format, *, name: object) -> str:
    """Return a value as it stands there; raises `InvalidSecretValueError` where it would not be read back as it is."""
    if form is Format.JSON:
        return value_json.decode()
    value = from_json(value_json)
    if isinstance(value, str) and not (form is Format.AUTO and _is_object(value)):
        return value
    if isinstance(value, dict) and form is Format.AUTO:
        return value_json.decode()
    raise InvalidSecretValueError(f"{name} cannot be written with format={form}; open its provider with format=json")


def _as_string(text: Secret[str], name: object) -> bytes:
    try:
        return json.dumps(text.get_secret_value(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        pass
    raise InvalidSecretValueError(f"{name} is not valid Unicode")


def _is_object(text: str) -> bool:
    # Most texts are told by their first character, without parsing.
    return text.lstrip().startswith("{") and _is_json(text)


def _is_json(text: str) -> bool:
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError:
        return False
    return True
