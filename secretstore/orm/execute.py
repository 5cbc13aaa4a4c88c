"""How every repository sends a statement: on the session's connection, with errors translated."""

from typing import Any

from sqlalchemy import Executable, Result
from sqlalchemy.orm import Session

from secretstore.orm import statements
from secretstore.orm.models import SecretStore
from secretstore.orm.translate import translated


def execute(session: Session, statement: Executable, **parameters: object) -> Result[Any]:
    """Run a statement in the session's transaction."""
    with translated():
        # The session's own execute would flush the caller's pending objects and mix their errors with ours.
        connection = session.connection(bind_arguments={"mapper": SecretStore})
        return connection.execute(statement, statements.parameters(**parameters))
