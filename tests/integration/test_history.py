"""Versions: every one is kept, listed, brought back by a rollback, and pruned where there are too many."""

from base64 import b64decode
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from secretstore import InvalidSecretKeyError, KeyRing, SecretNotFoundError
from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import ValuePlace, seal_value
from tests.support.faces import Face
from tests.support.other_reader import read_data_key, read_value
from tests.support.stored import EVENTS, HEADS, LABEL_CHANGES, VERSIONS, now, rows, told

HOUR = timedelta(hours=1)


def kept(face: Face, key: str = "k") -> list[int]:
    """The numbers of the versions that are listed."""
    return [version.version for version in face.list_versions(key)]


def write(face: Face, *values: object, key: str = "k") -> None:
    """Write some values, one after another."""
    for value in values:
        face.set_secret(key, value)


def test_every_write_keeps_its_version(face: Face) -> None:
    """Whatever writes a value, alone, in a batch, as a patch or as a rollback, every version is read by its number."""
    face.set_secret("k", {"a": 1})
    face.set_secrets({"k": {"a": 2}, "other": 0})
    face.patch_secret("k", {"b": 3})
    face.rollback_secret("k", 1)
    face.set_secret("k", None)

    read = [face.get_secret("k", version=version, default="none") for version in range(1, 7)]
    assert read == [{"a": 1}, {"a": 2}, {"a": 2, "b": 3}, {"a": 1}, None, "none"]
    assert face.get_secret("k", dict[str, int], version=3) == {"a": 2, "b": 3}
    assert kept(face) == [5, 4, 3, 2, 1]


def test_versions_are_listed_newest_first_with_what_is_known(face: Face, raw: psycopg.Connection) -> None:
    """Each version has its own labels, expiry, time and actor, and its labels are those that it had last."""
    soon = datetime.now(UTC) + HOUR
    before = now(raw)
    first = face.with_options(actor="ann").set_secret("k", 1, labels={"a": "1"}, expires_at=soon)
    face.set_labels("k", {"a": "2"})
    face.set_labels("k", {"a": "3"})
    second = face.with_options(actor="bob").set_secret("k", 2, labels={"b": "1"})

    newer, older = face.list_versions("k")
    assert (newer.version, newer.labels, newer.expires_at, newer.created_by) == (2, {"b": "1"}, None, "bob")
    assert (older.version, older.labels, older.expires_at, older.created_by) == (1, {"a": "3"}, soon, "ann")
    assert (older.created_at, newer.created_at) == (first.updated_at, second.updated_at)
    assert before < older.created_at < newer.created_at < now(raw)
    assert {(version.namespace, version.key, version.destroyed_at) for version in (newer, older)} == {
        ("default", "k", None)
    }


def test_a_destroyed_version_is_listed_with_its_time(face: Face, raw: psycopg.Connection) -> None:
    """A version whose value was destroyed stays in the list, and says when."""
    write(face, 1, 2)
    before = now(raw)
    face.destroy_versions("k", [1])

    newer, older = face.list_versions("k")
    assert newer.destroyed_at is None
    assert before < older.destroyed_at < now(raw)


def test_versions_of_a_deleted_secret_are_listed(face: Face) -> None:
    """A deleted secret keeps its versions in the list as they were, and an expired one too."""
    write(face, 1, 2)
    listed = face.list_versions("k")
    face.delete_secret("k")
    face.set_secret("expired", 1, expires_at=datetime.now(UTC) - HOUR)

    assert face.list_versions("k") == listed
    assert kept(face, "expired") == [1]


def test_what_has_no_versions_lists_none(face: Face) -> None:
    """Of a purged secret, of one that never was, and of one in another namespace no version is listed."""
    write(face, 1, 2)
    face.purge_secret("k")
    face.with_options(namespace="other").set_secret("there", 1)

    assert (face.list_versions("k"), face.list_versions("unknown"), face.list_versions("there")) == ([], [], [])
    with pytest.raises(InvalidSecretKeyError):
        face.list_versions(" ")


def test_a_list_of_versions_never_decrypts(face: Face, wrong_keyring: KeyRing) -> None:
    """With a key ring that opens nothing, versions are listed all the same."""
    write(face, 1, 2)

    assert face.with_keyring(wrong_keyring).list_versions("k") == face.list_versions("k")
    assert kept(face) == [2, 1]


def test_a_rollback_writes_the_old_value_as_a_new_version(face: Face, raw: psycopg.Connection) -> None:
    """The number goes on and is never rewound, all versions stay, and the change is recorded as what it is."""
    write(face, "one", "two", "three")
    info = face.with_options(actor="ann").rollback_secret("k", 1)

    assert (info.version, face.get_secret("k"), kept(face)) == (4, "one", [4, 3, 2, 1])
    assert face.describe_secret("k") == info
    assert face.rollback_secret("k", 2).version == 5
    assert [face.get_secret("k", version=version) for version in range(1, 6)] == ["one", "two", "three", "one", "two"]
    face.commit()
    actions = ["set"] * 3 + ["rollback"] * 2
    assert [change[1:3] for change in told(raw)] == list(enumerate(actions, start=1))
    assert told(raw)[3][3] == "ann"


def test_a_rollback_to_the_current_version_is_a_write(face: Face) -> None:
    """The current value can be written once more, as every other."""
    write(face, "one")

    assert face.rollback_secret("k", 1).version == 2
    assert face.get_secret("k") == "one"


def test_a_rollback_keeps_labels_and_expiry(face: Face) -> None:
    """Labels and expiry are those of now, not those of the old version."""
    soon, later = datetime.now(UTC) + HOUR, datetime.now(UTC) + 2 * HOUR
    face.set_secret("k", "one", labels={"of": "one"}, expires_at=soon)
    face.set_secret("k", "two", labels={"of": "two"}, expires_at=later)
    face.set_labels("k", {"of": "now"})
    info = face.rollback_secret("k", 1)

    assert (info.labels, info.expires_at) == ({"of": "now"}, later)
    assert face.describe_secret("k") == info
    assert (face.list_versions("k")[0].labels, face.list_versions("k")[0].expires_at) == ({"of": "now"}, later)


def data_key_of(raw: psycopg.Connection, master_key: str) -> tuple[str, bytes]:
    """The one data key, opened by the other program."""
    ((key_id, wrapped),) = raw.execute("SELECT id, wrapped::text FROM secretstore.data_key").fetchall()
    return key_id, read_data_key(wrapped, b64decode(master_key.partition(":")[2]), ("default", key_id))


@pytest.mark.parametrize(
    "text",
    [
        "123456789012345678901234567890123456789012345678901234567890",
        "-0.0",
        "1.10",
        "1e400",
        "0.1000000000000000055511151231257827",
        '{ "b":1, "a" : 2 }',
        '"\\u00e9"',
    ],
)
def test_a_rollback_writes_the_very_text(face: Face, raw: psycopg.Connection, master_key: str, text: str) -> None:
    """The JSON text of the old value comes back to the byte, also one that no Python value could hold."""
    write(face, "one", "two")
    face.commit()
    key_id, data_key = data_key_of(raw, master_key)
    sealed = seal_value(Aead(key_id, data_key), text.encode(), ValuePlace("default", "k", 1))
    raw.execute("UPDATE secretstore.secret_version SET value = %s WHERE version = 1", [Jsonb(sealed.as_object())])
    face.rollback_secret("k", 1)
    face.commit()

    ((stored,),) = raw.execute("SELECT value::text FROM secretstore.secret_store").fetchall()
    assert read_value(stored, data_key, ("default", "k", 3)) == text.encode()


def test_a_rollback_to_what_is_gone_is_refused(face: Face, raw: psycopg.Connection) -> None:
    """A version that was never there, was destroyed or was pruned is missing, and nothing is written."""
    face.set_max_versions(3)
    write(face, 1, 2, 3, 4)
    face.destroy_versions("k", [2])
    face.commit()
    before = rows(raw, EVENTS)

    for version in (1, 2, 5, 2**63 - 1):
        with pytest.raises(SecretNotFoundError) as caught:
            face.rollback_secret("k", version)
        assert (caught.value.namespace, caught.value.key, caught.value.version) == ("default", "k", version)
    face.commit()
    assert (face.get_secret("k"), rows(raw, EVENTS)) == (4, before)


def test_a_rollback_of_what_is_missing_is_refused(face: Face) -> None:
    """A deleted, expired, purged or unknown secret has to be brought back or written first."""
    for key in ("deleted", "purged"):
        write(face, 1, 2, key=key)
    face.set_secret("expired", 1, expires_at=datetime.now(UTC) - HOUR)
    face.delete_secret("deleted")
    face.purge_secret("purged")

    for key in ("deleted", "expired", "purged", "unknown"):
        with pytest.raises(SecretNotFoundError, match=key):
            face.rollback_secret(key, 1)
    assert (face.list_secret_keys(), kept(face, "deleted"), kept(face, "expired")) == ([], [2, 1], [1])


@pytest.mark.parametrize("version", [None, 0, -1, True, "1"])
def test_a_rollback_needs_a_version(face: Face, version: object) -> None:
    """What is no number of a version is refused, and is not taken for the current one."""
    write(face, 1)

    with pytest.raises(ValueError, match="a version is a number"):
        face.rollback_secret("k", version)
    assert kept(face) == [1]


def test_a_namespace_keeps_as_many_versions_as_it_is_told(face: Face) -> None:
    """The limit holds for every secret of its namespace from the next write on, and for no other namespace."""
    other = face.with_options(namespace="other")
    for one in (face, other):
        write(one, 1, 2, 3, 4)
    face.set_max_versions(2)
    assert kept(face) == [4, 3, 2, 1]
    for one in (face, other):
        write(one, 5)
        write(one, 1, 2, 3, key="new")

    assert (kept(face), kept(face, "new")) == ([5, 4], [3, 2])
    assert (kept(other), kept(other, "new")) == ([5, 4, 3, 2, 1], [3, 2, 1])
    assert (face.get_secret("k"), face.get_secret("k", version=4), face.get_secret("k", version=3)) == (5, 4, None)


def test_the_limit_of_a_secret_comes_first(face: Face) -> None:
    """A secret's own limit holds in the place of that of its namespace, be it lower or higher."""
    write(face, 1, key="fewer")
    write(face, 1, key="more")
    face.set_max_versions(2)
    face.set_max_versions(1, key="fewer")
    face.set_max_versions(3, key="more")
    for key in ("fewer", "more", "other"):
        write(face, 2, 3, 4, 5, key=key)

    assert [kept(face, key) for key in ("fewer", "more", "other")] == [[5], [5, 4, 3], [4, 3]]


def test_a_limit_can_be_lifted(face: Face) -> None:
    """Without a limit of its own a secret has that of its namespace, and without that one all versions are kept."""
    face.set_max_versions(2)
    write(face, 1)
    face.set_max_versions(1, key="k")
    write(face, 2, 3)
    assert kept(face) == [3]
    face.set_max_versions(None, key="k")
    write(face, 4, 5)
    assert kept(face) == [5, 4]
    face.set_max_versions(None)
    write(face, 6, 7)
    assert kept(face) == [7, 6, 5, 4]


def test_every_way_to_write_prunes(face: Face) -> None:
    """Batches prune each of their secrets, and patches and rollbacks prune as well."""
    face.set_max_versions(2)
    for value in range(4):
        face.set_secrets({"a": {"n": value}, "b": {"n": value}, f"only {value}": value})
    assert (kept(face, "a"), kept(face, "b"), kept(face, "only 0")) == ([4, 3], [4, 3], [1])
    face.patch_secret("a", {"m": 1})
    face.rollback_secret("b", 3)

    assert (kept(face, "a"), kept(face, "b")) == ([5, 4], [5, 4])
    assert (face.get_secret("a"), face.get_secret("b")) == ({"n": 3, "m": 1}, {"n": 2})


def test_a_rollback_may_prune_the_version_that_it_writes_again(face: Face) -> None:
    """The oldest version that is kept can be brought back, and goes only after that."""
    face.set_max_versions(2)
    write(face, "one", "two", "three")

    assert face.rollback_secret("k", 2).version == 4
    assert (face.get_secret("k"), kept(face)) == ("two", [4, 3])


def test_the_current_version_is_never_pruned(face: Face) -> None:
    """With a limit of 1 the value is there after every write, deleted or not in between."""
    face.set_max_versions(1)
    for value in range(3):
        write(face, value)
        assert (face.get_secret("k"), kept(face)) == (value, [value + 1])
        face.delete_secret("k")
        assert kept(face) == [value + 1]
    face.undelete_secret("k")

    assert face.get_secret("k") == 2


def test_pruned_versions_leave_nothing(face: Face, raw: psycopg.Connection) -> None:
    """Rows of a pruned version and of its labels are gone from the tables; the record of changes stays."""
    write(face, 1)
    face.set_labels("k", {"a": "1"})
    face.set_max_versions(1)
    write(face, 2)
    face.commit()

    assert [row["version"] for row in rows(raw, VERSIONS)] == [2]
    assert rows(raw, LABEL_CHANGES) == []
    assert [change[1:3] for change in told(raw)] == [(1, "set"), (1, "labels"), (2, "set")]


def test_pruning_is_a_part_of_the_write(service: Face, raw: psycopg.Connection) -> None:
    """Until the write is committed others still have the old versions; when it is undone, nothing was pruned."""
    service.set_max_versions(2)
    write(service, 1, 2)
    service.commit()
    before = rows(raw, VERSIONS)
    write(service, 3)
    assert kept(service) == [3, 2]
    assert rows(raw, VERSIONS) == before
    service.rollback()
    assert rows(raw, VERSIONS) == before
    write(service, 3)
    service.commit()

    assert [row["version"] for row in rows(raw, VERSIONS)] == [2, 3]


def test_a_limit_is_a_part_of_the_transaction(service: Face) -> None:
    """A limit that is undone with its transaction does not hold."""
    write(service, 1)
    service.commit()
    service.set_max_versions(1)
    service.set_max_versions(1, key="k")
    service.rollback()
    write(service, 2)

    assert kept(service) == [2, 1]


@pytest.mark.parametrize("limit", [0, -1, True, "3", 2.0, 2**63])
def test_what_is_no_limit_is_refused(face: Face, sent_statements: list[str], limit: object) -> None:
    """At least the current version is kept, so a lower limit is an error, and PostgreSQL is not asked."""
    for key in (None, "k"):
        with pytest.raises(ValueError, match="at least 1 version is kept"):
            face.set_max_versions(limit, key=key)
    assert sent_statements == []


def test_a_limit_needs_a_secret(face: Face, raw: psycopg.Connection) -> None:
    """A secret that was never written or was purged cannot have a limit, and a purge takes its limit away."""
    write(face, 1)
    face.set_max_versions(1, key="k")
    face.purge_secret("k")

    for key in ("unknown", "k"):
        with pytest.raises(SecretNotFoundError, match=key):
            face.set_max_versions(1, key=key)
    write(face, 2, 3)
    assert kept(face) == [3, 2]
    face.commit()
    assert [row["max_versions"] for row in rows(raw, HEADS)] == [None]
