"""The group `keys`: master keys."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from secretstore.cli import output
from secretstore.crypto.local import generate_master_key

group = typer.Typer(no_args_is_help=True, help="Make master keys.")


@group.callback()
def keys() -> None:
    """Keep `generate` a command of its own; Typer would merge a group of one."""


@group.command()
def generate(
    key_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Its id; else k and today's date.", show_default=False)
    ] = None,
) -> None:
    """Print a new random master key as id:base64; the text is the secret itself."""
    output.show_text(generate_master_key(key_id or f"k{datetime.now(UTC):%Y%m%d}"))
    output.say("keep it outside the database, set it as SECRETSTORE_KEYS or put it in the file (mode 0600) that")
    output.say("SECRETSTORE_KEYS_FILE names; without it nothing that it seals can ever be read again")
