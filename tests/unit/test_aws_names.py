"""How keys stand in the names of AWS."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretstore.domain.names import parse_key
from secretstore.errors import InvalidSecretKeyError
from secretstore.providers.aws_names import key_of, name_of

# Many that mean something in a name, and few others.
_LETTERS = st.sampled_from("-.-./aA_0e9 é中💥@")
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def is_key(text: str) -> bool:
    """Whether a text is a key."""
    try:
        parse_key(text)
    except InvalidSecretKeyError:
        return False
    return True


KEYS = st.text(_LETTERS, min_size=1, max_size=12).filter(is_key)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("oauth.github", "oauth.github"),
        ("a/b_c-d", "a/b_c-d"),
        ("mail password é", "mail-.20.password-.20c3a9."),
        ("a//b", "a/-../b"),
        ("/", "-../-.."),
        ("a-.b", "a-.2d..b"),
        ("..", ".."),
        ("Aws", "Aws"),
    ],
)
def test_names_are_as_the_layout_says(key: str, name: str) -> None:
    """What is stored today is found by every later release."""
    assert name_of(key) == name
    assert key_of(name) == key


def test_a_service_may_allow_more() -> None:
    """Then it stands as it is, and there only."""
    assert (name_of("a@b", "@"), name_of("a@b")) == ("a@b", "a-.40.b")
    assert (key_of("a@b", "@"), key_of("a@b"), key_of("a-.40.b", "@")) == ("a@b", None, None)


@given(KEYS)
def test_every_key_has_a_name_that_leads_back(key: str) -> None:
    """The name has only what AWS takes, and no empty part."""
    name = name_of(key)

    assert _NAME.fullmatch(name)
    assert key_of(name) == key


@given(st.text(st.sampled_from("-.-./aA_0e2d9"), min_size=1, max_size=14))
def test_no_two_names_lead_to_one_key(name: str) -> None:
    """A name is that of its key, or of none."""
    key = key_of(name)
    assert key is None or name_of(key) == name


@given(KEYS, KEYS)
def test_keys_below_a_folder_have_names_below_its_name(folder: str, key: str) -> None:
    """So a list can ask for a part."""
    assert name_of(f"{folder}/{key}") == f"{name_of(folder)}/{name_of(key)}"
