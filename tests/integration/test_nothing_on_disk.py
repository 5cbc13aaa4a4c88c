"""Every file that a PostgreSQL has written is searched for values and keys: heap, write-ahead log, server log and all else.

A search proves nothing unless it would have found something.  So the same search has to find what is not secret (keys
and labels), and plaintext that was written by hand in the same columns, short and long, and in every form of writing.
PostgreSQL must not hide anything from it either: columns are stored without compression, which would break a text up
(`STORAGE EXTERNAL`), the write-ahead log is not compressed and holds whole rows (`wal_level = logical`, for otherwise it
leaves out what an update did not change), and nothing that was deleted is cleared away (no autovacuum, and a replication
slot that keeps the write-ahead log).
"""

import tempfile
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import psycopg
import pytest
from psycopg.errors import CheckViolation, UniqueViolation
from psycopg.types.json import Jsonb

from secretstore import InvalidSecretValueError, KeyRing, SecretClient, SecretStoreError, VersionConflictError, migrate
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.domain.protocols import DataKeyPlace
from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from secretstore.orm.engines import make_engine
from tests.support.forms import FORMS, forms_of

# Random, so that none is there by accident; text, so that no form of writing changes it.
MARKER, SHORT, LONG, FORM, KEY, LABEL = (f"{name}{token_hex(12)}" for name in ("mr", "st", "lg", "fm", "ky", "lb"))
# Far above 2 kB, where PostgreSQL moves a column out of its row, and so often that no page's edge cuts all of them.
MANY = 4000
SETTINGS = {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "log_error_verbosity": "verbose",
    "log_min_messages": "debug1",
    "log_destination": "stderr,csvlog,jsonlog",
    "logging_collector": "on",
    "log_directory": "server_log",
    "wal_level": "logical",
    "wal_compression": "off",
    "full_page_writes": "on",
    "autovacuum": "off",
    "fsync": "off",
}
HEAP, WAL, LOG = "base", "pg_wal", "server_log"


@dataclass(frozen=True)
class LeftBehind:
    """What a stopped server has left, what logical decoding told of it, and the keys that were used."""

    data: Path
    decoded: bytes
    data_key: bytes
    master_key: bytes
    deleted: Mapping[str, object]
    removed: Mapping[str, str]

    def places_of(self, needles: Iterable[bytes]) -> set[str]:
        """Return the folders and files at the top of the data folder in which one of the needles is found."""
        wanted = list(needles)
        files = [file for file in self.data.rglob("*") if file.is_file()]
        return {file.relative_to(self.data).parts[0] for file in files if _holds(file.read_bytes(), wanted)}


def _holds(content: bytes, needles: Iterable[bytes]) -> bool:
    return any(needle in content for needle in needles)


@pytest.fixture(scope="module")
def left() -> Iterator[LeftBehind]:
    """What is left on the disk when everything has been done with a value."""
    # Not in pytest's folder, which every start of pytest closes to the user that a server of root runs as.
    with tempfile.TemporaryDirectory(prefix="secretstore-disk-", ignore_cleanup_errors=True) as home:
        folder, master_key = EmbeddedFolder(Path(home) / "postgresql"), generate_master_key("disk")
        with _telling_server(folder) as url:
            left = _use(url, master_key, folder.data)
        yield left


@contextmanager
def _telling_server(folder: EmbeddedFolder) -> Iterator[str]:
    """Run a server that writes down all that it can."""
    first = EmbeddedServer(folder)
    with psycopg.connect(first.url, autocommit=True) as connection:
        for name, setting in SETTINGS.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{setting}'".encode())
    first.release()
    server = EmbeddedServer(folder)
    try:
        yield server.url
    finally:
        server.release()


def _use(url: str, master_key: str, data: Path) -> LeftBehind:
    """Do everything with values, and then what has to be found."""
    with _client(url, master_key) as store, psycopg.connect(url, autocommit=True) as raw:
        _store_without_compression(raw)
        raw.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        raw.execute("SELECT pg_create_logical_replication_slot('everything', 'pgoutput')")
        _use_values(store, raw)
        _write_plaintext(raw)
        removed = _remove_for_good(store, raw)
        deleted = _delete_a_data_key(raw, KeyRing.from_text(master_key))
        raw.execute("CHECKPOINT")
        raw.execute("SELECT pg_switch_wal()")
        data_key = _data_key(raw, LocalMasterKey.parse(master_key))
        return LeftBehind(data, _decoded(raw), data_key, b64decode(master_key.partition(":")[2]), deleted, removed)


@contextmanager
def _client(url: str, master_key: str) -> Iterator[SecretClient]:
    engine = make_engine(url)
    try:
        migrate.upgrade(engine)
        yield SecretClient(engine, KeyRing.from_text(master_key))
    finally:
        engine.dispose()


def _store_without_compression(raw: psycopg.Connection) -> None:
    columns = raw.execute(
        "SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = 'secretstore'::regnamespace AND relkind = 'r' AND attstorage = 'x' AND attnum > 0"
    ).fetchall()
    assert ("secretstore.secret_store", "value") in columns
    for table, column in columns:
        raw.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL".encode())


def _use_values(store: SecretClient, raw: psycopg.Connection) -> None:
    """Write, read, replace, delete and fail, always with the marker in the value."""
    labels = {"team": LABEL}
    store.set_secret(KEY, MARKER, labels=labels)
    store.set_secret(KEY, {"password": MARKER, MARKER: [MARKER]}, expected_version=1)
    store.set_secrets({KEY: [MARKER] * MANY, "b": MARKER * MANY, "c": {"deep": {"deep": MARKER}}}, labels=labels)
    assert store.get_secret("b") == MARKER * MANY
    assert list(store.get_secrets([KEY, "c"])) == [KEY, "c"]
    assert store.get_secret(KEY, version=1) == MARKER
    store.delete_secret("c")
    store.set_secret("c", MARKER)
    _fail(store, raw)


def _fail(store: SecretClient, raw: psycopg.Connection) -> None:
    """Fail in ways of ours, and in ways that make PostgreSQL write the row into its log."""
    with pytest.raises(VersionConflictError):
        store.set_secret(KEY, MARKER, expected_version=0)
    with pytest.raises(InvalidSecretValueError):
        store.get_secret(KEY, int)
    raw.execute(
        f"ALTER TABLE secretstore.secret_store ADD CONSTRAINT ck_none CHECK (key <> '{KEY}') NOT VALID".encode()
    )
    with pytest.raises(SecretStoreError, match="23514"):
        store.set_secret(KEY, MARKER, labels={"team": LABEL})
    with pytest.raises(CheckViolation, match="Failing row contains"):
        raw.execute("UPDATE secretstore.secret_store SET version = 0")
    with pytest.raises(UniqueViolation, match="already exists"):
        raw.execute(
            "INSERT INTO secretstore.secret_version (namespace, key, version, value, created_by)"
            " SELECT namespace, key, version, value, created_by FROM secretstore.secret_version"
        )
    raw.execute("ALTER TABLE secretstore.secret_store DROP CONSTRAINT ck_none")


def _write_plaintext(raw: psycopg.Connection) -> None:
    """Write by hand what the search has to find: values as the library never writes them, and each form of a text."""
    for key, value in (("short", {"password": SHORT}), ("long", [LONG] * MANY)):
        raw.execute(
            "INSERT INTO secretstore.secret_store (namespace, key, value, version, created_by, updated_by)"
            " VALUES ('by hand', %s, %s, 1, 'x', 'x')",
            [key, Jsonb(value)],
        )
    raw.execute("CREATE TABLE forms (form bytea)")
    raw.execute("ALTER TABLE forms ALTER COLUMN form SET STORAGE EXTERNAL")
    for form in FORMS.values():
        raw.execute("INSERT INTO forms VALUES (%b)", [form(FORM.encode())])


def _delete_a_data_key(raw: psycopg.Connection, keyring: KeyRing) -> Mapping[str, object]:
    made = keyring.new_data_key("gone")
    raw.execute(
        "INSERT INTO secretstore.data_key (namespace, id, wrapped) VALUES ('gone', %s, %s)",
        [made.id, Jsonb(dict(made.wrapped))],
    )
    raw.execute("DELETE FROM secretstore.data_key WHERE namespace = 'gone'")
    return made.wrapped


def _remove_for_good(store: SecretClient, raw: psycopg.Connection) -> Mapping[str, str]:
    """Purge a secret and destroy a version; return the ciphertexts that they had."""
    store.set_secrets({"purged": MARKER, "destroyed": MARKER})
    stored = raw.execute(
        "SELECT key, value ->> 'data' FROM secretstore.secret_version WHERE key IN ('purged', 'destroyed')"
    ).fetchall()
    store.set_secret("destroyed", MARKER)
    assert store.destroy_versions("destroyed", [1]) == 1
    assert store.purge_secret("purged")
    return dict(stored)


def _decoded(raw: psycopg.Connection) -> bytes:
    changes = raw.execute(
        "SELECT data FROM pg_logical_slot_peek_binary_changes('everything', NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 'everything')"
    ).fetchall()
    return b"".join(row[0] for row in changes)


def _data_key(raw: psycopg.Connection, master_key: LocalMasterKey) -> bytes:
    row = raw.execute("SELECT id, wrapped FROM secretstore.data_key").fetchone()
    assert row is not None
    return master_key.unwrap(row[1], DataKeyPlace("default", row[0]))


def test_no_value_is_in_any_file(left: LeftBehind) -> None:
    """Whatever was done with it, a value is in no file of the server, in none of the forms in which it could be."""
    assert left.places_of(forms_of(MARKER.encode())) == set()


def test_no_key_is_in_any_file(left: LeftBehind) -> None:
    """Neither the data key nor the master key is in any file of the server."""
    assert (len(left.data_key), len(left.master_key)) == (32, 32)
    assert left.places_of(forms_of(left.data_key) | forms_of(left.master_key)) == set()


def test_no_value_and_no_key_is_in_logical_decoding(left: LeftBehind) -> None:
    """What a subscriber is told of every change holds keys and labels, and neither values nor keys that open them."""
    for secret in (MARKER.encode(), left.data_key, left.master_key):
        assert not _holds(left.decoded, forms_of(secret))
    for shown in (KEY, LABEL, SHORT, LONG):
        assert shown.encode() in left.decoded


@pytest.mark.parametrize("shown", [KEY, LABEL], ids=["key", "label"])
def test_keys_and_labels_are_found_in_heap_wal_and_log(left: LeftBehind, shown: str) -> None:
    """What is not secret is found by the same search in each of the places."""
    assert left.places_of({shown.encode()}) >= {HEAP, WAL, LOG}


@pytest.mark.parametrize("plaintext", [SHORT, LONG], ids=["short", "long"])
def test_plaintext_written_by_hand_is_found(left: LeftBehind, plaintext: str) -> None:
    """A value that stands in the column as plaintext would be found in each of the places, of whatever length it is."""
    assert left.places_of({plaintext.encode()}) >= {HEAP, WAL, LOG}


def test_a_deleted_data_key_stays_on_the_disk_as_it_was_wrapped(left: LeftBehind) -> None:
    """A row that was deleted is in the heap until it is vacuumed and in the write-ahead log until that is recycled."""
    assert left.places_of({str(left.deleted["data"]).encode()}) >= {HEAP, WAL}


@pytest.mark.parametrize("way", ["purged", "destroyed"])
def test_a_removed_ciphertext_stays_on_the_disk_for_a_while(left: LeftBehind, way: str) -> None:
    """What a purge or a destruction took away is in heap and write-ahead log until they are cleaned up, as ciphertext."""
    assert left.places_of({left.removed[way].encode()}) >= {HEAP, WAL}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found(left: LeftBehind, form: str) -> None:
    """Each form of writing is one that the search sees."""
    assert left.places_of({FORMS[form](FORM.encode())}) >= {HEAP, WAL}


def test_the_log_holds_statements_parameters_and_failing_rows(left: LeftBehind) -> None:
    """The server has logged all that the settings ask for, in its three formats."""
    written = {file.suffix: file.read_text() for file in (left.data / LOG).iterdir()}

    assert written.keys() == {".log", ".csv", ".json"}
    for text in written.values():
        for words in ("INSERT INTO secretstore.secret_store", "parameters: ", "Failing row contains", "already exists"):
            assert words in text
