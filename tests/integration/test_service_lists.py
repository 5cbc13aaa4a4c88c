"""Lists, pages, prefixes and counts, through each of the four faces."""

from datetime import UTC, datetime, timedelta

import pytest

from secretstore import InvalidSecretKeyError, KeyRing
from tests.support.faces import Face

BY_BYTES = ["B", "a", "a!", "aa", "b", "é", "中", "\U0001f600"]
LAST = "\U0010ffff"
# Each prefix here has a character that SQL, LIKE or the end of a range could take for something else.
SPECIAL = ["%", "_", "\\", "a%", "a_", "a\\", "'", LAST, "a" + LAST, LAST * 2, "\ud7ff", "a\ud7ff", "\ue000"]


def test_keys_are_listed_in_the_order_of_their_bytes(face: Face) -> None:
    """No locale orders the keys: capitals come before small letters, and accents after all of ASCII."""
    face.set_secrets(dict.fromkeys(reversed(BY_BYTES), 1))

    assert sorted(BY_BYTES, key=str.encode) == BY_BYTES
    assert face.list_secret_keys() == BY_BYTES
    assert [info.key for info in face.list_secrets()] == BY_BYTES
    assert list(face.get_secrets_by_prefix("")) == BY_BYTES


def test_a_prefix_is_text_and_never_a_pattern(face: Face) -> None:
    """Each prefix finds exactly the keys that begin with it, whatever characters are in it."""
    keys = sorted({*SPECIAL, *(prefix + "x" for prefix in SPECIAL), "a", "b", "ab"}, key=str.encode)
    face.set_secrets({key: key for key in keys})

    for prefix in ["", *SPECIAL]:
        beginning_so = [key for key in keys if key.startswith(prefix)]
        assert face.list_secret_keys(prefix) == beginning_so
        assert face.get_secret_count(prefix) == len(beginning_so)
        assert face.get_secrets_by_prefix(prefix) == {key: key for key in beginning_so}
        assert [info.key for info in face.list_secrets(prefix)] == beginning_so


@pytest.mark.parametrize("limit", [1, 3, 8, 100])
def test_pages_give_every_key_once(face: Face, limit: int) -> None:
    """Going on after the last key of each page passes over nothing and repeats nothing."""
    face.set_secrets(dict.fromkeys(["other", *(f"p/{key}" for key in BY_BYTES)], 1))
    listed: list[str] = []
    after = None
    while page := face.list_secret_keys("p/", after=after, limit=limit):
        assert len(page) <= limit
        assert [info.key for info in face.list_secrets("p/", after=after, limit=limit)] == page
        assert list(face.get_secrets_by_prefix("p/", after=after, limit=limit)) == page
        listed, after = listed + page, page[-1]

    assert listed == [f"p/{key}" for key in BY_BYTES]


def test_after_need_not_be_a_key_that_is_there(face: Face) -> None:
    """A page goes on after a key that was deleted, or was never there."""
    face.set_secrets({"a": 1, "b": 2, "c": 3})
    face.delete_secret("b")

    assert face.list_secret_keys(after="b") == ["c"]
    assert face.list_secret_keys(after="aa", limit=1) == ["c"]
    assert face.list_secret_keys(after="c") == []


def test_lists_leave_out_what_is_missing(face: Face) -> None:
    """Deleted and expired secrets and those of other namespaces are in no list and no count."""
    face.set_secrets({"a": 1, "b": 2})
    face.set_secret("expired", 3, expires_at=datetime.now(UTC) - timedelta(hours=1))
    face.with_options(namespace="other").set_secret("c", 4)
    face.delete_secret("b")

    assert (face.list_secret_keys(), face.get_secret_count()) == (["a"], 1)
    assert face.get_secrets_by_prefix("") == {"a": 1}
    assert [info.key for info in face.list_secrets()] == ["a"]


def test_a_list_without_secrets_is_empty(face: Face) -> None:
    """A namespace that was never used has empty lists and the count 0."""
    assert (face.list_secret_keys("a"), face.list_secrets("a"), face.get_secrets_by_prefix("a")) == ([], [], {})
    assert face.get_secret_count("a") == 0


def test_an_illegal_page_is_refused(face: Face, sent_statements: list[str]) -> None:
    """A limit below one and a prefix that no key can have are errors, and PostgreSQL is not asked."""
    for limit in (0, -1):
        with pytest.raises(ValueError, match="a limit is 1 or more"):
            face.list_secret_keys(limit=limit)
    for prefix in ("a\0", "\ud800", "x" * 513):
        with pytest.raises(InvalidSecretKeyError):
            face.get_secret_count(prefix)
    assert sent_statements == []


def test_labels_select(face: Face) -> None:
    """A list by labels holds those secrets that carry all of them, within its prefix and page."""
    face.set_secret("a", 1, labels={"team": "web", "tier": "1"})
    face.set_secret("b", 2, labels={"team": "web"})
    face.set_secret("c", 3, labels={"team": "ops", "tier": "1"})
    face.set_secret("d", 4)

    def listed(prefix: str = "", **options: object) -> list[str]:
        return [info.key for info in face.list_secrets(prefix, **options)]

    assert listed(labels={"team": "web"}) == ["a", "b"]
    assert listed(labels={"team": "web", "tier": "1"}) == ["a"]
    assert listed("b", labels={"team": "web"}) == ["b"]
    assert listed(labels={"team": "web"}, after="a", limit=1) == ["b"]
    assert listed(labels={"team": "none"}) == []
    assert listed(labels={}) == ["a", "b", "c", "d"]


def test_lists_and_descriptions_never_decrypt(face: Face, wrong_keyring: KeyRing) -> None:
    """With a key ring that opens nothing, secrets are still listed, counted, described and deleted."""
    face.set_secret("a", 1, labels={"team": "web"})
    blind = face.with_keyring(wrong_keyring)

    assert (blind.list_secret_keys(), blind.get_secret_count()) == (["a"], 1)
    assert blind.describe_secret("a") == face.describe_secret("a")
    assert blind.list_secrets(labels={"team": "web"}) == [face.describe_secret("a")]
    assert blind.delete_secret("a") is True
