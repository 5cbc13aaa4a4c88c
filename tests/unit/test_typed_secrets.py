"""Secret fields are stored revealed, and come back wrapped and equal."""

import dataclasses
import json
from collections import deque
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    computed_field,
    field_serializer,
    model_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from tests.support.values import HIDDEN, SECRET, Admin, Box, Login, Pair, read, stored


class Everything(BaseModel):
    """Secrets in every kind of field."""

    login: Login = Login()
    maybe: SecretStr | None = SECRET
    missing: SecretStr | None = None
    empty: SecretStr = SecretStr("")
    either: SecretStr | int = SECRET
    listed: list[SecretStr] = [SECRET, SecretStr("other")]
    tupled: tuple[int, SecretStr] = (1, SECRET)
    by_name: dict[str, SecretStr] = {"a": SECRET}
    by_number: dict[int, SecretStr] = {1: SECRET}
    queued: deque[SecretStr] = deque([SECRET])
    frozen: frozenset[SecretStr] = frozenset({SECRET, SecretStr("other")})
    raw: SecretBytes = SecretBytes(b"hunter2")
    day: Secret[date] = Secret[date](date(2024, 1, 2))
    deep: Secret[Login] = Secret[Login](Login())
    deeper: Secret[list[SecretStr]] = Secret[list[SecretStr]]([SECRET])
    anything: Any = None


class Password(BaseModel):
    """One of two ways to log in."""

    kind: Literal["password"] = "password"
    password: SecretStr = SECRET


class Token(BaseModel):
    """The other way."""

    kind: Literal["token"] = "token"
    token: SecretStr = SECRET


class Way(BaseModel):
    """A discriminated union."""

    way: Annotated[Password | Token, Field(discriminator="kind")] = Token()


class OneSecret(RootModel[SecretStr]):
    """A model that is a secret."""


class Logins(RootModel[dict[str, Login]]):
    """A model that is a dict."""


@dataclasses.dataclass
class Data:
    """A dataclass of the standard library."""

    password: SecretStr
    inner: "Data | None" = None


@pydantic_dataclass
class CheckedData:
    """A dataclass of pydantic."""

    password: SecretStr


class Typed(TypedDict):
    """A dict with declared names."""

    password: SecretStr


class ByAlias(BaseModel):
    """A model that is written by alias."""

    model_config = ConfigDict(serialize_by_alias=True)
    password: SecretStr = Field(alias="pass-word")


class Aliased(BaseModel):
    """A model that is written by name and read by alias."""

    password: SecretStr = Field(alias="pass-word")


class Open(BaseModel):
    """A model that takes further members."""

    model_config = ConfigDict(extra="allow")


class Masked(Secret[date]):
    """A secret with asterisks of its own."""

    def _display(self) -> str:
        return "****/**/**"


class Day(BaseModel):
    """A model with such a secret."""

    day: Masked


class Revealing(BaseModel):
    """A model that reveals its secret itself, as pydantic's manual proposes."""

    password: SecretStr = SECRET

    @field_serializer("password", when_used="json")
    def reveal(self, password: SecretStr) -> str:
        """Reveal."""
        return password.get_secret_value()


class Wrapping(BaseModel):
    """A model with a serializer that changes nothing."""

    password: SecretStr = SECRET

    @model_serializer(mode="wrap")
    def dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Pass on."""
        return dict(handler(self))


class AsItIs(BaseModel):
    """A model that dumps its secret as a secret."""

    password: SecretStr = SECRET

    @model_serializer
    def dump(self) -> dict[str, object]:
        """Keep the secret closed."""
        return {"password": self.password}


class Computing(BaseModel):
    """A model that computes a secret from a secret."""

    model_config = ConfigDict(extra="forbid")
    password: SecretStr = SECRET

    @computed_field
    def url(self) -> str:
        """A text with asterisks in it."""
        return f"postgresql://app:{self.password}@db"

    @computed_field
    def again(self) -> SecretStr:
        """A secret."""
        return self.password


class Whole(BaseModel):
    """A part that is dumped by what it is."""

    login: SerializeAsAny[Login] = Admin()


@pytest.mark.parametrize(
    ("value", "as_type"),
    [
        (SECRET, SecretStr),
        (SecretStr(""), SecretStr),
        (SecretStr("**********"), SecretStr),
        (SecretBytes("é".encode()), SecretBytes),
        (Secret[date](date(2024, 1, 2)), Secret[date]),
        (Secret[int](0), Secret[int]),
        (Secret[Login](Login()), Secret[Login]),
        (Login(), Login),
        (Admin(), Admin),
        (Everything(), Everything),
        (Everything(anything=[{"a": 1}]), Everything),
        (Way(), Way),
        (Way(way=Password()), Way),
        (Box[SecretStr](content=SECRET), Box[SecretStr]),
        (Box[list[Login]](content=[Login()]), Box[list[Login]]),
        (OneSecret(SECRET), OneSecret),
        (Logins({"a": Login()}), Logins),
        (Data(SECRET, Data(SECRET)), Data),
        (CheckedData(SECRET), CheckedData),
        (Pair("a", SECRET), Pair),
        ({"password": SECRET}, Typed),
        (ByAlias.model_validate({"pass-word": HIDDEN}), ByAlias),
        (Aliased.model_validate({"pass-word": HIDDEN}), Aliased),
        (Day(day=Masked(date(2024, 1, 2))), Day),
        (Revealing(), Revealing),
        (Wrapping(), Wrapping),
        (AsItIs(), AsItIs),
        (Computing(), Computing),
        ([SECRET, SECRET], list[SecretStr]),
        ((1, SECRET), tuple[int, SecretStr]),
        ({"a": {"b": [SECRET]}}, dict[str, dict[str, list[SecretStr]]]),
        ({1: SECRET, 2: SecretStr("")}, dict[int, SecretStr]),
        ({SECRET}, set[SecretStr]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_secret_is_stored_revealed_and_comes_back_wrapped(value: object, as_type: Any) -> None:
    """Wherever a secret field stands, its value is stored, and reading by the same type gives an equal value."""
    text = stored(value)

    assert read(text, as_type) == value


def test_what_is_stored_is_exactly_what_is_hidden() -> None:
    """Each secret of a model is in the text, as what it hides, at its place."""
    text = json.loads(stored(Everything()))

    assert text["login"] == text["deep"] == {"user": "app", "password": HIDDEN}
    assert text["maybe"] == text["either"] == text["raw"] == HIDDEN
    assert (text["missing"], text["empty"], text["day"]) == (None, "", "2024-01-02")
    assert (text["listed"], text["tupled"]) == ([HIDDEN, "other"], [1, HIDDEN])
    assert (text["by_name"], text["by_number"]) == ({"a": HIDDEN}, {"1": HIDDEN})
    assert (text["queued"], text["deeper"], set(text["frozen"])) == ([HIDDEN], [HIDDEN], {HIDDEN, "other"})


def test_secrets_of_a_set_stay_with_their_names() -> None:
    """A set is walked in one order, however its elements came into it."""
    pairs = {Pair(str(number), SecretStr(f"of {number}")) for number in range(500)}
    for pair in sorted(pairs)[:-6]:
        pairs.remove(pair)

    read_again = {Pair(name, SecretStr(password)) for name, password in json.loads(stored(pairs))}
    assert read_again == pairs


def test_secrets_in_further_members_and_in_plain_containers_are_revealed() -> None:
    """Nothing needs to be declared as a secret: what is one is revealed."""
    assert stored(Open.model_validate({"a": SECRET, "b": [SECRET]})) == b'{"a":"hunter2","b":["hunter2"]}'
    assert stored(Everything(anything=[{"z": SECRET}])).endswith(b',"anything":[{"z":"hunter2"}]}')
    assert stored(Whole()) == b'{"login":{"user":"app","password":"hunter2","token":"hunter2-token"}}'
    assert stored([Admin()]) == b'[{"user":"app","password":"hunter2","token":"hunter2-token"}]'


def test_plain_text_of_asterisks_beside_a_secret_is_kept() -> None:
    """Ten asterisks in an ordinary field are a value like any other."""
    banner = "# ********************\n"
    value = Login(user=banner)

    assert read(stored(value), Login) == value
