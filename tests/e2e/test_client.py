"""`connect` and `connect_async` as a user calls them: on a URL, from the environment, and embedded."""

import asyncio
import os
import stat
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

import secretstore
from secretstore import CacheConfig, ConfigurationError, KeyRing, MasterKeyError, SchemaOutOfDateError, SecretClient
from secretstore.embedded import EmbeddedFolder
from tests.support.server import Server

# By psycopg's cursor nothing is prepared.
PREPARES = not os.environ.get("SECRETSTORE_TEST_CURSOR")


def is_prepared(store: SecretClient) -> bool:
    """Whether PostgreSQL keeps the plan of a read."""
    with Session(store.engine) as session:
        store.bind(session).get_secret("a")
        found = session.connection().exec_driver_sql("SELECT count(*) FROM pg_prepared_statements")
        return bool(found.scalar_one())


def test_statements_are_prepared_where_an_argument_or_the_environment_says_so(
    server: Server, database: str, keyring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without either they are not, and an argument wins.  Past a pooler, behind which that is no good."""
    url = server.direct_url(database)
    with secretstore.connect(url, keyring=keyring) as store:
        assert not is_prepared(store)
    with secretstore.connect(url, keyring=keyring, prepared_statements=True) as store:
        assert is_prepared(store) is PREPARES
    monkeypatch.setenv("SECRETSTORE_PREPARED_STATEMENTS", "true")
    with secretstore.connect(url, keyring=keyring) as store:
        assert is_prepared(store) is PREPARES
    with secretstore.connect(url, keyring=keyring, prepared_statements=False) as store:
        assert not is_prepared(store)


def test_a_url_is_enough_with_a_key_ring_in_the_environment(
    database_url: str, master_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a URL and SECRETSTORE_KEYS a value is written by one client and read by the next."""
    monkeypatch.setenv("SECRETSTORE_KEYS", master_key)
    with secretstore.connect(database_url) as store:
        assert store.set_secret("a", {"b": [1]}).namespace == "default"
    with secretstore.connect(database_url) as store:
        assert store.get_secret_or_raise("a") == {"b": [1]}


def test_everything_can_come_from_the_environment(
    database_url: str, master_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """URL, namespace, actor and a key file in variables; arguments win over them."""
    key_file = tmp_path / "keys"
    key_file.write_text(master_key + "\n")
    key_file.chmod(0o600)
    settings = {"DATABASE_URL": database_url, "NAMESPACE": "prod", "ACTOR": "deploy", "KEYS_FILE": str(key_file)}
    for name, setting in settings.items():
        monkeypatch.setenv(f"SECRETSTORE_{name}", setting)

    with secretstore.connect() as store:
        info = store.set_secret("a", 1)
    assert (info.namespace, info.created_by) == ("prod", "deploy")
    with secretstore.connect(namespace="test", actor="ann") as store:
        info = store.set_secret("a", 2)
    assert (info.namespace, info.created_by) == ("test", "ann")


def test_a_cache_is_asked_for_by_an_argument_or_the_environment(
    database_url: str, keyring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without either there is none; an argument wins, and False is one."""
    with secretstore.connect(database_url, keyring=keyring) as store:
        assert store.cache_statistics() is None
    with secretstore.connect(database_url, keyring=keyring, cache=CacheConfig(max_entries=5)) as store:
        assert store._cache is not None
        assert store._cache._config == CacheConfig(max_entries=5)
    given = {"CACHE": "true", "CACHE_TTL_SECONDS": "60", "CACHE_MAX_ENTRIES": "7", "CACHE_MAX_BYTES": "8000"}
    for name, setting in {**given, "CACHE_MAX_STALE_SECONDS": "2", "LISTEN_URL": database_url}.items():
        monkeypatch.setenv(f"SECRETSTORE_{name}", setting)
    with secretstore.connect(database_url, keyring=keyring) as store:
        assert store._cache is not None
        assert store._cache._config == CacheConfig(
            ttl_seconds=60.0, max_entries=7, max_bytes=8000, max_stale_seconds=2.0, heartbeat_seconds=0.5
        )
        store.set_secret("a", 1)
        assert [store.get_secret("a"), store.get_secret("a")] == [1, 1]
        assert store._cache._listen_engine is not store.engine
    with secretstore.connect(database_url, keyring=keyring, cache=False) as store:
        assert store.cache_statistics() is None
    monkeypatch.setenv("SECRETSTORE_CACHE_MAX_ENTRIES", "0")
    with pytest.raises(ConfigurationError, match="max_entries"):
        secretstore.connect(database_url, keyring=keyring)


def test_a_wrong_listen_url_is_not_repeated(database_url: str, keyring: KeyRing) -> None:
    """It is refused when the client is made, as the other URL is."""
    with pytest.raises(ConfigurationError) as caught:
        secretstore.connect(database_url, keyring=keyring, cache=CacheConfig(), listen_url="mysql://u:hunter2@h/d")
    assert "hunter2" not in str(caught.value)


def test_an_async_client_has_a_cache_too(database_url: str, keyring: KeyRing) -> None:
    """Asked for in the same way, and closed with the client."""

    async def scenario() -> list[object]:
        async with await secretstore.connect_async(database_url, keyring=keyring, cache=CacheConfig()) as store:
            await store.set_secret("a", 1)
            values = [await store.get_secret("a"), await store.get_secret_or_raise("a")]
            found = store.cache_statistics()
            assert found is not None
            return [*values, found.misses > 0]

    assert asyncio.run(scenario()) == [1, 1, True]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_scheme_is_taken(database_url: str, keyring: KeyRing, scheme: str) -> None:
    """URLs of libpq and of SQLAlchemy lead to the same database."""
    with secretstore.connect(database_url.replace("postgresql", scheme, 1), keyring=keyring) as store:
        assert store.get_secret_count() == 0


def test_without_a_url_the_error_says_both_ways(keyring: KeyRing) -> None:
    """Without URL and environment nothing is guessed: the error shows how to name a database, or an embedded one."""
    with pytest.raises(ConfigurationError, match=r"set SECRETSTORE_DATABASE_URL; or call connect\(\"embedded\"\)"):
        secretstore.connect(keyring=keyring)


def test_without_a_key_ring_there_is_no_store(database_url: str) -> None:
    """Encryption is not optional: no key ring is an error that says how to make one."""
    for opened in (
        lambda: secretstore.connect(database_url),
        lambda: asyncio.run(secretstore.connect_async(database_url)),
    ):
        with pytest.raises(
            MasterKeyError, match="make a key with `secretstore keys generate` and set SECRETSTORE_KEYS"
        ):
            opened()


def test_a_wrong_url_is_not_repeated(keyring: KeyRing) -> None:
    """A URL that is none can hold a password all the same, and is in no error."""
    for url in ("mysql://app:hunter2@db/x", "postgresql://app:hunter2@[db/x", "hunter2"):
        with pytest.raises(ConfigurationError) as caught:
            secretstore.connect(url, keyring=keyring)
        assert "hunter2" not in str(caught.value)


def test_a_database_without_tables_says_what_to_run(empty_database_url: str, keyring: KeyRing) -> None:
    """The first call on a fresh database names the command that makes the tables."""
    missing = pytest.raises(SchemaOutOfDateError, match="run `secretstore db upgrade`")
    with secretstore.connect(empty_database_url, keyring=keyring) as store, missing:
        store.get_secret("a")


def test_a_namespace_shares_engine_and_key_ring(database_url: str, keyring: KeyRing) -> None:
    """`namespace` gives a client on other secrets without a new pool, and closing it closes nothing."""
    with secretstore.connect(database_url, keyring=keyring, actor="ann", max_value_bytes=10) as store:
        other = store.namespace("other")
        assert (other.engine is store.engine, other._options.keyring is keyring) == (True, True)
        assert other.set_secret("a", "there").created_by == "ann"
        with pytest.raises(secretstore.InvalidSecretValueError):
            other.set_secret("a", "more than ten")
        other.close()
        assert (store.get_secret("a"), other.get_secret("a")) == (None, "there")
        with pytest.raises(secretstore.InvalidSecretKeyError):
            store.namespace(" ")


def test_close_gives_the_connections_back(database_url: str, keyring: KeyRing) -> None:
    """After `close` the pool is empty; an engine that the caller made is left alone by its client."""
    store = secretstore.connect(database_url, keyring=keyring)
    store.get_secret_count()
    own = SecretClient(store.engine, keyring)
    own.close()
    assert _idle_connections(store) == 1
    store.close()
    assert _idle_connections(store) == 0


def _idle_connections(store: SecretClient) -> int:
    assert isinstance(store.engine.pool, QueuePool)
    return store.engine.pool.checkedin()


def test_bind_writes_in_the_users_transaction(database_url: str, keyring: KeyRing) -> None:
    """The example of the front page: a bound service commits with the user's block."""
    with secretstore.connect(database_url, keyring=keyring, namespace="prod") as store:
        with Session(store.engine) as session, session.begin():
            store.bind(session).set_secret("accounts.1.token", "t")
            assert store.get_secret("accounts.1.token") is None
        assert store.get_secret("accounts.1.token", str) == "t"


def test_connect_async_as_a_user_calls_it(database_url: str, keyring: KeyRing) -> None:
    """The async client writes, reads, binds and lists another namespace, as a context manager."""

    async def scenario() -> tuple[object, ...]:
        async with await secretstore.connect_async(database_url, keyring=keyring, actor="ann") as store:
            info = await store.set_secret("a", {"n": 1})
            async with AsyncSession(store.engine) as session, session.begin():
                await store.bind(session).set_secret("b", 2)
            staging = store.namespace("staging")
            return info.created_by, await store.get_secrets(["b", "a"]), await staging.list_secret_keys(), repr(store)

    created_by, values, staged, shown = asyncio.run(scenario())
    assert (created_by, values, staged) == ("ann", {"b": 2, "a": {"n": 1}}, [])
    assert shown == "AsyncSecretClient(namespace='default')"


def test_the_embedded_store_needs_nothing(tmp_path: Path) -> None:
    """`embedded` starts a server, makes tables and a key file of its own, stops at the end, and keeps its data."""
    folder = EmbeddedFolder(tmp_path / "data")
    with secretstore.connect(f"embedded://{folder.data}") as store:
        assert store.set_secret("a", "kept").version == 1
        assert folder.server_pid() is not None
        # No pooler can stand before it.
        assert is_prepared(store) is PREPARES
    assert folder.server_pid() is None
    assert stat.S_IMODE(folder.key_file.stat().st_mode) == 0o600
    assert folder.data not in folder.key_file.parents

    async def read() -> object:
        async with await secretstore.connect_async(f"embedded://{folder.data}") as store:
            return await store.get_secret("a")

    assert asyncio.run(read()) == "kept"
    assert folder.server_pid() is None


def test_an_embedded_url_needs_three_slashes(keyring: KeyRing) -> None:
    """A relative path would be a folder that depends on where a program is started, so it is refused."""
    with pytest.raises(ConfigurationError, match="three slashes and an absolute path"):
        secretstore.connect("embedded://data", keyring=keyring)
