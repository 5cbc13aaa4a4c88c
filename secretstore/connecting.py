"""The one place that wires a store together."""

import asyncio
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, TypedDict
from urllib.parse import quote, unquote

import secretstore
from secretstore.cache import CacheConfig
from secretstore.client.synchronous import SecretClient
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.accesses import AuditReads
from secretstore.domain.observing import Observer
from secretstore.embedded import SCHEME, EmbeddedFolder, EmbeddedServer
from secretstore.errors import ConfigurationError, MasterKeyError
from secretstore.orm.engines import make_async_engine, make_engine, place_of
from secretstore.service.synchronous import Notify
from secretstore.service.typed import MAX_VALUE_BYTES

if TYPE_CHECKING:
    from secretstore.providers.postgres import PostgresProvider
    from secretstore.settings import Settings

_NAMESPACE = "namespace"


def connect(  # noqa: PLR0913 - each is a setting
    url: str | None = None,
    *,
    namespace: str | None = None,
    keyring: KeyRing | None = None,
    actor: str | None = None,
    require_actor: bool | None = None,
    max_value_bytes: int = MAX_VALUE_BYTES,
    notify: Notify | None = None,
    prepared_statements: bool | None = None,
    libpq: bool | None = None,
    retry_seconds: float | None = None,
    cache: CacheConfig | Literal[False] | None = None,
    listen_url: str | None = None,
    audit_reads: AuditReads | None = None,
    observer: Observer | None = None,
) -> SecretClient:
    """Return a client; what is not given comes from `SECRETSTORE_…` variables.

    `url` is a libpq or SQLAlchemy URL, or `embedded` (or `embedded:///path`) for a PostgreSQL of our own, which is
    started, brought up to date, and stopped by `close`.  Otherwise nothing connects before the first call.
    Danger: with `prepared_statements` PostgreSQL keeps the plans of statements, which is faster, but behind a pooler in
    transaction mode that does not know them, it can hand one client another client's rows.
    With `cache` the values of single secrets are kept in memory; False keeps none, whatever the variables say.
    `listen_url` is a direct way to the same database, for notices of changes, where `url` goes through a pooler.
    With `audit_reads` who read what is recorded: `buffered` within a second, `strict` in the transaction of the read, which
    fails where that is impossible; then this connects, and a server that only reads is a `ConfigurationError`.
    `observer` is told of every operation and of every call of a key server, as `secretstore.metrics` and
    `secretstore.tracing` need it.
    Raises `ConfigurationError` without a URL, and `MasterKeyError` without a key ring.
    """
    from secretstore.settings import load_settings  # noqa: PLC0415 - pydantic's settings are slow to load

    settings = load_settings(
        database_url=url,
        namespace=namespace,
        actor=actor,
        require_actor=require_actor,
        notify=notify,
        prepared_statements=prepared_statements,
        libpq=libpq,
        retry_seconds=retry_seconds,
        listen_url=listen_url,
        audit_reads=audit_reads,
    )
    database, opened = _open(settings, keyring)
    engine = make_engine(database.url, **_engine_options(settings, database))

    def close() -> None:
        engine.dispose()
        database.close()

    client = SecretClient(
        engine, opened, max_value_bytes=max_value_bytes, on_close=close, **_client_options(settings, cache)
    )
    if settings.audit_reads == "strict":
        _check_recording(client)
    return client if observer is None else client.observed_by(observer)


async def connect_async(  # noqa: PLR0913 - ditto
    url: str | None = None,
    *,
    namespace: str | None = None,
    keyring: KeyRing | None = None,
    actor: str | None = None,
    require_actor: bool | None = None,
    max_value_bytes: int = MAX_VALUE_BYTES,
    notify: Notify | None = None,
    prepared_statements: bool | None = None,
    libpq: bool | None = None,
    retry_seconds: float | None = None,
    cache: CacheConfig | Literal[False] | None = None,
    listen_url: str | None = None,
    audit_reads: AuditReads | None = None,
    observer: Observer | None = None,
) -> "secretstore.AsyncSecretClient":
    """Return an async client; see `connect`."""
    from secretstore.client.asynchronous import AsyncSecretClient  # noqa: PLC0415 - who blocks does not wait for it
    from secretstore.settings import load_settings  # noqa: PLC0415 - as in `connect`

    settings = load_settings(
        database_url=url,
        namespace=namespace,
        actor=actor,
        require_actor=require_actor,
        notify=notify,
        prepared_statements=prepared_statements,
        libpq=libpq,
        retry_seconds=retry_seconds,
        listen_url=listen_url,
        audit_reads=audit_reads,
    )
    database, opened = await asyncio.to_thread(_open, settings, keyring)
    engine = make_async_engine(database.url, **_engine_options(settings, database))

    async def close() -> None:
        await engine.dispose()
        await asyncio.to_thread(database.close)

    client = AsyncSecretClient(
        engine, opened, max_value_bytes=max_value_bytes, on_close=close, **_client_options(settings, cache)
    )
    if settings.audit_reads == "strict":
        try:
            await client._check_recording()
        except BaseException:
            await client.close()
            raise
    return client if observer is None else client.observed_by(observer)


def _check_recording(client: SecretClient) -> None:
    try:
        client._check_recording()
    except BaseException:
        client.close()
        raise


def open_postgres(url: str) -> "PostgresProvider":
    """Return the provider of a URL that `connect` takes; its option `namespace` wins over the variable.

    Danger: an embedded server is started at once.
    """
    from secretstore.providers.postgres import PostgresProvider  # noqa: PLC0415 - the business of few

    database, namespace = _without_namespace(url)
    embedded = database.partition(":")[0] == SCHEME
    if embedded and database.strip(":/") == SCHEME:
        database = SCHEME
    client = connect(database, namespace=namespace, cache=False)
    place = database if embedded else f"postgresql://{place_of(database)}"
    return PostgresProvider(client, name=f"{place}?namespace={quote(client._options.namespace, safe='')}")


def _without_namespace(url: str) -> tuple[str, str | None]:
    """Return a URL without the option that libpq does not know, and that option; the rest of it stays as it is."""
    place, _, options = url.partition("?")
    pairs = [pair.partition("=") for pair in options.split("&") if pair]
    given = [unquote(value) for name, _, value in pairs if name == _NAMESPACE]
    if len(given) > 1:
        raise ConfigurationError("the database URL gives its namespace twice")
    left = "&".join("".join(pair) for pair in pairs if pair[0] != _NAMESPACE)
    return (f"{place}?{left}" if left else place), (given[0] if given else None)


class _ClientOptions(TypedDict):
    namespace: str
    actor: str | None
    require_actor: bool
    notify: Notify
    retry_seconds: float
    cache: CacheConfig | None
    listen_url: str | None
    audit_reads: AuditReads


def _client_options(settings: "Settings", cache: CacheConfig | Literal[False] | None) -> _ClientOptions:
    """Return what a client of either kind takes from the settings."""
    return {
        "namespace": settings.namespace,
        "actor": settings.actor,
        "require_actor": settings.require_actor,
        "notify": settings.notify,
        "retry_seconds": settings.retry_seconds,
        "cache": _cache_of(settings, cache),
        "listen_url": None if settings.listen_url is None else settings.listen_url.get_secret_value(),
        "audit_reads": settings.audit_reads,
    }


def _cache_of(settings: "Settings", cache: CacheConfig | Literal[False] | None) -> CacheConfig | None:
    if cache is not None:
        return cache or None
    if not settings.cache:
        return None
    options = settings.cache_options()
    heartbeat = min(CacheConfig().heartbeat_seconds, options.get("max_stale_seconds", inf) / 4)
    return CacheConfig(**options, heartbeat_seconds=heartbeat)


@dataclass(frozen=True, slots=True)
class Database:
    """Where the store is, and the embedded server that has to run for it."""

    url: str
    server: EmbeddedServer | None = None

    def close(self) -> None:
        """Let go of the server."""
        if self.server is not None:
            self.server.release()


def open_database(settings: "Settings") -> Database:
    """Return the database of the settings; starts and upgrades an embedded one.  Raises `ConfigurationError`."""
    if settings.database_url is None:
        raise ConfigurationError(
            'no database is named: call connect("postgresql://user@host/database") or set SECRETSTORE_DATABASE_URL; '
            'or call connect("embedded") for a PostgreSQL of its own'
        )
    url = settings.database_url.get_secret_value()
    if url.partition("://")[0] != SCHEME:
        return Database(url)
    server = EmbeddedServer(EmbeddedFolder.of_url(url))
    _upgrade(server)
    return Database(server.url, server)


def keyring_of(settings: "Settings", database: Database) -> KeyRing:
    """Return the key ring of the settings, or the embedded server's own; otherwise raises `MasterKeyError`."""
    from secretstore.keyrings import open_keyring  # noqa: PLC0415 - who brings a key ring needs none of the readers

    if settings.keys is not None:
        return open_keyring(settings.keys.get_secret_value())
    if database.server is not None:
        return database.server.folder.keyring()
    raise MasterKeyError(
        "there is no key ring, and without one there is no store: make a key with `secretstore keys generate` and set "
        "SECRETSTORE_KEYS or SECRETSTORE_KEYS_FILE"
    )


def _open(settings: "Settings", keyring: KeyRing | None) -> tuple[Database, KeyRing]:
    database = open_database(settings)
    try:
        return database, keyring or keyring_of(settings, database)
    except BaseException:
        database.close()
        raise


def _engine_options(settings: "Settings", database: Database) -> dict[str, bool]:
    prepares = settings.prepared_statements
    if prepares is None:
        # Nothing stands between us and a server of our own.
        prepares = database.server is not None
    return {"prepared_statements": prepares, "libpq": settings.libpq}


def _upgrade(server: EmbeddedServer) -> None:
    # Alembic is imported only where it is used: it would make `import secretstore` half as slow again.
    from secretstore import migrate  # noqa: PLC0415

    engine = make_engine(server.url)
    try:
        migrate.upgrade(engine)
    except BaseException:
        server.release()
        raise
    finally:
        engine.dispose()


# As people import them.
connect.__module__ = connect_async.__module__ = "secretstore"
