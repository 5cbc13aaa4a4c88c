"""What history needs: purged secrets, limits of versions, changes of labels, and changes by key.

Revision: secretstore_0003
After: secretstore_0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "secretstore_0003"
down_revision = "secretstore_0002"
branch_labels = None
depends_on = None

SCHEMA = "secretstore"


def name(column: str) -> sa.Column[str]:
    """A text that compares by byte."""
    return sa.Column(column, sa.Text(collation="C"), nullable=False)


def upgrade() -> None:
    """Let a secret be purged and its versions be limited, and make the tables that go with it."""
    # The release before reads live secrets only, which have a value: it goes on.
    op.execute(
        "-- squawk-ignore ban-drop-not-null\nALTER TABLE secretstore.secret_store ALTER COLUMN value DROP NOT NULL"
    )
    # What a downgrade has put there.
    op.execute("UPDATE secretstore.secret_store SET value = NULL WHERE namespace IS NOT NULL AND value = '{}'")
    op.add_column("secret_store", sa.Column("max_versions", sa.BigInteger()), schema=SCHEMA)
    op.execute(
        "ALTER TABLE secretstore.secret_store "
        "ADD CONSTRAINT ck_secret_store_max_versions CHECK (max_versions >= 1) NOT VALID"
    )
    # The new column is null everywhere, so that this is one quick look at each row.
    op.execute(
        "-- squawk-ignore constraint-missing-not-valid\n"
        "ALTER TABLE secretstore.secret_store VALIDATE CONSTRAINT ck_secret_store_max_versions"
    )
    make_namespace_setting()
    make_label_change()
    op.create_index(
        "ix_change_event_key",
        "change_event",
        ["namespace", "key", sa.text("version DESC"), sa.text("occurred_at DESC")],
        schema=SCHEMA,
    )


def make_namespace_setting() -> None:
    """What holds for a whole namespace."""
    op.create_table(
        "namespace_setting",
        name("namespace"),
        sa.Column("max_versions", sa.BigInteger()),
        sa.PrimaryKeyConstraint("namespace", name="pk_namespace_setting"),
        sa.CheckConstraint("max_versions >= 1", name=op.f("ck_namespace_setting_max_versions")),
        schema=SCHEMA,
    )


def make_label_change() -> None:
    """Labels that a secret got between two versions."""
    op.create_table(
        "label_change",
        name("namespace"),
        name("key"),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("labels", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "key", "version", "changed_at", name="pk_label_change"),
        sa.ForeignKeyConstraint(
            ["namespace", "key", "version"],
            [f"{SCHEMA}.secret_version.{column}" for column in ("namespace", "key", "version")],
            name="fk_label_change_secret_version",
            ondelete="CASCADE",
        ),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Go back; limits go, and the record of labels that changed between two versions."""
    op.drop_index("ix_change_event_key", "change_event", schema=SCHEMA)
    op.drop_table("label_change", schema=SCHEMA)
    op.drop_table("namespace_setting", schema=SCHEMA)
    # Where a value is gone for good the row stays, for the number of the last version and for older ones that are still
    # there.  The secret is deleted, so nobody reads what stands in the value's place.
    op.execute("UPDATE secretstore.secret_store SET value = '{}' WHERE namespace IS NOT NULL AND value IS NULL")
    op.drop_column("secret_store", "max_versions", schema=SCHEMA)
    op.alter_column("secret_store", "value", nullable=False, schema=SCHEMA)
