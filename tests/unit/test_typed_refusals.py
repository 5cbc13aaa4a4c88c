"""Values whose secrets would be stored as asterisks, or lost, are refused."""

import enum
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass

from tests.support.values import HIDDEN, SECRET, Admin, Box, Login, read, refusal, serialized, stored


class Shout(enum.Enum):
    """A choice that hides its value."""

    SECRET = SECRET
    LIST = (SECRET,)


def lazily(content: object) -> Iterator[object]:
    """A generator."""
    yield content


class Printing(BaseModel):
    """A model that prints its secret."""

    password: SecretStr = SECRET

    @model_serializer
    def dump(self) -> str:
        """Write the asterisks."""
        return repr(self)


class Renaming(BaseModel):
    """A model that writes its secret under another name too."""

    password: SecretStr = SECRET

    @model_serializer(mode="wrap")
    def dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Add a member."""
        return {**handler(self), "shown": str(self.password)}


class TwoFaced(BaseModel):
    """A model that writes JSON otherwise than Python, and drops its secret."""

    user: str = "app"
    password: SecretStr = SECRET

    @model_serializer(mode="wrap")
    def dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Drop the secret from JSON."""
        return {"user": self.user} if info.mode == "json" else dict(handler(self))


class Excluding(BaseModel):
    """A model that keeps its secret out of dumps."""

    password: SecretStr = Field(SECRET, exclude=True)


class ExcludingPart(BaseModel):
    """A model that keeps a part with a secret out of dumps."""

    login: Login = Field(Login(), exclude=True)


@pydantic_dataclass
class ExcludingData:
    """A dataclass that keeps its secret out of dumps."""

    password: SecretStr = Field(SECRET, exclude=True)


class Cutting(BaseModel):
    """A model that declares a part more narrowly than it is."""

    login: Login = Admin()


class Choosing(BaseModel):
    """A model with a choice that hides its value."""

    choice: Shout = Shout.SECRET


class Lazy(BaseModel):
    """A model with iterables."""

    many: Iterable[SecretStr] = ()
    once: Generator[SecretStr, None, None] | None = None


class Texts(BaseModel):
    """A model with JSON in JSON."""

    many: Json[dict[str, SecretStr]] | None = None


class Keys(BaseModel):
    """A model whose names are secrets."""

    names: dict[SecretStr, int] = {SECRET: 1}


class Mapped(Mapping[str, SecretStr]):
    """A mapping of its own kind."""

    def __getitem__(self, _: str) -> SecretStr:
        return SECRET

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "value",
    [
        serialized(list[SecretStr], lambda many: ",".join(map(str, many)))(field=[HIDDEN]),
        serialized(SecretStr, lambda secret: [str(secret)])(field=HIDDEN),
        serialized(SecretStr, lambda secret: {"shown": str(secret)}, when="json")(field=HIDDEN),
        serialized(SecretStr, lambda secret: f"v1:{secret.get_secret_value()}")(field=HIDDEN),
        serialized(SecretStr, lambda _: "<hidden>")(field=HIDDEN),
        serialized(SecretStr, lambda _: None, when="json")(field=HIDDEN),
        serialized(SecretStr, lambda secret: secret.get_secret_value()[-2:])(field=HIDDEN),
        serialized(str, SecretStr)(field=HIDDEN),
        serialized(str, SecretStr, when="json")(field=HIDDEN),
        serialized(int, lambda _: {"a": [SECRET]}, when="json")(field=5),
        serialized(str, lambda _: {SECRET: 1}, when="json")(field="text"),
        serialized(Login, lambda login: {"user": login.user})(field=Login()),
        serialized(dict[str, SecretStr], lambda _: {})(field={"a": HIDDEN}),
        serialized(list[SecretStr], lambda _: [])(field=[HIDDEN]),
        Printing(),
        Renaming(),
        TwoFaced(),
        Excluding(),
        [{"a": Excluding()}],
        ExcludingPart(),
        ExcludingData(SECRET),
        Cutting(),
        Shout.SECRET,
        Shout.LIST,
        Choosing(),
        Choosing(choice=Shout.LIST),
        lazily(SECRET),
        [lazily(SECRET)],
        map(SecretStr, ["a"]),
        Lazy.model_validate({"many": [HIDDEN]}),
        Lazy.model_validate({"once": lazily(HIDDEN)}),
        Texts.model_validate({"many": '{"a": "hunter2"}'}),
        {SECRET: 1},
        {"deep": {SECRET: 1}},
        {(SECRET, 1): 1},
        Keys(),
        Mapped(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_that_would_be_lost_or_masked_is_refused(value: object) -> None:
    """Serializers, `exclude`, narrow types, generators and names never let asterisks in, or a secret get lost."""
    assert HIDDEN not in refusal(value)


@pytest.mark.parametrize("forms", [("base64", "base64"), ("utf8", "base64"), ("hex", "hex"), ("base64", "utf8")])
def test_secret_bytes_are_refused_where_bytes_have_another_form(forms: tuple[Any, Any]) -> None:
    """SecretBytes are stored as UTF-8, which a model that reads base64 or hex would misread."""
    config = ConfigDict(ser_json_bytes=forms[0], val_json_bytes=forms[1])
    model = create_model("Coded", __config__=config, raw=(SecretBytes, ...))
    whole: type[RootModel[SecretBytes]] = type("Whole", (RootModel[SecretBytes],), {"model_config": config})

    for value in (model(raw=b"hunter2a"), [model(raw=b"hunter2a")], whole(SecretBytes(b"hunter2a"))):
        assert "SecretBytes are stored as UTF-8" in refusal(value)


@pytest.mark.parametrize("value", [SecretBytes(b"\xff"), Secret[bytes](b"text"), Box[SecretBytes](content=b"\xff")])
def test_secret_bytes_that_cannot_be_read_again_are_refused(value: object) -> None:
    """Bytes that are not UTF-8, and bytes in a `Secret` that does not say what they are, are errors."""
    assert "cannot be stored" in refusal(value)


def test_a_model_may_write_bytes_in_base64_beside_text_secrets() -> None:
    """Only secret bytes are concerned: other secrets of such a model are stored."""
    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    model = create_model("Coded", __config__=config, raw=(bytes, ...), password=(SecretStr, ...))
    value = model(raw=b"\xff", password=HIDDEN)

    assert stored(value) == b'{"raw":"_w==","password":"hunter2"}'
    assert read(stored(value), model) == value


def test_a_secret_does_not_hide_what_is_not_json() -> None:
    """What is hidden is held to the same rules: NaN, depth, form."""
    deep: Any = 1
    for _ in range(101):
        deep = Secret([deep])
    for value in (Secret(float("nan")), Secret(object()), SecretStr("\ud800"), deep, [Secret({1: 1, "1": 1})]):
        assert "cannot be stored" in refusal(value)


def test_a_part_that_contains_itself_may_have_a_form_of_its_own() -> None:
    """Looking for secrets in what a serializer replaces comes to an end, and still finds them."""
    loop: list[object] = [1]
    loop.append(loop)
    model = serialized(Any, lambda _: "a loop")

    assert stored(model(field=loop)) == b'{"field":"a loop"}'
    loop.append(SECRET)
    assert "in a form of its own" in refusal(model(field=loop))
