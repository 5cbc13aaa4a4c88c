"""The group `embedded`: a PostgreSQL of our own that goes on running."""

from pathlib import Path
from typing import Annotated

import typer

from secretstore.cli import output
from secretstore.cli.exit_codes import ExitCode
from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from secretstore.orm.engines import make_engine

group = typer.Typer(no_args_is_help=True, help="Run a PostgreSQL of our own, to try and to develop.")

_HELP = "The data folder; else the one that commands use where no database is named."
FolderArgument = Annotated[Path | None, typer.Argument(metavar="PATH", help=_HELP, show_default=False)]


@group.command()
def start(path: FolderArgument = None) -> None:
    """Start the server, bring its tables up to date, leave it running, and print its URL."""
    folder = _folder(path)
    with output.waiting("starting PostgreSQL"):
        url = _start(folder)
    folder.keyring()
    output.show_text(url)
    output.say(f"running until `secretstore embedded stop`; its key ring is in {folder.key_file}")
    if folder != EmbeddedFolder.default():
        output.say(f"to use it: export SECRETSTORE_DATABASE_URL=embedded://{folder.data}")


@group.command()
def stop(path: FolderArgument = None) -> None:
    """Stop the server, whoever uses it; its data stay."""
    folder = _folder(path)
    folder.let_stop()
    if folder.server_pid() is None:
        output.say("not running")
        return
    EmbeddedServer(folder).stop()
    output.say("stopped")


@group.command()
def status(path: FolderArgument = None) -> None:
    """Print whether the server runs; ends with 0 where it does, and with 1 where it does not."""
    pid = _folder(path).server_pid()
    output.show_text("not running" if pid is None else f"running, process {pid}")
    if pid is None:
        raise typer.Exit(ExitCode.FAILURE)


@group.command("path")
def show_path(path: FolderArgument = None) -> None:
    """Print the data folder; the key ring lies beside it."""
    output.show_text(str(_folder(path).data))


def _folder(path: Path | None) -> EmbeddedFolder:
    return EmbeddedFolder(path) if path else EmbeddedFolder.default()


def _start(folder: EmbeddedFolder) -> str:
    from secretstore import migrate  # noqa: PLC0415 - brings Alembic, which no other command waits for

    server = EmbeddedServer(folder)
    engine = make_engine(server.url)
    try:
        migrate.upgrade(engine)
        server.keep_running()
        return server.url
    finally:
        engine.dispose()
        server.release()
