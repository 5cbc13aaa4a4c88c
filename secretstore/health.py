"""Looks whether everything that a store needs works.  Nothing is written, and no value is read."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import migrate
from secretstore.connect import keyring_of, open_database
from secretstore.crypto.keyring import KeyRing
from secretstore.errors import ConfigurationError, MasterKeyError, SchemaOutOfDateError, SecretStoreError
from secretstore.orm.engines import make_engine
from secretstore.orm.repository import StoredDataKey, list_active_data_keys
from secretstore.orm.translate import translated
from secretstore.settings import Settings

CHECKS = ("database", "tables", "key ring", "data keys")
OLDEST_POSTGRESQL = 15

_SKIPPED = "an earlier check failed"
_NAMED_NAMESPACES = 5


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found; `ok` is None where it was skipped, because an earlier one failed."""

    name: str
    ok: bool | None
    detail: str


def examine(settings: Settings) -> list[Check]:
    """Run the checks one after the other; after the first that fails, the others are skipped."""
    checks: list[Check] = []
    try:
        for detail in _findings(settings):
            checks.append(Check(CHECKS[len(checks)], ok=True, detail=detail))
    except (SecretStoreError, ImportError) as error:
        checks.append(Check(CHECKS[len(checks)], ok=False, detail=str(error)))
    return checks + [Check(name, ok=None, detail=_SKIPPED) for name in CHECKS[len(checks) :]]


def _findings(settings: Settings) -> Iterator[str]:
    """Say what each check found, in their order; an error is a check that failed."""
    database = open_database(settings)
    try:
        engine = make_engine(database.url)
        try:
            yield _server(engine)
            yield _tables(engine)
            keyring = keyring_of(settings, database)
            yield repr(keyring)
            yield _data_keys(engine, keyring)
        finally:
            engine.dispose()
    finally:
        database.close()


def _server(engine: Engine) -> str:
    with translated(), engine.connect() as connection:
        version = connection.dialect.server_version_info or (0,)
    shown = ".".join(map(str, version))
    if int(version[0]) < OLDEST_POSTGRESQL:
        raise ConfigurationError(
            f"PostgreSQL {shown} is too old; {OLDEST_POSTGRESQL} is the oldest that is known to work"
        )
    return f"PostgreSQL {shown}"


def _tables(engine: Engine) -> str:
    revision = migrate.current(engine) or "none"
    try:
        migrate.check(engine)
    except SchemaOutOfDateError as error:
        problem = str(error)
    else:
        return f"revision {revision}"
    raise SchemaOutOfDateError(f"revision {revision}: {problem}")


def _data_keys(engine: Engine, keyring: KeyRing) -> str:
    with translated(), Session(engine) as session:
        stored = list_active_data_keys(session)
    problems = {key.place.namespace: problem for key in stored if (problem := _why_closed(keyring, key))}
    if not problems:
        return f"the key ring opens all {len(stored)}"
    named = [repr(namespace) for namespace in problems][:_NAMED_NAMESPACES]
    more = "" if len(named) == len(problems) else ", …"
    raise MasterKeyError(
        f"{len(problems)} of {len(stored)} do not open, of namespace {', '.join(named)}{more}: "
        f"{next(iter(problems.values()))}"
    )


def _why_closed(keyring: KeyRing, key: StoredDataKey) -> str:
    try:
        keyring.open(key.wrapped, key.place)
    except SecretStoreError as error:
        return str(error)
    return ""
