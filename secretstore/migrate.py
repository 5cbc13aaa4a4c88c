"""The tables' revisions, run from Python: the same that `alembic upgrade` does at the project's root.

Each function takes an engine, which it gives a transaction of its own, or a live connection, whose transaction stays the
caller's.  All upgrades of one database wait for each other.
"""

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

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

T = TypeVar("T")

HEAD = "head"
BASE = "base"

_SHOWN_DIFFERENCES = 3
_PACKAGE = Path(__file__).parent
# A wheel carries the folder inside the package; in a checkout it stands at the root.
_FOLDERS = (_PACKAGE / "migrations", _PACKAGE.parent / "alembic")

# What `alembic.op` and `alembic.context` stand for is one thing for the whole process.
_one_at_a_time = threading.Lock()


def upgrade(bind: Engine | Connection, revision: str = HEAD) -> None:
    """Bring the tables to a revision; many processes may do so at once."""
    _run(bind, lambda config: command.upgrade(config, revision))


def downgrade(bind: Engine | Connection, revision: str) -> None:
    """Take the tables back to a revision; `base` drops them with every secret in them."""
    _run(bind, lambda config: command.downgrade(config, revision))


def current(bind: Engine | Connection) -> str | None:
    """Return the revision of the tables; None where there are none, or another Alembic history keeps them."""
    with translated(), _connected(bind) as connection:
        return MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_revision()


def head() -> str:
    """Return the newest revision that this release brings."""
    return str(ScriptDirectory.from_config(make_config()).get_current_head())


def check(bind: Engine | Connection) -> None:
    """Compare the tables with the models, and raise `SchemaOutOfDateError` where they differ."""
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
    with _one_at_a_time, _told_plainly():
        if _goes_down(revision):
            command.downgrade(config, revision, sql=True)
        else:
            command.upgrade(config, revision, sql=True)
    return printed.getvalue()


async def upgrade_async(bind: AsyncEngine | AsyncConnection, revision: str = HEAD) -> None:
    """See `upgrade`."""
    await _run_async(bind, lambda connection: upgrade(connection, revision))


async def downgrade_async(bind: AsyncEngine | AsyncConnection, revision: str) -> None:
    """See `downgrade`."""
    await _run_async(bind, lambda connection: downgrade(connection, revision))


async def current_async(bind: AsyncEngine | AsyncConnection) -> str | None:
    """See `current`."""
    return await _run_async(bind, current)


async def check_async(bind: AsyncEngine | AsyncConnection) -> None:
    """See `check`."""
    await _run_async(bind, check)


def versions_path() -> Path:
    """Return the folder of the revisions, for the `version_locations` of a host's own Alembic."""
    return _folder() / "versions"


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """Leave our tables out of a host's autogenerate: pass it to `context.configure(include_name=…)`.

    Only a host with `include_schemas=True` needs it.
    """
    return not (type_ == "schema" and name == SCHEMA) and parent_names.get("schema_name") != SCHEMA


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


def make_config(*, connection: Connection | None = None, output: io.StringIO | None = None) -> Config:
    """Return the configuration that `alembic.ini` gives at the project's root."""
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config


def _folder() -> Path:
    return next(folder for folder in _FOLDERS if (folder / "env.py").exists())


def _run(bind: Engine | Connection, action: Callable[[Config], None]) -> None:
    with translated(), _connected(bind) as connection, _one_at_a_time, _told_plainly():
        action(make_config(connection=connection))


async def _run_async(bind: AsyncEngine | AsyncConnection, action: Callable[[Connection], T]) -> T:
    if isinstance(bind, AsyncEngine):
        with translated():
            async with bind.begin() as connection:
                return await connection.run_sync(action)
    return await bind.run_sync(action)


@contextmanager
def _connected(bind: Engine | Connection) -> Iterator[Connection]:
    if isinstance(bind, Connection):
        yield bind
        return
    with bind.begin() as connection:
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


def _goes_down(revision: str) -> bool:
    start, colon, end = revision.partition(":")
    return bool(colon) and end == BASE and start != BASE


def _named(difference: Any) -> str:  # Alembic's differences are nested tuples of any shape
    while isinstance(difference, list):
        difference = difference[0]
    return " ".join(str(getattr(part, "name", part)) for part in difference if not isinstance(part, dict))
