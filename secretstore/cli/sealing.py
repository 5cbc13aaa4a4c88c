"""Commands that seal the record of a namespace, and that look whether it is as it was sealed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from secretstore import AuditHead, RecordHead, SecretClient, Verification
from secretstore.cli import output
from secretstore.cli.arguments import parse_since
from secretstore.cli.asking import confirm, refuse_unasked
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.history import Yes
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, format_of, opened_store
from secretstore.cli.output import Format, counted
from secretstore.domain.sealing import RECORDS, RecordName

VERIFY_EXAMPLES = """
Examples:

  secretstore audit verify --all-namespaces

  secretstore audit head > /mnt/elsewhere/head.json     # now and then

  secretstore audit verify --against /mnt/elsewhere/head.json
"""
DROP_EXAMPLES = """
Examples:

  secretstore audit drop --before 90d --export /mnt/elsewhere/reads-2026-11.jsonl

  secretstore audit drop --before 2026-08-01T00:00Z --export reads.jsonl --yes
"""

_COLUMNS = ("namespace", "record", "events", "checkpoints", "kept_from", "unsealed")

Record = StrEnum("Record", {name.upper(): name for name in RECORDS})  # type: ignore[misc] # of the names that there are
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", help="All namespaces that have a data key.")]


def seal_events(
    *, of_all: AllNamespaces = False, database_url: DatabaseUrl = None, namespace: NamespaceName = None
) -> None:
    """Seal what was recorded until now, so that tampering with it shows.

    Run it every minute or so, by cron perhaps; it may run on many machines at once.
    """
    with _opened(database_url, namespace, of_all=of_all) as stores:
        for store in stores:
            with output.progress("sealing") as report:
                done = store.audit.seal(on_progress=report)
            words = f"sealed {counted(done.events, 'event')} in {counted(done.checkpoints, 'checkpoint')}"
            output.say(f"{words} of namespace {output.printable(done.namespace)}")


def verify_events(
    *,
    record: Annotated[Record | None, typer.Option(help="Only this record.", show_default=False)] = None,
    first: Annotated[
        int | None,
        typer.Option(
            "--from", metavar="NUMBER", min=1, help="Only from this checkpoint of --record on.", show_default=False
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An earlier output of `audit head`, which has to be there still.", show_default=False
        ),
    ] = None,
    of_all: AllNamespaces = False,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Look whether the record is as it was sealed; ends with 8, and names the first event that is not.

    What is not sealed yet is counted and not verified.
    """
    if (first is not None and record is None) or (of_all and not (first is None and against is None)):
        raise CommandError("--from needs --record; neither it nor --against goes with --all-namespaces", ExitCode.USAGE)
    wanted = format_of(output_format)
    head = None if against is None else _read_head(against)
    names: dict[str, RecordName] = {name: name for name in RECORDS}
    done: list[Verification] = []
    with _opened(database_url, namespace, of_all=of_all) as stores:
        for store in stores:
            with output.progress("verifying") as report:
                done += store.audit.verify(
                    record=None if record is None else names[record.value],
                    first=first,
                    against=head,
                    on_progress=report,
                )
    output.show_records([asdict(one) for one in done], _COLUMNS, wanted)


def show_head(*, database_url: DatabaseUrl = None, namespace: NamespaceName = None) -> None:
    """Print how far the record is sealed, as JSON; kept elsewhere, it shows later what was cut off."""
    with opened_store(database_url, namespace) as store:
        head = store.audit.head()
    heads = [output.plain(asdict(one)) for one in head.heads]
    output.show_data({"namespace": head.namespace, "heads": heads}, Format.JSON)


def drop_accesses(
    *,
    before: Annotated[
        datetime,
        typer.Option(metavar="TIME", parser=parse_since, help="What was sealed before: 90d ago, or 2026-08-01T00:00Z."),
    ],
    export: Annotated[Path, typer.Option(metavar="FILE", help="A new file, which gets all that is dropped.")],
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Take old reads, and refused and failed calls, out of the record, after an export of them.

    The file is read back, and compared with what was sealed, before anything is deleted.  Changes are never dropped.
    """
    refuse_unasked("this takes events out of the record for good", yes=yes)
    with opened_store(database_url, namespace) as store:
        name = store.audit.namespace
        confirm(f"this takes old accesses out of the record of namespace {output.printable(name)}", name, yes=yes)
        with output.progress("verifying") as report:
            done = store.audit.drop_accesses(before=before, export=export, on_progress=report)
    output.say(f"dropped {counted(done.events, 'event')}" + (f", which {export} has" if done.events else ""))


class _RecordHead(BaseModel):
    """One head in a file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    record: RecordName
    number: int = Field(ge=1)
    last_seq: int = Field(ge=0)
    hash: str = Field(pattern="^[0-9a-f]{64}$")
    sealed_at: AwareDatetime


class _HeadFile(BaseModel):
    """A file that `audit head` has printed."""

    model_config = ConfigDict(strict=True, extra="forbid")

    namespace: str
    heads: list[_RecordHead]

    def as_record(self) -> AuditHead:
        """Return the same as the library has it."""
        return AuditHead(namespace=self.namespace, heads=tuple(RecordHead(**dict(one)) for one in self.heads))


@contextmanager
def _opened(url: str | None, namespace: str | None, *, of_all: bool) -> Iterator[list[SecretClient]]:
    if of_all and namespace is not None:
        raise CommandError("give either --namespace or --all-namespaces, not both", ExitCode.USAGE)
    with opened_store(url, namespace) as store:
        yield [store.namespace(name) for name in store.keys.list_namespaces()] if of_all else [store]


def _read_head(path: Path) -> AuditHead:
    try:
        return _HeadFile.model_validate_json(path.read_bytes()).as_record()
    except OSError as error:
        problem = error.strerror or "cannot be read"
    except ValidationError:
        problem = "is not what `secretstore audit head` prints"
    raise CommandError(f"{path}: {problem}", ExitCode.USAGE)
