"""The record of what was done to secrets, sealed: whatever is done to it afterwards shows, and nobody waits."""

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine

from secretstore import (
    AsyncSecretClient,
    ConfigurationError,
    KeyInUseError,
    KeyRing,
    MasterKeyError,
    RecordTamperedError,
    SecretClient,
)
from secretstore.crypto.checkpoint import EVENT_COLUMNS
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.domain.sealing import RECORDS
from secretstore.orm.engines import make_engine
from secretstore.service import sealing
from tests.support.faces import async_engine

RECORD_OF = {"change_event": "change", "access_event": "access"}
EACH_RECORD = pytest.mark.parametrize("table", RECORD_OF)
# Of each type, something else than is there.
OTHERS: dict[str, Callable[[Any], Any]] = {
    "text": lambda value: f"{value or ''}x",
    "bigint": lambda value: value + 1000,
    "uuid": lambda _: "00000000-0000-0000-0000-00000000abcd",
    "timestamp with time zone": lambda value: value + timedelta(microseconds=1),
    "bytea": lambda value: bytes([value[0] ^ 1]) + value[1:],
}
PER_CHECKPOINT = 4
ADD_ACCESSES = """
INSERT INTO secretstore.access_event (namespace, id, key, version, action, actor, request_id)
SELECT 'default', gen_random_uuid(), 'k' || n, n, 'get', 'somebody', 'r' FROM generate_series(1, %s) n
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints and pages of a few events."""
    monkeypatch.setattr(sealing, "MAX_EVENTS", PER_CHECKPOINT)
    monkeypatch.setattr(sealing, "PAGE", 3)


@pytest.fixture
def sealed(store: SecretClient, raw: psycopg.Connection, small: None) -> SecretClient:
    """Ten events of each record, in three checkpoints, where nothing keeps anybody from changing anything."""
    for number in range(10):
        store.set_secret(f"k{number}", number)
    raw.execute(ADD_ACCESSES, [10])
    store.audit.seal()
    for statement in (
        "ALTER TABLE secretstore.audit_checkpoint DROP CONSTRAINT fk_audit_checkpoint_data_key",
        "ALTER TABLE secretstore.audit_checkpoint DROP CONSTRAINT ck_audit_checkpoint_record",
        "ALTER TABLE secretstore.audit_checkpoint DROP CONSTRAINT pk_audit_checkpoint",
        "DROP INDEX secretstore.uq_change_event_seq, secretstore.uq_access_event_seq",
    ):
        raw.execute(statement.encode())
    return store


def found(store: SecretClient, **options: Any) -> tuple[str, str, int | None, int | None]:
    """Return what a verification finds: the record, how, the event and the checkpoint."""
    with pytest.raises(RecordTamperedError) as caught:
        store.audit.verify(**options)
    error = caught.value
    return error.record, error.how, error.seq, error.checkpoint


def test_what_is_sealed_verifies(sealed: SecretClient) -> None:
    """Every event that was committed is in a checkpoint, and is as it was."""
    sealed.set_secret("later", 1)

    changes, accesses = sealed.audit.verify()

    assert (changes.events, changes.checkpoints, changes.kept_from, changes.unsealed) == (10, 3, 1, 1)
    assert (accesses.events, accesses.checkpoints, accesses.kept_from, accesses.unsealed) == (10, 3, 1, 0)
    (access,) = sealed.audit.verify(record="access", first=2)
    assert (access.events, access.checkpoints) == (6, 2)
    assert (sealed.audit.seal().events, sealed.audit.seal().events) == (1, 0)
    assert [(head.record, head.number, head.last_seq) for head in sealed.audit.head().heads] == [
        ("change", 4, 11),
        ("access", 3, 10),
    ]


def test_nothing_to_seal_makes_no_key(store: SecretClient) -> None:
    """A namespace without events gets no checkpoint and no key."""
    assert (store.audit.seal().checkpoints, store.audit.head().heads) == (0, ())
    assert store.keys.list_data_keys() == []


def test_the_columns_are_those_of_the_tables(raw: psycopg.Connection) -> None:
    """Each column of an event is sealed: one that comes to be later has to be, too."""
    assert [columns(raw, table).keys() for table in RECORD_OF] == [set(EVENT_COLUMNS)] * 2


@contextmanager
def tampered(raw: psycopg.Connection, table: str, statement: sql.Composed | str, *values: object) -> Iterator[None]:
    """Change a table, and put it back as it was."""
    place, spare = sql.Identifier("secretstore", table), sql.Identifier("spare")
    raw.execute(sql.SQL("CREATE TEMPORARY TABLE {} AS TABLE {}").format(spare, place))
    query = statement.encode() if isinstance(statement, str) else statement
    assert raw.execute(query, values or None).rowcount > 0
    try:
        yield
    finally:
        with raw.transaction():
            raw.execute(sql.SQL("DELETE FROM {}").format(place))
            raw.execute(sql.SQL("INSERT INTO {} SELECT * FROM {}").format(place, spare))
            raw.execute(sql.SQL("DROP TABLE {}").format(spare))


def columns(raw: psycopg.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table with their types."""
    found = raw.execute(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'secretstore' AND table_name = %s",
        [table],
    )
    return dict(found.fetchall())


@pytest.mark.parametrize("table", [*RECORD_OF, "audit_checkpoint"])
def test_a_change_of_any_column_is_found(sealed: SecretClient, raw: psycopg.Connection, table: str) -> None:
    """Whichever column of a sealed row is changed, verification names the row."""
    is_event = table in RECORD_OF
    where = sql.SQL("seq = 6" if is_event else "number = 2 AND record = 'change'")
    findings = {}
    for column, kind in columns(raw, table).items():
        name, place = sql.Identifier(column), sql.Identifier("secretstore", table)
        (value,) = raw.execute(sql.SQL("SELECT {} FROM {} WHERE {}").format(name, place, where)).fetchone() or (None,)
        update = sql.SQL("UPDATE {} SET {} = %s WHERE {}").format(place, name, where)
        with tampered(raw, table, update, OTHERS[kind](value)):
            record, _, seq, checkpoint = found(sealed)
            findings[column] = (record, seq, checkpoint)

    expected = (RECORD_OF[table], 6, None) if is_event else ("change", None, 2)
    assert findings == dict.fromkeys(findings, expected)
    assert len(findings) >= len(EVENT_COLUMNS)
    assert sealed.audit.verify()[0].events == 10


@EACH_RECORD
def test_null_is_not_empty_and_no_time_is_too_late(sealed: SecretClient, raw: psycopg.Connection, table: str) -> None:
    """A null in the place of a text is found, or a text in the place of null; and `infinity`, which Python has not."""
    texts = ("request_id", "application_name", "database_role")
    nulls = [f"{column} = CASE WHEN {column} IS NULL THEN '' END" for column in texts]
    for part in ("occurred_at = 'infinity'", "occurred_at = '-infinity'", *nulls):
        with tampered(raw, table, f"UPDATE secretstore.{table} SET {part} WHERE seq = 7"):
            assert found(sealed) == (RECORD_OF[table], "edited", 7, None), part


COPY = (
    "INSERT INTO secretstore.{} (namespace, id, key, version, action, actor, seq) "
    "VALUES ('default', gen_random_uuid(), 'x', 1, 'set', 'nobody', {})"
)

DOUBLE = "INSERT INTO secretstore.audit_checkpoint SELECT * FROM secretstore.audit_checkpoint"

ROWS = (
    ("DELETE FROM secretstore.{} WHERE seq = 6", "removed", 6),
    ("DELETE FROM secretstore.{} WHERE seq >= 9", "removed", 9),
    ("DELETE FROM secretstore.{} WHERE namespace = 'default'", "removed", 1),
    ("UPDATE secretstore.{} SET seq = 11 - seq WHERE seq IN (5, 6)", "reordered", 5),
    ("UPDATE secretstore.{} SET seq = 50 WHERE seq = 6", "removed", 6),
    ("UPDATE secretstore.{} SET seq = NULL WHERE seq = 6", "removed", 6),
    ("UPDATE secretstore.{} SET seq = seq + 1 WHERE seq > 3", "removed", 4),
    (COPY.replace("{})", "6)"), "inserted", 6),
    (COPY.replace("{})", "9)"), "inserted", 9),
    (COPY.replace("{})", "0)"), "inserted", 0),
    (COPY.replace("{})", "12)"), "removed", 11),
)


@EACH_RECORD
def test_rows_that_come_go_or_move_are_found(sealed: SecretClient, raw: psycopg.Connection, table: str) -> None:
    """Whatever is removed, put in, swapped or numbered anew, verification names the first event that is wrong."""
    for statement, how, seq in ROWS:
        with tampered(raw, table, statement.format(table)):
            assert found(sealed) == (RECORD_OF[table], how, seq, None), statement


CHECKPOINTS = (
    ("DELETE FROM secretstore.audit_checkpoint WHERE record = '{}' AND number = 2", "removed", 2),
    ("DELETE FROM secretstore.audit_checkpoint WHERE record = '{}' AND number = 1", "removed", 1),
    (f"{DOUBLE} WHERE record = '{{}}' AND number = 2", "inserted", 2),
    (f"{DOUBLE} WHERE record = '{{}}' AND number = 3", "inserted", 3),
    ("UPDATE secretstore.audit_checkpoint SET number = -1 WHERE record = '{}' AND number = 2", "inserted", -1),
)


@pytest.mark.parametrize("record", RECORDS)
def test_checkpoints_that_come_and_go_are_found(sealed: SecretClient, raw: psycopg.Connection, record: str) -> None:
    """A checkpoint that is missing, or one more, is named."""
    for statement, how, number in CHECKPOINTS:
        with tampered(raw, "audit_checkpoint", statement.format(record)):
            assert found(sealed) == (record, how, None, number), statement


@pytest.mark.parametrize("record", RECORDS)
def test_a_cut_tail_shows_against_an_earlier_head(sealed: SecretClient, raw: psycopg.Connection, record: str) -> None:
    """Where the last events went with their checkpoint, only what was kept elsewhere shows it."""
    head = sealed.audit.head()
    sealed.audit.verify(against=head)

    raw.execute("DELETE FROM secretstore.audit_checkpoint WHERE record = %s AND number = 3", [record])
    raw.execute(f"DELETE FROM secretstore.{record}_event WHERE seq > 8".encode())

    assert [one.unsealed for one in sealed.audit.verify()] == [0, 0]
    assert found(sealed, against=head) == (record, "cut", None, 3)


def test_a_chain_that_was_made_anew_shows_against_an_earlier_head(
    sealed: SecretClient, raw: psycopg.Connection
) -> None:
    """Whoever may use the key can seal other events, and is betrayed by the head of before."""
    head = sealed.audit.head()
    raw.execute("DELETE FROM secretstore.audit_checkpoint")
    raw.execute("UPDATE secretstore.change_event SET actor = 'innocent'")

    sealed.audit.seal()

    assert sealed.audit.verify()[0].events == 10
    assert found(sealed, against=head) == ("change", "edited", None, 3)


def test_checkpoints_of_two_chains_do_not_fit_together(sealed: SecretClient, raw: psycopg.Connection) -> None:
    """What the same key has sealed at another time, as before a backup was restored, is no part of this chain."""
    raw.execute(
        "CREATE TABLE spare AS SELECT * FROM secretstore.audit_checkpoint WHERE record = 'change' AND number > 1"
    )
    raw.execute("UPDATE secretstore.change_event SET actor = 'innocent' WHERE seq < 5")
    raw.execute("DELETE FROM secretstore.audit_checkpoint WHERE record = 'change'")
    sealed.audit.seal()

    raw.execute("DELETE FROM secretstore.audit_checkpoint WHERE record = 'change' AND number > 1")
    raw.execute("INSERT INTO secretstore.audit_checkpoint SELECT * FROM spare")

    assert found(sealed) == ("change", "edited", None, 2)


def test_a_head_of_another_namespace_is_refused(sealed: SecretClient) -> None:
    """A head says nothing of other namespaces."""
    with pytest.raises(ConfigurationError, match="of namespace 'other'"):
        sealed.audit.verify(against=replace(sealed.audit.head(), namespace="other"))


def test_a_checkpoint_to_begin_with_needs_its_record(sealed: SecretClient) -> None:
    """Both records count their checkpoints for themselves; one that is not there yet is missing."""
    with pytest.raises(ValueError, match="needs a `record`"):
        sealed.audit.verify(first=2)
    assert found(sealed, record="access", first=4) == ("access", "removed", None, 4)


OF_THE_KEY = (
    "SET state = 'retired'",
    "SET id = 'other'",
    "SET namespace = 'other'",
    "SET wrapped = jsonb_set(wrapped, '{nonce}', '\"AAAAAAAAAAAAAAAA\"')",
    "SET wrapped = (SELECT wrapped FROM secretstore.data_key WHERE state = 'active')",
)


def test_a_key_that_is_not_what_it_was_is_found(sealed: SecretClient, raw: psycopg.Connection) -> None:
    """Neither verification nor sealing goes on without the key of the chain, and no other one is made."""
    sealed.set_secret("more", 1)
    raw.execute("CREATE TABLE spare AS SELECT namespace, id, wrapped, state FROM secretstore.data_key")
    for change in OF_THE_KEY:
        raw.execute(f"UPDATE secretstore.data_key {change} WHERE state = 'audit'".encode())
        assert found(sealed) == ("change", "key gone", None, None), change
        with pytest.raises(RecordTamperedError, match="is gone, or does not open"):
            sealed.audit.seal()
        raw.execute(
            "UPDATE secretstore.data_key SET namespace = 'default', id = spare.id, state = spare.state, "
            "wrapped = spare.wrapped FROM spare WHERE spare.state = 'audit' AND data_key.state <> 'active'"
        )
        assert sealed.audit.verify()[0].unsealed == 1, change

    raw.execute("DELETE FROM secretstore.data_key WHERE state = 'audit'")
    assert found(sealed) == ("change", "key gone", None, None)


def test_the_key_needs_its_master_key(sealed: SecretClient, engine: Engine) -> None:
    """Without the master key nothing can be said of the record."""
    other = SecretClient(engine, KeyRing.from_text(generate_master_key("another")))

    with pytest.raises(MasterKeyError, match="'test'"):
        other.audit.verify()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE secretstore.audit_checkpoint SET mac = '\\x00' WHERE number = 3", "checkpoint 3 was edited"),
        ("DELETE FROM secretstore.change_event WHERE seq = 11", "event 11 was removed"),
    ],
)
def test_nothing_is_sealed_over_what_does_not_hold(
    sealed: SecretClient, raw: psycopg.Connection, statement: str, message: str
) -> None:
    """A chain that is broken at its end, and a gap after it, are not hidden under another checkpoint."""
    sealed.set_secret("more", 1)
    sealed.set_secret("most", 1)
    sealed.list_changes()
    raw.execute(statement.encode())

    with pytest.raises(RecordTamperedError, match=message):
        sealed.audit.seal()
    assert sealed.audit.head().heads[0].number == 3


def test_the_key_outlives_what_is_done_to_data_keys(sealed: SecretClient, engine: Engine, master_key: str) -> None:
    """Rotation and shredding leave it alone, it cannot be destroyed, and it is wrapped anew as the others are."""
    (audit,) = [key for key in sealed.keys.list_data_keys() if key.state == "audit"]
    sealed.keys.rotate()
    with pytest.raises(KeyInUseError, match="it authenticates the record"):
        sealed.keys.destroy(audit.id)
    sealed.keys.shred()
    sealed.set_secret("after", 1)

    moved = LocalMasterKey.parse(generate_master_key("next"))
    both = SecretClient(engine, KeyRing(moved, LocalMasterKey.parse(master_key)))
    both.keys.rewrap()
    both.keys.check_removable("test")
    alone = SecretClient(engine, KeyRing(moved))
    alone.audit.seal()

    assert alone.audit.verify()[0].events == 14
    assert alone.get_secret("after") == 1


def test_a_writer_and_sealing_do_not_wait_for_each_other(store: SecretClient, engine: Engine) -> None:
    """Events of an open transaction are sealed after its commit, and both go on meanwhile."""
    store.set_secret("a", 1)
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("SET LOCAL lock_timeout = '1ms'")
        connection.exec_driver_sql(
            "SELECT key FROM secretstore.secret_store WHERE namespace = %(given_namespace)s FOR UPDATE",
            {"given_namespace": "default"},
        )
        connection.exec_driver_sql(
            "INSERT INTO secretstore.change_event (namespace, id, key, version, action, actor) "
            "VALUES ('default', gen_random_uuid(), 'a', 2, 'set', 'x')"
        )
        assert store.audit.seal().events == 1
    store.audit.seal()
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({lock_of_sealing()})")
        store.set_secret("a", 3)

    changes, _ = store.audit.verify()
    assert (changes.events, changes.checkpoints, changes.unsealed) == (2, 2, 1)


def lock_of_sealing() -> int:
    """Return the lock that whoever seals changes holds."""
    from secretstore.orm.checkpoint_repository import _lock_of

    return _lock_of("change", "default")  # type: ignore[arg-type]


def test_many_threads_seal_at_once(store: SecretClient, small: None) -> None:
    """Each event comes into one checkpoint, whoever seals, while others write."""

    def work(number: int) -> None:
        for at in range(6):
            store.set_secret(f"{number}.{at}", at)
            store.audit.seal()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    store.audit.seal()
    changes, _ = store.audit.verify()
    assert (changes.events, changes.unsealed) == (24, 0)


def _seal_there(url: str, master_key: str) -> None:
    engine = make_engine(url)
    SecretClient(engine, KeyRing.from_text(master_key)).audit.seal()
    engine.dispose()


def test_many_processes_seal_at_once(store: SecretClient, database_url: str, master_key: str) -> None:
    """The first checkpoint of a namespace, and its key, are made once."""
    for number in range(5):
        store.set_secret(f"k{number}", number)
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_seal_there, args=(database_url, master_key)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()

    assert [child.exitcode for child in children] == [0, 0, 0]
    assert [(one.events, one.checkpoints) for one in store.audit.verify()] == [(5, 1), (0, 0)]


def test_the_awaited_record_is_the_same(sealed: SecretClient, database_url: str, keyring: KeyRing) -> None:
    """What one face has sealed, the other one verifies."""

    async def verify() -> Any:
        async with async_engine(database_url) as engine:
            client = AsyncSecretClient(engine, keyring)
            await client.set_secret("more", 1)
            done = await client.audit.seal()
            return done.events, await client.audit.verify(), await client.audit.head()

    events, verified, head = asyncio.run(verify())

    assert (events, verified, head) == (1, sealed.audit.verify(), sealed.audit.head())


def test_progress_is_told(sealed: SecretClient) -> None:
    """How much is verified is told page by page."""
    told: list[tuple[int, int]] = []

    sealed.audit.verify(record="change", on_progress=lambda done, total: told.append((done, total)))

    assert told == [(3, 10), (4, 10), (7, 10), (8, 10), (10, 10)]
