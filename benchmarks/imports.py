"""What `import secretstore` takes, beside the import of what it cannot do without."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import Contest, Goal, Row, Side, Taken
from benchmarks.stage import Stage

NEEDED = "sqlalchemy, psycopg, pydantic, cryptography.hazmat.primitives.ciphers.aead"
# Measured inside, so that the start of the interpreter is no part of it.
_PROGRAM = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


@contextmanager
def importing(stage: Stage) -> Iterator[Contest]:
    """A child process for each import."""
    sides = (
        _side("import secretstore", "import secretstore"),
        _side("import of what it needs", f"import {NEEDED}"),
        # Names are loaded when they are first asked for, and so this is what a program waits for in the end.
        _side("from secretstore import connect, SecretClient", "from secretstore import connect, SecretClient"),
    )
    yield Contest(sides, lambda _: True, range(1), 1, stage.size.import_rounds)


def _side(name: str, statement: str) -> Side:
    def do(_: object) -> Taken:
        command = [sys.executable, "-c", _PROGRAM.format(statement)]
        child = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)  # noqa: S603 - what stands above
        return Taken(float(child.stdout))

    return Side(name, do, lambda _: do(None).seconds > 0)


ROWS = (
    Row(
        "import",
        "`import secretstore`, against SQLAlchemy, psycopg, pydantic, cryptography",
        Goal(1.2, "time"),
        importing,
    ),
)
