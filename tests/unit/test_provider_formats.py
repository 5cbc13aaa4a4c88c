"""How values stand in places that hold text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Secret

from secretstore.errors import InvalidSecretValueError
from secretstore.providers.formats import Format, decoded, encoded

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
# Strings that look like something else.
TRICKY = st.sampled_from(
    ["{}", ' {"a": 1}', "{", "null", "1", '"quoted"', "[]", "", " ", "\n", "{}x", "\u00a0{}", "\x00{}"]
)


def written(value: object) -> bytes:
    """Return a value as it comes."""
    return json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize("form", Format)
@given(value=VALUES | TRICKY)
def test_what_is_written_is_read_back(form: Format, value: object) -> None:
    """As it was, or it is refused before it is written."""
    caught = None
    try:
        text = encoded(written(value), form, name="it")
    except InvalidSecretValueError as error:
        caught = error
    if caught is None:
        assert json.loads(decoded(Secret(text), form, name="it")) == value
        return
    assert str(caught) == f"it cannot be written with format={form}; open its provider with format=json"
    assert caught.__context__ is None
    assert form is Format.AUTO or (form is Format.TEXT and not isinstance(value, str))


@given(text=TEXTS | TRICKY)
def test_every_text_is_read(text: str) -> None:
    """As it is, or with `auto` as the object that it is, and what is read can be written."""
    assert json.loads(decoded(Secret(text), Format.TEXT, name="it")) == text
    assert encoded(decoded(Secret(text), Format.TEXT, name="it"), Format.TEXT, name="it") == text
    assert encoded(decoded(Secret(text), Format.AUTO, name="it"), Format.AUTO, name="it") == text


@pytest.mark.parametrize("text", ["s3cret", "1", "null", '["a"]', '{"a": NaN}', "{'a': 1}", "{", '{"a": 1} {}'])
def test_auto_takes_objects_alone_for_what_they_are(text: str) -> None:
    """Numbers, lists and null are texts, and so is what is nearly an object."""
    assert json.loads(decoded(Secret(text), Format.AUTO, name="it")) == text
    assert decoded(Secret(' {"a": 1.10}'), Format.AUTO, name="it") == b' {"a": 1.10}'


@pytest.mark.parametrize("text", ["s3cret", "", "{", '{"a": NaN}', "1 2", "'s3cret'"])
def test_what_is_no_json_is_refused(text: str) -> None:
    """The error says which format would take it, and shows nothing of it."""
    with pytest.raises(InvalidSecretValueError) as caught:
        decoded(Secret(text), Format.JSON, name="it")

    assert str(caught.value) == "it is not JSON; open its provider with format=text if it holds plain texts"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("form", [Format.TEXT, Format.AUTO])
def test_a_text_that_is_not_unicode_is_refused(form: Format) -> None:
    """Such as the bytes of an environment that are not UTF-8."""
    with pytest.raises(InvalidSecretValueError, match=r"^it is not valid Unicode$"):
        decoded(Secret("s3cret\udcff"), form, name="it")
