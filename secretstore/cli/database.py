"""The group `db`: the revisions of the tables."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Any

import typer

from secretstore import SchemaOutOfDateError
from secretstore.cli import output
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.options import DatabaseUrl, on_database

_WORD = "downgrade"
_HEAD = "head"

group = typer.Typer(no_args_is_help=True, help="Bring the tables up to date, or see how they are.")


@group.command()
def upgrade(
    revision: Annotated[str, typer.Argument(metavar="REV", help="The revision to reach.")] = _HEAD,
    *,
    database_url: DatabaseUrl = None,
) -> None:
    """Bring the tables to a revision; many may do so at once."""
    _move(database_url, _migrate().upgrade, revision)


@group.command()
def downgrade(
    revision: Annotated[
        str,
        typer.Argument(metavar="REV", help="The revision to go back to; base drops all tables.", show_default=False),
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Take the tables back to a revision, which drops secrets."""
    if not yes:
        _confirm(revision)
    _move(database_url, _migrate().downgrade, revision)


@group.command()
def current(*, database_url: DatabaseUrl = None) -> None:
    """Print the revision of the tables, or none."""
    output.show_text(on_database(database_url, _migrate().current) or "none")


@group.command()
def check(*, database_url: DatabaseUrl = None) -> None:
    """Compare the tables with those of this release; ends with 8 where they differ."""
    problem = ""
    try:
        on_database(database_url, _migrate().check)
    except SchemaOutOfDateError as error:
        problem = str(error)
    if problem:
        raise CommandError(problem, ExitCode.CHECK_FAILED)
    output.say("the tables are those of this release")


@group.command()
def sql(
    revision: Annotated[str, typer.Argument(metavar="REV", help="The revision to reach, or from:to.")] = _HEAD,
) -> None:
    """Print the statements of an upgrade for someone else to run; connects to nothing."""
    output.show_text(_migrate().sql(revision).rstrip("\n"))


def _migrate() -> ModuleType:
    from secretstore import migrate  # noqa: PLC0415 - brings Alembic, which no other command waits for

    return migrate


def _move(url: str | None, move: Callable[[Any, str], None], revision: str) -> None:
    def moved(engine: Any) -> str:  # SQLAlchemy's, which no command knows
        move(engine, revision)
        return str(_migrate().current(engine) or "none")

    output.say(f"the tables are at revision {on_database(url, moved)}")


def _confirm(revision: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError("a downgrade drops secrets; add --yes", ExitCode.USAGE)
    output.say(f"going back to {revision} drops secrets for good; type {_WORD} to do it")
    if sys.stdin.readline().strip() != _WORD:
        raise CommandError("nothing was changed")
