"""A store that the release before this one wrote: this release upgrades it, goes on with it, and can take it back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import psycopg
import pytest
from sqlalchemy import Engine

from secretstore import DecryptionError, KeyRing, SecretClient, SecretNotFoundError, migrate
from secretstore.orm.engines import make_engine
from tests.support.catalogue import catalogue

DATA = Path(__file__).parent.parent / "data"
REVISION = "secretstore_0002"
OTHER_TABLES = ("data_key", "data_key_use", "change_event")
NEW = "ARRAY['max_versions', 'outcome', 'request_id', 'application_name', 'database_role']"
TABLES = ("secret_store", "secret_version", *OTHER_TABLES)
TICK = timedelta(microseconds=1)

# What was written, version by version.
VALUES: Mapping[str, Mapping[str, list[object]]] = MappingProxyType(
    {
        "default": {
            "brief": ["set and deleted in one transaction"],
            "db.password": ["one", {"password": "two", "user": "app"}, {"password": "three", "user": "app"}],
            "deleted": ["first", "second"],
            "deleted.again": ["before", "after"],
            "expired": ["was there"],
            "expires.later": ["still there"],
            "flags.empty": [""],
            "flags.no": [False],
            "flags.none": [None],
            "flags.zero": [0],
            "twice": ["first of one transaction", "second of one transaction"],
            "ключ/中": [["é", "💥"]],
        },
        "rotated": {
            "k0": [[0, "first"], [0, "second"]],
            "k1": [[1, "first"]],
            "k2": [[2, "first"], [2, "after the rotation"]],
            "k3": [[3, "first"], [3, "under the newest key"]],
            "k4": [[4, "first"]],
            "k5": [[5, "first"]],
        },
    }
)
DELETED = {("default", "brief"), ("default", "deleted"), ("rotated", "k1")}
EXPIRED = {("default", "expired")}
EVENTS = """
    SELECT action, version, occurred_at FROM secretstore.change_event WHERE namespace = %s AND key = %s
    ORDER BY occurred_at, version, action DESC
"""
MISSING = object()


@dataclass(frozen=True)
class Old:
    """The database of the release before."""

    engine: Engine
    raw: psycopg.Connection
    store: SecretClient

    def events(self, namespace: str, key: str) -> list[tuple[str, int, datetime]]:
        """Return what was done to a secret: action, version, moment."""
        return [(row[0], row[1], row[2]) for row in self.raw.execute(EVENTS, [namespace, key])]

    def rows(self) -> dict[str, list[dict[str, object]]]:
        """Return every row of every table that the release before has."""
        return {table: self._rows_of(table) for table in TABLES}

    def _rows_of(self, table: str) -> list[dict[str, object]]:
        rows = f"SELECT to_jsonb(r) - {NEW} FROM secretstore.{table} AS r ORDER BY r.namespace, to_jsonb(r) - 'value'"
        return [row for (row,) in self.raw.execute(rows.encode())]


@pytest.fixture
def before(empty_database_url: str) -> Iterator[Old]:
    """The store as the release before left it."""
    engine = make_engine(empty_database_url)
    migrate.upgrade(engine, REVISION)
    keyring = KeyRing.from_text((DATA / "release_0002.keys").read_text(encoding="utf-8"))
    with psycopg.connect(empty_database_url, autocommit=True) as raw:
        raw.execute((DATA / "release_0002.sql").read_bytes())
        yield Old(engine, raw, SecretClient(engine, keyring, actor="carol"))
    engine.dispose()


@pytest.fixture
def old(before: Old) -> Old:
    """The store after the upgrade."""
    migrate.upgrade(before.engine)
    migrate.check(before.engine)
    return before


def test_every_value_and_old_version_is_read(old: Old) -> None:
    """Whatever was there is read in all its versions, and what was deleted or has expired reads as missing."""
    for namespace, values in VALUES.items():
        store = old.store.namespace(namespace)
        for key, versions in values.items():
            is_gone = (namespace, key) in DELETED | EXPIRED
            read = [store.get_secret(key, version=n + 1, default=MISSING) for n in range(len(versions))]
            assert read == ([MISSING] * len(versions) if is_gone else versions)
            assert store.get_secret(key, default=MISSING) == (MISSING if is_gone else versions[-1])
            assert [info.version for info in store.list_versions(key)] == list(range(len(versions), 0, -1))


def test_lists_counts_and_labels_are_as_before(old: Old) -> None:
    """Lists show what was there; deleted and expired secrets are found where they are asked for."""
    for namespace, values in VALUES.items():
        store = old.store.namespace(namespace)
        gone = {key for place, key in DELETED if place == namespace}
        expired = {key for place, key in EXPIRED if place == namespace}
        live = sorted(values.keys() - gone - expired, key=str.encode)
        assert store.list_secret_keys() == live
        assert store.get_secrets_by_prefix("") == {key: values[key][-1] for key in live}
        assert store.get_secret_count() == len(live)
        assert store.get_secret_count(include_deleted=True) == len(live) + len(gone)
        assert {info.key for info in store.list_secrets(include_deleted=True)} == values.keys() - expired
        assert {info.key for info in store.list_secrets(expired=True)} == expired

    flags = old.store.list_secrets(labels={"kind": "flag"})
    assert [info.key for info in flags] == ["flags.empty", "flags.no", "flags.none", "flags.zero", "ключ/中"]
    assert {(info.created_by, info.version) for info in flags} == {("alice", 1)}
    assert [info.labels for info in old.store.list_versions("db.password")] == [
        {"team": "data", "tier": "1"},
        {"team": "web"},
        {"team": "web"},
    ]


def test_what_was_deleted_comes_back(old: Old) -> None:
    """Undelete brings back what the release before deleted, with value, labels, and all versions."""
    for namespace, key in DELETED:
        store = old.store.namespace(namespace)
        versions = VALUES[namespace][key]
        info = store.undelete_secret(key)
        assert (info.version, info.deleted_at) == (len(versions), None)
        assert [store.get_secret(key, version=n + 1) for n in range(len(versions))] == versions
    assert old.store.list_secrets("deleted", labels={"team": "web"})[0].key == "deleted"


@pytest.mark.parametrize("namespace", VALUES)
def test_the_past_is_told_from_the_old_record(old: Old, namespace: str) -> None:
    """At every moment between two old changes each secret is what it was then."""
    for key, versions in VALUES[namespace].items():
        events = old.events(namespace, key)
        assert _then(old, namespace, key, events[0][2] - TICK) is MISSING
        ends = [event[2] - TICK for event in events[1:]] + [events[-1][2] + timedelta(days=1)]
        for (action, version, moment), end in zip(events, ends, strict=True):
            if end < moment:
                continue  # Another change came in the same transaction, and so in the same moment.
            is_gone = action == "delete" or (namespace, key) in EXPIRED
            expected = MISSING if is_gone else versions[version - 1]
            assert _then(old, namespace, key, moment) == expected
            assert _then(old, namespace, key, end) == expected


def _then(old: Old, namespace: str, key: str, moment: datetime) -> object:
    past = old.store.namespace(namespace).as_of(moment)
    value = past.get_secret(key, default=MISSING)
    is_there = value is not MISSING
    assert past.get_secrets([key]) == ({key: value} if is_there else {})
    assert (past.describe_secret(key) is not None) == (key in past.list_secret_keys(key)) == is_there
    return value


def test_lists_and_labels_of_the_past_are_those_of_then(old: Old) -> None:
    """A list of an old moment has what was there, under the labels that it had."""
    (_, _, first), (_, _, second), (_, _, third) = old.events("default", "db.password")
    for moment, labels in ((first, {"team": "web"}), (second, {"team": "web"}), (third, {"team": "data", "tier": "1"})):
        past = old.store.as_of(moment)
        assert [(info.key, info.labels) for info in past.list_secrets()] == [("db.password", labels)]
        assert past.get_secret_count() == 1
        assert past.list_secrets(labels={"team": "web"}) == (past.list_secrets() if labels["team"] == "web" else [])

    (_, _, deleted) = old.events("default", "deleted")[-1]
    assert "deleted" in old.store.as_of(deleted - TICK).list_secret_keys()
    assert "deleted" not in old.store.as_of(deleted).list_secret_keys()
    last = old.store.as_of(deleted + timedelta(days=1))
    assert last.list_secret_keys() == old.store.list_secret_keys()
    assert last.get_secrets_by_prefix("") == old.store.get_secrets_by_prefix("")


def test_old_secrets_go_on(old: Old) -> None:
    """Writes, patches, rollbacks and labels go on from the old versions, and the past stays what it was."""
    store = old.store
    past = store.as_of(old.events("default", "db.password")[-1][2])
    then = past.get_secret("db.password")

    assert store.set_secret("db.password", "four").labels == {"team": "data", "tier": "1"}
    assert store.rollback_secret("db.password", to_version=2).version == 5
    assert store.patch_secret("db.password", {"user": None, "port": 5432}).version == 6
    assert store.get_secret("db.password") == {"password": "two", "port": 5432}
    assert store.set_labels("db.password", {"team": "ops"}).version == 6
    assert (past.get_secret("db.password"), past.list_secrets()[0].labels["team"]) == (then, "data")
    assert store.get_secret("db.password", version=1) == "one"

    assert store.set_secret("deleted", "third", expected_version=0).version == 3
    assert store.set_secret("expired", "is back", expected_version=0).version == 2
    info = store.rollback_secret("expires.later", to_version=1)
    assert info.expires_at is not None
    assert info.expires_at.year == 2999
    assert (info.created_by, store.list_versions("expires.later")[0].created_by) == ("alice", "carol")


def test_old_versions_are_destroyed_pruned_and_purged(old: Old) -> None:
    """What takes away takes old versions too, and tells so."""
    store = old.store
    assert store.destroy_versions("db.password", [1]) == 1
    with pytest.raises(SecretNotFoundError):
        store.rollback_secret("db.password", to_version=1)
    store.set_max_versions(1, key="twice")
    store.set_secret("twice", "third")
    assert [info.version for info in store.list_versions("twice")] == [3]
    assert (store.purge_secret("deleted"), store.list_versions("deleted")) == (True, [])
    assert store.set_secret("deleted", "anew").version == 3


def test_a_rotation_that_the_release_before_began_is_ended(old: Old) -> None:
    """What was left under a retired data key is re-encrypted, and the retired ones can be destroyed."""
    store = old.store.namespace("rotated")
    left = store.keys.count_to_reencrypt()
    assert left > 0

    assert (store.keys.reencrypt().values, store.keys.count_to_reencrypt()) == (left, 0)
    for info in store.keys.list_data_keys():
        if info.state == "retired":
            store.keys.destroy(info.id)
    assert len(store.keys.list_data_keys()) == 1
    test_every_value_and_old_version_is_read(old)
    test_the_past_is_told_from_the_old_record(old, "rotated")


def test_a_shredded_namespace_stays_lost_and_goes_on(old: Old) -> None:
    """What was shredded is told of, then as now, and what was written afterwards is read."""
    store = old.store.namespace("shredded")
    assert store.list_secret_keys() == ["anew", "lost"]
    assert store.get_secret("anew") == "written afterwards"
    for read in (store, store.as_of(old.events("shredded", "lost")[0][2])):
        with pytest.raises(DecryptionError, match="was shredded"):
            read.get_secret("lost")
    with pytest.raises(DecryptionError, match="was shredded"):
        store.rollback_secret("lost", to_version=1)
    assert store.set_secret("lost", "found").version == 3


def test_up_and_down_again_changes_no_row(before: Old) -> None:
    """An upgrade and a downgrade leave tables and rows as the release before had them."""
    rows, tables = before.rows(), catalogue(before.raw)

    migrate.upgrade(before.engine)
    migrate.downgrade(before.engine, REVISION)

    assert migrate.current(before.engine) == REVISION
    assert (before.rows(), catalogue(before.raw)) == (rows, tables)


def test_a_downgrade_keeps_what_was_written_since(old: Old) -> None:
    """Back at the revision before, everything is there but limits and the record of labels between versions."""
    _use_what_is_new(old)
    rows = old.rows()

    migrate.downgrade(old.engine, REVISION)

    kept = old.rows()
    assert kept["secret_version"] == rows["secret_version"]
    assert [_with_value(row, None) if row["value"] == {} else row for row in kept["secret_store"]] == rows[
        "secret_store"
    ]
    assert {row["key"] for row in kept["secret_store"] if row["value"] == {}} == {"brief", "twice"}
    assert [kept[table] for table in OTHER_TABLES] == [rows[table] for table in OTHER_TABLES]


def test_a_second_upgrade_goes_on_where_the_first_ended(old: Old) -> None:
    """After a downgrade and another upgrade, what is gone stays gone, and no number of a version comes back."""
    _use_what_is_new(old)
    rows = old.rows()

    migrate.downgrade(old.engine, REVISION)
    migrate.upgrade(old.engine)

    assert old.rows() == rows
    for key in ("brief", "twice"):
        with pytest.raises(SecretNotFoundError):
            old.store.undelete_secret(key)
    assert (old.store.set_secret("brief", "anew").version, old.store.set_secret("twice", "anew").version) == (2, 3)
    assert old.store.get_secret("twice", version=1) == "first of one transaction"


def _use_what_is_new(old: Old) -> None:
    old.store.set_max_versions(5)
    old.store.set_secret("db.password", "four")
    old.store.set_labels("db.password", {"team": "ops"})
    old.store.destroy_versions("db.password", [1])
    old.store.undelete_secret("deleted")
    old.store.purge_secret("brief")
    old.store.destroy_versions("twice", [2])


def _with_value(row: Mapping[str, object], value: object) -> dict[str, object]:
    return {**row, "value": value}
