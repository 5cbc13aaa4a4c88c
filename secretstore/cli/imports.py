"""The group `import`: secrets from files and from other systems."""

import sys
from typing import Annotated, Any

import typer
import typer.core

from secretstore.cli import output, transfer
from secretstore.cli.exit_codes import CommandError
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, format_of, opened_store, warn_of_password
from secretstore.errors import ConfigurationError, MasterKeyError
from secretstore.integrations.triggerdev import Report, SkipReason, import_table, open_table, parse_encryption_key
from secretstore.settings import TriggerdevSettings, load_triggerdev_settings

_FILE = "file"


class ImportGroup(typer.core.TyperGroup):
    """The group whose first word, where it is no command, is a file; without any word a pipe is one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # its type is no public name of Typer's
        """Parse the arguments."""
        known = {*self.commands, *ctx.help_option_names}
        is_file = args[0] not in known if args else not sys.stdin.isatty()
        return super().parse_args(ctx, [_FILE, *args] if is_file else args)


group = typer.Typer(
    cls=ImportGroup,
    no_args_is_help=True,
    help="Bring secrets in from a file or another system.\n\n`import FILE` is short for `import file FILE`.",
    epilog=transfer.IMPORT_EXAMPLES,
)
group.command(_FILE, epilog=transfer.IMPORT_EXAMPLES)(transfer.import_file)


@group.command()
def triggerdev(
    *,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The DATABASE_URL of trigger.dev. Else TRIGGERDEV_DATABASE_URL, which no list of processes shows, or "
            "the file that TRIGGERDEV_DATABASE_URL_FILE names.",
            show_default=False,
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(metavar="PREFIX", help="Only keys that begin like this.")] = "",
    allow_plaintext: Annotated[
        bool, typer.Option("--allow-plaintext", help="Import also what trigger.dev holds unencrypted (version 1).")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Open everything, write nothing, and say what would happen.")
    ] = False,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Import trigger.dev's own secrets, with their times; ends with 1 where a row was skipped.

    TRIGGERDEV_ENCRYPTION_KEY, or the file that TRIGGERDEV_ENCRYPTION_KEY_FILE names, holds the ENCRYPTION_KEY of
    trigger.dev. It is safe to run again: what is here already stays, unless trigger.dev has a newer value.
    """
    warn_of_password("--url", url, variable="TRIGGERDEV_DATABASE_URL")
    wanted = format_of(output_format)
    source, encryption_key = _named(load_triggerdev_settings(database_url=url))
    key = parse_encryption_key(encryption_key)
    with opened_store(database_url, namespace) as store, open_table(source) as table:
        try:
            total = table.count(prefix)
            with output.progress("importing") as report_progress:
                report = import_table(
                    store,
                    table,
                    key,
                    prefix=prefix,
                    allow_plaintext=allow_plaintext,
                    dry_run=dry_run,
                    on_rows=lambda done: report_progress(done, total),
                )
        except KeyboardInterrupt:
            output.say("broken off; what was imported so far stays, and running it again goes on")
            raise
    _show(report, dry_run=dry_run)
    output.show_record(_counts(report), wanted)
    if report.skipped:
        raise CommandError(f"{report.skipped.total()} of {report.rows} rows were skipped")


def _named(settings: TriggerdevSettings) -> tuple[str, str]:
    if settings.database_url is None:
        raise ConfigurationError("no database of trigger.dev is named: give --url or set TRIGGERDEV_DATABASE_URL")
    if settings.encryption_key is None:
        raise MasterKeyError(
            "set TRIGGERDEV_ENCRYPTION_KEY, or TRIGGERDEV_ENCRYPTION_KEY_FILE, to what ENCRYPTION_KEY is for trigger.dev"
        )
    return settings.database_url.get_secret_value(), settings.encryption_key.get_secret_value()


def _show(report: Report, *, dry_run: bool) -> None:
    for skipped in report.first_skipped:
        output.say(f"skipped {skipped.key!r}: {skipped.words}")
    more = report.skipped.total() - len(report.first_skipped)
    if more:
        output.say(f"and {more} more")
    if report.skipped[SkipReason.PLAINTEXT]:
        output.say("add --allow-plaintext to import also what trigger.dev holds in plain text")
    if dry_run:
        output.say("dry run: nothing was written")


def _counts(report: Report) -> dict[str, object]:
    return {
        "imported": report.imported,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "skipped": {str(reason): number for reason, number in sorted(report.skipped.items())},
    }
