"""Many secrets: batches in a constant number of statements, and pages of a large namespace from the index alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, event

from secretstore import (
    DecryptionError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    KeyRing,
    SecretClient,
    SecretStoreError,
)
from secretstore.orm.wire import LIBPQ
from tests.support.faces import Face
from tests.support.threads import number

MANY = 10_000
ROWS = 1_000_000
VERSIONS = "SELECT count(*) FROM secretstore.secret_version"
# Keys in no order, as they come in real life: the table is not sorted by them.
INSERT = """
    INSERT INTO secretstore.secret_store (namespace, key, value, version, created_by, updated_by)
    SELECT 'default', 'app' || n %% 1000 || '.' || n, %s, 1, 'raw', 'raw' FROM generate_series(1, %s) AS n
"""
RANGE = ("(namespace = ", "(key >= ", "(key < ")
Plan = Mapping[str, Any]
Sent = tuple[str, Mapping[str, object]]


@pytest.mark.parametrize("versions", [(1,), (1, 2)], ids=["new", "existing"])
def test_ten_thousand_take_as_many_statements_as_ten(
    face: Face, raw: psycopg.Connection, sent_statements: list[str], versions: tuple[int, ...]
) -> None:
    """10,000 secrets are written, over new and over existing keys, in as many statements as 10, and all of them are."""
    face.set_secret("first", 1)
    sent: dict[int, list[str]] = {}
    for size in (10, MANY):
        for version in versions:
            sent_statements.clear()
            infos = face.set_secrets({f"{size}.{n}": [n, version] for n in range(size)})
            sent[size] = [*sent_statements]
        assert {info.version for info in infos.values()} == {versions[-1]}
    # So many seals are always recorded, and a few of them now and then.
    assert [statement for statement in sent[MANY] if "data_key_use" not in statement] == sent[10]
    assert (len(sent[10]), len(sent[MANY])) == (3, 4)
    face.commit()
    assert number(raw, VERSIONS) == len(versions) * (10 + MANY) + 1
    assert face.get_secret_count() == 10 + MANY + 1


def test_a_thousand_are_read_in_as_many_statements_as_ten(face: Face, sent_statements: list[str]) -> None:
    """1,000 secrets are read in one statement, as 10 are, in the order asked for."""
    face.set_secrets({f"k{n}": n for n in range(MANY)})
    for size in (10, 1000):
        wanted = [f"k{n}" for n in range(0, MANY, MANY // size)][::-1]
        sent_statements.clear()
        assert list(face.get_secrets(wanted).items()) == [(key, int(key[1:])) for key in wanted]
        assert len(sent_statements) == 1


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("k5001", float("nan"), InvalidSecretValueError),
        ("k5001", "x" * 1024 * 1024, InvalidSecretValueError),
        (" k5001", 1, InvalidSecretKeyError),
    ],
    ids=["not JSON", "too large", "illegal key"],
)
def test_one_bad_secret_of_ten_thousand_is_named_and_none_is_written(
    *, store: SecretClient, raw: psycopg.Connection, key: str, value: object, error: type[Exception]
) -> None:
    """The error says which of 10,000 secrets cannot be stored, and none of the others is."""
    store.set_secret("k1", "old")
    values: dict[str, object] = {f"k{n}": n for n in range(MANY)}

    with pytest.raises(error, match="k5001"):
        store.set_secrets(values | {key: value})
    assert (store.get_secrets_by_prefix(""), number(raw, VERSIONS)) == ({"k1": "old"}, 1)


def test_what_postgresql_refuses_of_ten_thousand_leaves_nothing(store: SecretClient, raw: psycopg.Connection) -> None:
    """Where the last of 10,000 rows cannot be stored, none is: neither heads, nor history, nor the record of changes."""
    store.set_secret("k1", "old")
    raw.execute("ALTER TABLE secretstore.secret_version ADD CHECK (key <> 'k9999')")

    with pytest.raises(SecretStoreError, match="SQLSTATE 23514"):
        store.set_secrets({f"k{n}": n for n in range(MANY)})
    assert (store.get_secrets_by_prefix(""), number(raw, VERSIONS)) == ({"k1": "old"}, 1)
    assert number(raw, "SELECT count(*) FROM secretstore.change_event") == 1


def test_the_one_of_a_thousand_that_does_not_open_is_named(store: SecretClient, raw: psycopg.Connection) -> None:
    """Of 1,000 values that are read, the error names the one that was put in another's place."""
    store.set_secrets({f"k{n}": n for n in range(1000)})
    raw.execute(
        "UPDATE secretstore.secret_store SET value = (SELECT value FROM secretstore.secret_store WHERE key = 'k501') "
        "WHERE key = 'k500'"
    )
    with pytest.raises(DecryptionError, match="'k500'"):
        store.get_secrets([f"k{n}" for n in range(1000)])


def test_pages_of_a_million_secrets_come_from_the_index(
    engine: Engine, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """A page of keys, records or values, and a count of a prefix, read a range of the index: nothing is sorted or searched."""
    # By the cursor, where the statements and their parameters are heard of.
    store = SecretClient(engine.execution_options(**{LIBPQ: False}), keyring)
    _fill(store, raw)

    page: dict[str, Any] = {"prefix": "app7", "after": "app7.5", "limit": 100}
    for read in (
        lambda: store.list_secret_keys(**page),
        lambda: store.list_secret_keys(**page, include_deleted=True),
        lambda: store.list_secrets(**page),
        lambda: store.list_secrets(**page, include_deleted=True),
        lambda: store.list_secrets("", after="app999", limit=100),
        lambda: store.get_secrets_by_prefix(**page),
    ):
        scan = _only_scan(raw, _sent(engine, read))
        assert scan["Node Type"] in {"Index Scan", "Index Only Scan"}
        assert scan["Index Name"] == "pk_secret_store"
        assert all(part in scan["Index Cond"] for part in (*RANGE, "(key > "))
    scan = _only_scan(raw, _sent(engine, lambda: store.get_secret_count("app77.")))
    assert scan["Index Name"] == "pk_secret_store"
    assert all(part in scan["Index Cond"] for part in RANGE)


def _fill(store: SecretClient, raw: psycopg.Connection) -> None:
    # The first one makes the data key, which the others name.
    store.set_secret("first", 1)
    (info,) = store.keys.list_data_keys()
    raw.execute(INSERT, [Jsonb({"key": info.id}), ROWS])
    raw.execute("VACUUM (ANALYZE) secretstore.secret_store")


def _sent(engine: Engine, read: Callable[[], object]) -> Sent:
    """Return the statement that a method sends last, with its parameters."""
    sent: list[Sent] = []

    def record(_: Connection, __: object, statement: str, parameters: Mapping[str, object], *___: object) -> None:
        sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", record)
    # No value opens: the envelopes are made up.
    with suppress(DecryptionError):
        read()
    event.remove(engine, "before_cursor_execute", record)
    return sent[-1]


def _only_scan(raw: psycopg.Connection, sent: Sent) -> Plan:
    """Return the part of a statement's plan that reads the table; there is no other that reads, and none that sorts."""
    statement, parameters = sent
    row = raw.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode(), parameters).fetchone()
    assert row is not None
    nodes = list(_nodes(row[0][0]["Plan"]))
    assert not [node for node in nodes if "Sort" in node["Node Type"]]
    (scan,) = (node for node in nodes if "Scan" in node["Node Type"])
    return scan


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)
