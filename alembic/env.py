"""Runs the revisions on the connection that was handed over, or on the database that was named."""

from alembic import context
from sqlalchemy import Connection, text

from secretstore.errors import ConfigurationError
from secretstore.migrate import compare_options, ensure_schema
from secretstore.orm.engines import make_engine
from secretstore.orm.models import SCHEMA, Base
from secretstore.settings import load_settings

# "secretsto" in ASCII, so that it is nobody else's.
UPGRADE_LOCK = 0x7365637265747374


def run_online(connection: Connection) -> None:
    """Run the revisions in the connection's transaction; wait for another upgrade, but not long for a busy table."""
    connection.execute(text("SET LOCAL statement_timeout = '10min'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
    connection.execute(text("SET LOCAL lock_timeout = '5s'"))
    ensure_schema(connection)
    context.configure(connection=connection, target_metadata=Base.metadata, **compare_options())
    with context.begin_transaction():
        context.run_migrations()


def run_offline() -> None:
    """Print the revisions as SQL."""
    context.configure(dialect_name="postgresql", literal_binds=True, target_metadata=Base.metadata, **compare_options())
    with context.begin_transaction():
        context.execute("SET LOCAL statement_timeout = '10min'")
        context.execute(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")
        context.execute("SET LOCAL lock_timeout = '5s'")
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        context.run_migrations()


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
    with make_engine(named_url()).begin() as opened:
        run_online(opened)
