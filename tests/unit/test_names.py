"""Legal and illegal namespaces, keys, prefixes and labels."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretstore.domain.names import (
    MAX_ACTOR_LENGTH,
    MAX_KEY_LENGTH,
    MAX_LABEL_KEY_LENGTH,
    MAX_LABEL_VALUE_LENGTH,
    MAX_LABELS,
    MAX_NAMESPACE_LENGTH,
    MAX_REQUEST_ID_LENGTH,
    parse_actor,
    parse_key,
    parse_keys,
    parse_labels,
    parse_namespace,
    parse_prefix,
    parse_request_id,
    prefix_end,
)
from secretstore.errors import InvalidSecretKeyError

Parser = Callable[[object], object]

NAMES = pytest.mark.parametrize("parse", [parse_namespace, parse_key, parse_actor, parse_request_id])
LEGAL = [
    "a",
    "accounts.1/token:main",
    "two words",
    "..",
    "/",
    ":",
    "ключ",
    "秘密",
    "🔑",
    "👩\u200d💻",
    "e\u0301",
    "\ufffd",
    "\U0010ffff",
    "%_\\'\";--",
]
CONTROLS = ["\0", "\x01", "\x1b", "\x7f", "\x80", "\x9f", "\n", "\t", "\x85"]
SPACES = [" ", "\t", "\n", "\x85", "\u00a0", "\u2003", "\u2028", "\u3000"]
NO_TEXTS: list[object] = [None, 1, b"a", ["a"], True]

keys = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)
prefixes = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)
edges = st.text(st.sampled_from("a\u007e\ud7ff\ue000\uffff\U00010000\U0010fffe\U0010ffff"), min_size=1, max_size=6)


@NAMES
@pytest.mark.parametrize("name", LEGAL)
def test_ordinary_text_is_a_name_as_it_is(parse: Parser, name: str) -> None:
    """Dots, slashes, colons, inner spaces, every script and emoji are ordinary characters."""
    assert parse(name) == name


@pytest.mark.parametrize(
    ("parse", "longest"),
    [
        *((parse_namespace, MAX_NAMESPACE_LENGTH), (parse_key, MAX_KEY_LENGTH), (parse_prefix, MAX_KEY_LENGTH)),
        *((parse_actor, MAX_ACTOR_LENGTH), (parse_request_id, MAX_REQUEST_ID_LENGTH)),
    ],
)
def test_the_longest_name_is_legal_and_one_character_more_is_not(parse: Parser, longest: int) -> None:
    """Length is counted in characters, and the error names the limit and the length."""
    assert parse("🔑" * longest) == "🔑" * longest
    with pytest.raises(InvalidSecretKeyError, match=f"at most {longest} characters long; this one has {longest + 1}"):
        parse("🔑" * (longest + 1))


def test_the_limits_are_those_of_the_contract() -> None:
    """A namespace has at most 128 characters, a key at most 512, an actor 256 and a request id 128."""
    assert (MAX_NAMESPACE_LENGTH, MAX_KEY_LENGTH) == (128, 512)
    assert (MAX_ACTOR_LENGTH, MAX_REQUEST_ID_LENGTH) == (256, 128)


@NAMES
def test_an_empty_name_is_refused(parse: Parser) -> None:
    """A namespace or a key has at least one character."""
    with pytest.raises(InvalidSecretKeyError, match="empty"):
        parse("")


@pytest.mark.parametrize("parse", [parse_namespace, parse_key, parse_prefix])
@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_character_is_refused_wherever_it_stands(parse: Parser, control: str) -> None:
    """NUL, the C0 and C1 ranges and DEL never get into a name."""
    with pytest.raises(InvalidSecretKeyError, match="holds a control character"):
        parse(f"a{control}b")


@NAMES
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("pattern", ["{}a", "a{}", "{}"])
def test_white_space_at_either_end_is_refused(parse: Parser, space: str, pattern: str) -> None:
    """No name begins or ends with white space of any script."""
    with pytest.raises(InvalidSecretKeyError, match="begins or ends with white space"):
        parse(pattern.format(space))


@pytest.mark.parametrize("parse", [parse_namespace, parse_key, parse_prefix])
@pytest.mark.parametrize("code", [0xD800, 0xDBFF, 0xDC00, 0xDFFF])
def test_a_lone_surrogate_is_refused(parse: Parser, code: int) -> None:
    """What UTF-8 cannot write is not a name, and the error can be printed."""
    with pytest.raises(InvalidSecretKeyError, match="lone surrogate") as caught:
        parse(f"a{chr(code)}")
    assert str(caught.value).encode()


@pytest.mark.parametrize("parse", [parse_namespace, parse_key, parse_prefix])
@pytest.mark.parametrize("given_object", NO_TEXTS)
def test_what_is_not_text_is_refused(parse: Parser, given_object: object) -> None:
    """Nothing is turned into text silently, and the error names the type."""
    with pytest.raises(InvalidSecretKeyError, match=f"is text, not {type(given_object).__name__}"):
        parse(given_object)


@pytest.mark.parametrize("prefix", ["", "a ", " ", "accounts.\u3000"])
def test_a_prefix_may_be_empty_or_end_in_a_space(prefix: str) -> None:
    """A prefix is the beginning of a key, and a key may have spaces inside."""
    assert parse_prefix(prefix) == prefix


def test_each_key_of_a_collection_counts_once_in_the_order_given() -> None:
    """Keys that are given twice are asked for once."""
    assert parse_keys(iter(["b", "a", "b"])) == ["b", "a"]


def test_one_text_is_not_taken_for_a_collection_of_keys() -> None:
    """A text in place of a list would be read as keys of one character each."""
    with pytest.raises(InvalidSecretKeyError, match="collection"):
        parse_keys("abc")


def test_one_bad_key_spoils_the_collection() -> None:
    """Every key of a collection is checked."""
    with pytest.raises(InvalidSecretKeyError, match="empty"):
        parse_keys(["a", ""])


def test_labels_come_back_as_a_plain_dict() -> None:
    """Legal labels are copied; None stays None, because it means something else than no labels."""
    labels = {"team": "payments", "note": " spaced,\nin two lines ", "empty": ""}

    parsed = parse_labels(labels)

    assert parsed == labels
    assert parsed is not labels
    assert parse_labels(None) is None
    assert parse_labels({}) == {}


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([("a", "b")], "a mapping of texts, not list"),
        ({"": "b"}, "empty"),
        ({" a": "b"}, "white space"),
        ({"a\x9f": "b"}, "control character"),
        ({"a\ud800": "b"}, "surrogate"),
        ({1: "b"}, "is text, not int"),
        ({"a": 1}, "value of label 'a' is text, not int"),
        ({"a": None}, "is text, not NoneType"),
        ({"a": "\ud800"}, "surrogate"),
        ({"a": "x\0"}, "holds a NUL character"),
        ({"a" * (MAX_LABEL_KEY_LENGTH + 1): "b"}, f"at most {MAX_LABEL_KEY_LENGTH}"),
        ({"a": "b" * (MAX_LABEL_VALUE_LENGTH + 1)}, f"at most {MAX_LABEL_VALUE_LENGTH}"),
        ({str(number): "" for number in range(MAX_LABELS + 1)}, f"{MAX_LABELS + 1} labels are more than {MAX_LABELS}"),
    ],
)
def test_a_bad_label_is_refused(labels: Any, problem: str) -> None:  # also what no type checker lets through
    """Each limit of labels is an error that says which one was broken."""
    with pytest.raises(InvalidSecretKeyError, match=problem):
        parse_labels(labels)


def test_labels_may_be_as_many_and_as_long_as_the_limits() -> None:
    """The limits themselves are legal."""
    labels: Mapping[str, str] = {
        f"{number:03}".ljust(MAX_LABEL_KEY_LENGTH, "x"): "y" * MAX_LABEL_VALUE_LENGTH for number in range(MAX_LABELS)
    }
    assert parse_labels(labels) == labels


@given(prefix=prefixes | edges, key=keys | edges)
def test_a_range_of_bytes_holds_exactly_the_keys_with_a_prefix(prefix: str, key: str) -> None:
    """A key lies between its prefix and the prefix's end, by bytes, if and only if it begins with the prefix."""
    in_range = prefix.encode() <= key.encode() < prefix_end(prefix).encode()

    assert in_range == key.startswith(prefix)


@given(prefix=prefixes | edges, rest=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6) | edges)
def test_every_key_made_from_a_prefix_is_in_its_range(prefix: str, rest: str) -> None:
    """No key is lost between a prefix and its end."""
    assert prefix.encode() <= (prefix + rest).encode() < prefix_end(prefix).encode()


def test_the_end_of_a_prefix_of_last_characters_is_after_the_longest_key() -> None:
    """A prefix whose last character has none after it still has an end, also where it is all of the key."""
    longest = "\U0010ffff" * MAX_KEY_LENGTH

    assert longest < prefix_end("")
    assert longest < prefix_end(longest)
    assert prefix_end("a\U0010ffff") == "b"
    assert prefix_end("\ud7ff") == "\ue000"
