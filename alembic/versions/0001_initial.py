"""The first tables: data keys, secrets, their versions, and the record of changes.

Revision: secretstore_0001
After: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from secretstore.migrate import ensure_schema

# Begins with our name: a host that lists our revisions beside its own may have a "0001" too.
revision = "secretstore_0001"
down_revision = None
branch_labels = ("secretstore",)
depends_on = None

SCHEMA = "secretstore"
NOW = sa.text("now()")
NO_LABELS = sa.text("'{}'::jsonb")


def name(column: str, *, nullable: bool = False) -> sa.Column[str]:
    """A text that compares by byte."""
    return sa.Column(column, sa.Text(collation="C"), nullable=nullable)


def moment(column: str, *, default: sa.TextClause | None = NOW) -> sa.Column[object]:
    """A point in time; may be missing where it has no default."""
    return sa.Column(column, sa.DateTime(timezone=True), server_default=default, nullable=default is None)


def key_id(column: str, envelope: str) -> sa.Column[str]:
    """The key id that an envelope names, which therefore cannot differ from it."""
    return sa.Column(column, sa.Text(collation="C"), sa.Computed(f"{envelope} ->> 'key'::text", persisted=True))


def upgrade() -> None:
    """Make the schema and its tables."""
    # A host that runs this revision in its own history has not made the schema yet.
    if op.get_context().as_sql:
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    else:
        ensure_schema(op.get_bind())
    make_data_key()
    make_secret_store()
    make_secret_version()
    make_change_event()


def make_data_key() -> None:
    """Data keys, at most one of them active in each namespace."""
    op.create_table(
        "data_key",
        name("namespace"),
        name("id"),
        sa.Column("wrapped", JSONB(), nullable=False),
        key_id("master_key_id", "wrapped"),
        sa.Column("state", sa.Text(), server_default=sa.text("'active'"), nullable=False),
        moment("created_at"),
        moment("retired_at", default=None),
        sa.PrimaryKeyConstraint("namespace", "id", name="pk_data_key"),
        sa.CheckConstraint("state IN ('active', 'retired')", name=op.f("ck_data_key_state")),
        schema=SCHEMA,
    )
    op.create_index(
        "uq_data_key_active",
        "data_key",
        ["namespace"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'active'"),
    )


def make_secret_store() -> None:
    """Secrets as they are now."""
    op.create_table(
        "secret_store",
        name("namespace"),
        name("key"),
        sa.Column("value", JSONB(), nullable=False),
        key_id("data_key_id", "value"),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("labels", JSONB(), server_default=NO_LABELS, nullable=False),
        moment("expires_at", default=None),
        moment("deleted_at", default=None),
        moment("created_at"),
        sa.Column("created_by", sa.Text(), nullable=False),
        moment("updated_at"),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "key", name="pk_secret_store"),
        sa.ForeignKeyConstraint(
            ["namespace", "data_key_id"],
            [f"{SCHEMA}.data_key.namespace", f"{SCHEMA}.data_key.id"],
            name="fk_secret_store_data_key",
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_secret_store_version")),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_secret_store_labels",
        "secret_store",
        ["labels"],
        schema=SCHEMA,
        postgresql_using="gin",
        postgresql_ops={"labels": "jsonb_path_ops"},
    )


def make_secret_version() -> None:
    """Every version as it was written; a destroyed one has no value."""
    op.create_table(
        "secret_version",
        name("namespace"),
        name("key"),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("value", JSONB(), nullable=True),
        key_id("data_key_id", "value"),
        sa.Column("labels", JSONB(), server_default=NO_LABELS, nullable=False),
        moment("expires_at", default=None),
        moment("created_at"),
        sa.Column("created_by", sa.Text(), nullable=False),
        moment("destroyed_at", default=None),
        sa.PrimaryKeyConstraint("namespace", "key", "version", name="pk_secret_version"),
        sa.ForeignKeyConstraint(
            ["namespace", "key"],
            [f"{SCHEMA}.secret_store.namespace", f"{SCHEMA}.secret_store.key"],
            name="fk_secret_version_secret_store",
        ),
        sa.ForeignKeyConstraint(
            ["namespace", "data_key_id"],
            [f"{SCHEMA}.data_key.namespace", f"{SCHEMA}.data_key.id"],
            name="fk_secret_version_data_key",
        ),
        schema=SCHEMA,
    )


def make_change_event() -> None:
    """One row for every change; `seq` is filled in after the commit."""
    op.create_table(
        "change_event",
        name("namespace"),
        sa.Column("id", sa.Uuid(), nullable=False),
        name("key"),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        moment("occurred_at"),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("namespace", "id", name="pk_change_event"),
        schema=SCHEMA,
    )
    op.create_index(
        "uq_change_event_seq",
        "change_event",
        ["namespace", "seq"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("seq IS NOT NULL"),
    )
    op.create_index(
        "ix_change_event_unnumbered",
        "change_event",
        ["namespace", "key", "version"],
        schema=SCHEMA,
        postgresql_where=sa.text("seq IS NULL"),
    )


def downgrade() -> None:
    """Drop the tables with all that is in them; the schema stays, because the version table is in it."""
    for table in ("change_event", "secret_version", "secret_store", "data_key"):
        op.drop_table(table, schema=SCHEMA)
