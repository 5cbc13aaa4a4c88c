"""Asks before something dangerous is done."""

import sys

from secretstore.cli import output
from secretstore.cli.exit_codes import CommandError, ExitCode


def refuse_unasked(danger: str, *, yes: bool) -> None:
    """End where nobody can be asked, and nobody said --yes."""
    if not yes and not sys.stdin.isatty():
        raise CommandError(f"{danger}; to do it, add --yes", ExitCode.USAGE)


def confirm(danger: str, word: str, *, yes: bool) -> None:
    """Warn of a danger, and end unless a person types the word."""
    if yes:
        return
    output.warn(danger)
    output.say(f"type {word} to do it")
    if sys.stdin.readline().strip() != word:
        raise CommandError(f"that is not {word}; nothing was changed")
