"""`grants`, as a DBA uses it."""

import json
from collections.abc import Iterator

import psycopg
import pytest

from secretstore import KeyRing, SecretClient
from tests.e2e.conftest import CommandLine
from tests.support.roles import Roles, open_roles
from tests.support.server import Server


@pytest.fixture
def roles(server: Server, database: str, raw: psycopg.Connection, keyring: KeyRing) -> Iterator[Roles]:
    """Roles of this test."""
    with open_roles(server, database, raw, keyring) as opened:
        yield opened


def test_rights_are_given_listed_and_taken(cli: CommandLine, store: SecretClient, roles: Roles) -> None:
    """The first grant says who goes on as before and how to end that, a list shows both, and what is taken is named."""
    role, other = roles.make("app"), roles.make("other")
    roles.execute("GRANT SELECT ON secretstore.secret_store TO {}", other)

    added = cli("grants", "add", role, "-n", "prod", "--prefix", "payments/", "--can", "read, write")
    listed = cli("grants", "list")
    gone = cli("grants", "revoke", other, "--everything")

    assert (added.code, added.out) == (0, "")
    assert added.err.splitlines() == [
        f"role {role} may read, write payments/… in namespace prod",
        (
            f"warning: role {other} goes on with everything, as before; end that with: "
            f"secretstore grants revoke {other} --everything"
        ),
    ]
    assert json.loads(listed.out) == [
        {"role": role, "namespace": "prod", "prefix": "payments/", "can": "read, write", "problem": None},
        {"role": other, "namespace": None, "prefix": "", "can": "everything", "problem": None},
    ]
    assert (gone.code, gone.err) == (0, f"gone from role {other}: everything in all namespaces\n")
    assert [one.role for one in store.grants.list()] == [role]


def test_a_limited_role_explains_and_is_denied(cli: CommandLine, store: SecretClient, roles: Roles) -> None:
    """It may ask what it may do, and print what somebody else has to run; giving rights ends with 6."""
    role = roles.make("app")
    store.grants.add(role, prefix="payments/", can=["read"])
    limited = cli.with_(SECRETSTORE_DATABASE_URL=roles.url(role))

    explained = limited("grants", "explain", role, "payments/stripe")
    denied = limited("grants", "add", role, "--can", "write")
    printed = limited("grants", "sql", role, "--can", "list", "--prefix", "payments/")

    may = {one["can"]: one["allowed"] for one in json.loads(explained.out)}
    assert {word for word, allowed in may.items() if allowed} == {"read", "list"}
    assert (denied.code, denied.out) == (6, "")
    assert "who owns the tables" in denied.err
    assert printed.code == 0
    assert printed.out.startswith("BEGIN;\n")
    assert printed.out.endswith("COMMIT;\n")
