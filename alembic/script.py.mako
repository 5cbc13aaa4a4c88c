"""${message}

Revision: ${up_revision}
After: ${down_revision | comma,n}

Rules of a revision: the release before this one goes on working on the new tables; every key, unique constraint and
foreign key begins with the namespace and has a name; a constraint on a table with rows is added NOT VALID and validated
in another statement; an index on a table with rows is built concurrently in an autocommit block; no trigger, no function;
it can be undone and printed as SQL.  A released revision is never edited.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Make the change."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo the change."""
    ${downgrades if downgrades else "pass"}
