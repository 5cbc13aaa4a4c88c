"""A user whom modes of files count for, also where the tests are run by root."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user whom modes count for."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """Make a folder that everybody may pass through."""
    with tempfile.TemporaryDirectory(prefix="secretstore-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
