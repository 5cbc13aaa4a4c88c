"""Upgrades and downgrades from Python, on an engine or in the caller's transaction."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text

from secretstore import (
    ConfigurationError,
    DecryptionError,
    KeyRing,
    SchemaOutOfDateError,
    SecretClient,
    StoreUnavailableError,
    migrate,
)
from secretstore.orm.engines import make_engine
from tests.support.catalogue import OUR_TABLES, VERSION_TABLE, catalogue, tables

SHORT = 0.1
ADVISORY_LOCKS = """
SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Engine]:
    """An engine on a database without our tables."""
    engine = make_engine(empty_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def onlooker(empty_database_url: str) -> Iterator[psycopg.Connection]:
    """A plain connection to the same database."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection


def test_an_upgrade_makes_the_tables_of_the_newest_revision(empty: Engine, onlooker: psycopg.Connection) -> None:
    """After an upgrade there are our tables and the version table, at the newest revision, and they pass the check."""
    assert migrate.current(empty) is None

    migrate.upgrade(empty)

    assert tables(onlooker) == OUR_TABLES | VERSION_TABLE
    assert migrate.current(empty) == migrate.head() == "secretstore_0005"
    migrate.check(empty)


def test_a_downgrade_leaves_only_the_version_table(engine: Engine, raw: psycopg.Connection) -> None:
    """A downgrade to `base` drops every table but the empty version table."""
    migrate.downgrade(engine, migrate.BASE)

    assert tables(raw) == VERSION_TABLE
    assert migrate.current(engine) is None


def test_up_down_and_up_again_gives_the_same_tables(engine: Engine, raw: psycopg.Connection) -> None:
    """A second upgrade after a downgrade gives the same columns, constraints and indexes."""
    before = catalogue(raw)

    migrate.downgrade(engine, migrate.BASE)
    migrate.upgrade(engine)

    assert catalogue(raw) == before
    assert any("secret_store.value jsonb" in line for line in before)


def test_a_second_upgrade_changes_nothing(engine: Engine, keyring: KeyRing) -> None:
    """An upgrade of tables that are up to date leaves them and what is in them alone."""
    SecretClient(engine, keyring).set_secret("a", 1)

    migrate.upgrade(engine)

    assert SecretClient(engine, keyring).get_secret("a") == 1


def test_a_store_of_the_first_revision_goes_on(engine: Engine, keyring: KeyRing) -> None:
    """What was there under the first revision is read, listed and rotated under the newest one."""
    store = SecretClient(engine, keyring)
    store.set_secret("a", 1)
    migrate.downgrade(engine, "secretstore_0001")

    migrate.upgrade(engine)

    (info,) = store.keys.list_data_keys()
    assert (store.get_secret("a"), info.values, info.wrapped_at) == (1, 2, info.created_at)
    assert (store.keys.rotate().values, store.get_secret("a")) == (2, 1)


def test_a_downgrade_keeps_what_can_be_read_and_what_cannot(
    engine: Engine, raw: psycopg.Connection, keyring: KeyRing
) -> None:
    """Back at the first revision, values open as before, and shredded ones are still told of."""
    store = SecretClient(engine, keyring)
    store.set_secret("a", 1)
    store.namespace("lost").set_secret("a", 1)
    store.namespace("lost").keys.shred()

    migrate.downgrade(engine, "secretstore_0001")

    assert tables(raw) == {*VERSION_TABLE, "change_event", "data_key", "secret_store", "secret_version"}
    assert store.get_secret("a") == 1
    with pytest.raises(DecryptionError, match="was shredded"):
        store.namespace("lost").get_secret("a")


def test_an_upgrade_in_the_callers_transaction_is_not_committed(empty: Engine, onlooker: psycopg.Connection) -> None:
    """On a live connection nobody else sees the tables, and rolling back undoes them."""
    with empty.connect() as connection:
        migrate.upgrade(connection)
        inside, outside = migrate.current(connection), tables(onlooker)
        connection.rollback()

    assert (inside, outside) == (migrate.head(), set())
    assert tables(onlooker) == set()


def test_the_caller_commits_an_upgrade(empty: Engine, onlooker: psycopg.Connection) -> None:
    """On a live connection the tables are there once the caller commits."""
    with empty.connect() as connection:
        migrate.upgrade(connection)
        connection.commit()

    assert tables(onlooker) == OUR_TABLES | VERSION_TABLE


def test_a_downgrade_that_is_rolled_back_keeps_every_secret(engine: Engine, store: SecretClient) -> None:
    """Rolling back a downgrade brings the tables back with what was in them."""
    store.set_secret("a", "kept")

    with engine.connect() as connection:
        migrate.downgrade(connection, migrate.BASE)
        connection.rollback()

    assert store.get_secret("a") == "kept"


def test_the_upgrade_lock_ends_with_the_transaction(empty: Engine, onlooker: psycopg.Connection) -> None:
    """The advisory lock is held until the caller's transaction ends and no longer, though the connection lives on."""
    with empty.connect() as connection:
        migrate.upgrade(connection)
        during = onlooker.execute(ADVISORY_LOCKS).fetchall()
        connection.commit()

        assert during == [(migrate.UPGRADE_LOCK,)]
        assert onlooker.execute(ADVISORY_LOCKS).fetchall() == []


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
def test_the_callers_own_limits_stay(empty: Engine, setting: str) -> None:
    """The limits that the caller's transaction had are in force again after the upgrade, and the session's after it."""
    with empty.connect() as connection:
        of_session = _shown(connection, setting)
        connection.execute(text(f"SET LOCAL {setting} = '7s'"))
        migrate.upgrade(connection)
        of_transaction = _shown(connection, setting)
        connection.commit()

        assert of_transaction == "7s"
        assert _shown(connection, setting) == of_session != "7s"


def test_an_upgrade_waits_for_another_one_but_not_for_a_busy_table(empty: Engine, sent_statements: list[str]) -> None:
    """No lock timeout holds while it waits for its turn; from then on it is five seconds."""
    migrate.upgrade(empty)

    limits = [sent for sent in sent_statements if "SET LOCAL lock_timeout" in sent or "advisory" in sent]
    assert limits[0] == "SET LOCAL lock_timeout = '0'"
    assert "pg_advisory_xact_lock" in limits[1]
    assert limits[2] == "SET LOCAL lock_timeout = '5000ms'"
    assert "SET LOCAL statement_timeout = '10min'" in sent_statements


def _upgrade(bind: Engine) -> None:
    migrate.upgrade(bind, lock_timeout=SHORT)


def _downgrade(bind: Engine) -> None:
    migrate.downgrade(bind, migrate.BASE, lock_timeout=SHORT)


@pytest.mark.parametrize(("change", "busy"), [(_upgrade, "alembic_version"), (_downgrade, "secret_store")])
def test_a_busy_table_is_an_error_and_nothing_has_changed(
    engine: Engine, raw: psycopg.Connection, change: Callable[[Engine], None], busy: str
) -> None:
    """A table that someone else holds for longer than the lock timeout is an error that says so, not a hang."""
    before = catalogue(raw)

    with raw.transaction():
        raw.execute(f"LOCK TABLE secretstore.{busy}".encode())
        with pytest.raises(StoreUnavailableError, match=r"a lock was not free in time.*55P03"):
            change(engine)

    assert catalogue(raw) == before


def _print(bind: Engine, revision: str) -> None:
    migrate.sql(revision)


@pytest.mark.parametrize("change", [migrate.upgrade, migrate.downgrade, _print])
def test_a_wrong_revision_is_said_in_alembics_words(engine: Engine, change: Callable[[Engine, str], None]) -> None:
    """A revision that there is not is a `ConfigurationError` with Alembic's own sentence."""
    with pytest.raises(ConfigurationError, match="Can't locate revision identified by 'nowhere'"):
        change(engine, "nowhere")


def test_a_connection_that_commits_by_itself_is_refused(empty: Engine, onlooker: psycopg.Connection) -> None:
    """In AUTOCOMMIT neither the lock nor rolling back would work, so nothing is begun."""
    autocommit = empty.execution_options(isolation_level="AUTOCOMMIT")

    with pytest.raises(ConfigurationError, match="not in AUTOCOMMIT"):
        migrate.upgrade(autocommit)

    assert tables(onlooker) == set()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("ALTER TABLE secretstore.secret_store DROP COLUMN labels", "add_column secretstore secret_store labels"),
        ("ALTER TABLE secretstore.secret_store ADD COLUMN extra int", "remove_column secretstore secret_store extra"),
        ("ALTER TABLE secretstore.secret_store ALTER version TYPE int", "modify_type secretstore secret_store version"),
        ("ALTER TABLE secretstore.data_key ALTER state DROP DEFAULT", "modify_default secretstore data_key state"),
        ("ALTER TABLE secretstore.data_key ALTER state DROP NOT NULL", "modify_nullable secretstore data_key state"),
        ("ALTER TABLE secretstore.secret_version DROP CONSTRAINT fk_secret_version_data_key", "add_fk"),
        ("DROP INDEX secretstore.ix_secret_store_labels", "add_index ix_secret_store_labels"),
        ("DROP TABLE secretstore.change_event", "add_table change_event"),
    ],
)
def test_the_check_finds_a_difference(engine: Engine, raw: psycopg.Connection, damage: str, said: str) -> None:
    """Tables that are not those of the models are an error that names the difference and the way out."""
    raw.execute(damage.encode())

    with pytest.raises(SchemaOutOfDateError, match=rf"{said}.*run `secretstore db upgrade`"):
        migrate.check(engine)


def test_a_store_without_tables_says_how_to_make_them(empty: Engine, keyring: KeyRing) -> None:
    """Both the check and a client's call on a database that is behind name the command that helps."""
    with pytest.raises(SchemaOutOfDateError, match="run `secretstore db upgrade`"):
        migrate.check(empty)
    with pytest.raises(SchemaOutOfDateError, match="run `secretstore db upgrade`"):
        SecretClient(empty, keyring).get_secret("a")


@pytest.mark.parametrize("revision", ["head", "base:head", "secretstore@head"])
def test_the_printed_upgrade_makes_the_same_tables(
    onlooker: psycopg.Connection, raw: psycopg.Connection, revision: str
) -> None:
    """The statements that are printed for someone else to run make what an upgrade makes."""
    onlooker.execute(migrate.sql(revision).encode())

    assert catalogue(onlooker) == catalogue(raw)
    assert onlooker.execute("SELECT version_num FROM secretstore.alembic_version").fetchall() == [(migrate.head(),)]


@pytest.mark.parametrize("start", ["head", "secretstore_0005"])
def test_the_printed_downgrade_drops_the_tables(engine: Engine, raw: psycopg.Connection, start: str) -> None:
    """The printed statements of a downgrade leave none of our tables and no revision."""
    raw.execute(migrate.sql(f"{start}:base").encode())

    assert tables(raw) <= VERSION_TABLE
    assert migrate.current(engine) is None


def _shown(connection: Connection, setting: str) -> object:
    return connection.execute(text(f"SHOW {setting}")).scalar()
