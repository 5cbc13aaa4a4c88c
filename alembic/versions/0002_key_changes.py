"""What changing keys needs: shredded data keys, when each was wrapped, and how much it has sealed.

Revision: secretstore_0002
After: secretstore_0001
"""

import sqlalchemy as sa
from alembic import op

revision = "secretstore_0002"
down_revision = "secretstore_0001"
branch_labels = None
depends_on = None

SCHEMA = "secretstore"


def upgrade() -> None:
    """Note when a data key was wrapped and when it was shredded, and count its seals."""
    op.add_column("data_key", sa.Column("shredded_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    op.add_column(
        "data_key",
        sa.Column("wrapped_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        schema=SCHEMA,
    )
    op.execute("UPDATE secretstore.data_key SET wrapped_at = created_at WHERE namespace IS NOT NULL")
    op.create_table(
        "data_key_use",
        sa.Column("namespace", sa.Text(collation="C"), nullable=False),
        sa.Column("data_key_id", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("seals", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "data_key_id", "id", name="pk_data_key_use"),
        sa.ForeignKeyConstraint(
            ["namespace", "data_key_id"],
            [f"{SCHEMA}.data_key.namespace", f"{SCHEMA}.data_key.id"],
            name="fk_data_key_use_data_key",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("seals >= 1", name=op.f("ck_data_key_use_seals")),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Go back; a shredded data key stays one that cannot be opened."""
    op.drop_table("data_key_use", schema=SCHEMA)
    op.drop_column("data_key", "wrapped_at", schema=SCHEMA)
    op.drop_column("data_key", "shredded_at", schema=SCHEMA)
