"""The record of changes says who acted, for whom and from where; no record, no change."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import secretstore
from secretstore import (
    AsyncProviderClient,
    AsyncSecretClient,
    CacheConfig,
    ConfigurationError,
    InvalidSecretKeyError,
    KeyRing,
    PermissionDeniedError,
    SecretClient,
    SecretStoreError,
    acting_as,
)
from secretstore.domain.accesses import AuditReads
from secretstore.domain.records import ACTIONS
from secretstore.orm.engines import make_engine
from secretstore.orm.repository import Times
from secretstore.providers.postgres import PostgresProvider
from secretstore.service import importing
from tests.support.changes import CHANGES, OTHERS, VALUE, prepare
from tests.support.faces import Face, async_engine
from tests.support.server import Server
from tests.support.stored import EVENTS, rows, told
from tests.support.threads import number

ROLE = "secretstore_test_recorded"
TABLES = ("secret_store", "secret_version", "label_change", "data_key", "change_event")


@pytest.fixture
def unrecorded(server: Server, database: str, raw: psycopg.Connection) -> Iterator[Engine]:
    """An engine of a role that may do anything but add to the record."""
    raw.execute(f"DROP ROLE IF EXISTS {ROLE}")
    raw.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'only-for-tests'")
    raw.execute(f"GRANT USAGE ON SCHEMA secretstore TO {ROLE}")
    raw.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA secretstore TO {ROLE}")
    raw.execute(f"REVOKE INSERT ON secretstore.change_event FROM {ROLE}")
    engine = make_engine(server.url(database, user=ROLE, password="only-for-tests"))
    yield engine
    engine.dispose()
    raw.execute(f"DROP OWNED BY {ROLE}")
    raw.execute(f"DROP ROLE {ROLE}")


def events_of(raw: psycopg.Connection, namespace: str) -> list[dict[str, Any]]:
    """Return what is recorded of a namespace."""
    return [event for event in rows(raw, EVENTS) if event["namespace"] == namespace]


def actors(raw: psycopg.Connection) -> dict[str, str]:
    """Return the actor of each key."""
    return {key: actor for key, _, _, actor in told(raw)}


def all_rows(raw: psycopg.Connection) -> dict[str, list[dict[str, Any]]]:
    """Return everything that is stored."""
    return {table: rows(raw, f"SELECT * FROM secretstore.{table} ORDER BY 1, 2, 3") for table in TABLES}


def test_each_change_is_recorded_once_with_who_and_whence(
    server: Server, database: str, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Each kind leaves one record that says who, for which request, from which application and role; and no value."""
    engine = make_engine(server.url(database, application_name="billing"))
    store = SecretClient(engine, keyring)
    assert set(CHANGES) == set(ACTIONS)
    for action, (change, key, version) in CHANGES.items():
        change_once(raw, store.namespace(action), change, action)
        (event,) = [one for one in events_of(raw, action) if one["actor"] == "user:alice"]
        assert (event["action"], event["key"], event["version"]) == (action, key, version)
        assert event["outcome"].partition(":")[0] == "done"
        assert (event["request_id"], event["application_name"]) == ("r-1", "billing")
        assert event["database_role"] == event["database_role"].strip() != ""
        assert VALUE not in str(event)
    for action, change in OTHERS.items():
        change_once(raw, store.namespace(f"other {action}"), change, action)
    engine.dispose()


@pytest.mark.parametrize("mode", ["off", "buffered", "strict"])
def test_normal_work_says_nothing_at_warning(
    engine: Engine, keyring: KeyRing, caplog: pytest.LogCaptureFixture, mode: AuditReads
) -> None:
    """Every kind of change, reads from a cache and past it, lists, seals and metrics.

    But for a transaction that is tried again, which says so at INFO: PostgreSQL's own vacuum may hold a lock for a moment.
    """
    caplog.set_level("INFO", "secretstore")
    store = SecretClient(engine, keyring, audit_reads=mode, cache=CacheConfig())
    for action, (change, _, _) in CHANGES.items():
        there = store.namespace(action)
        prepare(there)
        there.get_secrets(["k", "none"])
        there.get_secret("k")
        change(there)
        there.audit.seal()
        there.audit.verify()
        there.list_changes()
    store.close()

    said = [record for record in caplog.records if record.name.startswith("secretstore")]
    assert [one.getMessage() for one in said if (one.levelno, one.msg[:12]) != (logging.INFO, "trying again")] == []


def change_once(
    raw: psycopg.Connection, store: SecretClient, change: Callable[[SecretClient], object], action: str
) -> None:
    """Make a change, and see that it leaves one record of its kind."""
    prepare(store)
    before = len(events_of(raw, store.keys.namespace))
    with acting_as("user:alice", request_id="r-1"):
        change(store)
    after = events_of(raw, store.keys.namespace)
    added = [event for event in after if event["actor"] == "user:alice"]
    assert ([event["action"] for event in added], len(after)) == ([action], before + 1)


def test_an_import_from_elsewhere_is_recorded_once(
    store: SecretClient, session: Session, raw: psycopg.Connection
) -> None:
    """What comes with times of its own is an `import`, by the actor of then."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    service = store.bind(session)
    with acting_as("importer"):
        importing.import_secrets(service, [importing.incoming(service, "k", VALUE, Times(moment, moment))])
    session.commit()

    assert told(raw) == [("k", 1, "import", "importer")]


def test_without_a_record_there_is_no_change(
    engine: Engine, unrecorded: Engine, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Where the record cannot be written, each kind of change is refused, and nothing is left of it."""
    refused = SecretClient(unrecorded, keyring)
    changes = {**{action: change for action, (change, _, _) in CHANGES.items()}, "gc": OTHERS["purge"]}
    for action, change in changes.items():
        prepare(SecretClient(engine, keyring, namespace=action))
        before = all_rows(raw)
        with pytest.raises(PermissionDeniedError):
            change(refused.namespace(action))
        assert all_rows(raw) == before, action


def test_a_record_is_rolled_back_with_its_change(service: Face, raw: psycopg.Connection) -> None:
    """In a caller's transaction change and record are there together, and go together."""
    service.set_secret("k", VALUE)
    service.rollback()
    assert told(raw) == []
    service.set_secret("k", VALUE)
    service.commit()
    assert [event[2] for event in told(raw)] == ["set"]


def test_a_block_wins_over_the_client_and_the_client_over_the_role(face: Face, raw: psycopg.Connection) -> None:
    """The innermost name counts; a request id stays until another one is given; afterwards all is as before."""
    named = face.with_options(actor="client")
    with acting_as(request_id="r-1"):
        named.set_secret("0", 1)
        face.set_secret("1", 1)
        with acting_as("outer"):
            named.set_secret("2", 1)
            with acting_as("inner", request_id="r-2"):
                named.set_secret("3", 1)
            named.set_secret("4", 1)
    named.set_secret("5", 1)
    face.commit()

    found = [(event["actor"], event["request_id"]) for event in sorted(rows(raw, EVENTS), key=lambda row: row["key"])]
    (role,) = {event["database_role"] for event in rows(raw, EVENTS)}
    assert found == [
        *(("client", "r-1"), (role, "r-1"), ("outer", "r-1")),
        *(("inner", "r-2"), ("outer", "r-1"), ("client", None)),
    ]
    assert face.describe_secret("3").created_by == "inner"


def test_a_block_ends_with_an_error(store: SecretClient, raw: psycopg.Connection) -> None:
    """Who acted in a block that failed acts no more."""
    with pytest.raises(ZeroDivisionError), acting_as("short"):
        _ = 1 / 0
    store.set_secret("k", 1)

    assert actors(raw)["k"] != "short"


def test_threads_act_for_themselves_or_in_a_copied_context(store: SecretClient, raw: psycopg.Connection) -> None:
    """A bare thread does not know the block, one with a copy of the context does, and neither disturbs the other."""

    def write(key: str) -> None:
        store.set_secret(key, 1)

    def write_as(name: str) -> None:
        with acting_as(name):
            both.wait(20)
            store.set_secret(name, 1)

    both = threading.Barrier(2)
    with acting_as("user:alice"):
        threads = [
            threading.Thread(target=write, args=("bare",)),
            threading.Thread(target=contextvars.copy_context().run, args=(write, "copied")),
            *(threading.Thread(target=write_as, args=(name,)) for name in ("bob", "carol")),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    found = actors(raw)
    assert (found["copied"], found["bob"], found["carol"]) == ("user:alice", "bob", "carol")
    assert found["bare"] != "user:alice"


def test_tasks_act_each_for_itself(
    database_url: str, engine: Engine, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Tasks of one loop, threads that they wait for, and the provider's own threads all know who began them."""

    async def act() -> None:
        async with async_engine(database_url) as awaited:
            store, blocking = AsyncSecretClient(awaited, keyring), SecretClient(engine, keyring)
            provided = AsyncProviderClient(PostgresProvider(blocking, name="here"))

            async def write(name: str) -> None:
                with acting_as(name):
                    await asyncio.gather(
                        store.set_secret(f"{name}.task", 1),
                        asyncio.to_thread(blocking.set_secret, f"{name}.thread", 1),
                        provided.set_secret(f"{name}.provider", 1),
                    )
                    await store.namespace(name).keys.rotate()

            await asyncio.gather(*(write(f"user:{place}") for place in range(4)))
            await provided.close()

    asyncio.run(act())

    found = rows(raw, EVENTS)
    assert len(found) == 16
    assert {event["actor"] for event in found} == {f"user:{place}" for place in range(4)}
    assert all(event["actor"] == (event["key"].rpartition(".")[0] or event["namespace"]) for event in found)


def test_a_change_that_needs_an_actor_is_refused_before_anything_is_sent(
    *, store: SecretClient, engine: Engine, keyring: KeyRing, raw: psycopg.Connection, sent_statements: list[str]
) -> None:
    """Each kind of change without an actor is refused; with one it is made; reading and looking need none."""
    prepare(store)
    strict = SecretClient(engine, keyring, require_actor=True)
    retired = next(key.id for key in store.keys.list_data_keys() if key.state == "retired")
    moment = store.list_versions("k")[-1].created_at
    changes = {
        **{action: change for action, (change, _, _) in CHANGES.items()},
        "restore": lambda client: client.restore(moment, "k"),
        "destroy_data_key": lambda client: client.keys.destroy(retired),
        "max_versions": lambda client: client.set_max_versions(5),
        **{f"other {action}": change for action, change in OTHERS.items()},
    }
    sent_statements.clear()
    for change in changes.values():
        with pytest.raises(ConfigurationError, match="acting_as"):
            change(strict)
    assert sent_statements == []

    assert strict.get_secret("k") == {"a": 2}
    assert strict.restore(moment, "k", dry_run=True).differences
    assert strict.gc(deleted_for=timedelta(), dry_run=True).purged == 1
    with acting_as("user:alice"):
        strict.set_secret("k", 3)
    SecretClient(engine, keyring, actor="batch", require_actor=True).set_secret("l", 1)
    assert {key: actor for key, actor in actors(raw).items() if key in {"k", "l"}} == {"k": "user:alice", "l": "batch"}


def test_every_face_can_demand_an_actor(face: Face) -> None:
    """Clients and services alike refuse a change for which nobody is named."""
    strict = face.with_options(require_actor=True)
    with pytest.raises(ConfigurationError, match="a change needs an actor"):
        strict.set_secret("k", 1)
    with acting_as("user:alice"):
        assert strict.set_secret("k", 1).created_by == "user:alice"


def test_the_environment_names_and_demands_actors(
    database_url: str, keyring: KeyRing, monkeypatch: pytest.MonkeyPatch, raw: psycopg.Connection
) -> None:
    """`SECRETSTORE_REQUIRE_ACTOR` demands one, which `SECRETSTORE_ACTOR` can be; arguments win, and a block over all."""
    monkeypatch.setenv("SECRETSTORE_REQUIRE_ACTOR", "true")
    with secretstore.connect(database_url, keyring=keyring) as store:
        with pytest.raises(ConfigurationError, match="SECRETSTORE_ACTOR"):
            store.set_secret("nobody", 1)
        with acting_as("block"):
            store.set_secret("block", 1)
    monkeypatch.setenv("SECRETSTORE_ACTOR", "environment")
    with secretstore.connect(database_url, keyring=keyring) as store:
        store.set_secret("environment", 1)
    with secretstore.connect(database_url, keyring=keyring, actor="argument") as store:
        store.set_secret("argument", 1)

    assert actors(raw) == {name: name for name in ("block", "environment", "argument")}


@pytest.mark.parametrize(
    "wrong",
    ["", " x", "x\n", "a\x1b[2Jb", "\ud800", "x" * 257, 7],
    ids=("empty", "space", "line", "escape", "half", "long", "number"),
)
def test_a_name_that_is_none_is_refused_at_the_edge(engine: Engine, keyring: KeyRing, wrong: Any) -> None:
    """No actor or request id steers a terminal or fills the record: it is refused where it is given."""
    with pytest.raises(InvalidSecretKeyError, match="actor"), acting_as(wrong):
        pytest.fail("the block was entered")
    with pytest.raises(InvalidSecretKeyError, match="request id"), acting_as(request_id=wrong):
        pytest.fail("the block was entered")
    with pytest.raises(InvalidSecretKeyError, match="actor"):
        SecretClient(engine, keyring, actor=wrong)


def test_the_record_can_be_searched(store: SecretClient) -> None:
    """By key, actor, kind and time, page by page; changes of data keys come where they are asked for."""
    with acting_as("user:alice"):
        store.set_secret("a", 1)
        store.set_secret("b", 1)
    with acting_as("user:bob", request_id="r-2"):
        store.delete_secret("a")
        store.keys.rotate()
    everything = store.list_changes(with_data_keys=True)
    rotated, written, deleted, other = everything

    assert [(one.key, one.action) for one in everything] == [
        *(("", "rotate"), ("a", "set"), ("a", "delete"), ("b", "set"))
    ]
    assert store.list_changes() == [written, deleted, other]
    assert store.list_changes(key="a") == [written, deleted]
    assert store.list_changes(actor="user:bob", with_data_keys=True) == [rotated, deleted]
    assert store.list_changes(action="delete") == [deleted]
    assert store.list_changes(since=other.occurred_at) == [deleted, other]
    assert store.list_changes(after=written.seq, limit=1) == [deleted]
    assert store.list_changes("a", with_data_keys=True) == [written, deleted]
    assert (deleted.request_id, deleted.outcome, written.request_id) == ("r-2", "done", None)
    assert written.database_role is not None


@pytest.mark.parametrize(
    "wrong",
    [{"action": "sett"}, {"since": datetime.now(UTC).replace(tzinfo=None)}, {"key": ""}, {"actor": "x\0"}],
    ids=("action", "since", "key", "actor"),
)
def test_a_search_for_what_cannot_be_is_refused(store: SecretClient, wrong: dict[str, Any]) -> None:
    """A misspelt action or a time without a zone is an error, and no empty answer."""
    with pytest.raises((ValueError, SecretStoreError)):
        store.list_changes(**wrong)


def test_a_watch_tells_of_data_keys_where_it_is_asked(store: SecretClient) -> None:
    """Whoever keeps a copy of secrets sees secrets only; whoever keeps the record sees all."""
    store.keys.rotate()
    store.set_secret("k", 1)
    for wanted, expected in ((False, ["set"]), (True, ["rotate", "set"])):
        changes = store.watch(with_data_keys=wanted, after=0)
        assert [next(changes).action for _ in expected] == expected
        changes.close()


def test_the_past_knows_nothing_of_data_keys(store: SecretClient) -> None:
    """A rotation is no secret: neither lists nor counts of the past, nor those of now, have it."""
    store.set_secret("k", 1)
    store.keys.rotate()
    past = store.as_of(datetime.now(UTC) + timedelta(days=1))

    assert (past.list_secret_keys(), past.get_secret_count()) == (["k"], 1)
    assert [info.key for info in past.list_secrets()] == ["k"]
    assert past.get_secrets_by_prefix("") == {"k": 1}


def test_the_release_before_is_recorded_too(raw: psycopg.Connection) -> None:
    """A writer that does not know the new columns leaves a record that says which application and role it was."""
    raw.execute("SET application_name = 'of before'")
    raw.execute(
        "INSERT INTO secretstore.change_event (namespace, id, key, version, action, actor, occurred_at) "
        "VALUES ('default', gen_random_uuid(), 'k', 1, 'set', 'old', now())"
    )

    (event,) = rows(raw, EVENTS)
    assert (event["outcome"], event["request_id"], event["application_name"]) == ("done", None, "of before")
    assert number(raw, "SELECT count(*) FROM secretstore.change_event WHERE database_role = session_user") == 1


def test_a_role_that_was_taken_on_does_not_hide_who_logged_in(
    store: SecretClient, session: Session, unrecorded: Engine, raw: psycopg.Connection
) -> None:
    """After SET ROLE the actor is that role, and the database role the one that has logged in."""
    raw.execute(f"GRANT INSERT ON secretstore.change_event TO {ROLE}")
    session.execute(text(f"SET LOCAL ROLE {ROLE}"))
    store.bind(session).set_secret("k", 1)
    session.commit()

    (event,) = rows(raw, EVENTS)
    assert event["actor"] == ROLE != event["database_role"]
