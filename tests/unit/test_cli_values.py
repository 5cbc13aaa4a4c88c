"""JSON that a person hands to `set --json`."""

import pytest

from secretstore.cli.json_text import parse_json
from secretstore.errors import InvalidSecretValueError

VALUE = "hunter2-of-the-test"


@pytest.mark.parametrize(
    ("text", "value"),
    [("null", None), ("0", 0), ('""', ""), ('{"a": [1, {"a": 2}]}', {"a": [1, {"a": 2}]}), (' "ü" ', "ü")],
)
def test_any_json_is_read(text: str, value: object) -> None:
    """Every kind of JSON value is read as what it is, also the same name in two objects."""
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{{"a": 1, "a": "{VALUE}"}}', "two members of the same name"),
        (f'["{VALUE}", NaN]', "NaN and infinities"),
        (f'["{VALUE}", -Infinity]', "NaN and infinities"),
        (f'{{"a": {VALUE}}}', "line 1, column 7"),
        (f'["{VALUE}"] {VALUE}', "line 1, column 25"),
        ("[" * 100_000, "nested too deep"),
        ("1" * 10_000, "too long"),
        ("", "line 1, column 1"),
    ],
    ids=["twice", "nan", "infinity", "no quotes", "two values", "deep", "long", "empty"],
)
def test_what_is_not_json_is_told_by_place_alone(text: str, said: str) -> None:
    """What only Python takes for JSON is refused, in one line that shows nothing of it, nor does its context."""
    with pytest.raises(InvalidSecretValueError) as caught:
        parse_json(text)

    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None
