"""The program: its commands, and how errors become one line and an exit code."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from secretstore.cli import (
    audit,
    changes,
    database,
    demo,
    doctor,
    embedded,
    grants,
    history,
    imports,
    keys,
    labels,
    metrics,
    moving,
    output,
    sealing,
    secrets,
    transfer,
)
from secretstore.cli.exit_codes import CommandError, ExitCode, exit_code_of
from secretstore.errors import SecretStoreError

NAME = "secretstore"
_DISTRIBUTION = "pg-secretstore"


class Program(typer.core.TyperGroup):
    """The root group: no error leaves it as a traceback."""

    def main(self, *_: Any, **__: Any) -> NoReturn:  # Typer's own parameters, of which a program needs none
        """Run the command that `sys.argv` names, and exit."""
        sys.exit(run_guarded(lambda: super(Program, self).main(prog_name=NAME, standalone_mode=False)))


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("set", cls=secrets.ValueCommand, epilog=secrets.SET_EXAMPLES)(secrets.set_secret)
app.command("patch", cls=secrets.ValueCommand, epilog=secrets.PATCH_EXAMPLES)(secrets.patch_secret)
app.command("get", epilog=secrets.GET_EXAMPLES)(secrets.get_secret)
app.command("list", epilog=secrets.LIST_EXAMPLES)(secrets.list_secrets)
app.command("describe")(secrets.describe_secret)
app.command("label", epilog=labels.LABEL_EXAMPLES)(labels.label_secret)
app.command("delete")(secrets.delete_secrets)
app.command("undelete")(history.undelete_secrets)
app.command("history")(history.show_history)
app.command("diff", epilog=moving.DIFF_EXAMPLES)(moving.diff)
app.command("rollback")(history.rollback_secret)
app.command("destroy", epilog=history.DESTROY_EXAMPLES)(history.destroy_versions)
app.command("purge")(history.purge_secrets)
app.command("max-versions", epilog=history.MAX_VERSIONS_EXAMPLES)(history.limit_versions)
app.command("export", epilog=transfer.EXPORT_EXAMPLES)(transfer.export_secrets)
app.command("copy", epilog=moving.COPY_EXAMPLES)(moving.copy)
app.command("restore", epilog=transfer.RESTORE_EXAMPLES)(transfer.restore_secrets)
app.command("watch", epilog=changes.WATCH_EXAMPLES)(changes.watch_changes)
app.command("gc", epilog=changes.GC_EXAMPLES)(changes.collect_garbage)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.add_typer(database.group, name="db")
app.add_typer(embedded.group, name="embedded")
app.add_typer(keys.group, name="keys")
app.add_typer(imports.group, name="import")
audit.group.command("seal")(sealing.seal_events)
audit.group.command("verify", epilog=sealing.VERIFY_EXAMPLES)(sealing.verify_events)
audit.group.command("head")(sealing.show_head)
audit.group.command("drop", epilog=sealing.DROP_EXAMPLES)(sealing.drop_accesses)
app.add_typer(audit.group, name="audit")
app.add_typer(grants.group, name="grants")
app.add_typer(metrics.group, name="metrics")


def run() -> None:
    """Run the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Words that the locale has no letters for are still words.
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        # What others log may come with a traceback, as their pool does where Ctrl-C meets it; errors are told in one line.
        logging.lastResort.addFilter(logging.Filter(NAME))
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, _leave)
    app()


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - Typer's callbacks take the value by position
    if wanted:
        output.show_text(version(_DISTRIBUTION))
        raise typer.Exit


@app.callback()
def root(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """Your application's secrets in the PostgreSQL that you already run."""


def run_guarded(command: Callable[[], Any]) -> int:
    """Run a command; return its exit code, after one line on stderr where it failed."""
    try:
        code = command()
    except CommandError as error:
        return _failed(str(error), error.code)
    except SecretStoreError as error:
        return _failed(str(error), exit_code_of(error))
    except typer.TyperException as error:
        return _failed(_usage(error), error.exit_code)
    except typer.Abort:
        return _failed("broken off", ExitCode.FAILURE)
    except Exception as error:  # noqa: BLE001 - a traceback, or an unknown error's text, could hold a value
        return _failed(_unexpected(error), ExitCode.FAILURE)
    return code if isinstance(code, int) else 0


def _usage(error: typer.TyperException) -> str:
    words = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{words}; see `{context.command_path} --help`" if words and context else words


def _failed(words: str, code: int) -> int:
    # Typer has printed the help already where it has no words.
    if words:
        output.complain(words)
    return code


def _unexpected(error: Exception) -> str:
    if isinstance(error, ImportError):
        return str(error)
    reason = f" ({os.strerror(error.errno)})" if isinstance(error, OSError) and error.errno else ""
    return f"unexpected {type(error).__name__}{reason}; its text is not shown, because it may hold a value"


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """End in an orderly way, so that an embedded server is let go of."""
    sys.exit(128 + number)
