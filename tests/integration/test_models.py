"""The ORM rows as a caller sees them, and the rules that the tables themselves keep."""

from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from secretstore import SecretClient, SecretStore
from secretstore.crypto.envelope import Envelope
from secretstore.orm.models import (
    AccessEvent,
    AuditCheckpoint,
    Base,
    ChangeEvent,
    DataKey,
    DataKeyUse,
    LabelChange,
    NamespaceSetting,
    SecretVersion,
)

VALUE = "correct-horse-battery"
USE = UUID(int=7)
_MODELS = (
    SecretStore,
    SecretVersion,
    LabelChange,
    NamespaceSetting,
    DataKey,
    DataKeyUse,
    ChangeEvent,
    AccessEvent,
    AuditCheckpoint,
)
_TABLES = {model.__tablename__ for model in _MODELS}

_FIRST_COLUMNS = """
    SELECT i.indexrelid::regclass::text, a.attname
    FROM pg_index i
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
    WHERE t.relnamespace = 'secretstore'::regnamespace AND i.indisunique AND t.relname <> 'alembic_version'
"""
_FOREIGN_KEYS = """
    SELECT c.conname, child.attname, parent.attname
    FROM pg_constraint c
    JOIN pg_attribute child ON child.attrelid = c.conrelid AND child.attnum = c.conkey[1]
    JOIN pg_attribute parent ON parent.attrelid = c.confrelid AND parent.attnum = c.confkey[1]
    WHERE c.connamespace = 'secretstore'::regnamespace AND c.contype = 'f'
"""
_CONSTRAINTS = """
    SELECT c.contype::text, c.conname, c.conrelid::regclass::text FROM pg_constraint c
    WHERE c.connamespace = 'secretstore'::regnamespace AND c.contype <> 'n'
    AND c.conrelid <> 'secretstore.alembic_version'::regclass
"""
_INDEXES = """
    SELECT x.relname, t.relname, i.indisprimary, i.indisunique FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relnamespace = 'secretstore'::regnamespace AND t.relname <> 'alembic_version'
"""
_NAMES_THAT_ARE_COMPARED = """
    SELECT t.relname || '.' || a.attname, o.collname
    FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid LEFT JOIN pg_collation o ON o.oid = a.attcollation
    WHERE t.relnamespace = 'secretstore'::regnamespace AND t.relkind = 'r' AND t.relname <> 'alembic_version'
    AND a.attname IN ('namespace', 'key', 'id', 'data_key_id', 'master_key_id') AND a.atttypid = 'text'::regtype
"""


@pytest.fixture
def rows(store: SecretClient, session: Session) -> list[Base]:
    """One row of each table, loaded by the ORM."""
    store.set_secret("a", VALUE, labels={"team": "web"})
    session.add(DataKeyUse(namespace="default", data_key_id=session.scalars(select(DataKey.id)).one(), id=USE, seals=1))
    session.flush()
    return [row for model in _MODELS for row in session.scalars(select(model))]


def test_a_repr_shows_identity_only(rows: list[Base]) -> None:
    """A row's repr is its class and primary key, and holds nothing of its envelope or labels."""
    secret, version, data_key, use, change = rows

    assert repr(secret) == "SecretStore('default', 'a')"
    assert repr(version) == "SecretVersion('default', 'a', 1)"
    assert isinstance(data_key, DataKey)
    assert repr(data_key) == f"DataKey('default', '{data_key.id}')"
    assert repr(use) == f"DataKeyUse('default', '{data_key.id}', {USE!r})"
    assert isinstance(change, ChangeEvent)
    assert repr(change) == f"ChangeEvent('default', {change.id!r})"


def test_a_row_without_identity_has_a_repr() -> None:
    """A row that is not in a database yet can be printed as well, without its values."""
    assert repr(SecretStore(namespace="default", key="a", value={"data": VALUE})) == "SecretStoreNone"


def test_a_row_is_found_by_namespace_and_key(rows: list[Base], session: Session) -> None:
    """`session.get` finds a secret's row, which holds an envelope and no plaintext."""
    row = session.get_one(SecretStore, ("default", "a"))

    assert (row.version, row.labels, row.deleted_at) == (1, {"team": "web"}, None)
    assert row.value is not None
    assert set(row.value) == {"v", "alg", "key", "nonce", "data"}
    assert Envelope.parse(dict(row.value), "a").key_id == row.data_key_id
    assert VALUE not in str(vars(row))
    assert session.get(SecretStore, ("other", "a")) is None


def test_a_data_key_is_stored_wrapped(rows: list[Base], session: Session) -> None:
    """A data key's row holds 32 bytes and their tag, sealed under the master key that it names."""
    row = session.scalars(select(DataKey)).one()

    assert (row.state, row.master_key_id, row.retired_at) == ("active", "test", None)
    assert len(Envelope.parse(dict(row.wrapped), "data key").data) == 32 + 16


def test_every_unique_index_begins_with_the_namespace(raw: psycopg.Connection) -> None:
    """Primary keys and unique indexes have the namespace first, so that tables can be distributed by it."""
    found = raw.execute(_FIRST_COLUMNS).fetchall()

    assert len(found) == 13
    assert {column for _, column in found} == {"namespace"}


def test_every_foreign_key_begins_with_the_namespace(raw: psycopg.Connection) -> None:
    """No foreign key leads from one namespace to another."""
    found = raw.execute(_FOREIGN_KEYS).fetchall()

    assert len(found) == 6
    assert {(child, parent) for _, child, parent in found} == {("namespace", "namespace")}


def test_every_constraint_and_index_has_a_name_of_ours(raw: psycopg.Connection) -> None:
    """Constraints and indexes are named by kind and table, so that a revision can name them."""
    kinds = {"p": "pk", "u": "uq", "f": "fk", "c": "ck"}
    for kind, name, table in raw.execute(_CONSTRAINTS).fetchall():
        assert name.startswith(f"{kinds[kind]}_{table.removeprefix('secretstore.')}")
    indexes = raw.execute(_INDEXES).fetchall()
    assert {table for _, table, _, _ in indexes} == _TABLES
    for name, table, primary, unique in indexes:
        assert name.startswith(f"{'pk' if primary else 'uq' if unique else 'ix'}_{table}")


def test_the_schema_holds_tables_and_nothing_that_runs(raw: psycopg.Connection) -> None:
    """There are no sequences, views, triggers of ours, functions or types of our own in the schema."""
    relations = "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'secretstore'::regnamespace"
    kinds: dict[str, str] = dict(raw.execute(f"{relations} AND relkind <> 'i'".encode()).fetchall())
    assert kinds == dict.fromkeys(_TABLES | {"alembic_version"}, "r")
    triggers = "SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal"
    assert raw.execute(triggers).fetchall() == []
    assert raw.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'secretstore'::regnamespace").fetchall() == []


def test_names_compare_by_byte(raw: psycopg.Connection) -> None:
    """Every text column that is part of a key has the collation C, whatever the database's own is."""
    found: dict[str, str] = dict(raw.execute(_NAMES_THAT_ARE_COMPARED).fetchall())

    assert len(found) == 20
    assert set(found.values()) == {"C"}


def test_the_models_name_what_the_tables_have(raw: psycopg.Connection) -> None:
    """Each model's columns are those of its table."""
    for model in _MODELS:
        columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
        found = raw.execute(columns, ["secretstore", model.__tablename__]).fetchall()
        assert {name for (name,) in found} == set(model.__table__.c.keys())
