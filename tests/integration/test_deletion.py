"""Deleting, bringing back, destroying and purging, and the record of each change; looked at with raw SQL."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from secretstore import SecretNotFoundError
from tests.support.faces import Face
from tests.support.stored import EVENTS, HEADS, LABEL_CHANGES, VERSIONS, now, rows, told

HOUR = timedelta(hours=1)


def write(face: Face, *values: object, key: str = "k") -> None:
    """Write some values, one after another."""
    for value in values:
        face.set_secret(key, value)


def test_a_deleted_secret_reads_as_missing_everywhere(face: Face) -> None:
    """No way to read, list, count or describe shows a deleted secret or one of its versions."""
    write(face, 1, 2)
    write(face, 0, key="other")
    face.delete_secret("k")

    assert [face.get_secret("k", version=version, default="none") for version in (None, 1, 2)] == ["none"] * 3
    for version in (None, 1, 2):
        with pytest.raises(SecretNotFoundError):
            face.get_secret_or_raise("k", version=version)
    assert (face.get_secrets(["k", "other"]), face.get_secrets_by_prefix("k")) == ({"other": 0}, {})
    assert (face.list_secret_keys(), face.get_secret_count()) == (["other"], 1)
    assert [info.key for info in face.list_secrets()] == ["other"]
    assert [info.key for info in face.list_secrets(labels={})] == ["other"]
    assert (face.describe_secret("k"), face.list_secrets("k", expired=True)) == (None, [])


def test_deleted_secrets_are_shown_where_they_are_asked_for(face: Face, raw: psycopg.Connection) -> None:
    """With `include_deleted` lists and counts hold them too, with the time, in their places among the others."""
    for key in ("a", "b", "c"):
        face.set_secret(key, 1, labels={"of": key})
    before = now(raw)
    face.delete_secrets(["a", "b"])

    shown = face.list_secrets(include_deleted=True)
    assert [(info.key, info.version, info.labels) for info in shown] == [(key, 1, {"of": key}) for key in "abc"]
    assert shown[2].deleted_at is None
    assert all(before < info.deleted_at == info.updated_at < now(raw) for info in shown[:2])
    assert (face.list_secret_keys(include_deleted=True), face.get_secret_count(include_deleted=True)) == (
        ["a", "b", "c"],
        3,
    )
    assert face.list_secret_keys("b", include_deleted=True) == ["b"]
    assert face.list_secret_keys(include_deleted=True, after="a", limit=1) == ["b"]
    assert [info.key for info in face.list_secrets(include_deleted=True, labels={"of": "b"})] == ["b"]


def test_what_cannot_be_brought_back_is_not_shown(face: Face) -> None:
    """A purged secret, and one whose current value was destroyed, are in no list, `include_deleted` or not."""
    for key in ("purged", "destroyed"):
        write(face, 1, key=key)
    face.purge_secret("purged")
    face.destroy_versions("destroyed", [1])

    assert (face.list_secret_keys(include_deleted=True), face.list_secrets(include_deleted=True)) == ([], [])
    assert face.get_secret_count(include_deleted=True) == 0


def test_undelete_brings_a_secret_back_as_it_was(face: Face) -> None:
    """Value, labels, expiry, version and older versions are those from before; only the time of change moves."""
    soon = datetime.now(UTC) + HOUR
    write(face, "old")
    before = face.set_secret("k", "new", labels={"a": "1"}, expires_at=soon)
    face.delete_secret("k")
    info = face.undelete_secret("k")

    assert (info.version, info.labels, info.expires_at, info.deleted_at) == (2, {"a": "1"}, soon, None)
    assert (info.created_at, info.created_by) == (before.created_at, before.created_by)
    assert info.updated_at > before.updated_at
    assert face.describe_secret("k") == info
    assert (face.get_secret("k"), face.get_secret("k", version=1), face.list_secret_keys()) == ("new", "old", ["k"])


def test_undelete_of_a_live_secret_changes_nothing(face: Face, raw: psycopg.Connection) -> None:
    """A secret that is there stays as it is, and no change is recorded, however often it is undeleted."""
    info = face.set_secret("k", 1)
    face.commit()
    before = rows(raw, EVENTS)

    assert [face.undelete_secret("k"), face.undelete_secret("k")] == [info, info]
    face.commit()
    assert rows(raw, EVENTS) == before


def test_what_is_gone_cannot_be_undeleted(face: Face, raw: psycopg.Connection) -> None:
    """Unknown and purged secrets, those without their current value, and expired ones are missing to undelete."""
    for key in ("purged", "destroyed", "deleted, then destroyed"):
        write(face, 1, 2, key=key)
    face.set_secret("expired", 1, expires_at=datetime.now(UTC) - HOUR)
    face.purge_secret("purged")
    face.destroy_versions("destroyed", [2])
    face.delete_secret("deleted, then destroyed")
    face.destroy_versions("deleted, then destroyed", [2])
    face.commit()
    before = rows(raw, EVENTS)

    for key in ("unknown", "purged", "destroyed", "deleted, then destroyed", "expired"):
        with pytest.raises(SecretNotFoundError, match=key):
            face.undelete_secret(key)
    face.commit()
    assert (face.list_secret_keys(), rows(raw, EVENTS)) == ([], before)


def delete(face: Face) -> None:
    """Leave a secret of version 2 that was deleted."""
    write(face, 1, 2)
    face.delete_secret("k")


def expire(face: Face) -> None:
    """Leave a secret of version 2 that has expired."""
    write(face, 1)
    face.set_secret("k", 2, expires_at=datetime.now(UTC) - HOUR)


def purge(face: Face) -> None:
    """Leave a secret of version 2 that was purged."""
    write(face, 1, 2)
    face.purge_secret("k")


def destroy(face: Face) -> None:
    """Leave a secret of version 2 whose current value was destroyed."""
    write(face, 1, 2)
    face.destroy_versions("k", [2])


@pytest.mark.parametrize("leave", [delete, expire, purge, destroy])
def test_what_reads_as_missing_is_written_again(face: Face, leave: Callable[[Face], None]) -> None:
    """The numbers go on where they were, also with `expected_version=0`, and the secret is there again."""
    leave(face)
    info = face.set_secret("k", "new", expected_version=0)

    assert (info.version, info.deleted_at, info.expires_at) == (3, None, None)
    assert (face.get_secret("k"), face.describe_secret("k"), face.list_secret_keys()) == ("new", info, ["k"])
    assert face.set_secret("k", "newer", expected_version=3).version == 4


@pytest.mark.parametrize("leave", [delete, expire, purge, destroy])
def test_what_reads_as_missing_goes_on_without_an_expected_version(face: Face, leave: Callable[[Face], None]) -> None:
    """A plain write, and one in a batch, go on with the next number, too."""
    leave(face)

    assert face.set_secrets({"k": "new", "other": 1})["k"].version == 3
    assert face.set_secret("k", "newer").version == 4
    assert face.get_secrets(["k"]) == {"k": "newer"}


def test_destroyed_versions_are_gone_for_good(face: Face, raw: psycopg.Connection) -> None:
    """Their ciphertexts are in no table any more; their rows stay and say when, and all others are as before."""
    write(face, 1, 2, 3, 4)
    face.commit()
    before, head = rows(raw, VERSIONS), rows(raw, HEADS)
    start = now(raw)
    assert face.destroy_versions("k", [3, 1, 3]) == 2
    face.commit()

    after = rows(raw, VERSIONS)
    assert [row["value"] is None for row in after] == [True, False, True, False]
    assert [row["data_key_id"] is None for row in after] == [True, False, True, False]
    assert all(start < after[gone]["destroyed_at"] < now(raw) for gone in (0, 2))
    assert (after[1], after[3], rows(raw, HEADS)) == (before[1], before[3], head)
    read = [face.get_secret("k", version=version, default="none") for version in (1, 2, 3, 4, None)]
    assert read == ["none", 2, "none", 4, 4]
    with pytest.raises(SecretNotFoundError, match="version 1"):
        face.get_secret_or_raise("k", version=1)


def test_an_unknown_version_lets_nothing_be_destroyed(face: Face, raw: psycopg.Connection) -> None:
    """One version that is not there among those named, or an unknown secret, is an error, and all stays as it is."""
    write(face, 1, 2)
    face.commit()
    before = rows(raw, VERSIONS), rows(raw, HEADS), rows(raw, EVENTS)

    with pytest.raises(SecretNotFoundError) as caught:
        face.destroy_versions("k", [1, 2, 3])
    assert (caught.value.key, caught.value.version) == ("k", 3)
    with pytest.raises(SecretNotFoundError, match="unknown"):
        face.destroy_versions("unknown", [1])
    face.commit()
    assert (rows(raw, VERSIONS), rows(raw, HEADS), rows(raw, EVENTS)) == before


@pytest.mark.parametrize("version", [0, -1, True, "1", None])
def test_what_is_no_version_cannot_be_destroyed(face: Face, version: object, sent_statements: list[str]) -> None:
    """A version that cannot be one is an error before anything is sent."""
    with pytest.raises(ValueError, match="a version is a number"):
        face.destroy_versions("k", [1, version])
    assert sent_statements == []


def test_what_was_destroyed_is_not_counted_twice(face: Face, raw: psycopg.Connection) -> None:
    """Destroying again answers with those that were still there, keeps the time of the others, and records only these."""
    write(face, 1, 2, 3)
    assert face.destroy_versions("k", [1]) == 1
    face.commit()
    before = rows(raw, VERSIONS)[0]
    assert (face.destroy_versions("k", [1, 2]), face.destroy_versions("k", [1, 2]), face.destroy_versions("k", [])) == (
        1,
        0,
        0,
    )
    face.commit()

    assert rows(raw, VERSIONS)[0] == before
    assert [change[1] for change in told(raw) if change[2] == "destroy"] == [1, 2]


def test_without_its_current_version_a_secret_is_deleted(face: Face, raw: psycopg.Connection) -> None:
    """Destroying the current version takes its value from the head too, and the secret reads as missing."""
    write(face, 1, 2)
    assert face.destroy_versions("k", [2]) == 1

    assert (face.get_secret("k"), face.get_secret("k", version=1), face.describe_secret("k")) == (None, None, None)
    assert (face.list_secret_keys(), face.delete_secret("k")) == ([], False)
    assert [version.destroyed_at is None for version in face.list_versions("k")] == [False, True]
    face.commit()
    (head,) = rows(raw, HEADS)
    assert (head["value"], head["version"]) == (None, 2)
    assert head["deleted_at"] is not None
    assert [change[1:3] for change in told(raw)] == [(1, "set"), (2, "set"), (2, "delete"), (2, "destroy")]


def test_a_secret_without_its_current_version_is_written_again(face: Face) -> None:
    """The next value has the next number, older versions that were not destroyed are there again, and the rest is not."""
    write(face, 1, 2)
    face.destroy_versions("k", [2])
    info = face.set_secret("k", 3)

    assert (info.version, info.deleted_at, info.created_at) == (3, None, info.updated_at)
    assert [face.get_secret("k", version=version) for version in (1, 2, 3)] == [1, None, 3]


def test_a_purge_leaves_nothing_but_the_number(face: Face, raw: psycopg.Connection) -> None:
    """No version, no label and no value is left in the tables: only a head with the last number."""
    face.set_secret("k", 1, labels={"a": "1"}, expires_at=datetime.now(UTC) + HOUR)
    face.set_secret("k", 2, labels={"a": "2"}, expires_at=datetime.now(UTC) + HOUR)
    face.set_labels("k", {"a": "3"})
    face.set_max_versions(5, key="k")
    write(face, 1, key="other")
    assert face.purge_secret("k") is True
    face.commit()

    assert [(row["key"], row["version"]) for row in rows(raw, VERSIONS)] == [("other", 1)]
    assert rows(raw, LABEL_CHANGES) == []
    (head, _) = rows(raw, HEADS)
    assert (head["key"], head["version"], head["labels"]) == ("k", 2, {})
    assert [head[name] for name in ("value", "data_key_id", "expires_at", "max_versions")] == [None] * 4
    assert (face.get_secret("k"), face.list_versions("k"), face.list_secret_keys()) == (None, [], ["other"])


def test_a_purged_secret_begins_anew(face: Face) -> None:
    """Written again it has the next number, no labels, no older versions, and its own time and actor of creation."""
    before = face.with_options(actor="ann").set_secret("k", 1, labels={"a": "1"})
    face.purge_secret("k")
    info = face.with_options(actor="bob").set_secret("k", 2)

    assert (info.version, info.labels, info.created_by) == (2, {}, "bob")
    assert info.created_at == info.updated_at > before.created_at
    assert (face.get_secret("k"), face.get_secret("k", version=1)) == (2, None)
    assert [version.version for version in face.list_versions("k")] == [2]


def test_purge_says_whether_there_was_anything(face: Face, raw: psycopg.Connection) -> None:
    """A live, deleted, expired or destroyed secret is something; a purged or unknown one is not, and is not recorded."""
    write(face, 1, key="live")
    write(face, 1, key="deleted")
    face.delete_secret("deleted")
    face.set_secret("expired", 1, expires_at=datetime.now(UTC) - HOUR)
    write(face, 1, key="destroyed")
    face.destroy_versions("destroyed", [1])
    keys = ("live", "deleted", "expired", "destroyed")

    assert [face.purge_secret(key) for key in (*keys, "unknown")] == [True] * 4 + [False]
    assert [face.purge_secret(key) for key in keys] == [False] * 4
    face.commit()
    assert sorted(change[0] for change in told(raw) if change[2] == "purge") == sorted(keys)


def test_every_kind_of_change_is_recorded_once(face: Face, raw: psycopg.Connection) -> None:
    """Each change leaves one event with its action, its version and its actor, in the order of the changes."""
    changes: list[Callable[[Face], object]] = [
        lambda by: by.set_secret("k", {"a": 1}),
        lambda by: by.set_labels("k", {"l": "1"}),
        lambda by: by.patch_secret("k", {"a": 2}),
        lambda by: by.rollback_secret("k", 1),
        lambda by: by.delete_secret("k"),
        lambda by: by.undelete_secret("k"),
        lambda by: by.destroy_versions("k", [1, 2]),
        lambda by: by.purge_secret("k"),
    ]
    for actor, change in enumerate(changes):
        change(face.with_options(actor=f"actor {actor}"))
    face.commit()

    expected = [
        *((1, "set"), (1, "labels"), (2, "patch"), (3, "rollback"), (3, "delete"), (3, "undelete")),
        *((1, "destroy"), (2, "destroy"), (3, "purge")),
    ]
    actors = [0, 1, 2, 3, 4, 5, 6, 6, 7]
    assert told(raw) == [("k", *change, f"actor {actor}") for change, actor in zip(expected, actors, strict=True)]
    assert len({event["id"] for event in rows(raw, EVENTS)}) == len(expected)


def test_what_changes_nothing_is_not_recorded(face: Face, raw: psycopg.Connection) -> None:
    """Limits, reads, and calls that find nothing to change or are refused leave no event."""
    write(face, 1)
    face.commit()
    face.set_max_versions(3)
    face.set_max_versions(3, key="k")
    face.get_secret("k")
    face.list_versions("k")
    face.undelete_secret("k")
    face.destroy_versions("k", [])
    assert (face.delete_secret("none"), face.delete_secrets(["none"]), face.purge_secret("none")) == (False, 0, False)
    calls: list[Callable[[], object]] = [
        lambda: face.patch_secret("none", {}),
        lambda: face.rollback_secret("k", 2),
        lambda: face.set_labels("none", {}),
        lambda: face.undelete_secret("none"),
        lambda: face.destroy_versions("k", [2]),
    ]
    for call in calls:
        with pytest.raises(SecretNotFoundError):
            call()
    face.commit()

    assert [change[2] for change in told(raw)] == ["set"]


CHANGES: dict[str, Callable[[Face], object]] = {
    "set": lambda face: face.set_secret("k", 3),
    "patch": lambda face: face.patch_secret("k", {"a": 1}),
    "rollback": lambda face: face.rollback_secret("k", 1),
    "labels": lambda face: face.set_labels("k", {"a": "1"}),
    "delete": lambda face: face.delete_secret("k"),
    "undelete": lambda face: face.undelete_secret("gone"),
    "destroy": lambda face: face.destroy_versions("k", [1, 2]),
    "purge": lambda face: face.purge_secret("k"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_and_its_record_are_undone_together(service: Face, raw: psycopg.Connection, change: str) -> None:
    """Nobody else sees a change or its event before the commit, and after a rollback neither was ever there."""

    def stored() -> list[list[dict[str, Any]]]:
        return [rows(raw, statement) for statement in (HEADS, VERSIONS, LABEL_CHANGES, EVENTS)]

    write(service, 1, 2)
    write(service, 1, key="gone")
    service.delete_secret("gone")
    service.commit()
    before = stored()
    CHANGES[change](service)
    assert stored() == before
    service.rollback()
    assert stored() == before
    CHANGES[change](service)
    service.commit()

    assert len(rows(raw, EVENTS)) > len(before[-1])
