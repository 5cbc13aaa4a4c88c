"""The group `keys`: master keys, and the data keys that they wrap."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from secretstore import SecretClient
from secretstore.cli import output
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, format_of, opened_store
from secretstore.cli.output import Format, counted
from secretstore.crypto.local import generate_master_key
from secretstore.domain.key_records import DataKeyInfo, MasterKeyInfo, Reencryption
from secretstore.errors import StoreUnavailableError

group = typer.Typer(no_args_is_help=True, help="Make, list, check and change master keys and data keys.")

_MASTER_COLUMNS = ("master key", "state", "age", "data keys", "values", "fingerprint")
_DATA_COLUMNS = ("namespace", "data key", "state", "age", "values", "seals", "master key")

AllNamespaces = Annotated[bool, typer.Option("--all", help="All namespaces that have a data key.")]


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


@group.command("list")
def list_keys(
    *,
    namespace: NamespaceName = None,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List master keys and data keys, with what depends on each; shows no key.

    Without --namespace the data keys of all namespaces are listed.  It counts all values, which takes a while where there
    are millions.
    """
    wanted = format_of(output_format)
    with opened_store(database_url, namespace) as store:
        master_keys = store.keys.list_master_keys()
        data_keys = store.keys.list_data_keys(of_all_namespaces=namespace is None)
    if wanted is Format.TABLE:
        now = datetime.now(UTC)
        output.show_records([_master_row(info, now) for info in master_keys], _MASTER_COLUMNS, wanted)
        output.show_records([_data_row(info, now) for info in data_keys], _DATA_COLUMNS, wanted)
    else:
        listed = {"master_keys": map(asdict, master_keys), "data_keys": map(asdict, data_keys)}
        output.show_data(
            {name: [output.plain(record) for record in records] for name, records in listed.items()}, wanted
        )


@group.command()
def check(
    master_key_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Can this master key be taken out of the ring?", show_default=False),
    ] = None,
    *,
    database_url: DatabaseUrl = None,
) -> None:
    """Check that the ring holds every master key that the store needs; or, with ID, that one can be taken out.

    Ends with 5 where one is missing, and with 8 where ID is still needed.
    """
    with opened_store(database_url, None) as store:
        if master_key_id is None:
            store.keys.check_complete()
            output.say("the key ring holds every master key that the store needs")
        else:
            store.keys.check_removable(master_key_id)
            output.say(f"nothing needs master key {master_key_id}; keep a copy for as long as backups need it")


@group.command()
def rewrap(
    *,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Also those that it wraps already, as after a rotation inside a key server."),
    ] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Wrap the data keys of all namespaces by the first master key of the ring; touches no value.

    It may be broken off, run again, and run on many machines at once.
    """
    with opened_store(database_url, None) as store, output.progress("wrapping data keys") as report:
        rewrapped = store.keys.rewrap(everything=everything, on_progress=report)
    output.say(f"re-wrapped {counted(rewrapped, 'data key')}")


@group.command()
def rotate(
    *,
    namespace: NamespaceName = None,
    of_all: AllNamespaces = False,
    goes_on: Annotated[
        bool, typer.Option("--continue", help="Make no new data key; re-encrypt what is left under older ones.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many values would be re-encrypted.")] = False,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Give a namespace a new data key, and re-encrypt all its values, old versions too.

    Readers and writers go on; versions, times and labels stay.  It may be broken off at any moment: --continue goes on.
    Ends with 5 where values do not open, which then stay under their old data key.
    """
    wanted = format_of(output_format)
    with opened_namespaces(database_url, namespace, of_all=of_all) as stores:
        if dry_run:
            counted = [_planned(one, goes_on=goes_on) for one in stores]
            output.show_records(counted, ("namespace", "values"), wanted)
            return
        for one in stores[:1]:
            # Before anything is changed: without all master keys the values could not be re-encrypted.
            one.keys.check_complete()
        done = _rotate_each(stores, goes_on=goes_on)
    output.show_records([asdict(one) for one in done], ("namespace", "data_key_id", "values", "unreadable"), wanted)
    _complain_of_unreadable(done)


@group.command()
def destroy(
    data_key_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID…", help="Retired data keys; see `secretstore keys list`.", show_default=False),
    ] = None,
    *,
    unused: Annotated[bool, typer.Option("--unused", help="All retired ones that no value needs.")] = False,
    namespace: NamespaceName = None,
    of_all: AllNamespaces = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Remove retired data keys for good; ends with 8 where a value, old or deleted ones too, needs one."""
    if bool(data_key_ids) == unused or (of_all and not unused):
        raise CommandError("give either ids of data keys or --unused, which alone goes with --all", ExitCode.USAGE)
    with opened_namespaces(database_url, namespace, of_all=of_all) as stores:
        for store in stores:
            for data_key_id in data_key_ids or _unused(store):
                store.keys.destroy(data_key_id)
                output.say(f"destroyed data key {data_key_id}")


@group.command()
def shred(
    *,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NAME", help="The namespace to shred.", show_default=False)
    ],
    confirm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The same name once more, where nobody can be asked.", show_default=False),
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Destroy the data keys of a namespace and with them all its values, for good.

    Nothing brings them back but a backup of the database together with the master key.  Keys, labels and times stay.
    """
    _confirm_shredding(namespace, confirm)
    with opened_store(database_url, namespace) as store, output.progress("shredding") as report:
        shredded = store.keys.shred(on_progress=report)
    output.say(f"shredded {counted(shredded, 'value')} of namespace {namespace}; nothing here opens them any more")


@contextmanager
def opened_namespaces(url: str | None, namespace: str | None, *, of_all: bool) -> Iterator[list[SecretClient]]:
    """Open the store on one namespace, or on each that has a data key."""
    if of_all and namespace is not None:
        raise CommandError("give either --namespace or --all, not both", ExitCode.USAGE)
    with opened_store(url, namespace) as store:
        yield [store.namespace(name) for name in store.keys.list_namespaces()] if of_all else [store]


def _rotate_each(stores: Sequence[SecretClient], *, goes_on: bool) -> list[Reencryption]:
    done: list[Reencryption] = []
    try:
        for store in stores:
            done.append(_rotate(store, goes_on=goes_on))  # noqa: PERF401 - what was done before an error is needed
    except (KeyboardInterrupt, SystemExit, StoreUnavailableError):
        output.say(_how_to_go_on([store.keys.namespace for store in stores[len(done) :]]))
        raise
    return done


def _how_to_go_on(left: Sequence[str]) -> str:
    words = f"nothing is lost; to go on: secretstore keys rotate --continue --namespace {shlex.quote(left[0])}"
    return f"{words}; {counted(len(left) - 1, 'namespace')} after it not begun" if left[1:] else words


def _rotate(store: SecretClient, *, goes_on: bool) -> Reencryption:
    with output.progress("re-encrypting") as report:
        return store.keys.reencrypt(on_progress=report) if goes_on else store.keys.rotate(on_progress=report)


def _planned(store: SecretClient, *, goes_on: bool) -> dict[str, Any]:
    return {"namespace": store.keys.namespace, "values": store.keys.count_to_reencrypt(after_rotation=not goes_on)}


def _unused(store: SecretClient) -> list[str]:
    infos = store.keys.list_data_keys()
    return [info.id for info in infos if info.state == "retired" and not info.values]


def _complain_of_unreadable(done: list[Reencryption]) -> None:
    examples = [example for one in done for example in one.examples]
    for example in examples:
        output.warn(f"{example} does not open, and stays as it is")
    if examples:
        unreadable = sum(one.unreadable for one in done)
        raise CommandError(
            f"not re-encrypted: {counted(unreadable, 'value')}; what was changed by hand comes back from a backup only",
            ExitCode.CANNOT_DECRYPT,
        )


def _confirm_shredding(namespace: str, confirm: str | None) -> None:
    typed = confirm
    if typed is None:
        if not sys.stdin.isatty():
            raise CommandError(
                f"this destroys every value of namespace {namespace}; to do it, add --confirm {shlex.quote(namespace)}",
                ExitCode.USAGE,
            )
        output.warn(f"this destroys every value of namespace {namespace}, old versions too, and cannot be undone")
        output.say("type the name of the namespace to do it")
        typed = sys.stdin.readline().strip()
    if typed != namespace:
        raise CommandError("that is not the name of the namespace; nothing was changed")


def _master_row(info: MasterKeyInfo, now: datetime) -> dict[str, Any]:
    parts = (info.id, info.state, _age(info.since, now), info.data_keys, info.values, info.fingerprint or "")
    return dict(zip(_MASTER_COLUMNS, parts, strict=True))


def _data_row(info: DataKeyInfo, now: datetime) -> dict[str, Any]:
    parts = (info.namespace, info.id, info.state, _age(info.created_at, now), info.values, info.seals)
    return dict(zip(_DATA_COLUMNS, (*parts, info.master_key_id or ""), strict=True))


def _age(since: datetime | None, now: datetime) -> str:
    """Return how long ago something was, as people say it; nothing where it never was."""
    if since is None:
        return ""
    days = (now - since).days
    return counted(days, "day") if days > 0 else "today"
