"""What sealing the record needs, and a record of reads: events of access, checkpoints, and keys that authenticate them.

Revision: secretstore_0005
After: secretstore_0004
"""

import sqlalchemy as sa
from alembic import op

revision = "secretstore_0005"
down_revision = "secretstore_0004"
branch_labels = None
depends_on = None

SCHEMA = "secretstore"
STATES = "ck_data_key_state"


def name(column: str) -> sa.Column[str]:
    """A text that compares by byte."""
    return sa.Column(column, sa.Text(collation="C"), nullable=False)


def count(column: str) -> sa.Column[int]:
    """A number that is there."""
    return sa.Column(column, sa.BigInteger(), nullable=False)


def hashed(column: str) -> sa.Column[bytes]:
    """Bytes that are there."""
    return sa.Column(column, sa.LargeBinary(), nullable=False)


def moment(column: str) -> sa.Column[sa.DateTime]:
    """A time, by the database's clock."""
    return sa.Column(column, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def upgrade() -> None:
    """Make the tables, and let a data key be one that only authenticates."""
    make_access_event()
    allow_states("'active', 'audit', 'retired'")
    op.create_index(
        "uq_data_key_audit",
        "data_key",
        ["namespace"],
        unique=True,
        postgresql_where=sa.text("state = 'audit'"),
        schema=SCHEMA,
    )
    make_audit_checkpoint()


def make_access_event() -> None:
    """One read of a value, or one call that was refused or failed."""
    op.create_table(
        "access_event",
        name("namespace"),
        sa.Column("id", sa.Uuid(), nullable=False),
        name("key"),
        count("version"),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        moment("occurred_at"),
        sa.Column("outcome", sa.Text(), server_default=sa.text("'done'::text"), nullable=False),
        sa.Column("request_id", sa.Text()),
        sa.Column("application_name", sa.Text(), server_default=sa.text("current_setting('application_name'::text)")),
        sa.Column("database_role", sa.Text(), server_default=sa.text("SESSION_USER")),
        sa.Column("seq", sa.BigInteger()),
        sa.PrimaryKeyConstraint("namespace", "id", name="pk_access_event"),
        schema=SCHEMA,
    )
    op.create_index(
        "uq_access_event_seq",
        "access_event",
        ["namespace", "seq"],
        unique=True,
        postgresql_where=sa.text("seq IS NOT NULL"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_access_event_unnumbered",
        "access_event",
        ["namespace", "occurred_at"],
        postgresql_where=sa.text("seq IS NULL"),
        schema=SCHEMA,
    )


def make_audit_checkpoint() -> None:
    """What a stretch of numbered events was when it was sealed."""
    op.create_table(
        "audit_checkpoint",
        name("namespace"),
        name("record"),
        *(count(column) for column in ("number", "first_seq", "last_seq", "kept_from")),
        *(hashed(column) for column in ("leaves", "root", "previous")),
        name("data_key_id"),
        hashed("mac"),
        moment("sealed_at"),
        sa.PrimaryKeyConstraint("namespace", "record", "number", name="pk_audit_checkpoint"),
        sa.ForeignKeyConstraint(
            ["namespace", "data_key_id"],
            [f"{SCHEMA}.data_key.namespace", f"{SCHEMA}.data_key.id"],
            name="fk_audit_checkpoint_data_key",
        ),
        sa.CheckConstraint("record IN ('access', 'change')", name=op.f("ck_audit_checkpoint_record")),
        schema=SCHEMA,
    )


def allow_states(states: str) -> None:
    """Say which states a data key may have."""
    op.execute(f"-- squawk-ignore ban-drop-constraint\nALTER TABLE {SCHEMA}.data_key DROP CONSTRAINT {STATES}")
    op.execute(f"ALTER TABLE {SCHEMA}.data_key ADD CONSTRAINT {STATES} CHECK (state IN ({states})) NOT VALID")
    # There are few data keys.
    op.execute(
        f"-- squawk-ignore constraint-missing-not-valid\nALTER TABLE {SCHEMA}.data_key VALIDATE CONSTRAINT {STATES}"
    )


def downgrade() -> None:
    """Go back; checkpoints and the record of reads go."""
    op.drop_table("audit_checkpoint", schema=SCHEMA)
    op.execute("DELETE FROM secretstore.data_key WHERE namespace IS NOT NULL AND state = 'audit'")
    op.drop_index("uq_data_key_audit", "data_key", schema=SCHEMA)
    allow_states("'active', 'retired'")
    op.drop_table("access_event", schema=SCHEMA)
