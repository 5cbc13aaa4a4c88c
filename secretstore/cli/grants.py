"""The group `grants`: which role may do what, as PostgreSQL enforces it."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from secretstore.cli import output
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, SecretKey, format_of, opened_store
from secretstore.domain.grants import ABILITIES, Explanation, Grant

group = typer.Typer(no_args_is_help=True, help="Give roles of the database rights to secrets, and take them.")

_COLUMNS = ("role", "namespace", "prefix", "can", "problem")

Role = Annotated[str, typer.Argument(metavar="ROLE", help="A role of the database.", show_default=False)]
Prefix = Annotated[
    str, typer.Option(metavar="PREFIX", help="Only keys that begin so; else the namespace.", show_default=False)
]
Can = Annotated[str, typer.Option(metavar="WORDS", help=f"Some of {','.join(ABILITIES)}.", show_default=False)]
Narrow = Annotated[
    bool, typer.Option("--narrow", help="Take everything else from a role that had rights before all grants.")
]


@group.command()
def add(
    role: Role,
    *,
    can: Can,
    prefix: Prefix = "",
    narrow: Narrow = False,
    namespace: NamespaceName = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Let a role do something with secrets; what it could do with that prefix before is replaced.

    The first grant lets row-level security hold on the tables.  Roles that have rights by then go on as before, until
    `grants add ROLE --narrow` or `grants revoke ROLE --everything`.  It takes the owner of the tables.
    """
    with opened_store(database_url, namespace) as store:
        added, *opened = store.grants.add(role, prefix=prefix, can=_words(can), narrow=narrow)
    output.say(f"role {added.role} may {_listed(added)} {_place(added)}")
    for one in opened:
        output.warn(
            f"role {one.role} goes on with everything, as before; "
            f"end that with: secretstore grants revoke {one.role} --everything"
        )


@group.command()
def revoke(
    role: Role,
    *,
    prefix: Prefix = "",
    everything: Annotated[
        bool, typer.Option("--everything", help="All grants, in all namespaces, and what came before them.")
    ] = False,
    namespace: NamespaceName = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Take from a role what it may do with a prefix, or everything."""
    with opened_store(database_url, namespace) as store:
        gone = store.grants.revoke(role, prefix=prefix, everything=everything)
    for one in gone:
        output.say(f"gone from role {one.role}: {_listed(one)} {_place(one)}")


@group.command("list")
def list_grants(
    role: Annotated[
        str | None, typer.Argument(metavar="ROLE", help="Only those of a role.", show_default=False)
    ] = None,
    *,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List the grants in all namespaces, and what of them was changed by hand."""
    wanted = format_of(output_format)
    with opened_store(database_url, None) as store:
        found = store.grants.list(role)
    output.show_records([_row(one) for one in found], _COLUMNS, wanted)


@group.command()
def explain(
    role: Role,
    key: SecretKey,
    *,
    namespace: NamespaceName = None,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Say what a role may do with a secret, and by which grant."""
    wanted = format_of(output_format)
    with opened_store(database_url, namespace) as store:
        found = store.grants.explain(role, key)
    output.show_records([_explained(one) for one in found], ("can", "allowed", "reason"), wanted)


@group.command()
def sql(
    role: Role,
    *,
    can: Can,
    prefix: Prefix = "",
    narrow: Narrow = False,
    namespace: NamespaceName = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print the statements that `add` would run, for someone else to run; changes nothing."""
    with opened_store(database_url, namespace) as store:
        script = store.grants.sql(role, prefix=prefix, can=_words(can), narrow=narrow)
    output.show_exactly(script)


def _words(can: str) -> list[str]:
    return [word.strip() for word in can.split(",") if word.strip()]


def _listed(grant: Grant) -> str:
    return ", ".join(grant.can)


def _place(grant: Grant) -> str:
    if grant.namespace is None:
        return "in all namespaces"
    return f"{grant.prefix}… in namespace {grant.namespace}" if grant.prefix else f"in namespace {grant.namespace}"


def _row(grant: Grant) -> dict[str, Any]:
    return {**asdict(grant), "can": _listed(grant)}


def _explained(one: Explanation) -> dict[str, Any]:
    return {"can": one.ability, "allowed": one.is_allowed, "reason": one.reason}
