"""Runs the revisions on the connection that was handed over, or on the database that was named."""

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection

from secretstore.errors import ConfigurationError, SecretStoreError
from secretstore.migrate import (
    LOCK_TIMEOUT_SECONDS,
    STATEMENT_TIMEOUT,
    UPGRADE_LOCK,
    compare_options,
    ensure_schema,
    locked,
)
from secretstore.orm.engines import make_engine
from secretstore.orm.models import SCHEMA, Base
from secretstore.orm.translate import translated
from secretstore.settings import load_settings


def run_online(connection: Connection) -> None:
    """Run the revisions in the connection's transaction."""
    ensure_schema(connection)
    context.configure(connection=connection, target_metadata=Base.metadata, **compare_options())
    with context.begin_transaction():
        context.run_migrations()


def run_offline() -> None:
    """Print the revisions as SQL."""
    context.configure(dialect_name="postgresql", literal_binds=True, target_metadata=Base.metadata, **compare_options())
    with context.begin_transaction():
        context.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
        context.execute(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")
        context.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS:.0f}s'")
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        context.run_migrations()


def run_as_typed() -> None:
    """Run the revisions on the database of `-x url=…` or of the settings; Alembic prints its errors in one line."""
    problem = ""
    try:
        with translated(), make_engine(named_url()).begin() as connection, locked(connection):
            run_online(connection)
    except SecretStoreError as error:
        problem = str(error)
    if problem:
        raise CommandError(problem)


def named_url() -> str:
    """Return the URL of `-x url=…` or of the settings."""
    settings = load_settings(database_url=context.get_x_argument(as_dictionary=True).get("url"))
    if settings.database_url is None:
        raise ConfigurationError("no database is named: set SECRETSTORE_DATABASE_URL, or add -x url=postgresql://…")
    return settings.database_url.get_secret_value()


if context.is_offline_mode():
    run_offline()
elif (handed_over := context.config.attributes.get("connection")) is not None:
    run_online(handed_over)
else:
    run_as_typed()
