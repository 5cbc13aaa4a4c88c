"""What the tests of storing and reading values have in common."""

from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pytest
from pydantic import BaseModel, PlainSerializer, SecretStr, create_model

from secretstore.errors import InvalidSecretValueError
from secretstore.service.typed import from_json_as, to_json

HIDDEN = "hunter2"
SECRET = SecretStr(HIDDEN)
T = TypeVar("T")


def stored(value: object) -> bytes:
    """What is sealed of a value."""
    return to_json(value, name="the value")


def read(data: bytes, as_type: Any = None) -> Any:  # whatever the type says
    """What comes back."""
    return from_json_as(data, as_type, name="the value")


def refusal(value: object) -> str:
    """Why a value is refused; the error keeps nothing of what led to it."""
    with pytest.raises(InvalidSecretValueError, match="cannot be stored") as caught:
        stored(value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return str(caught.value)


class Login(BaseModel):
    """A model with a secret."""

    user: str = "app"
    password: SecretStr = SECRET


class Admin(Login):
    """A subclass with a secret more."""

    token: SecretStr = SecretStr(f"{HIDDEN}-token")


class Box(BaseModel, Generic[T]):
    """A generic model."""

    content: T


class Pair(NamedTuple):
    """A tuple with names."""

    name: str
    password: SecretStr


def serialized(kind: Any, by: Any, *, when: Literal["always", "json"] = "always") -> type[BaseModel]:
    """A model with one field and its serializer."""
    return create_model("Made", field=(Annotated[kind, PlainSerializer(by, when_used=when)], ...))
