"""Values that do not fit the type that was asked for: the error says where, and nothing of the value."""

import json
import traceback
import typing
import warnings
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from secretstore.errors import InvalidSecretValueError
from secretstore.service.typed import from_json_as

HIDDEN = "hunter2"


def read(value: object, as_type: Any) -> Any:  # whatever the type says
    """Read a JSON value by a type."""
    return from_json_as(json.dumps(value).encode(), as_type, name="version 1 of 'k'")


class Login(BaseModel):
    """A model."""

    user: str
    port: int = 5432
    password: SecretStr = SecretStr("default")


class Strict(BaseModel):
    """A model that takes no further members."""

    model_config = ConfigDict(extra="forbid")
    port: int = Field(1, alias="p-o-r-t")


class Cluster(BaseModel):
    """A model of models."""

    nodes: list[Login]
    ports: dict[str, int] = {}
    by_number: dict[int, int] = {}


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]
    name: int


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def _complain(value: str) -> str:
    raise ValueError(f"bad {value}")


def _complain_by_kind(value: str) -> str:
    raise PydanticCustomError(f"bad_{value}", "bad {value}", {"value": value})


class Complaining(BaseModel):
    """A model whose validators put the value into their words."""

    name: str = ""

    @field_validator("name")
    @classmethod
    def complain(cls, name: str) -> str:
        """Fail."""
        raise ValueError(f"bad {name}")


class ComplainingWhole(BaseModel):
    """A model that complains of all of itself."""

    name: str

    @model_validator(mode="after")
    def complain(self) -> "ComplainingWhole":
        """Fail."""
        raise AssertionError(f"bad {self.name}")


class Undrawable(BaseModel):
    """A model of which pydantic can draw no JSON schema, with a default that it would warn of."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Iterator[int] | object = object()
    port: int
    call: typing.Callable[[], int] = int


MISFITS: list[tuple[object, Any, str]] = [
    (HIDDEN, int, "int: the whole value (int_parsing)"),
    (4711, str, "str: the whole value (string_type)"),
    ([1, HIDDEN], list[int], "list[int]: 1 (int_parsing)"),
    ({"user": "a", "port": HIDDEN}, Login, "Login: port (int_parsing)"),
    ({"port": 4711}, Login, "Login: user (missing)"),
    ({"user": 4711, "password": 4712}, Login, "Login: user (string_type), password (string_type)"),
    ({"p-o-r-t": HIDDEN}, Strict, "Strict: p-o-r-t (int_parsing)"),
    ({HIDDEN: 4711}, Strict, "Strict: * (extra_forbidden)"),
    ({HIDDEN: "x"}, dict[str, int], "dict[str, int]: * (int_parsing)"),
    ({"4711": "x"}, dict[int, int], "dict[int, int]: * (int_parsing)"),
    ({"nodes": [{"user": "a"}, {"user": []}]}, Cluster, "Cluster: nodes.1.user (string_type)"),
    ({"nodes": [], "ports": {HIDDEN: {}}}, Cluster, "Cluster: ports.* (int_type)"),
    ({"nodes": [], "by_number": {"4711": "x"}}, Cluster, "Cluster: by_number.* (int_parsing)"),
    ({"kind": HIDDEN}, Pet, "the whole value (union_tag_invalid)"),
    ({"kind": "cat", "lives": HIDDEN}, Pet, "*.lives (int_parsing)"),
    (HIDDEN, int | date, "* (int_parsing), * (date_from_datetime_parsing)"),
    (HIDDEN, Literal["a", "b"], "the whole value (literal_error)"),
    (HIDDEN, Annotated[str, Field(max_length=3)], "the whole value (string_too_long)"),
    (HIDDEN, Annotated[str, Field(pattern="^a")], "the whole value (string_pattern_mismatch)"),
    (HIDDEN, Annotated[str, AfterValidator(_complain)], "the whole value (value_error)"),
    (HIDDEN, Annotated[str, AfterValidator(_complain_by_kind)], "the whole value (custom_error)"),
    ({"name": HIDDEN}, Complaining, "Complaining: name (value_error)"),
    ({"name": HIDDEN}, ComplainingWhole, "ComplainingWhole: the whole value (assertion_error)"),
    ({"port": HIDDEN}, Undrawable, "Undrawable: * (int_parsing)"),
    (HIDDEN, date, "date: the whole value (date_from_datetime_parsing)"),
    ([HIDDEN] * 7, list[int], " and 2 more"),
]


@pytest.mark.parametrize(("value", "as_type", "words"), MISFITS, ids=[words for _, _, words in MISFITS])
def test_a_misfit_is_described_without_the_value(value: object, as_type: Any, words: str) -> None:
    """The error names the type, declared places and kinds of error; whatever came from the value reads `*`."""
    with pytest.raises(InvalidSecretValueError) as caught:
        read(value, as_type)

    assert str(caught.value).startswith("version 1 of 'k' does not fit ")
    assert str(caught.value).endswith(words)


@pytest.mark.parametrize(("value", "as_type", "words"), MISFITS, ids=[words for _, _, words in MISFITS])
def test_no_part_of_a_misfit_leaks(value: object, as_type: Any, words: str) -> None:
    """Neither text, repr, traceback, cause nor context holds a part of the value, and nothing is warned of."""
    with (
        warnings.catch_warnings(record=True, action="always") as warned,
        pytest.raises(InvalidSecretValueError) as found,
    ):
        read(value, as_type)

    shown = f"{found.value} {found.value!r} {''.join(traceback.format_exception(found.value))}"
    assert not any(part in shown for part in (HIDDEN, HIDDEN[:5], "4711", "4712"))
    assert (found.value.__cause__, found.value.__context__) == (None, None)
    assert warned == []


def test_a_type_that_cannot_be_hashed_still_reads() -> None:
    """Annotations whose metadata is a list are types too."""
    as_type = Annotated[int, [1]]

    assert read(5, as_type) == 5
    with pytest.raises(InvalidSecretValueError, match="int_parsing"):
        read("x", as_type)


@pytest.mark.parametrize(
    ("value", "as_type", "wanted"),
    [
        ({"user": "a", "further": 1}, Login, Login(user="a")),
        ({"kind": "dog", "name": 1}, Pet, Dog(kind="dog", name=1)),
        ({"port": 2}, Strict, Strict.model_validate({"p-o-r-t": 2})),
        ({"p-o-r-t": 2}, Strict, Strict.model_validate({"p-o-r-t": 2})),
        ("2024-01-02", date, date(2024, 1, 2)),
        (None, int | None, None),
        (1, Any, 1),
        (1, object, 1),
    ],
)
def test_a_value_that_fits_is_of_the_type(value: object, as_type: Any, wanted: object) -> None:
    """Plain JSON that fits a type is read as it, fields by name or by alias, whoever wrote it."""
    assert read(value, as_type) == wanted


def test_without_a_type_the_value_is_plain_json() -> None:
    """No type means no change."""
    assert read({"a": ["2024-01-02", 2**70]}, None) == {"a": ["2024-01-02", 2**70]}


def test_what_is_no_json_is_refused_without_being_shown() -> None:
    """Bytes that another program sealed, and that are not JSON, are an error that does not show them."""
    text = "hunter2"
    for as_type in (None, Login):
        with pytest.raises(InvalidSecretValueError, match=r"(JSON|Login): the whole value \(json_invalid\)") as caught:
            from_json_as(text.encode(), as_type, name="it")
        assert text not in "".join(traceback.format_exception(caught.value))
