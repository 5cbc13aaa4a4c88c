"""Reads the value to store: from an argument, a file, a pipe, or a hidden prompt."""

import getpass
import sys
import warnings
from pathlib import Path

from secretstore.cli import output
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.errors import InvalidSecretValueError

_STDIN = "-"
# Linux cuts a longer line without a word.
_LONGEST_LINE = 4094
_SHOWN_TO_ALL = (
    "a value given as an argument stays in the shell's history and shows in the list of processes; "
    "pipe it, or leave it out to be asked for it"
)


def read_text(argument: str | None, file: Path | None, *, allow_empty: bool = False) -> str:
    """Return the text that was given; nothing of it is in any error."""
    if argument is not None and file is not None:
        raise CommandError("give the value either as VALUE or with --file, not both", ExitCode.USAGE)
    text = _given(argument, file)
    if not text and not allow_empty:
        raise InvalidSecretValueError("the value is empty; add --allow-empty to store it all the same")
    return text


def _given(argument: str | None, file: Path | None) -> str:
    if file is not None:
        return _decoded(contents(file))
    if argument is not None and argument != _STDIN:
        output.warn(_SHOWN_TO_ALL)
        return argument
    if argument is None and sys.stdin.isatty():
        return _asked_twice()
    return _without_line_end(_decoded(sys.stdin.buffer.read()))


def contents(file: Path) -> bytes:
    """Return the bytes of a file."""
    try:
        return file.read_bytes()
    except OSError as error:
        problem = error.strerror
    raise CommandError(f"cannot read {file}: {problem}", ExitCode.USAGE)


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    raise InvalidSecretValueError("the value is not UTF-8; encode bytes as text first, for example as base64")


def _without_line_end(text: str) -> str:
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _asked_twice() -> str:
    value = _asked("value (hidden): ")
    if value != _asked("the same again: "):
        raise InvalidSecretValueError("the two values differ; nothing was stored")
    return value


def _asked(prompt: str) -> str:
    with warnings.catch_warnings():
        # It would go on and show what is typed.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            value = getpass.getpass(prompt)
        except (EOFError, getpass.GetPassWarning):
            value = None
    if value is None:
        raise CommandError("the terminal gave no value; pipe it instead")
    if len(value.encode(errors="replace")) > _LONGEST_LINE:
        raise InvalidSecretValueError("a terminal cuts lines as long as this one; use --file or a pipe")
    return value
