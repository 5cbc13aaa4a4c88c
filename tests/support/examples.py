"""Runs the Python examples of README.md and docs/, each page from top to bottom, on a PostgreSQL of its own.

`python -m pytest -p tests.support.examples README.md docs`
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from secretstore import migrate
from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from secretstore.orm.engines import make_engine


def _start(page: dict[str, Any]) -> None:
    folder = tempfile.TemporaryDirectory(prefix="secretstore-docs-", ignore_cleanup_errors=True)
    server = EmbeddedServer(EmbeddedFolder(Path(folder.name) / "postgresql"))
    server.folder.keyring()
    page["_parts"] = folder, server
    os.environ["SECRETSTORE_DATABASE_URL"] = server.url
    os.environ["SECRETSTORE_KEYS_FILE"] = str(server.folder.key_file)
    engine = make_engine(server.url)
    migrate.upgrade(engine)
    engine.dispose()


def _stop(page: dict[str, Any]) -> None:
    folder, server = page["_parts"]
    if "store" in page:
        page["store"].close()
    server.stop()
    folder.cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["*.md"],
    path=str(Path(__file__).parents[2]),
    setup=_start,
    teardown=_stop,
).pytest()
