"""Values to JSON text and back, by type."""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema, from_json

from secretstore.errors import InvalidSecretValueError
from secretstore.service.reveal import Unstorable, revealed_json

MAX_VALUE_BYTES = 1024 * 1024

# Kept, because making one takes longer than what it does with a small value.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_SHOWN_ERRORS = 5
_ADAPTERS_KEPT = 512
_KINDS_OF_ERROR = frozenset(get_args(core_schema.ErrorType))


def name_of_value(namespace: str, key: str) -> str:
    """Return what errors call the value of a secret that is to be stored."""
    return f"the value of {key!r} in namespace {namespace!r}"


def to_json(value: object, *, name: object, max_bytes: int = MAX_VALUE_BYTES) -> bytes:
    """Return a value as JSON text in UTF-8, secret fields revealed.

    `name` is what errors call the value.  Raises `InvalidSecretValueError`.
    """
    problem = ""
    try:
        encoded = as_json_text(revealed_json(value))
    except Unstorable as error:
        problem = str(error)
    except UnicodeEncodeError:
        problem = "it holds a lone surrogate, which is not valid Unicode"
    except (ValueError, TypeError, RecursionError):
        problem = "it is not JSON, nor of a type that pydantic can dump to JSON"
    if problem:
        raise InvalidSecretValueError(f"{name} cannot be stored: {problem}")
    check_size(encoded, name=name, max_bytes=max_bytes)
    return encoded


def check_size(text: bytes, *, name: object, max_bytes: int) -> None:
    """Raise `InvalidSecretValueError` where JSON text is too long to be stored."""
    if len(text) > max_bytes:
        raise InvalidSecretValueError(f"{name} cannot be stored: {len(text)} bytes of JSON are more than {max_bytes}")


def as_json_text(value: object) -> bytes:
    """Return plain JSON as text in UTF-8."""
    return _ENCODER.encode(value).encode()


def from_json_as(data: bytes, as_type: Any, *, name: object) -> Any:
    """Return JSON text as a value of a type, or as plain JSON where the type is None.

    Raises `InvalidSecretValueError` where it does not fit, which names fields and kinds of error, and no value.
    """
    if as_type is None:
        # The same parser, without what a type costs; what it refuses is told of below.
        try:
            return from_json(data)
        except ValueError:
            pass
    adapter = _adapter_of(Any if as_type is None else as_type)
    try:
        return adapter.validate_json(data, by_alias=True, by_name=True)
    except ValidationError as error:
        problem = _described(error, _declared_names(adapter))
    # Some tools show the locals of every frame.
    del data
    raise InvalidSecretValueError(f"{name} does not fit {_type_name(as_type)}: {problem}")


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
    shown = [f"{_place(problem['loc'], declared)} ({_kind(problem['type'])})" for problem in problems[:_SHOWN_ERRORS]]
    more = len(problems) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _kind(name: str) -> str:
    # A validator of the type can make up kinds, and put the value into their names.
    return name if name in _KINDS_OF_ERROR else "custom_error"


def _place(path: tuple[int | str, ...], declared: set[str]) -> str:
    known = [str(step) if isinstance(step, int) or step in declared else "*" for step in path]
    return ".".join(known) or "the whole value"


class _QuietGenerator(GenerateJsonSchema):
    """Draws a schema without warning of defaults that it leaves out."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012 - ditto


def _declared_names(adapter: TypeAdapter[Any]) -> set[str]:
    try:
        schema = adapter.json_schema(mode="validation", schema_generator=_QuietGenerator)
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
    if as_type is None:
        return "JSON"
    return as_type.__name__ if isinstance(as_type, type) else str(as_type)
