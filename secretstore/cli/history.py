"""The verbs of history: history, diff, rollback, undelete, destroy, purge, max-versions."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from secretstore import SecretClient, SecretNotFoundError, VersionInfo
from secretstore.cli import output
from secretstore.cli.arguments import parse_limit, parse_version
from secretstore.cli.asking import confirm, refuse_unasked
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.options import (
    DatabaseUrl,
    NamespaceName,
    OutputFormat,
    SecretKey,
    SecretKeys,
    format_of,
    opened_store,
)
from secretstore.cli.output import MASK, Format, counted
from secretstore.cli.secrets import with_expiry
from secretstore.domain.names import parse_key, parse_keys
from secretstore.service.differences import Difference, differences

DIFF_EXAMPLES = """
Examples:

  secretstore diff db.main 3 4            # which parts differ

  secretstore diff db.main 3 4 --reveal   # and how
"""
DESTROY_EXAMPLES = """
Examples:

  secretstore destroy api.github 1 2         # asks

  secretstore destroy api.github 1 2 --yes   # in a script
"""
MAX_VERSIONS_EXAMPLES = """
Examples:

  secretstore max-versions 10                   # of each secret

  secretstore max-versions 3 --key api.github   # of this one

  secretstore max-versions all                  # none is removed
"""

_HISTORY_COLUMNS = ("version", "created_at", "created_by", "labels", "expires_at", "state")
_DIFF_COLUMNS = ("path", "kind", "old", "new")

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def show_history(
    key: SecretKey,
    *,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """List the versions of a secret, newest first, without values.

    Each is current, old or destroyed; of a deleted or expired secret none is current.  Decrypts nothing.
    """
    wanted = format_of(output_format)
    with opened_store(database_url, namespace) as store:
        # Asked first: after a write in between, the newest of the list is the current one all the same.
        is_live = store.describe_secret(key) is not None
        versions = _versions(store, key)
    records = [asdict(info) | {"state": _state(info, is_current=is_live and info is versions[0])} for info in versions]
    output.show_records(records, _HISTORY_COLUMNS, wanted)


def diff_versions(
    key: SecretKey,
    old: Annotated[int, typer.Argument(metavar="A", parser=parse_version, help="A version.", show_default=False)],
    new: Annotated[int, typer.Argument(metavar="B", parser=parse_version, help="Another.", show_default=False)],
    *,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the values too.")] = False,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Show which parts of a value differ between two versions.

    Each path (a JSON pointer, RFC 6901) was added, removed or changed; the empty path is the whole value.
    The values are masked in every format, also in a pipe, unless --reveal asks for them.
    """
    wanted = format_of(output_format)
    with opened_store(database_url, namespace) as store:
        found = differences(*(store.get_secret_or_raise(key, version=version) for version in (old, new)))
    records = [_difference_record(one, reveal=reveal, wanted=wanted) for one in found]
    output.show_records(records, _DIFF_COLUMNS, wanted)
    if not found:
        output.say(f"versions {old} and {new} do not differ")
    elif not reveal:
        output.say("the values are hidden; add --reveal to see them")


def rollback_secret(
    key: SecretKey,
    version: Annotated[
        int,
        typer.Argument(
            metavar="VERSION", parser=parse_version, help="The version whose value comes back.", show_default=False
        ),
    ],
    *,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Store the value of an old version as the next version.

    Labels and expiry stay as they are.
    """
    with opened_store(database_url, namespace) as store:
        info = store.rollback_secret(key, version)
    output.say(f"stored version {version} of {key} as {with_expiry(info)}")


def undelete_secrets(
    keys: SecretKeys,
    *,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Bring deleted secrets back; ends with 3 where one is gone.

    Those that can be brought back are brought back all the same, and one that is there stays as it is.
    """
    gone = []
    with opened_store(database_url, namespace) as store:
        for key in parse_keys(keys):
            try:
                output.say(f"{key} is there, in {with_expiry(store.undelete_secret(key))}")
            except SecretNotFoundError:
                gone.append(repr(str(key)))
    if gone:
        raise CommandError(f"there is no deleted secret {', '.join(gone)}", ExitCode.NOT_FOUND)


def destroy_versions(
    key: SecretKey,
    versions: Annotated[
        list[int],
        typer.Argument(metavar="VERSION…", parser=parse_version, help="The versions to destroy.", show_default=False),
    ],
    *,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Remove the values of some versions for good.

    That they were there stays known.  Without its current version a secret is deleted, and cannot be undeleted.
    """
    numbers = sorted(set(versions))
    danger = f"this destroys {_named(numbers)} of {parse_key(key)}"
    refuse_unasked(danger, yes=yes)
    with opened_store(database_url, namespace) as store:
        _warn_of_deletion(store, key, numbers)
        confirm(_for_good(danger), key, yes=yes)
        destroyed = store.destroy_versions(key, numbers)
    gone = len(numbers) - destroyed
    before = f"; {counted(gone, 'version')} before" if gone else ""
    output.say(f"destroyed {counted(destroyed, 'version')} of {key}{before}")


def purge_secrets(
    keys: SecretKeys,
    *,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Remove secrets with all their versions for good.

    The numbers of their versions never come back, and the record of changes stays.
    Ends with 3 where one was missing; those that are there are removed all the same.
    """
    parsed = parse_keys(keys)
    danger = f"this removes {', '.join(parsed)} with all versions"
    refuse_unasked(danger, yes=yes)
    confirm(_for_good(danger), parsed[0] if len(parsed) == 1 else "purge", yes=yes)
    missing = []
    with opened_store(database_url, namespace) as store:
        for key in parsed:
            if store.purge_secret(key):
                output.say(f"purged {key}")
            else:
                missing.append(repr(str(key)))
    if missing:
        raise CommandError(f"there is nothing of {', '.join(missing)}", ExitCode.NOT_FOUND)


def limit_versions(
    limit: Annotated[str, typer.Argument(metavar="N|all", help="How many to keep.", show_default=False)],
    *,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Of this secret, not of all of the namespace.", show_default=False)
    ] = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Set how many versions are kept of each secret, or of one.

    Older ones are removed for good, each time with the write that makes them too many.  The limit of a secret comes
    before that of its namespace; all takes a limit away.
    """
    kept = parse_limit(limit)
    with opened_store(database_url, namespace) as store:
        store.set_max_versions(kept, key=key)
        whose = f"each secret of namespace {store.keys.namespace}" if key is None else key
    if kept is None:
        output.say(f"{whose} has no limit of its own" if key else f"of {whose} all versions are kept")
    else:
        output.say(f"of {whose} {counted(kept, 'version')} will be kept; older ones go when it is written next")


def _versions(store: SecretClient, key: str) -> list[VersionInfo]:
    versions = store.list_versions(key)
    if not versions:
        raise CommandError(f"there is no secret {key!r}", ExitCode.NOT_FOUND)
    return versions


def _state(info: VersionInfo, *, is_current: bool) -> str:
    if info.destroyed_at is not None:
        return "destroyed"
    return "current" if is_current else "old"


def _difference_record(found: Difference, *, reveal: bool, wanted: Format) -> dict[str, Any]:
    sides = {"old": found.old, "new": found.new}
    absent = {"added": "old", "removed": "new"}.get(found.kind)
    shown = {side: _shown(value, reveal=reveal, wanted=wanted) for side, value in sides.items() if side != absent}
    return {"path": found.path, "kind": found.kind, **dict.fromkeys(sides), **shown}


def _shown(value: Any, *, reveal: bool, wanted: Format) -> Any:
    if not reveal:
        return MASK
    # In a table a text has its quotes, so that "1" and 1 differ.
    return json.dumps(value, ensure_ascii=False) if wanted is Format.TABLE else value


def _warn_of_deletion(store: SecretClient, key: str, numbers: Sequence[int]) -> None:
    is_live = store.describe_secret(key) is not None
    versions = _versions(store, key)
    missing = set(numbers) - {info.version for info in versions}
    if missing:
        is_or_are = "is" if len(missing) == 1 else "are"
        raise CommandError(f"there {is_or_are} no {_named(sorted(missing))} of secret {key!r}", ExitCode.NOT_FOUND)
    last = versions[0]
    if last.version in numbers and last.destroyed_at is None:
        outcome = "current one: the secret is deleted then, and" if is_live else "last one: the secret"
        output.warn(f"version {last.version} is the {outcome} cannot be undeleted")


def _for_good(danger: str) -> str:
    return f"{danger}, and cannot be undone"


def _named(numbers: Sequence[int]) -> str:
    return f"version{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}"
