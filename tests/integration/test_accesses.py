"""Who read what is recorded, and who tried in vain; with the read, or a moment later, or not at all."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import secretstore
from secretstore import (
    Access,
    AsyncSecretClient,
    ConfigurationError,
    DecryptionError,
    ExportedSecret,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    KeyRing,
    PermissionDeniedError,
    SchemaOutOfDateError,
    SecretClient,
    SecretNotFoundError,
    VersionConflictError,
    acting_as,
)
from secretstore.cache import CacheConfig
from secretstore.client import accesses
from secretstore.domain.accesses import AuditReads
from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from secretstore.orm.engines import make_async_engine, make_engine
from tests.support.children import answer_of_child
from tests.support.frames import shown_by_frames
from tests.support.proxy import open_door
from tests.support.server import Server
from tests.support.threads import number, run_together

VALUE = "correct-horse-battery"
ROLE = "secretstore_test_reader"
ROWS = "SELECT key, version, action, outcome, actor, request_id FROM secretstore.access_event ORDER BY occurred_at, key"
MODES: tuple[AuditReads, ...] = ("buffered", "strict")
KINDS = ("client", "service", "async client", "async service")

Called = Callable[[str], Any]


@pytest.fixture
def filled(store: SecretClient) -> datetime:
    """Three secrets, one of them in two versions and one that points at another; returns a moment after them."""
    store.set_secret("a", "old")
    store.set_secret("a", VALUE)
    store.set_secret("b", VALUE)
    store.set_secret("pointing", {"$ref": "b"})
    (last,) = store.list_secrets("pointing")
    return last.updated_at


def recorded(raw: psycopg.Connection) -> list[tuple[str, int, str, str]]:
    """Return keys, versions, actions and outcomes, as they came."""
    return [row[:4] for row in raw.execute(ROWS).fetchall()]


@contextmanager
def calling(kind: str, engine_url: str, keyring: KeyRing, **options: Any) -> Iterator[Callable[..., Any]]:
    """Give what calls a method of a face, blocking; a service commits after each call.  Everything is written at the end."""
    opened = _awaited if kind.startswith("async") else _blocking
    with opened(kind, engine_url, keyring, options) as call:
        yield call


@contextmanager
def _blocking(kind: str, url: str, keyring: KeyRing, options: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    engine = make_engine(url)
    client = SecretClient(engine, keyring, **options)

    def call(do: Callable[[Any], Any]) -> Any:
        if kind == "client":
            return do(client)
        with Session(engine) as session, session.begin():
            return do(client.bind(session))

    yield call
    client.close()
    engine.dispose()


@contextmanager
def _awaited(kind: str, url: str, keyring: KeyRing, options: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    with asyncio.Runner() as runner:
        engine = make_async_engine(url)
        client = AsyncSecretClient(engine, keyring, **options)

        async def call(do: Callable[[Any], Any]) -> Any:
            if kind == "async client":
                return await do(client)
            async with AsyncSession(engine) as session, session.begin():
                return await do(client.bind(session))

        yield lambda do: runner.run(call(do))
        runner.run(client.close())
        runner.run(engine.dispose())


AWAITING = """
import asyncio
async def main():
    store = await secretstore.connect_async()
    await store.get_secret("a")
asyncio.run(main())
"""
READS: dict[str, tuple[Callable[[Any, datetime], Any], list[tuple[str, int, str, str]]]] = {
    "one": (lambda face, _: face.get_secret("a"), [("a", 2, "get", "done")]),
    "one or raise": (lambda face, _: face.get_secret_or_raise("a"), [("a", 2, "get", "done")]),
    "one that is missing": (lambda face, _: face.get_secret("none"), [("none", 0, "get", "missing")]),
    "an old version": (lambda face, _: face.get_secret("a", version=1), [("a", 1, "get", "done")]),
    "many": (
        lambda face, _: face.get_secrets(["a", "none", "b"]),
        [("a", 2, "get", "done"), ("b", 1, "get", "done"), ("none", 0, "get", "missing")],
    ),
    "a prefix": (lambda face, _: face.get_secrets_by_prefix("a"), [("a", 2, "get", "done")]),
    "what another points at": (
        lambda face, _: face.get_secret("pointing", resolve=True),
        [("b", 1, "get", "done"), ("pointing", 1, "get", "done")],
    ),
    "of then": (lambda face, then: face.as_of(then).get_secret("a"), [("a", 2, "get", "done")]),
    "many of then": (lambda face, then: face.as_of(then).get_secrets_by_prefix("b"), [("b", 1, "get", "done")]),
    "what shows no value": (lambda face, _: face.describe_secret("a"), []),
    "a list": (lambda face, _: face.list_secrets(), []),
    "a change": (lambda face, _: face.set_secret("c", 1), []),
    "a patch": (lambda face, _: face.patch_secret("b", "x"), []),
    "a rollback": (lambda face, _: face.rollback_secret("a", 1), []),
}
FAILURES: dict[str, tuple[Callable[[Any], Any], type[Exception], list[tuple[str, int, str, str]]]] = {
    "missing": (
        lambda face: face.get_secret_or_raise("none"),
        SecretNotFoundError,
        [("none", 0, "get", "missing")],
    ),
    "a conflict": (
        lambda face: face.set_secret("a", 1, expected_version=9),
        VersionConflictError,
        [("a", 0, "set", "failed")],
    ),
    "what cannot be stored": (
        lambda face: face.set_secrets({"x": float("nan"), "y": 1}),
        InvalidSecretValueError,
        [("x", 0, "set", "failed"), ("y", 0, "set", "failed")],
    ),
    "a change of nothing": (
        lambda face: face.undelete_secret("none"),
        SecretNotFoundError,
        [("none", 0, "undelete", "missing")],
    ),
    "many": (
        lambda face: face.delete_secrets([f"k{number}" for number in range(500)] + [" "]),
        InvalidSecretKeyError,
        sorted((f"k{number}", 0, "delete", "failed") for number in range(100)),
    ),
    "a limit of none": (
        lambda face: face.set_max_versions(3, key="none"),
        SecretNotFoundError,
        [("", 0, "limit", "missing")],
    ),
    "an illegal key": (lambda face: face.delete_secret(" "), InvalidSecretKeyError, [("", 0, "delete", "failed")]),
    "by name": (lambda face: face.purge_secret(key=" x"), InvalidSecretKeyError, [("", 0, "purge", "failed")]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [*MODES, "off"])
def test_each_value_that_is_given_is_recorded(
    filled: datetime, *, database_url: str, keyring: KeyRing, raw: psycopg.Connection, kind: str, mode: str
) -> None:
    """One row for each key, whichever way it was read; nothing for what gives no value, and nothing where it is off."""
    found: dict[str, list[tuple[str, int, str, str]]] = {}
    for name, (read, _) in READS.items():
        with calling(kind, database_url, keyring, audit_reads=mode) as call:
            call(lambda face, read=read: read(face, filled))
        found[name] = sorted(recorded(raw))
        raw.execute("TRUNCATE secretstore.access_event")

    assert found == {name: [] if mode == "off" else rows for name, (_, rows) in READS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_calls_that_fail_are_recorded_outside_of_their_transaction(
    filled: datetime, *, database_url: str, keyring: KeyRing, raw: psycopg.Connection, kind: str, mode: str
) -> None:
    """The caller gets the error as ever, what was written is rolled back, and the attempt is there."""
    found: dict[str, list[tuple[str, int, str, str]]] = {}
    for name, (do, error, _) in FAILURES.items():
        with calling(kind, database_url, keyring, audit_reads=mode) as call, pytest.raises(error):
            call(do)
        found[name] = sorted(recorded(raw))
        raw.execute("TRUNCATE secretstore.access_event")

    assert found == {name: rows for name, (_, _, rows) in FAILURES.items()}


@pytest.mark.parametrize("kind", ["client", "async client"])
@pytest.mark.parametrize("mode", MODES)
def test_reads_from_the_cache_count(
    filled: datetime, *, database_url: str, keyring: KeyRing, raw: psycopg.Connection, kind: str, mode: str
) -> None:
    """Whether a value came from the database or from memory, and whether there was one, each call is one row."""
    with calling(kind, database_url, keyring, audit_reads=mode, cache=CacheConfig()) as call:
        for _ in range(3):
            assert call(lambda face: face.get_secret("a")) == VALUE
            assert call(lambda face: face.get_secret("none")) is None

    assert sorted(recorded(raw)) == [("a", 2, "get", "done")] * 3 + [("none", 0, "get", "missing")] * 3


@pytest.mark.parametrize("mode", MODES)
def test_an_export_is_recorded_page_by_page(
    engine: Engine, *, keyring: KeyRing, filled: datetime, raw: psycopg.Connection, mode: AuditReads
) -> None:
    """What was given before somebody stopped is in the record, though the snapshot was never committed."""
    client = SecretClient(engine, keyring, audit_reads=mode)
    exported = client.export_secrets()
    assert next(exported).key == "a"
    exported.close()
    client.close()

    assert recorded(raw) == [("a", 2, "export", "done"), ("b", 1, "export", "done"), ("pointing", 1, "export", "done")]


def test_a_failed_import_is_recorded_without_a_value(engine: Engine, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """As one row, whatever it was to write."""
    client = SecretClient(engine, keyring, audit_reads="strict", max_value_bytes=100)
    with pytest.raises(InvalidSecretValueError):
        client.import_secrets([ExportedSecret(key="a", value=VALUE), ExportedSecret(key="b", value=VALUE * 99)])
    raw.execute("DROP TABLE secretstore.label_change, secretstore.secret_version CASCADE")
    with pytest.raises(SchemaOutOfDateError):
        client.import_secrets([ExportedSecret(key="a", value=VALUE)])

    assert recorded(raw) == [("", 0, "import", "failed")]
    assert VALUE not in str(raw.execute("SELECT * FROM secretstore.access_event").fetchall())


def test_an_awaited_export_is_recorded(
    filled: datetime, database_url: str, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Then, too."""

    async def export(face: AsyncSecretClient) -> int:
        return len([secret async for secret in face.export_secrets(at=filled)])

    with calling("async client", database_url, keyring, audit_reads="strict") as call:
        assert call(export) == 3

    assert [row[2:] for row in recorded(raw)] == [("export", "done")] * 3


@pytest.fixture
def unrecorded(server: Server, database: str, raw: psycopg.Connection) -> Iterator[str]:
    """The URL of a role that may do anything but add to the record of accesses."""
    raw.execute(f"DROP ROLE IF EXISTS {ROLE}")
    raw.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'only-for-tests'")
    raw.execute(f"GRANT USAGE ON SCHEMA secretstore TO {ROLE}")
    raw.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA secretstore TO {ROLE}")
    raw.execute(f"REVOKE INSERT ON secretstore.access_event FROM {ROLE}")
    yield server.url(database, user=ROLE, password="only-for-tests")
    raw.execute(f"DROP OWNED BY {ROLE}")
    raw.execute(f"DROP ROLE {ROLE}")


@pytest.mark.parametrize("kind", KINDS)
def test_without_its_record_there_is_no_value(
    filled: datetime, *, unrecorded: str, keyring: KeyRing, raw: psycopg.Connection, kind: str
) -> None:
    """Strictly: one, many, of then, of an export, and from a cache that is warm."""
    with calling(kind, unrecorded, keyring, audit_reads="strict") as call:
        for read, rows in READS.values():
            if rows:
                with pytest.raises(PermissionDeniedError) as caught:
                    call(lambda face, read=read: read(face, filled))
                assert not [text for text in shown_by_frames(caught.value) if VALUE in text]
        assert call(lambda face: face.describe_secret("a")).version == 2

    assert recorded(raw) == []


def test_a_warm_cache_gives_nothing_without_a_record(
    filled: datetime, unrecorded: str, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """And a call that is refused for it fails as it would, whatever becomes of its own record."""
    raw.execute(f"GRANT INSERT ON secretstore.access_event TO {ROLE}")
    with calling("client", unrecorded, keyring, audit_reads="strict", cache=CacheConfig()) as call:
        assert call(lambda face: face.get_secret("a")) == VALUE
        raw.execute(f"REVOKE INSERT ON secretstore.access_event FROM {ROLE}")
        with pytest.raises(PermissionDeniedError):
            call(lambda face: face.get_secret("a"))
        with pytest.raises(PermissionDeniedError) as caught:
            call(lambda face: next(face.export_secrets()))
        assert not [text for text in shown_by_frames(caught.value) if VALUE in text]
        with pytest.raises(VersionConflictError):
            call(lambda face: face.set_secret("a", 1, expected_version=9))

    assert len(recorded(raw)) == 1


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_what_cannot_be_written_later_is_counted(
    filled: datetime, *, unrecorded: str, keyring: KeyRing, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The value is given, the loss is counted, and told of once; without a value in it."""
    dropped: list[int] = []
    with calling(kind, unrecorded, keyring, audit_reads="buffered") as call:
        for _ in range(3):
            assert call(lambda face: face.get_secret("a")) == VALUE

        def count(face: Any) -> Any:
            dropped.append(face.statistics().accesses_dropped)
            return face.get_secret_count()

        def flush(face: Any) -> Any:
            return face._buffer.flush() or face.get_secret_count()

        call(flush)
        call(count)

    assert dropped == [3]
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert told[0].startswith("accesses are missing from the record: ")
    assert VALUE not in caplog.text


def test_there_is_room_for_so_many(
    engine: Engine, *, keyring: KeyRing, filled: datetime, raw: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the record cannot be written they wait, and what finds no room is dropped; then the others are written."""
    monkeypatch.setattr(accesses, "MOST_WAITING", 5)
    client = SecretClient(engine, keyring, audit_reads="buffered")
    with raw.transaction():
        raw.execute("LOCK TABLE secretstore.access_event")
        for _ in range(8):
            assert client.get_secret("a") == VALUE
        assert client.statistics().accesses_dropped == 3
    client.close()

    assert len(recorded(raw)) == 5


def test_it_says_who_and_when(engine: Engine, keyring: KeyRing, filled: datetime, raw: psycopg.Connection) -> None:
    """The actor of the block around the read, by the database's clock of then, though it is written afterwards."""
    client = SecretClient(engine, keyring, audit_reads="buffered", actor="job", require_actor=True)
    before = datetime.now(UTC)
    with acting_as("user:alice", request_id="req-7"):
        client.get_secret("a")
    client.get_secret("b")
    client.close()

    first, second = client.audit.list_accesses()
    assert (first.actor, first.request_id, second.actor, second.request_id) == ("user:alice", "req-7", "job", None)
    assert first.database_role is not None
    assert (
        before - timedelta(seconds=1)
        < first.occurred_at
        < second.occurred_at
        < datetime.now(UTC) + timedelta(seconds=1)
    )


def test_accesses_are_found_by_what_they_say(engine: Engine, keyring: KeyRing, filled: datetime) -> None:
    """By prefix, key, actor, kind, outcome and time, page by page; changes are another record."""
    client = SecretClient(engine, keyring, audit_reads="strict")
    with acting_as("user:bob"):
        client.get_secrets(["a", "b"])
    client.get_secret("none")
    audit = client.audit

    assert [one.seq for one in audit.list_accesses()] == [1, 2, 3]
    assert [one.key for one in audit.list_accesses("a")] == ["a"]
    assert [one.key for one in audit.list_accesses(key="b")] == ["b"]
    assert [one.key for one in audit.list_accesses(actor="user:bob", after=1)] == ["b"]
    assert [one.key for one in audit.list_accesses(outcome="missing")] == ["none"]
    assert (
        audit.list_accesses(action="export") == audit.list_accesses(since=datetime.now(UTC) + timedelta(hours=1)) == []
    )
    assert [one.seq for one in audit.list_accesses(limit=2, after=0)] == [1, 2]
    assert audit.last_access_number() == 3
    assert isinstance(audit.list_accesses()[0], Access)
    assert client.last_change_number() == 4
    with pytest.raises(ValueError, match="no access is 'nothing'"):
        audit.list_accesses(action="nothing")
    with pytest.raises(ValueError, match="no outcome is 'nothing'"):
        audit.list_accesses(outcome="nothing")


def test_siblings_and_observers_record_too(engine: Engine, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """Each in its own namespace, through the same buffer."""

    class Observer:
        def begin(self, *_: object) -> Callable[[BaseException | None], None]:
            return lambda _: None

    client = SecretClient(engine, keyring, audit_reads="buffered").observed_by(Observer())
    other = client.namespace("other")
    other.set_secret("k", VALUE)
    assert other.get_secret("k") == VALUE
    with pytest.raises(SecretNotFoundError):
        client.get_secret_or_raise("k")
    client.close()

    found = raw.execute("SELECT namespace, key, outcome FROM secretstore.access_event ORDER BY namespace").fetchall()
    assert found == [("default", "k", "missing"), ("other", "k", "done")]


def test_what_is_the_owners_is_recorded_where_it_is_refused(
    filled: datetime, unrecorded: str, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Keys and grants, too."""
    raw.execute(f"GRANT INSERT ON secretstore.access_event TO {ROLE}")
    raw.execute(f"REVOKE INSERT, UPDATE ON secretstore.data_key FROM {ROLE}")
    for kind in ("client", "async client"):
        with calling(kind, unrecorded, keyring, audit_reads="strict") as call:
            for do in (
                lambda face: face.keys.rotate(),
                lambda face: face.keys.shred(),
                lambda face: face.grants.add("pg_monitor", can=["read"]),
                lambda face: face.grants.revoke("pg_monitor", everything=True),
            ):
                with pytest.raises(PermissionDeniedError):
                    call(do)

    assert recorded(raw) == [("", 0, action, "denied") for action in ("rotate", "shred", "grant", "revoke")] * 2


def test_what_waits_is_written_when_the_database_is_back(
    filled: datetime,
    *,
    server: Server,
    database: str,
    keyring: KeyRing,
    raw: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what still waits when the client closes is counted, for want of a database."""
    monkeypatch.setattr(accesses, "DELAY_SECONDS", 3600)
    with open_door(server) as door:
        engine = make_engine(door.url(database))
        client = SecretClient(engine, keyring, audit_reads="buffered", retry_seconds=0)
        assert client.get_secret("a") == VALUE
        door.break_next_commit("before")
        assert not written_now(client)
        assert (recorded(raw), client.statistics().accesses_dropped) == ([], 0)
        assert client.get_secret("b") == VALUE
        client.close()
        assert sorted(recorded(raw)) == [("a", 2, "get", "done"), ("b", 1, "get", "done")]
        client.get_secret("a")
        door.close()
        engine.dispose()
        client.close()

    assert (len(recorded(raw)), client.statistics().accesses_dropped) == (2, 1)


def written_now(client: SecretClient) -> bool:
    """Write what waits, before its time, and return whether the database took it."""
    buffer = client._buffer
    assert buffer is not None
    return buffer._work.write()


def test_a_value_that_does_not_open_is_a_failure(
    engine: Engine, *, keyring: KeyRing, wrong_keyring: KeyRing, filled: datetime, raw: psycopg.Connection
) -> None:
    """Nobody was given it."""
    client = SecretClient(engine, wrong_keyring, audit_reads="strict")
    with pytest.raises(DecryptionError):
        client.get_secret("a")

    assert recorded(raw) == [("a", 0, "get", "failed")]


def test_many_threads_leave_one_row_for_each_read(
    engine: Engine, keyring: KeyRing, filled: datetime, raw: psycopg.Connection
) -> None:
    """However they are divided into batches."""
    client = SecretClient(engine, keyring, audit_reads="buffered")

    run_together(*[lambda: [client.get_secret("a") for _ in range(300)]] * 4)
    client.close()

    assert number(raw, "SELECT count(*) FROM secretstore.access_event") == 1200
    assert client.statistics().accesses_dropped == 0


def test_a_forked_process_has_a_buffer_of_its_own(
    engine: Engine, keyring: KeyRing, filled: datetime, raw: psycopg.Connection
) -> None:
    """The child writes what it read, and nothing of its parent's."""
    client = SecretClient(engine, keyring, audit_reads="buffered")
    client.get_secret("a")

    def read_and_close() -> object:
        found = client.get_secret("b")
        client.close()
        return found

    assert answer_of_child(read_and_close) == VALUE
    client.close()
    assert sorted(row[0] for row in recorded(raw)) == ["a", "b"]


@pytest.mark.parametrize(
    "program",
    [
        "store = secretstore.connect(); store.get_secret('a')",
        "store = secretstore.connect(); store.get_secret('a'); raise SystemExit(1)",
        AWAITING,
    ],
    ids=["ends", "fails", "awaits"],
)
def test_a_process_that_just_ends_writes_first(
    database_url: str, *, master_key: str, filled: datetime, raw: psycopg.Connection, program: str
) -> None:
    """Nobody has closed the client."""
    environment = {
        "SECRETSTORE_DATABASE_URL": database_url,
        "SECRETSTORE_KEYS": master_key,
        "SECRETSTORE_AUDIT_READS": "buffered",
    }
    ignored = "import warnings; warnings.simplefilter('ignore', ResourceWarning)\n"
    subprocess.run([sys.executable, "-c", f"import secretstore\n{ignored}{program}"], env=environment, check=False)

    assert recorded(raw) == [("a", 2, "get", "done")]


def test_a_server_that_only_reads_is_refused_at_once(
    database: str, database_url: str, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Strictly; else reads are given, and their accesses are lost."""
    raw.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')

    with pytest.raises(ConfigurationError, match="transactions are read-only here"):
        secretstore.connect(database_url, keyring=keyring, audit_reads="strict")

    async def connect() -> None:
        await secretstore.connect_async(database_url, keyring=keyring, audit_reads="strict")

    with pytest.raises(ConfigurationError, match="transactions are read-only here"):
        asyncio.run(connect())
    secretstore.connect(database_url, keyring=keyring, audit_reads="buffered").close()


def test_a_replica_is_refused_at_once(tmp_path: Path, keyring: KeyRing) -> None:
    """Whoever asks for strict records learns why there are none before the first read."""
    folder = EmbeddedFolder(tmp_path / "postgresql")
    primary = EmbeddedServer(folder)
    primary.stop()
    # It waits for a primary that never comes, and answers reads meanwhile.
    (folder.data / "standby.signal").touch()
    standby = EmbeddedServer(folder)
    try:
        with pytest.raises(ConfigurationError, match="the server is a read-only replica; connect to the primary"):
            secretstore.connect(standby.url, keyring=keyring, audit_reads="strict")
    finally:
        with psycopg.connect(standby.url) as connection:
            # A server that waits for another one does not stop by itself.
            connection.execute("SELECT pg_promote()")
        standby.stop()
