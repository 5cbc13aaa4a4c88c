"""One marker goes through everything that can be done with a value, and turns up nowhere."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, SecretStr
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

from secretstore import (
    AsyncSecretClient,
    CacheConfig,
    KeyRing,
    Observers,
    SecretClient,
    SecretRepository,
    SecretService,
    SecretStore,
    SecretStoreError,
)
from secretstore.crypto.local import generate_master_key
from secretstore.domain.accesses import AuditReads
from secretstore.metrics import Metrics
from secretstore.orm.models import Base, SecretVersion
from secretstore.tracing import Tracing
from tests.support.errors import assert_tells_nothing, refused_role
from tests.support.faces import async_engine
from tests.support.forms import forms_of
from tests.support.frames import shown_by_frames
from tests.support.server import Server
from tests.support.threads import in_thread, wait_until_blocked

MARKER = "Zq7-marker-Xw9"
NUMBER = 918273645546372819
SHOWN = tuple(form.decode() for shown in (MARKER, str(NUMBER)) for form in forms_of(shown.encode()))

VALUES: dict[str, Any] = {
    "text": MARKER,
    "bytes": MARKER.encode(),
    "name of a member": {MARKER: {MARKER: 1}},
    "number": NUMBER,
    "deep": [{"a": [MARKER, NUMBER]}],
    "long": MARKER * 1000,
}
_TABLES = tuple(table.name for table in Base.metadata.sorted_tables)


class Login(BaseModel):
    """A value with a secret field, and one that the marker does not fit."""

    password: SecretStr
    port: int


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Log at DEBUG, SQLAlchemy's parameters and rows included, and look through it all at the end."""
    for name in ("", "sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg", "secretstore"):
        caplog.set_level(logging.DEBUG, logger=name)
    yield
    assert any(record.name.startswith("sqlalchemy.engine") for record in caplog.get_records("call"))
    for record in caplog.get_records("call"):
        printed = f"{record.getMessage()} {record.args!r} {record.exc_text}"
        assert not [part for part in SHOWN if part in printed]


@pytest.fixture
def loud(database_url: str, keyring: KeyRing) -> Iterator[SecretClient]:
    """A client on an engine of the caller's own that echoes statements, parameters and rows."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"), echo="debug")
    yield SecretClient(engine, keyring)
    engine.dispose()


def assert_refused(call: Callable[[], object]) -> None:
    """The call raises an error of ours that holds nothing of the marker, nor does anything that hangs on it."""
    with pytest.raises(SecretStoreError) as caught:
        call()
    assert_tells_nothing(caught.value, *SHOWN)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_stored_value_is_nowhere_in_the_database(
    loud: SecretClient, keyring: KeyRing, raw: psycopg.Connection, value: Any
) -> None:
    """Written, read and replaced, a value is in no column of our tables and in no statement that PostgreSQL shows."""
    loud.set_secret("a", value, labels={"team": "web"})
    loud.set_secrets({"a": value, "b": value})
    assert loud.get_secrets(["a", "b"])["a"] == loud.get_secret("a")

    for table in _TABLES:
        dump = raw.execute(f"SELECT string_agg(t::text, '') FROM secretstore.{table} t".encode()).fetchone()
        assert dump is not None, table
        assert not [part for part in SHOWN if part in (dump[0] or "")]
    with Session(loud.engine) as session:
        SecretService(SecretRepository(session), keyring, notify="off").set_secret("a", value)
        # Without a notice after it, so that it is the last one that the server knows of.
        queries = raw.execute("SELECT string_agg(query, ' ') FROM pg_stat_activity").fetchone()
    assert queries is not None
    assert "INSERT INTO secretstore.secret_store" in queries[0]
    assert not [part for part in SHOWN if part in queries[0]]


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_repr_shows_a_value(loud: SecretClient, value: Any) -> None:
    """Neither records, rows, clients, services nor key rings show a value when they are printed."""
    info = loud.set_secret("a", value)
    with Session(loud.engine) as session:
        rows = [*session.scalars(select(SecretStore)), *session.scalars(select(SecretVersion))]
        service = loud.bind(session)
        service.get_secret("a")
        things = [
            info,
            *rows,
            service,
            loud,
            loud.engine,
            loud.describe_secret("a"),
            loud.list_secrets(),
            vars(service),
        ]
        printed = " ".join(f"{thing!r} {thing!s}" for thing in [*things, *map(vars, rows)])
    assert not [part for part in SHOWN if part in printed]


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_error_of_a_type_shows_a_value(loud: SecretClient, value: Any) -> None:
    """A value that does not fit the type it is read as is refused without being shown."""
    loud.set_secret("a", value)
    loud.set_secret("login", {"password": value if isinstance(value, str) else 1, "port": MARKER, MARKER: 1})

    for as_type in (Login, list[Login], dict[str, Login], bool, tuple[bool, int]):
        assert_refused(partial(loud.get_secret, "a", as_type))
    assert_refused(lambda: loud.get_secret("login", Login))


def test_no_refused_value_is_shown(loud: SecretClient, recwarn: pytest.WarningsRecorder) -> None:
    """Values that cannot be stored are refused without being shown, and no warning shows them."""
    fields: dict[str, Any] = {"password": SecretStr(MARKER), "port": MARKER}
    unfit = Login.model_construct(None, **fields)
    for value in (MARKER + "\ud800", {MARKER: float("nan")}, {MARKER: object()}, MARKER.encode() + b"\xff", [unfit]):
        assert_refused(partial(loud.set_secret, "a", value))
    small = SecretClient(loud.engine, loud._options.keyring, max_value_bytes=5)
    assert_refused(lambda: small.set_secret("a", MARKER))
    assert [str(warning.message) for warning in recwarn] == []
    loud.get_secret_count()


def test_no_conflict_shows_a_value(loud: SecretClient) -> None:
    """Neither the stored nor the refused value is in a conflict."""
    loud.set_secret("a", MARKER)
    assert_refused(lambda: loud.set_secret("a", MARKER, expected_version=0))
    assert_refused(lambda: loud.get_secret_or_raise("b", version=2))


def test_no_tampered_value_is_shown(loud: SecretClient, raw: psycopg.Connection) -> None:
    """A row that does not open, and one into which somebody wrote plaintext, are refused without being shown."""
    loud.set_secrets({"a": MARKER, "b": NUMBER})
    assert_refused(lambda: SecretClient(loud.engine, KeyRing.from_text(generate_master_key("test"))).get_secret("a"))
    assert_refused(lambda: SecretClient(loud.engine, KeyRing.from_text(generate_master_key("other"))).get_secret("a"))
    raw.execute("UPDATE secretstore.secret_store SET version = 7 WHERE key = 'a'")
    assert_refused(lambda: loud.get_secret("a"))
    assert_refused(lambda: loud.get_secrets_by_prefix(""))


def _without_tables(raw: psycopg.Connection) -> None:
    raw.execute("DROP SCHEMA secretstore CASCADE")


def _with_a_constraint(raw: psycopg.Connection) -> None:
    raw.execute("ALTER TABLE secretstore.secret_store ADD CONSTRAINT ck_none CHECK (key <> 'a')")


def _with_a_trigger(raw: psycopg.Connection) -> None:
    raw.execute("""CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'told: %', NEW USING DETAIL = NEW::text, HINT = NEW::text; END$$""")
    raw.execute("CREATE TRIGGER tell BEFORE INSERT ON secretstore.secret_version FOR EACH ROW EXECUTE FUNCTION tell()")


@pytest.mark.parametrize("harm", [_without_tables, _with_a_constraint, _with_a_trigger])
def test_no_error_of_postgresql_shows_a_value(
    loud: SecretClient, raw: psycopg.Connection, harm: Callable[[psycopg.Connection], None]
) -> None:
    """Whatever PostgreSQL says about a row that it refuses, nothing of the row reaches the caller."""
    loud.set_secret("b", MARKER)
    harm(raw)
    assert_refused(lambda: loud.set_secret("a", MARKER))
    assert_refused(lambda: loud.set_secrets({"a": MARKER, "c": NUMBER}))


def test_no_error_of_a_setting_shows_a_value(
    server: Server, database: str, keyring: KeyRing, store: SecretClient
) -> None:
    """Missing rights, a read-only server and a lock that is not free tell nothing of the value."""
    store.set_secret("a", MARKER)
    with refused_role(server) as role, Session(store.engine) as holder:
        store.bind(holder).set_secret("a", MARKER)
        for option in (f"role={role}", "default_transaction_read_only=on", "statement_timeout=20", "lock_timeout=20"):
            url = server.url(database, options=f"-c {option}").replace("postgresql://", "postgresql+psycopg://")
            engine = create_engine(url, echo="debug")
            hasty = SecretClient(engine, keyring, retry_seconds=0.5)
            assert_refused(partial(hasty.set_secret, "a", MARKER))
            engine.dispose()


def test_no_failed_transaction_shows_a_value(engine: Engine, store: SecretClient, raw: psycopg.Connection) -> None:
    """Serialization failures, failed transactions and lost connections tell nothing of the value."""
    store.set_secret("a", MARKER)
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        service = store.bind(session)
        service.get_secret("a")
        store.set_secret("a", MARKER)
        assert_refused(lambda: service.set_secret("a", MARKER))
        assert_refused(lambda: service.set_secret("a", MARKER))
        session.rollback()
        session.execute(text("SELECT 1"))
        raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        assert_refused(lambda: service.set_secret("a", MARKER))
        assert_refused(lambda: service.get_secret("a"))


def test_no_failed_connection_shows_a_value(
    caplog: pytest.LogCaptureFixture, store: SecretClient, keyring: KeyRing
) -> None:
    """Where nothing listens, neither the value nor the password is in the error or in a log record."""
    engine = create_engine(f"postgresql+psycopg://app:{MARKER}@127.0.0.1:1/shop", echo="debug")
    assert_refused(lambda: SecretClient(engine, keyring).set_secret("a", MARKER))
    assert store.get_secret("a") is None


def test_no_waiting_statement_shows_a_value(loud: SecretClient, raw: psycopg.Connection) -> None:
    """While a write waits for a lock, everybody who may look at the running statements sees no value."""
    loud.set_secret("a", MARKER)
    with Session(loud.engine) as session:
        loud.bind(session).delete_secret("a")
        with in_thread(lambda: loud.set_secret("a", MARKER)) as waiting:
            wait_until_blocked(raw)
            row = raw.execute(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            assert row is not None
            assert "secret_store" in row[0]
            assert MARKER not in row[0]
            session.rollback()
    assert waiting.result().version == 2


def test_no_async_call_shows_a_value(database_url: str, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """The awaited client logs and raises as little as the blocking one."""

    async def scenario() -> list[BaseException | object]:
        async with async_engine(database_url) as engine:
            engine.sync_engine.echo = "debug"
            store = AsyncSecretClient(engine, keyring)
            await store.set_secret("b", MARKER)
            calls = (store.get_secret("b", Login), store.set_secret("b", MARKER, expected_version=0))
            return list(await asyncio.gather(*calls, return_exceptions=True))

    for answer in asyncio.run(scenario()):
        assert isinstance(answer, SecretStoreError)
        assert_tells_nothing(answer, *SHOWN)


def test_the_servers_log_shows_no_value(
    server: Server, database: str, loud: SecretClient, raw: psycopg.Connection
) -> None:
    """With every statement and its parameters logged, and with errors, PostgreSQL's own log holds no value."""
    log = _server_log(raw)
    server.execute(f"ALTER DATABASE {database} SET log_statement = 'all'")
    _with_a_constraint(raw)
    loud.set_secret("b", MARKER)
    assert_refused(lambda: loud.set_secret("a", MARKER))
    assert_refused(lambda: loud.get_secret("b", Login))
    if log is not None:
        written = _wait_for(log, "ck_none")
        assert "INSERT INTO secretstore.secret_store" in written
        assert not [part for part in SHOWN if part in written]


@pytest.mark.parametrize("cached", [False, True], ids=["read", "from the cache"])
def test_a_tool_that_collects_locals_is_shown_nothing(engine: Engine, keyring: KeyRing, *, cached: bool) -> None:
    """As those that report errors do: they take containers apart and ask everything else for its repr."""
    store = SecretClient(engine, keyring, cache=CacheConfig() if cached else None)
    store.set_secret("a", MARKER)
    store.get_secret("a")
    with pytest.raises(SecretStoreError) as caught:
        store.get_secret("a", Login)
    store.close()

    shown = shown_by_frames(caught.value)
    assert len(shown) > 2
    assert not [text for text in shown if any(part in text for part in SHOWN)]


def _server_log(raw: psycopg.Connection) -> Path | None:
    row = raw.execute("SHOW data_directory").fetchone()
    assert row is not None
    log = Path(row[0]) / "log"
    return log if log.is_file() else None


def _wait_for(log: Path, words: str) -> str:
    deadline = time.monotonic() + 20
    while words not in (written := log.read_text(errors="replace")):
        assert time.monotonic() < deadline, f"no {words} in the server's log"
        time.sleep(0.01)
    return written


def test_no_metric_and_no_span_shows_a_value(loud: SecretClient) -> None:
    """Whatever is done with a value, and however it fails, neither the page nor a span holds a part of it, or its key."""
    key = "a.key.that.is.not.shown"
    metrics, spans = Metrics(with_namespace=True), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    store = metrics.follow(loud.observed_by(Observers(metrics, Tracing(provider, with_namespace=True))))
    metrics.follow_store(store.engine)
    for value in VALUES.values():
        store.set_secret(key, value)
        assert_refused(partial(store.get_secret, key, Login))
        assert_refused(partial(store.set_secret, key, value, expected_version=0))
    assert_refused(lambda: store.set_secret(key, MARKER + "\ud800"))
    with Session(store.engine) as session:
        assert_refused(lambda: store.bind(session).get_secret(key, Login))

    page, told = metrics.text(), "".join(span.to_json() for span in spans.get_finished_spans())
    assert 'outcome="conflict"' in page
    assert '"secretstore.outcome": "conflict"' in told
    assert not [part for part in (*SHOWN, key) if part in page + told]


@pytest.mark.parametrize("mode", ["buffered", "strict"])
def test_no_record_and_no_export_of_it_shows_a_value(
    loud: SecretClient, keyring: KeyRing, raw: psycopg.Connection, *, tmp_path: Path, mode: AuditReads
) -> None:
    """Read, refused, failed, sealed, verified, listed and taken out: neither rows nor records nor the file hold a part of one."""
    store = SecretClient(loud.engine, keyring, audit_reads=mode)
    for value in VALUES.values():
        for _ in range(2):
            store.set_secret("a", value)
            store.get_secrets(["a", "none"])
            assert_refused(partial(store.get_secret, "a", Login))
            assert_refused(partial(store.set_secret, "a", value, expected_version=0))
            assert_refused(partial(store.set_secrets, {"b": value, "c": f"{MARKER}\ud800"}))
            store.close()
            store.audit.seal()
    told = [
        *store.list_changes(with_data_keys=True),
        *store.audit.list_accesses(),
        store.audit.head(),
        store.audit.verify(),
    ]
    store.audit.drop_accesses(before=datetime.now(UTC) + timedelta(hours=1), export=tmp_path / "reads.jsonl")

    rows = raw.execute("SELECT t::text FROM secretstore.access_event t").fetchall()
    written = f"{told}{rows}{(tmp_path / 'reads.jsonl').read_text()}"
    assert '"outcome": "failed"' in written
    assert not [part for part in SHOWN if part in written]
