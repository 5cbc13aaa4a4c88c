"""Values of types that hold no secret fields: stored so that they come back equal, or refused."""

import dataclasses
import enum
import traceback
import warnings
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PlainSerializer,
    PostgresDsn,
    RootModel,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    computed_field,
    field_serializer,
    model_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from secretstore.errors import InvalidSecretValueError
from tests.support.values import read, refusal, stored


class Colour(enum.Enum):
    """A choice."""

    RED = "red"


class Level(enum.IntEnum):
    """A choice of numbers."""

    LOW = 1


class Mode(enum.StrEnum):
    """A choice of texts."""

    ON = "on"


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: int = 0


@dataclasses.dataclass
class Plain:
    """A dataclass of the standard library."""

    at: datetime
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    """A dataclass without a dict."""

    made: int = dataclasses.field(default=1, init=False)


@pydantic_dataclass
class Checked:
    """A dataclass of pydantic."""

    amount: Decimal


class Typed(TypedDict):
    """A dict with declared names."""

    at: date


class Account(BaseModel):
    """A model with most kinds of fields."""

    id: UUID
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    mode: Mode = Mode.ON
    opened: datetime = datetime(2024, 2, 29, 12, 30, 0, 1, UTC)
    limit: Decimal = Decimal("10.50")
    pause: timedelta = timedelta(days=1, microseconds=1)
    at: time = time(1, 2, 3)
    points: list[Point] = [Point(1, 2)]
    names: frozenset[str] = frozenset({"a", "b"})
    counts: dict[int, float] = {1: 1.5}
    dsn: PostgresDsn = PostgresDsn("postgresql://app:pw@db/app")
    raw: bytes = "é".encode()
    parsed: Json[list[int]] = [1, 2]


class Accounts(RootModel[list[Account]]):
    """A model that is a list."""


ACCOUNT = Account(id=UUID(int=7))


@pytest.mark.parametrize(
    ("value", "as_type"),
    [
        (datetime(2024, 1, 2, 3, 4, 5, 6, UTC), datetime),
        (date(2024, 1, 2), date),
        (Decimal("1.10"), Decimal),
        (UUID(int=5), UUID),
        (Colour.RED, Colour),
        (Level.LOW, Level),
        (Mode.ON, Mode),
        (timedelta(seconds=1.5), timedelta),
        ("é".encode(), bytes),
        (b"**********", bytes),
        ((1, 2), tuple[int, int]),
        ({1, 2}, set[int]),
        (frozenset({"a"}), frozenset[str]),
        (OrderedDict(b=1, a=2), dict[str, int]),
        ({1: "a", 2: "b"}, dict[int, str]),
        ({Colour.RED: 1}, dict[Colour, int]),
        ({UUID(int=5): date(2024, 1, 2)}, dict[UUID, date]),
        (Point(1, 2), Point),
        (Plain(datetime(2024, 1, 2, tzinfo=UTC), ["a"]), Plain),
        (Checked(Decimal("1.10")), Checked),
        ({"at": date(2024, 1, 2)}, Typed),
        (ACCOUNT, Account),
        ([ACCOUNT, ACCOUNT], list[Account]),
        ({"a": ACCOUNT}, dict[str, Account]),
        (Accounts([ACCOUNT]), Accounts),
    ],
)
def test_a_typed_value_comes_back_equal_by_its_type(value: object, as_type: Any) -> None:
    """What pydantic can read by its type is stored so that it comes back equal, and of the same class."""
    came_back = read(stored(value), as_type)

    assert came_back == value
    assert type(came_back) is type(value) or isinstance(value, dict)


def test_a_field_that_no_caller_sets_is_stored_too() -> None:
    """A dataclass is stored with all its fields."""
    assert stored(Slotted()) == b'{"made":1}'


class Aliased(BaseModel):
    """Fields with every kind of other name."""

    both: int = Field(alias="b-o-t-h")
    reading: int = Field(validation_alias="r")
    writing: int = Field(serialization_alias="w")
    choice: int = Field(validation_alias=AliasChoices("c1", AliasPath("c2", 0)))
    path: int = Field(validation_alias=AliasPath("p", "q"))


class WritesAliases(Aliased):
    """The same, written by alias."""

    model_config = ConfigDict(serialize_by_alias=True)
    writing: int = Field(alias="w")


ALIASES: dict[str, Any] = {"b-o-t-h": 1, "r": 2, "c1": 4, "p": {"q": 5}}


@pytest.mark.parametrize("value", [Aliased(**ALIASES, writing=3), WritesAliases(**ALIASES, w=3)])
def test_a_model_with_aliases_comes_back_equal(value: Aliased) -> None:
    """Whichever name pydantic writes, the field is read from it again."""
    assert read(stored(value), type(value)) == value


class Swapped(BaseModel):
    """Two fields that answer to one name."""

    x: int = Field(alias="y")
    y: int = Field(alias="z")


def test_fields_that_answer_to_one_name_are_refused() -> None:
    """Where the name of one field is the alias of another, reading would swap them."""
    assert "the name of one field is the alias of another" in refusal(Swapped(y=1, z=2))


class Computing(BaseModel):
    """A strict model that computes a field."""

    model_config = ConfigDict(extra="forbid")
    host: str

    @computed_field
    def url(self) -> str:
        """A field that is computed."""
        return f"https://{self.host}"


def test_what_a_model_computes_is_computed_again() -> None:
    """A computed field is not stored, so that a model that forbids further members reads its own value."""
    value = Computing(host="db")

    assert stored(value) == b'{"host":"db"}'
    assert read(stored(value), Computing).url == "https://db"


class Base(BaseModel):
    """A model to inherit from."""

    x: int = 1


class Derived(Base):
    """A subclass with a field more."""

    y: int = 2


@dataclasses.dataclass
class BaseClass:
    """A dataclass to inherit from."""

    x: int = 1


@dataclasses.dataclass
class DerivedClass(BaseClass):
    """A subclass with a field more."""

    y: int = 2


class Holder(BaseModel):
    """A model whose parts may be of a subclass."""

    part: Base | None = None
    parts: list[Base] = []
    data: BaseClass | None = None
    whole: SerializeAsAny[Base] = Base()


@pytest.mark.parametrize(
    "value", [Holder(part=Derived()), Holder(parts=[Base(), Derived()]), Holder(data=DerivedClass())], ids=repr
)
def test_a_subclass_is_not_cut_to_its_declared_type(value: Holder) -> None:
    """Pydantic would leave out the fields that the declared type lacks; the value is refused instead."""
    assert "a field of it would be lost" in refusal(value)


def test_a_subclass_is_stored_whole_where_nothing_is_left_out() -> None:
    """At the top, in plain lists, with `SerializeAsAny`, and as its base, everything is there."""
    assert stored(Derived()) == b'{"x":1,"y":2}'
    assert stored([Derived()]) == b'[{"x":1,"y":2}]'
    assert stored(Holder(whole=Derived())).endswith(b',"whole":{"x":1,"y":2}}')


class Own(BaseModel):
    """A model with serializers of its own."""

    tags: list[str] = ["a", "b"]
    size: Annotated[int, PlainSerializer(str)] = 5
    scratch: str = Field(default="", exclude=True)

    @field_serializer("tags")
    def join(self, tags: list[str]) -> str:
        """Write a list as text."""
        return ",".join(tags)


class WithoutNulls(BaseModel):
    """A model that leaves out what is null."""

    a: int | None = None
    b: int | None = 2

    @model_serializer(mode="wrap")
    def leave_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Drop nulls."""
        return {name: part for name, part in handler(self).items() if part is not None}


def test_a_model_is_dumped_as_it_wants() -> None:
    """Serializers and `exclude` are the model's word where no secret is concerned."""
    assert stored(Own(scratch="x")) == b'{"tags":"a,b","size":"5"}'
    assert stored(WithoutNulls()) == b'{"b":2}'
    assert read(stored(WithoutNulls()), WithoutNulls) == WithoutNulls()


def unchecked(model: type[BaseModel], **fields: Any) -> BaseModel:
    """A model past its validation, whose fields need not fit."""
    return model.model_construct(**fields)


class Raising(BaseModel):
    """A model whose serializer fails with the value in its words."""

    name: str

    @field_serializer("name")
    def fail(self, name: str) -> str:
        """Fail."""
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "value",
    [
        unchecked(Account, id="hunter2"),
        [unchecked(Account, id=UUID(int=1), points="hunter2")],
        unchecked(Base, x="hunter2"),
        Raising(name="hunter2"),
    ],
    ids=lambda _: "",
)
def test_a_value_that_breaks_its_model_is_refused_in_silence(value: object) -> None:
    """Neither the error, its traceback nor a warning shows the value that does not fit."""
    with (
        warnings.catch_warnings(record=True, action="always") as caught,
        pytest.raises(InvalidSecretValueError) as refused,
    ):
        stored(value)

    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value)
    assert "hunter2" not in shown
    assert caught == []


def test_a_model_with_an_unset_field_is_refused() -> None:
    """A model that was constructed without a required field could not be read again."""
    assert "a field of it was never set" in refusal(unchecked(Computing))
