"""`doctor`: looks whether everything works."""

from dataclasses import asdict

from secretstore.cli import output
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.options import DatabaseUrl, OutputFormat, format_of, named_settings

_WORDS = {True: "ok", False: "FAILED", None: "skipped"}


def doctor(*, output_format: OutputFormat = None, database_url: DatabaseUrl = None) -> None:
    """Check database, tables and keys; ends with 8 if one fails."""
    from secretstore import health  # noqa: PLC0415 - brings Alembic, which no other command waits for

    wanted = format_of(output_format)
    checks = health.examine(named_settings(database_url))
    records = [asdict(check) | {"result": _WORDS[check.ok]} for check in checks]
    output.show_records(records, ("result", "name", "detail"), wanted)
    failed = [check.name for check in checks if check.ok is False]
    if failed:
        raise CommandError(f"failed: {', '.join(failed)}", ExitCode.CHECK_FAILED)
