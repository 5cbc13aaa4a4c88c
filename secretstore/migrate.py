"""The tables' revisions, run from Python: the same that `alembic upgrade` does at the project's root.

Each function takes an engine, which it gives a transaction of its own, or a live connection, whose transaction stays the
caller's: nothing is committed, and rolling back undoes it.  All upgrades of one database wait for each other.
"""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from secretstore.errors import ConfigurationError, SchemaOutOfDateError
from secretstore.orm.models import SCHEMA, Base
from secretstore.orm.translate import translated

HEAD = "head"
BASE = "base"
LOCK_TIMEOUT_SECONDS = 5.0
STATEMENT_TIMEOUT = "10min"
# "secretst" in ASCII, so that it is nobody else's.
UPGRADE_LOCK = 0x7365637265747374

_SHOWN_DIFFERENCES = 3
_PAUSE_SECONDS = 0.01
_PACKAGE = Path(__file__).parent
# A wheel carries the folder inside the package; in a checkout it stands at the root.
_FOLDERS = (_PACKAGE / "migrations", _PACKAGE.parent / "alembic")

# What `alembic.op` and `alembic.context` stand for is one thing for the whole process.
_alembic = threading.Lock()


def upgrade(bind: Engine | Connection, revision: str = HEAD, *, lock_timeout: float = LOCK_TIMEOUT_SECONDS) -> None:
    """Bring the tables to a revision; many processes may do so at once.

    A table that stays busy for `lock_timeout` seconds is a `StoreUnavailableError`, and nothing has changed.
    """
    _run(bind, lambda config: command.upgrade(config, revision), lock_timeout)


def downgrade(bind: Engine | Connection, revision: str, *, lock_timeout: float = LOCK_TIMEOUT_SECONDS) -> None:
    """Take the tables back to a revision; `base` drops them with every secret in them."""
    _run(bind, lambda config: command.downgrade(config, revision), lock_timeout)


def current(bind: Engine | Connection) -> str | None:
    """Return the revision of the tables; None where there are none, or another Alembic history keeps them."""
    with translated(), _connected(bind) as connection:
        return MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_revision()


def head() -> str:
    """Return the newest revision that this release brings."""
    return str(ScriptDirectory.from_config(make_config()).get_current_head())


def check(bind: Engine | Connection) -> None:
    """Compare the tables with the models, and raise `SchemaOutOfDateError` where they differ.

    Tables, columns, types, defaults, foreign keys and indexes are compared; checks and collations are not.
    """
    with translated(), _connected(bind) as connection:
        context = MigrationContext.configure(connection, opts=dict(compare_options()))
        differences = compare_metadata(context, Base.metadata)
    if differences:
        shown = ", ".join(_named(difference) for difference in differences[:_SHOWN_DIFFERENCES])
        raise SchemaOutOfDateError(
            f"the tables are not those of this release ({shown}{', …' if len(differences) > _SHOWN_DIFFERENCES else ''}); "
            "run `secretstore db upgrade`"
        )


def sql(revision: str = HEAD) -> str:
    """Return the statements of an upgrade from nothing, or of `from:to`, for someone else to run."""
    printed = io.StringIO()
    config = make_config(output=printed)
    with _told_plainly(), _alembic:
        if _goes_down(config, revision):
            command.downgrade(config, revision, sql=True)
        else:
            command.upgrade(config, revision, sql=True)
    return printed.getvalue()


async def upgrade_async(
    bind: AsyncEngine | AsyncConnection, revision: str = HEAD, *, lock_timeout: float = LOCK_TIMEOUT_SECONDS
) -> None:
    """See `upgrade`."""
    await _run_async(bind, lambda config: command.upgrade(config, revision), lock_timeout)


async def downgrade_async(
    bind: AsyncEngine | AsyncConnection, revision: str, *, lock_timeout: float = LOCK_TIMEOUT_SECONDS
) -> None:
    """See `downgrade`."""
    await _run_async(bind, lambda config: command.downgrade(config, revision), lock_timeout)


async def current_async(bind: AsyncEngine | AsyncConnection) -> str | None:
    """See `current`."""
    with translated():
        async with _connected_async(bind) as connection:
            return await connection.run_sync(current)


async def check_async(bind: AsyncEngine | AsyncConnection) -> None:
    """See `check`."""
    with translated():
        async with _connected_async(bind) as connection:
            await connection.run_sync(check)


def versions_path() -> Path:
    """Return the folder of the revisions, for the `version_locations` of a host's own Alembic."""
    return _folder() / "versions"


def include_name(
    name: str | None,
    type_: str,
    parent_names: Mapping[str, str | None],  # noqa: ARG001 - the signature is Alembic's
) -> bool:
    """Leave our tables out of a host's autogenerate: pass it to `context.configure(include_name=…)`.

    Only a host with `include_schemas=True` needs it.
    """
    return type_ != "schema" or name != SCHEMA


def compare_options() -> Mapping[str, Any]:
    """Return how our own tables are compared with the models, and where their version is kept."""
    return {
        "compare_server_default": True,
        "include_name": lambda name, type_, _: type_ != "schema" or name == SCHEMA,
        "include_schemas": True,
        "version_table_schema": SCHEMA,
    }


def ensure_schema(connection: Connection) -> None:
    """Make our PostgreSQL schema unless it is there; a role without the right to make one may find it made."""
    there = connection.execute(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}).scalar()
    if there is None:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))


@contextmanager
def locked(connection: Connection, lock_timeout: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
    """Be the only upgrade of the database until the transaction ends; wait for another one, but not for a busy table."""
    before = _lock(connection, lock_timeout)
    yield
    _limit(connection, *before)


def make_config(*, connection: Connection | None = None, output: io.StringIO | None = None) -> Config:
    """Return the configuration that `alembic.ini` gives at the project's root."""
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _folder() -> Path:
    return next(folder for folder in _FOLDERS if (folder / "env.py").exists())


def _run(bind: Engine | Connection, action: Callable[[Config], None], lock_timeout: float) -> None:
    # Alembic comes last: whoever has it never waits for another upgrade, which could wait for Alembic.
    with translated(), _told_plainly(), _connected(bind) as connection, locked(connection, lock_timeout), _alembic:
        action(make_config(connection=connection))


async def _run_async(
    bind: AsyncEngine | AsyncConnection, action: Callable[[Config], None], lock_timeout: float
) -> None:
    with translated(), _told_plainly():
        async with _connected_async(bind) as connection:
            before = await connection.run_sync(_lock, lock_timeout)
            async with _alembic_alone():
                await connection.run_sync(lambda lent: action(make_config(connection=lent)))
            await connection.run_sync(_limit, *before)


@asynccontextmanager
async def _alembic_alone() -> AsyncIterator[None]:
    # Blocking would stop the loop, and with it the coroutine that everyone waits for.
    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 - other threads hold it too, which know no loop's event
        await asyncio.sleep(_PAUSE_SECONDS)
    try:
        yield
    finally:
        _alembic.release()


def _lock(connection: Connection, lock_timeout: float) -> tuple[str, str]:
    """Take the lock of upgrades, limit how long a statement waits, and return the limits that were set before."""
    if connection.connection.autocommit:
        raise ConfigurationError("the tables change in one transaction: give a connection that is not in AUTOCOMMIT")
    before = connection.execute(
        text("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
    ).one()
    _limit(connection, "0", STATEMENT_TIMEOUT)
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
    _limit(connection, f"{round(lock_timeout * 1000)}ms", STATEMENT_TIMEOUT)
    return before[0], before[1]


def _limit(connection: Connection, lock_timeout: str, statement_timeout: str) -> None:
    connection.execute(text(f"SET LOCAL lock_timeout = '{lock_timeout}'"))
    connection.execute(text(f"SET LOCAL statement_timeout = '{statement_timeout}'"))


@contextmanager
def _connected(bind: Engine | Connection) -> Iterator[Connection]:
    if isinstance(bind, Connection):
        yield bind
        return
    with bind.begin() as connection:
        yield connection


@asynccontextmanager
async def _connected_async(bind: AsyncEngine | AsyncConnection) -> AsyncIterator[AsyncConnection]:
    if isinstance(bind, AsyncConnection):
        yield bind
        return
    async with bind.begin() as connection:
        yield connection


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Alembic's words about a wrong revision become an error of ours."""
    problem = ""
    try:
        yield
    except CommandError as error:
        problem = str(error)
    if problem:
        raise ConfigurationError(problem)


def _goes_down(config: Config, revision: str) -> bool:
    start, colon, end = revision.partition(":")
    if not colon or start in (BASE, end):
        return False
    older = ScriptDirectory.from_config(config).iterate_revisions(start, BASE)
    return end == BASE or end in {script.revision for script in older}


def _named(difference: Any) -> str:  # Alembic's differences are nested tuples of any shape
    while isinstance(difference, list):
        difference = difference[0]
    return " ".join(str(getattr(part, "name", part)) for part in difference if not isinstance(part, dict))
