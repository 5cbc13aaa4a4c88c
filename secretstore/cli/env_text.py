"""`.env` files: names and texts, written so that they are read as they were."""

import io
from collections.abc import Iterable

from dotenv.parser import parse_stream

from secretstore.cli.exit_codes import CommandError, ExitCode

_ESCAPED = str.maketrans({"\\": r"\\", "'": r"\'"})


def to_env(texts: Iterable[tuple[str, str]]) -> str:
    """Return a line for each key and text, more where the text has several."""
    return "".join(f"{_name_of(key)}='{text.translate(_ESCAPED)}'\n" for key, text in texts)


def _name_of(key: str) -> str:
    for name in (key, f"'{key}'"):
        # Asking the parser is shorter than its rules, and never behind them.
        if [(read.key, read.value) for read in parse_stream(io.StringIO(f"{name}=''\n"))] == [(key, "")]:
            return name
    raise CommandError(f"a .env file cannot hold the key {key!r}: use JSON or YAML", ExitCode.USAGE)
