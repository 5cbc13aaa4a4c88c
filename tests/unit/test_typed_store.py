"""Values to JSON text and back: plain JSON, its limits, and what is not JSON."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from secretstore.errors import InvalidSecretValueError
from secretstore.service.reveal import MAX_DEPTH
from secretstore.service.typed import MAX_VALUE_BYTES, to_json
from tests.support.values import read, refusal, stored


class Measured(BaseModel):
    """A model with a number."""

    ratio: float


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    outermost: list[Any] = []
    innermost = outermost
    for _ in range(depth):
        innermost.append([])
        innermost = innermost[0]
    return outermost


PLAIN: list[Any] = [
    *(None, True, False, 0, -1, 1.5, -0.0, 1e300, "", "text", [], {}, [[]], {"a": {}}, {"": ""}),
    *(2**53, 2**53 + 1, -(2**63), 2**64, 2**200, 0.1 + 0.2, 5e-324),
    *("\0", "a\0b", '"\\/', "\u2028", "🔑👩\u200d💻", "e\u0301", "\ufeff", "**********", {"banner": "*" * 80}),
    {"null": None, "list": [1, "a", None, True, {"deep": [[]]}], "ключ": "значение"},
]


@pytest.mark.parametrize("value", PLAIN, ids=ascii)
def test_every_json_value_comes_back_as_it_was(value: object) -> None:
    """Plain JSON is stored unchanged, with its types: big numbers exactly, NUL, emoji, empty things, plain asterisks."""
    came_back = read(stored(value))

    assert came_back == value
    assert repr(came_back) == repr(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(json_values)
def test_any_json_value_comes_back(value: object) -> None:
    """Whatever JSON can say is stored and read without a change."""
    assert repr(read(stored(value))) == repr(value)


def test_the_text_is_compact_utf_8() -> None:
    """No spaces and no escapes where UTF-8 has the character."""
    assert stored({"a": [1, "é🔑"]}) == '{"a":[1,"é🔑"]}'.encode()


@pytest.mark.parametrize("value", ["\ud800", ["a\udfff"], {"\ud800": 1}], ids=ascii)
def test_a_lone_surrogate_is_refused(value: object) -> None:
    """What is not Unicode cannot be stored."""
    assert "lone surrogate" in refusal(value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinities_are_refused(number: float) -> None:
    """They are not JSON: neither alone, nor nested, nor in a model that would dump them as null."""
    for value in (number, [number], {"a": {"b": number}}, Measured(ratio=number), [Measured(ratio=number)]):
        assert "NaN and infinities are not JSON" in refusal(value)


def test_nesting_has_a_limit() -> None:
    """A hundred levels are stored, and one more is refused."""
    assert read(stored(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    assert f"deeper than {MAX_DEPTH} levels" in refusal(nested(MAX_DEPTH + 1))
    assert MAX_DEPTH == 100


def test_bottomless_nesting_is_an_error_and_no_crash() -> None:
    """Thousands of levels, and values that contain themselves, are refused."""
    loop: list[Any] = []
    loop.append(loop)
    ring: dict[str, Any] = {}
    ring["ring"] = ring

    assert all("cannot be stored" in refusal(value) for value in (nested(5000), loop, ring, [1, {"a": loop}]))


def test_the_limit_of_size_counts_bytes_of_json() -> None:
    """Exactly the limit is stored; one byte more is refused, and the error names both numbers."""
    fits = "é" * ((MAX_VALUE_BYTES - 2) // 2)
    assert len(stored(fits)) == MAX_VALUE_BYTES == 1024 * 1024

    assert f"{MAX_VALUE_BYTES + 1} bytes of JSON are more than {MAX_VALUE_BYTES}" in refusal(fits + "x")
    assert to_json("abc", name="n", max_bytes=5) == b'"abc"'
    with pytest.raises(InvalidSecretValueError, match="n cannot be stored: 5 bytes of JSON are more than 4"):
        to_json("abc", name="n", max_bytes=4)


@pytest.mark.parametrize(
    "value",
    [b"\xff", {"a": b"\xfe"}, object(), [object()], len, [Mapping], range(3)],
    ids=range(7),
)
def test_what_is_not_json_is_refused(value: object) -> None:
    """Bytes that are not UTF-8 and objects that pydantic cannot dump are errors."""
    assert "is not JSON" in refusal(value)


@pytest.mark.parametrize("value", [{1: "a", "1": "b"}, [{None: 1, "None": 2}], {"deep": {1.5: 1, "1.5": 2}}], ids=repr)
def test_two_members_of_one_name_are_refused(value: object) -> None:
    """Names that differ in Python and not in JSON would lose a member."""
    assert "two members have the same name" in refusal(value)


def test_errors_of_storing_name_the_value_by_its_place() -> None:
    """The caller's words for the place begin the message."""
    with pytest.raises(InvalidSecretValueError, match=r"^the value of 'k' in namespace 'n' cannot be stored: "):
        to_json(object(), name="the value of 'k' in namespace 'n'")


def test_json_text_has_no_duplicate_members() -> None:
    """Each name is written once."""
    text = stored({"a": 1, "b": {"a": 2}})

    assert json.loads(text, object_pairs_hook=list) == [("a", 1), ("b", [("a", 2)])]
