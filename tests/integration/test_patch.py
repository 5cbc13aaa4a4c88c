"""Merge patches on stored values, through each of the four faces, and from two writers at once."""

from typing import Any

import psycopg
import pytest
from pydantic import BaseModel, SecretStr
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import (
    InvalidSecretKeyError,
    InvalidSecretValueError,
    SecretClient,
    SecretInfo,
    SecretNotFoundError,
    VersionConflictError,
)
from tests.support.faces import Face
from tests.support.stored import EVENTS, VERSIONS, rows
from tests.support.threads import in_thread, run_together, wait_until_blocked

# RFC 7396, appendix A: the original, the patch, the result.
RFC = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


class Part(BaseModel):
    """A patch with secret fields."""

    password: SecretStr
    tokens: list[SecretStr]
    user: str | None = None


def test_every_example_of_the_rfc_holds(face: Face) -> None:
    """Each original, patched in the store, is the result that RFC 7396 gives, and a version more."""
    for number, (original, patch, result) in enumerate(RFC):
        face.set_secret(f"k{number}", original)
        assert face.patch_secret(f"k{number}", patch).version == 2
        found = face.get_secret(f"k{number}", default="missing")
        assert (found, type(found)) == (result, type(result))
        assert face.get_secret(f"k{number}", version=1) == original


def test_a_patch_leaves_the_rest_as_it_was(face: Face) -> None:
    """Long numbers, the order of members, and empty names in parts that the patch does not touch stay."""
    value = {"z": 2**100, "a": 0.1, "é": {"": [None, True, "\U0001f600"]}, "b": {"keep": 1, "go": 2}}
    face.set_secret("k", value)
    face.patch_secret("k", {"b": {"go": None}, "new": 1e300})

    found = face.get_secret("k")
    assert found == {**value, "b": {"keep": 1}, "new": 1e300}
    assert list(found) == ["z", "a", "é", "b", "new"]


def test_an_empty_patch_is_a_version(face: Face) -> None:
    """A patch that changes nothing is written as every other."""
    face.set_secret("k", {"a": 1})

    assert face.patch_secret("k", {}).version == 2
    assert face.get_secret("k") == {"a": 1}


def test_secret_fields_of_a_patch_are_revealed(face: Face) -> None:
    """A model as the patch is stored as its values are, not as asterisks, and None in it removes a member."""
    face.set_secret("k", {"user": "ann", "password": "old", "more": 1})
    face.patch_secret("k", Part(password=SecretStr("hunter2"), tokens=[SecretStr("tok")]))
    assert face.get_secret("k") == {"password": "hunter2", "tokens": ["tok"], "more": 1}
    face.patch_secret("k", {"inner": {"password": SecretStr("hunter3")}})

    assert face.get_secret_or_raise("k")["inner"] == {"password": "hunter3"}
    assert face.get_secret_or_raise("k", Part).tokens[0].get_secret_value() == "tok"


def test_the_answer_of_a_patch_describes_it(face: Face) -> None:
    """It is what `describe_secret` says, with the labels from before and the first time of creation."""
    before = face.set_secret("k", {"a": 1}, labels={"l": "1"})
    info = face.with_options(actor="ann").patch_secret("k", {"a": 2})

    assert (info.version, info.labels, info.created_at) == (2, {"l": "1"}, before.created_at)
    assert info.updated_at > before.updated_at
    assert face.describe_secret("k") == info
    assert face.list_versions("k")[0].created_by == "ann"


def test_what_is_missing_cannot_be_patched(face: Face, raw: psycopg.Connection) -> None:
    """An unknown, deleted or purged secret is missing to a patch, and nothing is written; brought back it can be."""
    for key in ("deleted", "purged"):
        face.set_secret(key, {"a": 1})
    face.delete_secret("deleted")
    face.purge_secret("purged")
    face.commit()
    before = rows(raw, EVENTS)

    for key in ("unknown", "deleted", "purged"):
        with pytest.raises(SecretNotFoundError, match=key):
            face.patch_secret(key, {"a": 2})
    face.commit()
    assert (rows(raw, EVENTS), face.list_secret_keys()) == (before, [])
    face.undelete_secret("deleted")
    face.patch_secret("deleted", {"b": 2})
    assert face.get_secret("deleted") == {"a": 1, "b": 2}


def test_a_patch_over_another_version_is_a_conflict(face: Face) -> None:
    """With an expected version it writes over that one only, and says otherwise what was found."""
    face.set_secret("k", {"a": 1})
    assert face.patch_secret("k", {"a": 2}, expected_version=1).version == 2

    for expected in (0, 1, 3):
        with pytest.raises(VersionConflictError) as caught:
            face.patch_secret("k", {"a": 3}, expected_version=expected)
        error = caught.value
        assert (error.namespace, error.key, error.expected, error.found) == ("default", "k", expected, 2)
    assert (face.get_secret("k"), face.describe_secret("k").version) == ({"a": 2}, 2)
    face.delete_secret("k")
    with pytest.raises(VersionConflictError) as caught:
        face.patch_secret("k", {"a": 3}, expected_version=2)
    for change in (face.patch_secret, face.set_labels):
        with pytest.raises(VersionConflictError) as never_written:
            change("never", {"a": "3"}, expected_version=2)
        assert (never_written.value.expected, never_written.value.found) == (2, 0)
    assert caught.value.found == 0


def test_a_result_that_is_too_large_is_refused(face: Face, raw: psycopg.Connection) -> None:
    """A patch may be small and its result too large: then nothing is written, and the error tells no value."""
    small = face.with_options(max_value_bytes=40)
    small.set_secret("k", {"a": "x" * 20})
    face.commit()
    before = rows(raw, VERSIONS)

    with pytest.raises(InvalidSecretValueError, match=r"'k'.*49 bytes of JSON are more than 40") as caught:
        small.patch_secret("k", {"b": "hunter2" * 2})
    assert "hunter2" not in str(caught.value)
    face.commit()
    assert (rows(raw, VERSIONS), small.get_secret("k")) == (before, {"a": "x" * 20})
    assert small.patch_secret("k", {"a": None, "b": "fits"}).version == 2


def test_an_illegal_patch_is_refused_before_anything_is_sent(face: Face, sent_statements: list[str]) -> None:
    """What is not JSON, is too large by itself, has an illegal key or expects no version is an error of ours."""
    for patch in (object(), {"a": float("nan")}, {"a": "\ud800"}, "x" * 2**20):
        with pytest.raises(InvalidSecretValueError, match="'k' in namespace 'default' cannot be stored"):
            face.patch_secret("k", patch)
    with pytest.raises(InvalidSecretKeyError):
        face.patch_secret(" ", {})
    with pytest.raises(ValueError, match="a version is a number"):
        face.patch_secret("k", {}, expected_version=-1)
    assert sent_statements == []


def test_a_patch_in_a_transaction_sees_what_it_wrote(service: Face) -> None:
    """Patches build on what the caller's transaction wrote before, and are undone with it."""
    service.set_secret("k", {"a": 1})
    service.commit()
    service.set_secret("k", {"a": 2})
    service.patch_secret("k", {"b": 1})
    service.patch_secret("k", {"c": 1})
    assert service.get_secret("k") == {"a": 2, "b": 1, "c": 1}
    service.rollback()

    assert (service.get_secret("k"), service.describe_secret("k").version) == ({"a": 1}, 1)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_second_patch_waits_and_builds_on_the_first(
    engine: Engine, store: SecretClient, raw: psycopg.Connection, ends: str
) -> None:
    """It is applied to what the first one left when its transaction ends: both are in the value, or the second alone."""
    store.set_secret("k", {"before": 0})
    with Session(engine) as session:
        store.bind(session).patch_secret("k", {"first": 1})
        with in_thread(lambda: store.patch_secret("k", {"second": 2})) as second:
            wait_until_blocked(raw)
            getattr(session, ends)()
    first = {"first": 1} if ends == "commit" else {}

    assert second.result().version == 2 + len(first)
    assert store.get_secret("k") == {"before": 0, **first, "second": 2}


def test_a_patch_waits_for_a_write(engine: Engine, store: SecretClient, raw: psycopg.Connection) -> None:
    """It is applied to the value that was written meanwhile, and with an expected version it is a conflict."""
    store.set_secret("k", {"a": 1})

    def expecting() -> SecretInfo | VersionConflictError:
        try:
            return store.patch_secret("k", {"wrong": 1}, expected_version=1)
        except VersionConflictError as error:
            return error

    with Session(engine) as session:
        store.bind(session).set_secret("k", {"a": 2})
        with (
            in_thread(lambda: store.patch_secret("k", {"b": 1})) as patched,
            in_thread(expecting) as refused,
        ):
            wait_until_blocked(raw, 2)
            session.commit()
    conflict = refused.result()
    assert isinstance(conflict, VersionConflictError)
    assert (conflict.expected, conflict.found in {2, 3}, patched.result().version) == (1, True, 3)
    assert store.get_secret("k") == {"a": 2, "b": 1}


def test_a_patch_that_waits_for_a_deletion_finds_nothing(
    engine: Engine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """A secret that is deleted while a patch waits for it is missing, and is not brought back by the patch."""
    store.set_secret("k", {"a": 1})

    def patch() -> SecretInfo | SecretNotFoundError:
        try:
            return store.patch_secret("k", {"b": 1})
        except SecretNotFoundError as error:
            return error

    with Session(engine) as session:
        store.bind(session).delete_secret("k")
        with in_thread(patch) as patched:
            wait_until_blocked(raw)
            session.commit()
    assert isinstance(patched.result(), SecretNotFoundError)
    assert store.list_secret_keys() == []


def test_no_patch_of_many_at_once_is_lost(store: SecretClient) -> None:
    """4 threads that patch one secret 10 times each, every time another member, leave all 40 members."""
    store.set_secret("k", {})

    def patch(thread: int) -> list[int]:
        return [store.patch_secret("k", {f"{thread} {n}": n}).version for n in range(10)]

    versions = run_together(*(lambda thread=thread: patch(thread) for thread in range(4)))
    assert sorted(version for own in versions for version in own) == list(range(2, 42))
    value: dict[str, Any] = store.get_secret_or_raise("k")
    assert value == {f"{thread} {n}": n for thread in range(4) for n in range(10)}
