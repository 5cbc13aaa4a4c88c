"""Whole secrets out to a file, in from one, and back from the past: export, import, restore."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from secretstore import ExportedSecret, SecretClient, SecretDifference
from secretstore.cli import output
from secretstore.cli.arguments import parse_time
from secretstore.cli.asking import confirm, refuse_unasked
from secretstore.cli.compared import Comparison
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.files import STDIN, pieces_of, refuse_overwriting, write_whole
from secretstore.cli.formats import FileFormat, dump, read_secrets
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, format_of, opened_store
from secretstore.cli.output import counted

EXPORT_EXAMPLES = """
Examples:

  secretstore export --output secrets.json                # only you may read it

  secretstore export --with-labels | secretstore import -n copy

  secretstore export app. --format env > .env             # texts only

  secretstore export --at 2026-08-01T12:00Z --output then.yaml
"""
IMPORT_EXAMPLES = """
Examples:

  secretstore import secrets.yaml --dry-run     # what would change

  secretstore import .env                       # names and texts

  some-command | secretstore import             # JSON

  secretstore import app.json --prefix app. --prune
"""
RESTORE_EXAMPLES = """
Examples:

  secretstore restore --at 2026-08-01T12:00Z --dry-run

  secretstore restore --at 2026-08-01T12:00Z --prefix app. --prune
"""

_SHOWN_KEYS = 5

DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing, and show what would change, and where.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="With --dry-run: show the values too.")]
Yes = Annotated[bool, typer.Option("--yes", help="With --prune: do not ask.")]


def export_secrets(  # noqa: PLR0913 - an option each
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only keys that begin like this.")] = "",
    *,
    file_format: Annotated[
        FileFormat | None,
        typer.Option(
            "--format", help="How they stand in the file; else as its name ends; else json.", show_default=False
        ),
    ] = None,
    with_labels: Annotated[
        bool, typer.Option("--with-labels", help="With labels and expiry, in JSON or YAML; only `import` reads that.")
    ] = False,
    at: Annotated[
        datetime | None,
        typer.Option("--at", parser=parse_time, metavar="TIME", help="As it was then: ISO 8601 with an offset or Z."),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="A new file, which only you may read.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show every value on a terminal.")] = False,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Print whole secrets, or write them to a file.

    `import` and other programs read them.  All are as they were at one moment.  Nothing is printed, and no file is made, before all are read.  Ends with 3 where a value of then is gone.
    """
    _refuse_export(path, force=force, reveal=reveal)
    wanted = file_format or (path and FileFormat.of_path(path)) or FileFormat.JSON
    if with_labels and wanted is FileFormat.ENV:
        dump([], wanted, with_labels=True)
    with opened_store(database_url, namespace) as store, output.waiting("exporting"):
        secrets = list(store.export_secrets(prefix, at=at))
    text = dump(secrets, wanted, with_labels=with_labels)
    if path is None:
        output.show_exactly(text)
    else:
        write_whole(path, text, force=force)
        output.say(f"wrote {counted(len(secrets), 'secret')} to {path}")


def import_file(  # noqa: PLR0913 - an option each
    path: Annotated[Path, typer.Argument(metavar="FILE|-", help="The file; - is stdin.", show_default=False)] = STDIN,
    *,
    file_format: Annotated[
        FileFormat | None,
        typer.Option("--format", help="How they stand in it; else as its name ends; stdin: json.", show_default=False),
    ] = None,
    prefix: Annotated[
        str, typer.Option(metavar="P", help="Only keys of the file that begin like this, as PREFIX of `export`.")
    ] = "",
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Delete those that the file does not have; with --prefix only keys like that."),
    ] = False,
    dry_run: DryRun = False,
    reveal: Reveal = False,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Make secrets be as in a file: .env, JSON or YAML.

    All of it is written or nothing.  What is equal is not written.  A plain file says nothing of labels, which stay; a value that it changes does not expire.
    """
    danger = f"this deletes every secret{_beginning(prefix)} that the file does not have"
    _refuse_prune(danger, prune=prune, sure=yes or dry_run)
    asks = prune and not (yes or dry_run)
    given = read_secrets(pieces_of(path), file_format or _format_of(path))
    secrets: Iterable[ExportedSecret] = (secret for secret in given if secret.key.startswith(prefix))
    if asks:
        # What is done afterwards is what was asked for, whatever becomes of the file.
        secrets = list(secrets)
    with opened_store(database_url, namespace) as store:
        pruned = prefix if prune else None
        if asks:
            planned = store.import_secrets(secrets, prune=prefix, dry_run=True)
            pruned = prefix if _confirmed(store, planned, "deleted", "not in the file") else None
        with output.progress("comparing" if dry_run else "importing") as report:
            found = store.import_secrets(secrets, prune=pruned, dry_run=dry_run, on_progress=report)
    Comparison(format_of(None), dry_run, reveal).show(found)


def restore_secrets(  # noqa: PLR0913 - an option each
    *,
    at: Annotated[
        datetime,
        typer.Option(
            "--at",
            parser=parse_time,
            metavar="TIME",
            help="The time: ISO 8601 with an offset or Z.",
            show_default=False,
        ),
    ],
    prefix: Annotated[str, typer.Option(metavar="P", help="Only keys that begin like this.")] = "",
    prune: Annotated[bool, typer.Option("--prune", help="Delete those that were not there then.")] = False,
    dry_run: DryRun = False,
    reveal: Reveal = False,
    yes: Yes = False,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Make secrets be as they were at a time.

    What differs is written as new versions, with labels and expiry, all in one transaction.
    Ends with 1 where the value of then is gone, or has expired since; all others are restored all the same.
    """
    wanted = format_of(output_format)
    danger = f"this deletes every secret{_beginning(prefix)} that was not there then"
    _refuse_prune(danger, prune=prune, sure=yes or dry_run)
    with opened_store(database_url, namespace) as store:
        if prune and not (yes or dry_run):
            planned = store.restore(at, prefix, dry_run=True).differences
            prune = _confirmed(store, planned, "extra", "not there then")
        with output.progress("comparing" if dry_run else "restoring") as report:
            done = store.restore(at, prefix, prune=prune, dry_run=dry_run, on_progress=report)
    Comparison(wanted, dry_run, reveal).show(done.differences, gone=done.gone, expired=done.expired)
    _complain_of_left_out(done.gone, done.expired)


def _refuse_export(path: Path | None, *, force: bool, reveal: bool) -> None:
    if path is not None:
        # Before all is read for nothing.
        refuse_overwriting(path, force=force)
    elif output.on_terminal() and not reveal:
        raise CommandError(
            "this would show every value on the terminal; give --output PATH or a pipe, or add --reveal",
            ExitCode.USAGE,
        )


def _refuse_prune(danger: str, *, prune: bool, sure: bool) -> None:
    if prune:
        refuse_unasked(danger, yes=sure)


def _confirmed(store: SecretClient, planned: Sequence[SecretDifference], kind: str, words: str) -> bool:
    """Ask whether to delete those of a kind; tell whether there are any."""
    keys = [one.key for one in planned if one.kind == kind]
    if keys:
        namespace = store.keys.namespace
        danger = f"this deletes {counted(len(keys), 'secret')} of namespace {namespace}, {words}: {_named(keys)}"
        confirm(danger, namespace, yes=False)
    return bool(keys)


def _format_of(path: Path) -> FileFormat:
    found = FileFormat.JSON if path == STDIN else FileFormat.of_path(path)
    if found is None:
        raise CommandError(f"the name of {path} does not say its format; give --format", ExitCode.USAGE)
    return found


def _complain_of_left_out(gone: Sequence[str], expired: Sequence[str]) -> None:
    for key in gone:
        output.warn(f"the value that {key} had then is gone: pruned, destroyed or purged; the secret stays as it is")
    for key in expired:
        output.warn(f"the value that {key} had then has expired since; the secret stays as it is")
    if gone or expired:
        raise CommandError(f"not restored: {counted(len(gone) + len(expired), 'secret')}")


def _beginning(prefix: str) -> str:
    return f" whose key begins with {prefix}" if prefix else ""


def _named(keys: Sequence[str]) -> str:
    more = len(keys) - _SHOWN_KEYS
    return ", ".join(keys[:_SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
