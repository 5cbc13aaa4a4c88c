"""What the record of changes says besides: outcome, request, application, and the role that has logged in.

Revision: secretstore_0004
After: secretstore_0003
"""

import sqlalchemy as sa
from alembic import op

revision = "secretstore_0004"
down_revision = "secretstore_0003"
branch_labels = None
depends_on = None

SCHEMA = "secretstore"
# PostgreSQL fills these in, whoever writes the row: the release before does not know of them.
DEFAULTS = {"application_name": "current_setting('application_name'::text)", "database_role": "SESSION_USER"}


def upgrade() -> None:
    """Add the columns; of changes that were recorded before, only the outcome is known."""
    outcome = sa.Column("outcome", sa.Text(), server_default=sa.text("'done'::text"), nullable=False)
    op.add_column("change_event", outcome, schema=SCHEMA)
    op.add_column("change_event", sa.Column("request_id", sa.Text()), schema=SCHEMA)
    for name, default in DEFAULTS.items():
        op.add_column("change_event", sa.Column(name, sa.Text()), schema=SCHEMA)
        # Afterwards, so that nothing is said of the rows that are there.
        op.alter_column("change_event", name, server_default=sa.text(default), schema=SCHEMA)


def downgrade() -> None:
    """Go back; what these columns say goes."""
    for name in ("database_role", "application_name", "request_id", "outcome"):
        op.drop_column("change_event", name, schema=SCHEMA)
