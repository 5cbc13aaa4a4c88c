"""Values to JSON, with what their secrets hide.

Pydantic dumps a `SecretStr` as asterisks.  So a value is dumped to JSON, as its models want it, and the dump is walked
side by side with the value itself: where the value holds a secret, what it hides takes the place of the asterisks.

A part that is dumped in a form of its own, by a serializer say, is stored in that form if it shows what each secret in it
hides, and no asterisks.  A dump that leaves out a field would lose it.  Whatever is in doubt is refused.  What a model
computes is not stored: it is computed again.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from pydantic import AliasChoices, BaseModel, RootModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, SchemaSerializer, core_schema

MAX_DEPTH = 100

_SECRETS = (SecretStr, SecretBytes, Secret)
_PLAIN = frozenset({str, int, bool, type(None)})
_SCALARS = (str, int, float, bool, type(None))
_LISTS = (list, tuple, set, frozenset, deque)
_ASTERISKS = "*" * 10  # as pydantic writes in place of a secret
_ANYTHING = SchemaSerializer(core_schema.any_schema())


class Unstorable(Exception):  # noqa: N818 - internal, becomes InvalidSecretValueError with a name
    """Says why a value cannot be stored."""


def revealed_json(value: object) -> Any:
    """Return a value as what `json.dumps` takes; raises `Unstorable`."""
    return value if _is_plain(value, MAX_DEPTH) else _jsonable(value, 0)


def _is_plain(value: Any, depth: int) -> bool:
    """Return whether a value is JSON as it is, as most are; what is nested too deeply is told of elsewhere."""
    kind = type(value)
    if kind is dict:
        return depth > 0 and all(type(name) is str and _is_plain(part, depth - 1) for name, part in value.items())
    if kind is list:
        return depth > 0 and all(_is_plain(part, depth - 1) for part in value)
    return kind in _PLAIN or (kind is float and math.isfinite(value))


def _jsonable(value: object, depth: int) -> Any:
    return _revealed(_dump(value), value, depth)


def _dump(value: object) -> Any:
    # With `warnings="error"` a field that does not fit its declared type is refused; pydantic's warning would show it.
    try:
        return _ANYTHING.to_python(value, mode="json", round_trip=True, warnings="error")
    except PydanticSerializationError:
        pass
    raise Unstorable(
        "a part of it is not JSON, does not fit its declared type, or is of a type that pydantic cannot dump"
    )


def _revealed(dumped: Any, value: Any, depth: int) -> Any:
    """Return `dumped` with what the secrets of `value` hide in place of their asterisks."""
    if depth > MAX_DEPTH:
        raise Unstorable(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, float) and not math.isfinite(value) and not isinstance(dumped, str):
        raise Unstorable("NaN and infinities are not JSON")
    if _is_itself(dumped, value):
        return dumped
    if isinstance(value, _SECRETS) and dumped == _dump(value):
        return _jsonable(_hidden(value), depth)
    if isinstance(value, RootModel):
        _check_bytes(value)
        return _revealed(dumped, value.root, depth)
    if isinstance(value, _LISTS) and isinstance(dumped, list) and len(dumped) == len(value):
        return [_revealed(*pair, depth + 1) for pair in zip(dumped, value, strict=True)]
    if isinstance(dumped, dict) and _has_members(value):
        return _revealed_object(dumped, _members(value, dumped), depth)
    return _checked_form(dumped, [value])


def _is_itself(dumped: Any, value: Any) -> bool:
    plain = value.decode(errors="replace") if isinstance(value, bytes) else value
    return isinstance(plain, _SCALARS) and bool(dumped == plain)


def _revealed_object(dumped: dict[str, Any], members: dict[str, Any], depth: int) -> dict[str, Any]:
    added = {name: part for name, part in dumped.items() if name not in members}
    _checked_form(added, [value for name, value in members.items() if name not in dumped])
    return {
        name: _revealed(part, members[name], depth + 1) if name in members else part for name, part in dumped.items()
    }


def _checked_form(dumped: Any, values: Iterable[Any]) -> Any:
    """Refuse a form that shows asterisks, or lacks what a secret in `values` hides."""
    parts = list(_everything_in([dumped]))
    if any(_ASTERISKS in part for part in parts if isinstance(part, str)):
        raise Unstorable("a secret field of it is dumped as asterisks; let its serializer return the secret itself")
    for secret in _secrets_in(values):
        if revealed_json(_hidden(secret)) not in parts:
            raise Unstorable("a secret field of it is excluded, or dumped in a form of its own")
    return dumped


def _hidden(secret: Any) -> Any:
    value = secret.get_secret_value()
    if isinstance(value, bytes) and not isinstance(secret, SecretBytes):
        raise Unstorable("bytes are hidden in a Secret, which does not know their encoding; write SecretBytes")
    return value


def _check_bytes(value: Any) -> None:
    config = getattr(value, "model_config", None) or getattr(value, "__pydantic_config__", {})
    forms = {config.get("ser_json_bytes", "utf8"), config.get("val_json_bytes", "utf8")}
    if forms != {"utf8"} and any(isinstance(secret, SecretBytes) for secret in _secrets_in([value])):
        raise Unstorable("SecretBytes are stored as UTF-8, and its model is configured to write or read another form")


def _has_members(value: Any) -> bool:
    return isinstance(value, Mapping | BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def _members(value: Any, dumped: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a mapping or the fields of an object, under the names that they have in its dump."""
    if not isinstance(value, Mapping):
        _check_bytes(value)
        return _named_fields(value, dumped)
    if all(type(name) is str for name in value):
        return dict(value)
    if next(_secrets_in(value), None) is not None:
        raise Unstorable("a secret is in the name of a member")
    names = _dump(dict.fromkeys(value))
    if len(names) != len(value):
        raise Unstorable("two members have the same name as text")
    return dict(zip(names, value.values(), strict=True))


def _named_fields(value: Any, dumped: Mapping[str, Any]) -> dict[str, Any]:
    fields: Mapping[str, FieldInfo] = getattr(type(value), "__pydantic_fields__", {})
    spellings = [spelling for name, field in fields.items() for spelling in _spellings(name, field)]
    if len(spellings) != len(set(spellings)):
        raise Unstorable("the name of one field is the alias of another")
    attributes = _attributes(value)
    if fields.keys() - attributes.keys():
        raise Unstorable("a field of it was never set")
    named = {_name_in(dumped, name, fields.get(name)): part for name, part in attributes.items()}
    if named.keys() - dumped.keys() - _may_be_left_out(fields) and not _has_own_serializer(value):
        raise Unstorable("a field of it would be lost, because the declared type of the part does not have it")
    return named


def _has_own_serializer(value: Any) -> bool:
    decorators = getattr(value, "__pydantic_decorators__", None)
    return decorators is not None and bool(decorators.model_serializers)


def _attributes(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        fields = {name: part for name, part in vars(value).items() if name in type(value).model_fields}
        return fields | (value.model_extra or {})
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _spellings(name: str, field: FieldInfo) -> set[str]:
    choices = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else ()
    aliases = (name, field.serialization_alias, field.validation_alias, *choices)
    return {alias for alias in aliases if isinstance(alias, str)}


def _name_in(dumped: Mapping[str, Any], name: str, field: FieldInfo | None) -> str:
    alias = field.serialization_alias if field else None
    return alias if alias is not None and alias in dumped else name


def _may_be_left_out(fields: Mapping[str, FieldInfo]) -> set[str]:
    return {name for name, field in fields.items() if field.exclude or getattr(field, "exclude_if", None)}


def _secrets_in(values: Iterable[Any]) -> Iterator[Any]:
    return (part for part in _everything_in(values) if isinstance(part, _SECRETS))


def _everything_in(values: Iterable[Any]) -> Iterator[Any]:
    """Yield values and all that is in them, once each; secrets stay closed."""
    left = list(values)
    seen: dict[int, Any] = {}
    while left:
        value = left.pop()
        if id(value) not in seen:
            seen[id(value)] = value
            yield value
            left.extend(_parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    if isinstance(value, _LISTS):
        return value
    if isinstance(value, Enum):
        return [value.value]
    return _attributes(value).values() if _has_members(value) else ()
