"""Values to JSON text and back, by type.

Pydantic dumps a `SecretStr` as asterisks.  So a value is dumped twice, once to JSON (as its models want it) and once to
Python (where secret fields stay what they are), and the two are walked side by side: where the second holds a secret, its
revealed value takes the place of the asterisks.  Where the two cannot be walked side by side, the value is refused; no
asterisk is ever stored.
"""

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, SchemaSerializer, core_schema, from_json

from secretstore.errors import InvalidSecretValueError

MAX_VALUE_BYTES = 1024 * 1024
MAX_DEPTH = 100

_SECRETS = (SecretStr, SecretBytes, Secret)
_LISTS = (list, tuple, set, frozenset, deque)
_SHOWN_ERRORS = 5
_ADAPTERS_KEPT = 512


def to_json(value: object, *, name: object, max_bytes: int = MAX_VALUE_BYTES) -> bytes:
    """Return a value as JSON text in UTF-8, secret fields revealed.

    `name` is what errors call the value.  Raises `InvalidSecretValueError`.
    """
    problem = ""
    try:
        text = json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        encoded = text.encode()
    except _Unstorable as error:
        problem = str(error)
    except UnicodeEncodeError:
        problem = "it holds a lone surrogate, which is not valid Unicode"
    except (ValueError, TypeError, RecursionError):
        problem = "it is not JSON, nor of a type that pydantic can dump to JSON"
    if problem:
        raise InvalidSecretValueError(f"{name} cannot be stored: {problem}")
    if len(encoded) > max_bytes:
        raise InvalidSecretValueError(
            f"{name} cannot be stored: {len(encoded)} bytes of JSON are more than {max_bytes}"
        )
    return encoded


def from_json_as(data: bytes, as_type: Any, *, name: object) -> Any:
    """Return JSON text as a value of a type, or as plain JSON where the type is None.

    Raises `InvalidSecretValueError` where it does not fit, which names fields and kinds of error, and no value.
    """
    if as_type is None:
        return from_json(data)
    adapter = _adapter_of(as_type)
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        problem = _described(error, _declared_names(adapter))
    raise InvalidSecretValueError(f"{name} does not fit {_type_name(as_type)}: {problem}")


class _Unstorable(Exception):  # noqa: N818 - internal, becomes InvalidSecretValueError with a name
    """Says why a value cannot be stored."""


def _dump(value: object, mode: str) -> Any:
    # With `warnings="error"` a field that does not fit its declared type is refused; pydantic's warning would show it.
    serializer = SchemaSerializer(core_schema.any_schema())
    try:
        return serializer.to_python(value, mode=mode, warnings="error")
    except PydanticSerializationError:
        pass
    raise _Unstorable(
        "a part of it is not JSON, does not fit its declared type, or is of a type that pydantic cannot dump"
    )


def _jsonable(value: object, depth: int = 0) -> Any:
    return _revealed(_dump(value, "json"), _dump(value, "python"), depth)


def _revealed(dumped: Any, original: Any, depth: int) -> Any:
    """Return `dumped` with the secrets of `original` in place of their asterisks."""
    if depth > MAX_DEPTH:
        raise _Unstorable(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(original, _SECRETS):
        return _jsonable(original.get_secret_value(), depth)
    if isinstance(original, float) and not math.isfinite(original) and not isinstance(dumped, str):
        raise _Unstorable("NaN and infinities are not JSON")
    if isinstance(original, Mapping) and isinstance(dumped, dict):
        return _revealed_object(dumped, original, depth)
    if isinstance(original, _LISTS) and isinstance(dumped, list):
        return [_revealed(*pair, depth + 1) for pair in _side_by_side(dumped, original)]
    if _holds_secret(original):
        raise _Unstorable("a secret field of it is dumped in a form of its own")
    return dumped


def _revealed_object(dumped: dict[str, Any], original: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    if any(isinstance(name, _SECRETS) for name in original):
        raise _Unstorable("a secret is the name of a member")
    pairs = _side_by_side(dumped.values(), original.values())
    return {name: _revealed(*pair, depth + 1) for name, pair in zip(dumped, pairs, strict=True)}


def _side_by_side(dumped: Iterable[Any], original: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    try:
        yield from zip(dumped, original, strict=True)
    except ValueError:
        raise _Unstorable("two members have the same name as text, or are dumped in a form of their own") from None


def _holds_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_secret, value.values()))
    if isinstance(value, _LISTS):
        return any(map(_holds_secret, value))
    return isinstance(value, _SECRETS)


def _adapter_of(as_type: Any) -> TypeAdapter[Any]:
    try:
        return _kept_adapter(as_type)
    except TypeError:  # an annotation that cannot be hashed
        return TypeAdapter(as_type)


@lru_cache(maxsize=_ADAPTERS_KEPT)
def _kept_adapter(as_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(as_type)


def _described(error: ValidationError, declared: set[str]) -> str:
    """Name places and kinds of error; a name that the type does not declare came from the value, and is left out."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [f"{_place(problem['loc'], declared)} ({problem['type']})" for problem in problems[:_SHOWN_ERRORS]]
    more = len(problems) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _place(path: tuple[int | str, ...], declared: set[str]) -> str:
    known = [str(step) if isinstance(step, int) or step in declared else "*" for step in path]
    return ".".join(known) or "the whole value"


def _declared_names(adapter: TypeAdapter[Any]) -> set[str]:
    try:
        schema = adapter.json_schema(mode="validation")
    except Exception:  # noqa: BLE001 - a schema that cannot be drawn only makes the message less exact
        return set()
    return set(_property_names(schema))


def _property_names(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        yield from properties if isinstance(properties, dict) else ()
        for part in schema.values():
            yield from _property_names(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _property_names(part)


def _type_name(as_type: Any) -> str:
    return as_type.__name__ if isinstance(as_type, type) else str(as_type)
