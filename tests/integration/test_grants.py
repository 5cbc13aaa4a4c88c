"""The rights that README.md names are enough, and no others are needed."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import KeyRing, PermissionDeniedError, SecretClient, migrate
from secretstore.orm.engines import make_engine
from secretstore.orm.holdings import list_holdings
from tests.support.server import Server

ROLE = "secretstore_test_app"


@pytest.fixture
def application(server: Server, database: str, raw: psycopg.Connection) -> Iterator[Engine]:
    """An engine that logs in as a role without any rights of its own."""
    raw.execute(f"DROP ROLE IF EXISTS {ROLE}")
    raw.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'only-for-tests'")
    engine = make_engine(server.url(database, user=ROLE, password="only-for-tests"))
    yield engine
    engine.dispose()
    raw.execute(f"DROP OWNED BY {ROLE}")
    raw.execute(f"DROP ROLE {ROLE}")


def test_the_rights_in_the_readme_are_enough_to_run(
    application: Engine, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """With USAGE on the schema and SELECT, INSERT and UPDATE on its tables every method works."""
    raw.execute(f"GRANT USAGE ON SCHEMA secretstore TO {ROLE}")
    raw.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA secretstore TO {ROLE}")
    store = SecretClient(application, keyring)

    store.set_secret("a", 1)
    info = store.set_secret("a", 2, expected_version=1)
    store.set_secrets({"b": 3, "c": 4})

    assert info.created_by == ROLE
    assert store.get_secrets(["a", "b"]) == {"a": 2, "b": 3}
    assert store.get_secret("a", version=1) == 1
    assert store.delete_secret("c")
    assert [info.key for info in store.list_secrets()] == store.list_secret_keys() == ["a", "b"]
    migrate.check(application)


def test_without_rights_everything_is_denied(application: Engine, keyring: KeyRing) -> None:
    """A role without grants gets an error that says what to grant."""
    store = SecretClient(application, keyring)

    with pytest.raises(PermissionDeniedError, match="grant it USAGE on schema secretstore"):
        store.get_secret("a")
    with pytest.raises(PermissionDeniedError, match="SQLSTATE 42501"):
        store.set_secret("a", 1)


def test_numbers_of_the_store_take_no_right_to_read_a_value(
    application: Engine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """A role that sees neither values nor wrapped keys can ask for what the metrics show, as their page says."""
    columns = {
        "secret_store": "namespace, deleted_at, expires_at",
        "data_key": "namespace, id, state, created_at",
        "data_key_use": "namespace, data_key_id, seals",
        "change_event": "namespace, seq",
        "access_event": "namespace, seq",
        "audit_checkpoint": "namespace, record, last_seq, sealed_at",
    }
    raw.execute(f"GRANT USAGE ON SCHEMA secretstore TO {ROLE}")
    for table, names in columns.items():
        raw.execute(f"GRANT SELECT ({names}) ON secretstore.{table} TO {ROLE}".encode())
    store.set_secret("a", 1)

    with Session(application) as session:
        (found,) = list_holdings(session, expiring_within=timedelta(days=7))

    assert (found.namespace, found.live, found.unnumbered_changes) == ("default", 1, 1)
