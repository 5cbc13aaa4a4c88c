"""What docs/threat-model.md says that others see, can do and cannot do, where no other test shows it already."""

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from psycopg.types.json import Jsonb
from sqlalchemy import create_engine, event

from secretstore import DecryptionError, KeyRing, MasterKeyError, PermissionDeniedError, SecretClient
from secretstore.crypto.keyring import MAX_AGE_SECONDS
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.domain.protocols import DataKeyPlace
from secretstore.orm.engines import make_engine
from tests.support.errors import refused_role
from tests.support.forms import forms_of
from tests.support.server import Server

VALUE = "correct-horse-battery"
# The rights that README.md gives to an application.
GRANTS = (
    "GRANT USAGE ON SCHEMA secretstore TO {role}",
    "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA secretstore TO {role}",
)


def only(raw: psycopg.Connection, query: str) -> Any:
    """Return the one value of a query's answer."""
    row = raw.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def wrapped_data_key(raw: psycopg.Connection) -> tuple[DataKeyPlace, Mapping[str, object]]:
    """Return the one data key of the default namespace as it is stored."""
    row = raw.execute("SELECT id, wrapped FROM secretstore.data_key").fetchone()
    assert row is not None
    return DataKeyPlace("default", row[0]), row[1]


def store_data_key(raw: psycopg.Connection, ring: KeyRing) -> None:
    """Put a new data key of a key ring in the place of the active one, as somebody who may write to the database can."""
    made = ring.new_data_key("default")
    raw.execute("UPDATE secretstore.data_key SET state = 'retired'")
    raw.execute(
        "INSERT INTO secretstore.data_key (namespace, id, wrapped) VALUES ('default', %s, %s)",
        [made.id, Jsonb(dict(made.wrapped))],
    )


# ---------------------------------------------------------------------- a reader of the database


def test_a_reader_sees_names_labels_times_numbers_and_people(store: SecretClient, raw: psycopg.Connection) -> None:
    """Keys, labels, versions, times and who made a change stand in the tables for everyone who may read them."""
    ann = SecretClient(store.engine, store._options.keyring, actor="ann")
    expires = datetime(2100, 1, 1, tzinfo=UTC)
    ann.set_secret("bank.password", VALUE)
    ann.set_secret("bank.password", VALUE, labels={"team": "web"}, expires_at=expires)

    head = raw.execute("SELECT key, version, labels, expires_at, updated_by FROM secretstore.secret_store").fetchall()
    changes = raw.execute("SELECT key, action, actor FROM secretstore.change_event").fetchall()

    assert head == [("bank.password", 2, {"team": "web"}, expires, "ann")]
    assert changes == [("bank.password", "set", "ann")] * 2
    assert only(raw, "SELECT count(*) FROM secretstore.secret_version WHERE created_at <= now()") == 2


@pytest.mark.parametrize("value", ["", VALUE, {"a": [1] * 100}], ids=["empty", "text", "object"])
def test_the_length_of_a_value_is_seen(store: SecretClient, raw: psycopg.Connection, value: Any) -> None:
    """The ciphertext is as long as the JSON text, and 16 bytes of tag: nothing is padded."""
    store.set_secret("a", value)

    length = len(b64decode(only(raw, "SELECT value ->> 'data' FROM secretstore.secret_store")))
    assert length == len(json.dumps(value, separators=(",", ":"))) + 16


def test_the_record_of_changes_outlives_a_purge(store: SecretClient, raw: psycopg.Connection) -> None:
    """Who changed which key when is told for good, also of a secret of which nothing else is left; labels are not."""
    store.set_secret("customer.smith", VALUE, labels={"team": "web"})
    store.purge_secret("customer.smith")

    recorded = raw.execute("SELECT * FROM secretstore.change_event ORDER BY occurred_at").fetchall()
    assert [set(row) >= {"customer.smith", "postgres"} for row in recorded] == [True, True]
    assert "web" not in str(recorded)
    assert only(raw, "SELECT labels FROM secretstore.secret_store") == {}
    assert only(raw, "SELECT count(*) FROM secretstore.secret_version") == 0


def test_whoever_may_connect_hears_notices(server: Server, store: SecretClient, raw: psycopg.Connection) -> None:
    """A role without any right hears which key of which namespace was changed, unless notices are off; never a value."""
    with refused_role(server) as role:
        raw.execute(f"SET ROLE {role}".encode())
        raw.execute("LISTEN secretstore")
        SecretClient(store.engine, store._options.keyring, notify="off").set_secret("quiet", VALUE)
        store.set_secret("customer.smith", VALUE)
        heard = [notice.payload for notice in raw.notifies(timeout=20, stop_after=1)]
        raw.execute("RESET ROLE")
    assert heard == ['{"namespace": "default", "key": "customer.smith", "version": 1}']


def test_equal_values_do_not_look_equal(store: SecretClient, raw: psycopg.Connection) -> None:
    """The same value at two keys, and in two versions of one, has three ciphertexts and nonces."""
    store.set_secrets({"a": VALUE, "b": VALUE})
    store.set_secret("a", VALUE)

    for part in ("nonce", "data"):
        assert only(raw, f"SELECT count(DISTINCT value ->> '{part}') FROM secretstore.secret_version") == 3


# ---------------------------------------------------------------------- a writer to the database


def test_a_writer_can_roll_a_secret_back_unseen(store: SecretClient, raw: psycopg.Connection) -> None:
    """Who puts back the head with its number and removes what came after it leaves no trace; the number is used again."""
    store.set_secret("a", VALUE)
    store.set_secret("a", "newer")
    raw.execute("DELETE FROM secretstore.secret_version WHERE version = 2")
    raw.execute("DELETE FROM secretstore.change_event WHERE version = 2")
    raw.execute(
        "UPDATE secretstore.secret_store SET version = 1, value = (SELECT value FROM secretstore.secret_version)"
    )

    assert store.get_secret("a") == VALUE
    assert store.set_secret("a", "newest").version == 2
    assert store.get_secret("a") == "newest"


HIDING = {
    "marked as deleted": "UPDATE secretstore.secret_store SET deleted_at = now()",
    "expired": "UPDATE secretstore.secret_store SET expires_at = now()",
    "removed": "DELETE FROM secretstore.secret_version; DELETE FROM secretstore.secret_store",
}


@pytest.mark.parametrize("statement", HIDING.values(), ids=HIDING)
def test_a_writer_can_hide_a_secret(store: SecretClient, raw: psycopg.Connection, statement: str) -> None:
    """A secret whose row was hidden by hand reads as one that never was."""
    store.set_secret("a", VALUE)
    for one in statement.split(";"):
        raw.execute(one.encode())

    assert (store.get_secret("a"), store.list_secret_keys()) == (None, [])


def test_a_writer_can_bring_a_deleted_secret_back(store: SecretClient, raw: psycopg.Connection) -> None:
    """Deletion and expiry are marks in the row, which its seal does not cover."""
    store.set_secret("a", VALUE)
    store.set_secret("b", VALUE, expires_at=datetime(2000, 1, 1, tzinfo=UTC))
    store.delete_secret("a")
    raw.execute("UPDATE secretstore.secret_store SET deleted_at = NULL, expires_at = NULL")

    assert store.get_secrets(["a", "b"]) == {"a": VALUE, "b": VALUE}


def test_a_writer_can_change_labels_times_and_people_unseen(store: SecretClient, raw: psycopg.Connection) -> None:
    """What stands beside the envelope is not covered by its seal, and the record of changes by none."""
    store.set_secret("a", VALUE, labels={"owner": "ann"})
    raw.execute(
        "UPDATE secretstore.secret_store SET labels = '{\"owner\": \"eve\"}', created_by = 'eve', updated_at = '2001-01-01Z'"
    )
    raw.execute("UPDATE secretstore.change_event SET actor = 'eve'")

    info = store.describe_secret("a")
    assert info is not None
    assert (info.labels, info.created_by, info.updated_at.year) == ({"owner": "eve"}, "eve", 2001)
    assert store.get_secret("a") == VALUE


def test_a_writer_can_choose_among_the_data_keys_of_a_namespace(
    store: SecretClient, raw: psycopg.Connection, keyring: KeyRing
) -> None:
    """Which data key seals new values is a mark in its row; every data key ever made for the namespace can be set."""
    store.set_secret("a", VALUE)
    old = only(raw, "SELECT id FROM secretstore.data_key")
    store_data_key(raw, keyring)
    raw.execute("UPDATE secretstore.data_key SET state = 'retired'")
    raw.execute("UPDATE secretstore.data_key SET state = 'active' WHERE id = %s", [old])
    store.set_secret("b", VALUE)

    assert only(raw, "SELECT data_key_id FROM secretstore.secret_store WHERE key = 'b'") == old


def test_a_writer_cannot_bring_a_data_key(store: SecretClient, raw: psycopg.Connection) -> None:
    """A data key that was not wrapped by a master key of ours seals nothing, whatever it says of its master key."""
    store.set_secret("a", VALUE)
    store_data_key(raw, KeyRing.from_text(generate_master_key("test")))
    with pytest.raises(DecryptionError, match="not the bytes that the key of this id had"):
        store.set_secret("b", VALUE)
    store_data_key(raw, KeyRing.from_text(generate_master_key("eve")))
    with pytest.raises(MasterKeyError, match="wrapped by master key 'eve', which is not in the key ring"):
        store.set_secret("b", VALUE)

    assert only(raw, "SELECT count(*) FROM secretstore.secret_store") == 1


# ---------------------------------------------------------------------- a stolen master key, and copies


def test_a_backup_opens_with_the_master_key_that_it_was_made_with(
    store: SecretClient, raw: psycopg.Connection, master_key: str, wrong_keyring: KeyRing
) -> None:
    """Rows that are gone come back from a copy, and open with the old master key and with nothing else."""
    store.set_secret("a", VALUE)
    copied = {"data_key": "namespace, id, wrapped", "secret_store": "namespace, key, value, version"}
    for table, columns in copied.items():
        raw.execute(f"CREATE TABLE kept_{table} AS SELECT {columns} FROM secretstore.{table}".encode())
    raw.execute(
        "TRUNCATE secretstore.label_change, secretstore.secret_version, secretstore.secret_store, "
        "secretstore.data_key_use, secretstore.audit_checkpoint, secretstore.data_key"
    )
    assert store.get_secret("a") is None

    raw.execute(
        "ALTER TABLE kept_secret_store ADD COLUMN created_by text DEFAULT 'x', ADD COLUMN updated_by text DEFAULT 'x'"
    )
    copied["secret_store"] += ", created_by, updated_by"
    for table, columns in copied.items():
        raw.execute(f"INSERT INTO secretstore.{table} ({columns}) SELECT {columns} FROM kept_{table}".encode())

    assert SecretClient(store.engine, KeyRing.from_text(master_key)).get_secret("a") == VALUE
    with pytest.raises(DecryptionError):
        SecretClient(store.engine, wrong_keyring).get_secret("a")


def test_a_new_master_key_does_not_close_an_old_copy(
    store: SecretClient, raw: psycopg.Connection, master_key: str
) -> None:
    """A rewrapped data key is the same key: who has the old row and the old master key opens what is written later."""
    store.set_secret("a", VALUE)
    place, stolen = wrapped_data_key(raw)
    ring = KeyRing(LocalMasterKey.parse(generate_master_key("next")), LocalMasterKey.parse(master_key))
    raw.execute("UPDATE secretstore.data_key SET wrapped = %s", [Jsonb(dict(ring.rewrap(stolen, place)))])
    SecretClient(store.engine, ring).set_secret("a", "written later")

    raw.execute("UPDATE secretstore.data_key SET wrapped = %s", [Jsonb(stolen)])
    assert SecretClient(store.engine, KeyRing.from_text(master_key)).get_secret("a") == "written later"


# ---------------------------------------------------------------------- a stolen application role


@pytest.mark.parametrize("table", ["secret_store", "secret_version", "data_key", "change_event"])
def test_the_application_role_may_remove_nothing(
    server: Server, store: SecretClient, raw: psycopg.Connection, table: str
) -> None:
    """With the rights that README.md gives, nobody deletes rows, empties or changes a table."""
    store.set_secret("a", VALUE)
    with refused_role(server) as role:
        for grant in GRANTS:
            raw.execute(grant.format(role=role).encode())
        raw.execute(f"SET ROLE {role}".encode())
        for statement in ("DELETE FROM secretstore.{}", "TRUNCATE secretstore.{}", "DROP TABLE secretstore.{}"):
            with pytest.raises(InsufficientPrivilege):
                raw.execute(statement.format(table).encode())
        raw.execute("RESET ROLE")
        raw.execute(f"DROP OWNED BY {role}".encode())
    assert store.get_secret("a") == VALUE


def test_the_application_role_may_destroy_values_and_not_purge(
    server: Server, database_url: str, store: SecretClient, raw: psycopg.Connection
) -> None:
    """With the rights of README.md ciphertexts can be emptied, and rows stay; purging and pruning need one right more."""
    store.set_secret("a", VALUE)
    store.set_secret("a", VALUE)
    with refused_role(server) as role:
        for grant in GRANTS:
            raw.execute(grant.format(role=role).encode())
        engine = create_engine(database_url.replace("://", "+psycopg://"), connect_args={"options": f"-c role={role}"})
        application = SecretClient(engine, store._options.keyring)
        assert application.destroy_versions("a", [1]) == 1
        with pytest.raises(PermissionDeniedError):
            application.purge_secret("a")
        store.set_max_versions(1)
        with pytest.raises(PermissionDeniedError):
            application.gc()
        raw.execute(f"GRANT DELETE ON secretstore.secret_version TO {role}".encode())
        assert application.gc().pruned == 1
        assert application.set_secret("b", VALUE).version == application.set_secret("b", VALUE).version - 1
        assert application.purge_secret("b")
        engine.dispose()
        raw.execute(f"DROP OWNED BY {role}".encode())
    assert store.get_secret("a") == VALUE


def test_a_namespace_is_no_right(store: SecretClient) -> None:
    """Whoever has the role and the key ring reads every namespace."""
    store.namespace("others").set_secret("a", VALUE)

    assert store.namespace("others").get_secret("a") == VALUE


def test_the_recorded_actor_is_what_the_application_says(store: SecretClient, raw: psycopg.Connection) -> None:
    """The name of who made a change is a claim of the process that made it."""
    SecretClient(store.engine, store._options.keyring, actor="the queen").set_secret("a", VALUE)

    assert only(raw, "SELECT actor FROM secretstore.change_event") == "the queen"


# ---------------------------------------------------------------------- a reader of the memory


def test_an_opened_data_key_is_used_until_its_time_is_over(
    store: SecretClient, raw: psycopg.Connection, master_key: str
) -> None:
    """A process that has opened a data key goes on with it, though its row opens no more, until `max_age` has passed."""
    store.set_secret("a", VALUE)
    now = [0.0]
    process = SecretClient(store.engine, KeyRing(LocalMasterKey.parse(master_key), clock=lambda: now[0]))
    assert process.get_secret("a") == VALUE
    raw.execute("UPDATE secretstore.data_key SET wrapped = jsonb_set(wrapped, '{data}', '\"AAAA\"')")

    now[0] = MAX_AGE_SECONDS - 1
    assert process.get_secret("a") == VALUE
    now[0] = MAX_AGE_SECONDS + 1
    with pytest.raises(DecryptionError):
        process.get_secret("a")


class UnsteadyMasterKey:
    """A key server that can go away."""

    id = "unsteady"
    fingerprint = "none"
    away = False

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Keep the data key in the open; no such row leaves its test."""
        return {"key": self.id, "data": data_key.hex()}

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Answer, unless it is away."""
        if self.away:
            raise MasterKeyError("the key server does not answer", is_temporary=True)
        return bytes.fromhex(str(wrapped["data"]))


def test_an_opened_data_key_is_used_while_its_key_server_is_away(store: SecretClient) -> None:
    """While the key server cannot be reached, a process that has opened a data key keeps it for longer than `max_age`."""
    master_key, now = UnsteadyMasterKey(), [0.0]
    process = SecretClient(store.engine, KeyRing(master_key, clock=lambda: now[0]))
    process.set_secret("a", VALUE)
    master_key.away, now[0] = True, 24 * MAX_AGE_SECONDS

    assert process.get_secret("a") == VALUE
    with pytest.raises(MasterKeyError, match="does not answer"):
        SecretClient(store.engine, KeyRing(master_key)).get_secret("a")


# ---------------------------------------------------------------------- a reader of the network


@pytest.fixture
def overheard(database_url: str, keyring: KeyRing, tmp_path: Path) -> Iterator[tuple[SecretClient, Path]]:
    """A client, and a file into which libpq writes every message that it sends and gets."""
    trace = tmp_path / "trace"
    engine = make_engine(database_url)
    with trace.open("wb") as file:

        @event.listens_for(engine, "connect")
        def listen(connection: psycopg.Connection, _: object) -> None:
            connection.pgconn.trace(file.fileno())

        yield SecretClient(engine, keyring), trace
        engine.dispose()


def test_a_listener_on_the_network_sees_what_a_reader_of_the_database_sees(
    overheard: tuple[SecretClient, Path],
) -> None:
    """Between the process and PostgreSQL go keys and envelopes, and no value, whether or not TLS hides them."""
    store, trace = overheard
    store.set_secret("bank.password", VALUE)
    assert store.get_secrets(["bank.password"]) == {"bank.password": VALUE}
    store.engine.dispose()

    heard = trace.read_bytes()
    for word in (b"Bind", b"DataRow", b"bank.password", b"A256GCM"):
        assert word in heard
    assert [form for form in forms_of(VALUE.encode()) if form in heard] == []
