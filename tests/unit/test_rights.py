"""What a grant is in PostgreSQL."""

import pytest

from secretstore import GrantError, RoleNotFoundError
from secretstore.cli.exit_codes import ExitCode, exit_code_of
from secretstore.domain.grants import ABILITIES, Grant
from secretstore.orm.models import Base
from secretstore.orm.rights import accesses_of, leaks, policies_of, privileges_of, table_names


def grant(words: str) -> Grant:
    """Return a grant that is written as `read,list at a/`."""
    can, _, prefix = words.partition(" at ")
    return Grant(role="r", namespace="prod", prefix=prefix, can=tuple(can.split(",")))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("read at a/", "list at b/"),
        ("read at a/", "list"),
        ("write at a/", "list at b/"),
        ("list at a/", "read,delete at b/"),
        ("read,history at a/", "delete at b/"),
        ("read,history at a/", "history at b/"),
        ("write at a/", "delete at b/"),
        ("write at a/", "audit at b/"),
        ("history at a/", "audit at b/"),
    ],
)
def test_what_would_open_further_rows_is_found(one: str, other: str) -> None:
    """Two grants of which one gives columns that the rows of the other do not: in either order."""
    for both in ([one, other], [other, one]):
        assert leaks(map(grant, both)) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("read at a/", "read,history at b/"),
        ("read,write,delete at a/", "read at b/"),
        ("read,write,delete at a/", "write at b/"),
        ("read", "list at a/"),
        ("audit", "history at a/"),
        ("audit at a/", "seal"),
        ("list at a/", "audit at b/"),
        ("list at a/", "list,history at b/"),
        ("list at a/", "delete at b/"),
        ("read at a/", "seal"),
        ("history at a/", "seal"),
    ],
)
def test_what_opens_nothing_further_is_not_refused(one: str, other: str) -> None:
    """Equal columns, rows that are open anyway, and tables that have nothing in common go together."""
    for both in ([one, other], [other, one]):
        assert leaks(map(grant, both)) is None


@pytest.mark.parametrize("ability", ABILITIES)
def test_no_ability_gives_the_owners_rights(ability: str) -> None:
    """No grant lets a row of the record be removed or changed but for its number, nor a data key be changed."""
    given = privileges_of([grant(ability)])

    for table in ("change_event", "access_event"):
        assert (table, "DELETE") not in given
        assert given.get((table, "UPDATE"), frozenset()) in (frozenset(), frozenset({"seq"}))
    assert ("data_key", "DELETE") not in given
    assert {privilege for _, privilege in given} <= {"SELECT", "INSERT", "UPDATE", "DELETE"}
    assert {(table, privilege) for table, privilege in given if table == "alembic_version"} == {
        ("alembic_version", "SELECT")
    }
    for access in accesses_of(grant(ability)):
        if (access.table, access.command) == ("data_key", "UPDATE"):
            assert access.check == ("false",)


@pytest.mark.parametrize("ability", ["list", "history", "audit", "delete"])
def test_who_does_not_read_gets_no_value_and_no_data_key(ability: str) -> None:
    """Without `read` neither values nor wrapped data keys are selected."""
    given = privileges_of([grant(ability)])

    assert ("data_key", "SELECT") not in given
    for table in ("secret_store", "secret_version"):
        columns = given.get((table, "SELECT"), frozenset())
        assert columns is not None
        assert "value" not in columns


def test_the_application_says_neither_who_has_logged_in_nor_a_number() -> None:
    """Of a record of its own making it cannot write what PostgreSQL fills in."""
    given = privileges_of([grant("read,write,delete,history,list")])

    for table in ("change_event", "access_event"):
        assert given[table, "INSERT"] is not None
        assert not {"database_role", "application_name", "seq"} & set(given[table, "INSERT"] or ())


def test_a_policy_is_of_constants_and_its_name_fits() -> None:
    """No subquery, no function; each name is short enough, and another for another role, namespace or prefix."""
    long = Grant(role="r" * 63, namespace="n" * 128, prefix="p" * 512, can=ABILITIES[:-1])
    policies = [*policies_of(long), *policies_of(grant("read,write,delete,audit at a/")), *policies_of(grant("read"))]

    assert len(set(policies)) == len(policies)
    assert all(len(name.encode()) <= 63 for _, name in policies)
    for policy in policies_of(grant("read,list,history,write,delete,audit,seal")).values():
        for condition in filter(None, (policy.using, policy.check)):
            assert "SELECT" not in condition
            assert condition == "false" or condition.startswith(("((namespace = ", "(namespace = "))


def test_every_table_of_the_models_is_guarded() -> None:
    """A table that a later revision adds is one of those on which policies hold."""
    assert set(table_names()) == {table.name for table in Base.metadata.tables.values()}


def test_a_grant_that_cannot_be_made_is_a_wrong_call() -> None:
    """The command ends as it does for any wrong argument, also where the role is not there."""
    assert [exit_code_of(error) for error in (GrantError("no"), RoleNotFoundError("nobody"))] == [ExitCode.USAGE] * 2
