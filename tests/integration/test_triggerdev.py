"""Importing a trigger.dev from one database into another."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import (
    ConfigurationError,
    DecryptionError,
    KeyRing,
    PermissionDeniedError,
    SecretClient,
    SecretStoreError,
    StoreUnavailableError,
)
from secretstore.integrations import triggerdev as importing
from secretstore.integrations.triggerdev import SHOWN_SKIPS, Report, SkipReason, open_table, parse_encryption_key
from tests.support import triggerdev as support
from tests.support.errors import assert_tells_nothing, refused_role
from tests.support.server import Server
from tests.support.threads import in_thread, number, run_together, wait_until_blocked
from tests.support.triggerdev import ENCRYPTION_KEY, LATER, Source, sealed, sealed_json

MARKER = "hunter2-marker"
CREATED = datetime(2023, 5, 1, 10, 0, 0, 123000, tzinfo=UTC)
UPDATED = datetime(2024, 6, 2, 11, 30, 0, 456000, tzinfo=UTC)
_TABLES = ("secret_store", "secret_version", "data_key", "change_event")


@pytest.fixture(scope="module")
def source_url(server: Server) -> Iterator[str]:
    """The URL of trigger.dev's own database."""
    with server.database() as name:
        yield server.url(name)


@pytest.fixture
def source(source_url: str) -> Iterator[Source]:
    """A new trigger.dev."""
    with support.triggerdev(source_url) as made:
        yield made


def run(store: SecretClient, source: Source, **options: Any) -> Report:
    """Import everything, with options."""
    with open_table(source.url) as table:
        return importing.import_table(store, table, parse_encryption_key(ENCRYPTION_KEY), **options)


def counts(report: Report) -> tuple[int, int, int, dict[SkipReason, int]]:
    """Imported, updated, unchanged, and skipped by reason."""
    return report.imported, report.updated, report.unchanged, dict(report.skipped)


def contents(raw: psycopg.Connection) -> list[Any]:
    """Every row of our tables."""
    return [raw.execute(f"SELECT t::text FROM secretstore.{name} t ORDER BY 1".encode()).fetchall() for name in _TABLES]


@pytest.mark.parametrize(
    "types", [("jsonb", "timestamp(3)"), ("json", "timestamp(3)"), ("jsonb", "timestamptz")], ids=str
)
def test_values_and_times_are_kept(
    source_url: str, store: SecretClient, raw: psycopg.Connection, types: tuple[str, str]
) -> None:
    """Each value comes as it was, with the times of its row on head and history, whatever the columns' types."""
    with support.triggerdev(source_url, *types) as source:
        source.raw.execute("SET TIME ZONE 'UTC'")
        source.put("a", {"accessToken": "ü", "n": [1, 1.5, None]})
        source.put("b/c:d", "text")
        report = run(store, source)

    assert counts(report) == (2, 0, 0, {})
    assert store.get_secrets(["a", "b/c:d"]) == {"a": {"accessToken": "ü", "n": [1, 1.5, None]}, "b/c:d": "text"}
    info = store.describe_secret("a")
    assert info is not None
    assert (info.version, info.created_at, info.updated_at, info.labels) == (1, CREATED, UPDATED, {})
    assert raw.execute("SELECT DISTINCT created_at FROM secretstore.secret_version").fetchall() == [(UPDATED,)]


def test_the_sessions_time_zone_does_not_matter(store: SecretClient, source: Source) -> None:
    """Prisma's columns hold UTC, and are read as UTC where the session has another time zone."""
    source.put("a", 1)
    run(store, Source(f"{source.url}&options=-ctimezone%3DAsia/Tokyo", source.raw))

    info = store.describe_secret("a")
    assert info is not None
    assert info.updated_at == UPDATED


def test_an_import_keeps_to_limits_and_sends_notices(
    store: SecretClient, source: Source, raw: psycopg.Connection
) -> None:
    """What is imported counts as written: old versions beyond a limit go at once, and listeners are told."""
    store.set_max_versions(1)
    source.put("a", 1)
    run(store, source)
    raw.execute("LISTEN secretstore")
    source.put("a", 2, updated=LATER)
    run(store, source)

    assert [info.version for info in store.list_versions("a")] == [2]
    (notice,) = raw.notifies(timeout=5, stop_after=1)
    assert json.loads(notice.payload) == {"namespace": "default", "key": "a", "version": 2}


def test_a_change_is_recorded_as_an_import(
    engine: Engine, keyring: KeyRing, source: Source, raw: psycopg.Connection
) -> None:
    """The change event says `import`, the client's actor or else the database role, and the time of the import."""
    source.put("a", 1)
    run(SecretClient(engine, keyring, namespace="one", actor="me"), source)
    run(SecretClient(engine, keyring, namespace="two"), source)

    role = raw.info.user
    events = raw.execute(
        "SELECT namespace, key, version, action, actor, occurred_at > '2026-01-01' FROM secretstore.change_event"
        " ORDER BY namespace"
    ).fetchall()
    assert events == [("one", "a", 1, "import", "me", True), ("two", "a", 1, "import", role, True)]


def test_running_again_changes_nothing(store: SecretClient, source: Source, raw: psycopg.Connection) -> None:
    """A second run writes no row, and counts every secret as unchanged."""
    source.put("a", {"x": 1, "y": [1.0, True]})
    source.put("b", None)
    run(store, source)
    before = contents(raw)
    source.put("a", {"y": [1.0, True], "x": 1}, updated=LATER)

    assert counts(run(store, source)) == (0, 0, 2, {})
    assert contents(raw) == before


def test_values_that_python_takes_for_equal_are_not(store: SecretClient, source: Source) -> None:
    """`1`, `1.0` and `true` are three values."""
    pairs = {"a": (1, 1.0), "b": (1, True), "c": ([0], [False]), "d": ({"a": 1}, {"a": "1"}), "e": ("", None)}
    for key, (before, _) in pairs.items():
        source.put(key, before)
    run(store, source)
    for key, (_, after) in pairs.items():
        source.put(key, after, updated=LATER)

    assert counts(run(store, source)) == (0, 5, 0, {})
    assert repr(store.get_secrets_by_prefix("")) == repr({key: after for key, (_, after) in pairs.items()})


def test_a_later_run_catches_up(store: SecretClient, source: Source) -> None:
    """What changed in a trigger.dev that goes on running becomes the next version, with its new time."""
    source.put("a", "old")
    source.put("b", "same")
    run(store, source)
    source.put("a", "new", updated="2025-01-01 00:00:00.001")
    source.put("c", "added")

    assert counts(run(store, source)) == (1, 1, 1, {})
    info = store.describe_secret("a")
    assert info is not None
    assert (info.version, info.created_at) == (2, CREATED)
    assert info.updated_at == datetime(2025, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)
    assert (store.get_secret("a"), store.get_secret("a", version=1)) == ("new", "old")


def test_what_changed_here_since_stays(store: SecretClient, source: Source, raw: psycopg.Connection) -> None:
    """A value that was written here after its row is not written over; a row that is later still wins."""
    source.put("a", "there")
    run(store, source)
    store.set_secret("a", "here", labels={"team": "web"})
    before = contents(raw)

    report = run(store, source)

    assert counts(report) == (0, 0, 0, {SkipReason.CHANGED_HERE: 1})
    assert [skipped.key for skipped in report.first_skipped] == ["a"]
    assert contents(raw) == before
    source.put("a", "there, later", updated=LATER)
    assert counts(run(store, source)) == (0, 1, 0, {})
    info = store.describe_secret("a")
    assert info is not None
    assert (info.version, info.labels, store.get_secret("a")) == (3, {"team": "web"}, "there, later")


def test_what_was_deleted_here_stays_deleted(store: SecretClient, source: Source, raw: psycopg.Connection) -> None:
    """A deleted key does not come back, also with the same value, unless its row has changed later."""
    source.put("a", "there")
    run(store, source)
    store.delete_secret("a")
    before = contents(raw)

    assert counts(run(store, source)) == (0, 0, 0, {SkipReason.DELETED_HERE: 1})
    assert contents(raw) == before
    source.put("a", "there", updated=LATER)
    assert counts(run(store, source)) == (0, 1, 0, {})
    assert store.get_secret("a") == "there"


def test_what_expired_here_stays_expired(store: SecretClient, source: Source) -> None:
    """A secret past its time was changed here, and its row is older."""
    store.set_secret("a", "there", expires_at=datetime(2025, 1, 1, tzinfo=UTC))
    source.put("a", "there")

    assert counts(run(store, source)) == (0, 0, 0, {SkipReason.CHANGED_HERE: 1})
    assert store.get_secret("a") is None


def test_a_row_that_fails_does_not_stop_the_others(store: SecretClient, source: Source) -> None:
    """Each reason is counted, each key is named, and all other rows are imported."""
    source.put("good 1", 1)
    source.put_stored("plain", json.dumps({"a": MARKER}), version="1")
    source.put_stored("version", sealed_json(MARKER), version="3")
    source.put_stored("malformed", json.dumps({"nonce": MARKER}))
    source.put_stored("other key", json.dumps(sealed("1", "another-key-of-32-characters-xxx")))
    source.put_stored("no json", json.dumps(sealed(MARKER)))
    source.put("too large", MARKER * 100_000)
    source.put("no\ncontrol", MARKER)
    source.put("no surrogate", MARKER + "\ud800")
    source.put("infinite", MARKER, updated="infinity")
    source.put("before time", MARKER, updated="0044-03-15 BC")
    source.put("zz good 2", 2)

    report = run(store, source, chunk_rows=5)

    assert (report.imported, report.rows) == (2, 12)
    assert report.skipped == {
        SkipReason.PLAINTEXT: 1,
        SkipReason.UNKNOWN_VERSION: 1,
        SkipReason.MALFORMED: 3,
        SkipReason.DOES_NOT_OPEN: 1,
        SkipReason.NOT_JSON: 1,
        SkipReason.BREAKS_A_LIMIT: 3,
    }
    assert store.get_secrets_by_prefix("") == {"good 1": 1, "zz good 2": 2}
    assert len({skipped.key for skipped in report.first_skipped}) == 10
    assert MARKER not in repr(report)


def test_plain_rows_come_where_that_is_allowed(store: SecretClient, source: Source) -> None:
    """Version 1 is plain JSON, and is sealed here as everything else."""
    source.put_stored("a", json.dumps({"token": MARKER}), version="1")

    assert counts(run(store, source, allow_plaintext=True)) == (1, 0, 0, {})
    assert store.get_secret("a") == {"token": MARKER}


def test_a_table_without_versions_holds_plain_rows(store: SecretClient, source: Source) -> None:
    """Before it encrypted, trigger.dev had no column `version`."""
    source.put_stored("a", "[1]", version="1")
    source.raw.execute('ALTER TABLE "SecretStore" DROP COLUMN "version"')

    assert counts(run(store, source)) == (0, 0, 0, {SkipReason.PLAINTEXT: 1})
    assert counts(run(store, source, allow_plaintext=True)) == (1, 0, 0, {})
    assert store.get_secret("a") == [1]


def test_only_keys_with_the_prefix_come(store: SecretClient, source: Source) -> None:
    """A prefix is compared as it is, and has no wild cards."""
    for key in ("a_b.1", "a_b.2", "axb.3", "b"):
        source.put(key, 1)

    with open_table(source.url) as table:
        assert (table.count("a_b."), table.count(), table.count("%")) == (2, 4, 0)
    assert counts(run(store, source, prefix="a_b.")) == (2, 0, 0, {})
    assert store.list_secret_keys() == ["a_b.1", "a_b.2"]


def test_another_schema_is_named_as_prisma_names_it(server: Server, store: SecretClient, source: Source) -> None:
    """`?schema=` says where the table is; what else only Prisma knows does no harm."""
    source.put("a", 1)
    source.raw.execute('CREATE SCHEMA "My %Own"')
    source.raw.execute('ALTER TABLE "SecretStore" SET SCHEMA "My %Own"')
    moved = Source(f"{source.url}&schema=My%20%25Own&connection_limit=5&pgbouncer=true", source.raw)

    assert counts(run(store, moved)) == (1, 0, 0, {})
    with pytest.raises(ConfigurationError, match=r'no trigger\.dev table "public"\."SecretStore"'):
        run(store, source)


def test_of_a_key_that_is_there_twice_the_newest_row_counts(store: SecretClient, source: Source) -> None:
    """A copy of the table may have lost its unique index."""
    source.put("a", "newest", updated="2025-01-01")
    source.raw.execute('DROP INDEX "SecretStore_key_key"')
    for value in ("old", "older"):
        stored = (sealed_json(value), support.CREATED, support.UPDATED)
        source.raw.execute("""INSERT INTO "SecretStore" VALUES ('a', %s, '2', %s, %s)""", stored)

    assert counts(run(store, source)) == (1, 0, 0, {})
    assert store.get_secret("a") == "newest"


def test_a_dry_run_opens_everything_and_writes_nothing(
    store: SecretClient, source: Source, raw: psycopg.Connection
) -> None:
    """It tells what an import would do, row by row, and our tables stay as they are, with no data key either."""
    source.put("a", 1)
    source.put_stored("bad", json.dumps(sealed("1", "another-key-of-32-characters-xxx")))
    empty = contents(raw)

    assert counts(run(store, source, dry_run=True)) == (1, 0, 0, {SkipReason.DOES_NOT_OPEN: 1})
    assert contents(raw) == empty

    run(store, source)
    source.put("a", 2, updated=LATER)
    source.put("b", 3)
    before = contents(raw)
    assert counts(run(store, source, dry_run=True)) == (1, 1, 0, {SkipReason.DOES_NOT_OPEN: 1})
    assert contents(raw) == before


def test_the_source_is_only_read(store: SecretClient, source: Source) -> None:
    """PostgreSQL itself would refuse a write there."""
    with open_table(source.url) as table:
        assert table._connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on"


def test_two_imports_at_once_write_each_version_once(
    store: SecretClient, source: Source, raw: psycopg.Connection
) -> None:
    """Four imports that start together leave one version of each key, and the sum of what they wrote is right."""
    keys = [f"k{n:03}" for n in range(120)]
    source.put_many(keys)

    reports = run_together(*(lambda: run(store, source, chunk_rows=7) for _ in range(4)))

    assert sum(report.imported for report in reports) == len(keys)
    assert sum(report.unchanged for report in reports) == 3 * len(keys)
    assert number(raw, "SELECT count(*) FROM secretstore.secret_version") == len(keys)
    assert number(raw, "SELECT count(*) FROM secretstore.change_event") == len(keys)


@pytest.mark.parametrize("change", ["set", "delete"])
def test_a_change_in_the_middle_of_an_import_stays(
    store: SecretClient, source: Source, raw: psycopg.Connection, change: str
) -> None:
    """An import that waits for a writer looks again, finds the change later than its row, and leaves it."""
    store.set_secret("other", 1)
    source.put("a", "there")
    run(store, source)
    source.put("a", "there, newer", updated="2025-01-01")
    with Session(store.engine) as session:
        service = store.bind(session)
        _ = service.set_secret("a", "here") if change == "set" else service.delete_secret("a")
        with in_thread(lambda: run(store, source)) as importer:
            wait_until_blocked(raw)
            session.commit()

    reason = SkipReason.CHANGED_HERE if change == "set" else SkipReason.DELETED_HERE
    assert counts(importer.result()) == (0, 0, 0, {reason: 1})
    assert store.get_secret("a") == ("here" if change == "set" else None)


def test_a_new_key_in_the_middle_of_an_import_stays(
    engine: Engine, store: SecretClient, source: Source, raw: psycopg.Connection
) -> None:
    """A key that another writer makes first is not written over."""
    store.set_secret("other", 1)
    source.put("a", "there")
    with Session(engine) as session:
        store.bind(session).set_secret("a", "here")
        with in_thread(lambda: run(store, source)) as importer:
            wait_until_blocked(raw)
            session.commit()

    assert counts(importer.result()) == (0, 0, 0, {SkipReason.CHANGED_HERE: 1})
    assert store.get_secret("a") == "here"


def test_chunks_are_committed_while_rows_are_still_to_come(
    store: SecretClient, source: Source, raw: psycopg.Connection
) -> None:
    """When the source breaks off early, what was fetched is here, little more was, and a second run goes on."""
    source.put_many(f"k{n:03}" for n in range(500))
    seen: list[int] = []

    def break_off(rows: int) -> None:
        seen.append(rows)
        source.raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    with pytest.raises(StoreUnavailableError):
        run(store, source, chunk_rows=10, on_rows=break_off)

    assert seen == [10]
    assert number(raw, "SELECT count(*) FROM secretstore.secret_store") == 10
    done: list[int] = []
    assert counts(run(store, source, chunk_rows=10, on_rows=done.append)) == (490, 0, 10, {})
    assert done == list(range(10, 501, 10))


def test_large_values_make_small_chunks(store: SecretClient, source: Source) -> None:
    """What is held at once is bounded also where values are large."""
    for n in range(6):
        source.put(f"k{n:02}", "x" * 1_000_000)
    done: list[int] = []

    assert counts(run(store, source, on_rows=done.append)) == (6, 0, 0, {})
    assert done == [5, 6]


def test_only_the_first_skipped_rows_are_kept(store: SecretClient, source: Source) -> None:
    """A report does not grow with the rows that fail."""
    source.put_many(f"k{n:03}" for n in range(SHOWN_SKIPS * 2))
    source.raw.execute("""UPDATE "SecretStore" SET "version" = '9'""")

    report = run(store, source, chunk_rows=7)

    assert report.skipped == {SkipReason.UNKNOWN_VERSION: SHOWN_SKIPS * 2}
    assert [skipped.key for skipped in report.first_skipped] == [f"k{n:03}" for n in range(SHOWN_SKIPS)]


def test_a_value_here_that_does_not_open_stops_the_import(
    store: SecretClient, source: Source, wrong_keyring: KeyRing
) -> None:
    """With the wrong key ring nothing can be compared, and nothing is written."""
    source.put("a", MARKER)
    run(store, source)

    with pytest.raises(DecryptionError) as caught:
        run(SecretClient(store.engine, wrong_keyring), source)
    assert_tells_nothing(caught.value, MARKER, ENCRYPTION_KEY)


def test_a_database_that_is_no_trigger_dev_is_told_as_such(
    store: SecretClient, empty_database_url: str, source: Source
) -> None:
    """The error says that the table, or a column of it, is missing there, and sends nobody to `db upgrade`."""
    with pytest.raises(ConfigurationError, match=r"the database of this URL has no trigger\.dev table") as caught:
        run(store, Source(empty_database_url, source.raw))
    assert "upgrade" not in str(caught.value)
    source.raw.execute('ALTER TABLE "SecretStore" RENAME "value" TO "secret"')
    with pytest.raises(ConfigurationError, match="it has no column value"):
        run(store, source)


def test_a_role_that_may_not_read_is_told_as_such(server: Server, store: SecretClient, source: Source) -> None:
    """The error names the table of trigger.dev, and not our schema."""
    with refused_role(server) as role:
        name = source.raw.info.dbname
        with pytest.raises(PermissionDeniedError, match=r'may not read "public"\."SecretStore"; grant it USAGE'):
            run(store, Source(server.url(name, options=f"-crole={role}"), source.raw))


def test_a_source_that_is_not_there_is_told_without_its_password(store: SecretClient, source: Source) -> None:
    """Nothing of the driver's error is kept."""
    url = f"postgresql://app:{MARKER}@127.0.0.1:1/app?schema=public"

    with pytest.raises(StoreUnavailableError, match="nothing listens there") as caught:
        run(store, Source(url, source.raw))
    assert_tells_nothing(caught.value, MARKER)


def test_no_error_in_the_middle_shows_a_value(store: SecretClient, source: Source, raw: psycopg.Connection) -> None:
    """What PostgreSQL says of a row that it refuses reaches nobody, and the chunk is rolled back."""
    source.put("a", MARKER)
    source.put("b", MARKER)
    raw.execute("ALTER TABLE secretstore.secret_store ADD CONSTRAINT ck_none CHECK (key <> 'b')")

    with pytest.raises(SecretStoreError) as caught:
        run(store, source)
    assert_tells_nothing(caught.value, MARKER, ENCRYPTION_KEY)
    assert store.list_secret_keys() == []
