"""Looks whether everything that a store needs works.  Nothing is written, and no value is read."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import migrate
from secretstore.connecting import keyring_of, open_database
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.key_records import StoredDataKey
from secretstore.errors import ConfigurationError, MasterKeyError, SchemaOutOfDateError, SecretStoreError
from secretstore.orm.checkpoint_repository import find_age_of_last_checkpoint
from secretstore.orm.engines import make_engine
from secretstore.orm.key_repository import list_data_keys_in_use, most_seals
from secretstore.orm.translate import translated
from secretstore.service.data_keys import MAX_SEALS
from secretstore.service.explaining import describe_own
from secretstore.settings import Settings

CHECKS = ("database", "tables", "key ring", "data keys", "rights", "sealing", "head-room")
OLDEST_POSTGRESQL = 15
# Half of what AES-GCM bears with random nonces; a data key replaces itself at an eighth of this.
NEAR_THE_BOUND = 8 * MAX_SEALS

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
            yield _rights(engine)
            yield _sealing(engine)
            yield _head_room(engine)
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


def _rights(engine: Engine) -> str:
    with translated(), Session(engine) as session:
        return describe_own(session)


def _data_keys(engine: Engine, keyring: KeyRing) -> str:
    with translated(), Session(engine) as session:
        stored = list_data_keys_in_use(session)
    problems = {key.place.namespace: problem for key in stored if (problem := _why_closed(keyring, key))}
    if not problems:
        return f"the key ring opens all {len(stored)}"
    named = [repr(namespace) for namespace in problems][:_NAMED_NAMESPACES]
    more = "" if len(named) == len(problems) else ", …"
    raise MasterKeyError(
        f"{len(problems)} of {len(stored)} do not open, of namespace {', '.join(named)}{more}: "
        f"{next(iter(problems.values()))}"
    )


def _head_room(engine: Engine) -> str:
    """Say how far the data keys are from the number of values that one may seal."""
    with translated(), Session(engine) as session:
        seals = most_seals(session)
    left = max(0, MAX_SEALS - seals) / MAX_SEALS
    if seals >= NEAR_THE_BOUND:
        raise MasterKeyError(
            f"a data key has sealed about {seals:,} values and was not replaced by itself; run `secretstore keys rotate`"
        )
    return f"{left:.0%} of its {MAX_SEALS:,} seals are left to the most used data key, before it is replaced by itself"


def _sealing(engine: Engine) -> str:
    """Say how long ago the record was sealed; nobody has to."""
    with translated(), Session(engine) as session:
        age = find_age_of_last_checkpoint(session)
    if age is None:
        return "nothing of the record is sealed; see `secretstore audit seal`"
    return f"the last checkpoint of the record is {age.total_seconds():,.0f} seconds old"


def _why_closed(keyring: KeyRing, key: StoredDataKey) -> str:
    try:
        keyring.open(key.wrapped, key.place)
    except SecretStoreError as error:
        return str(error)
    return ""
