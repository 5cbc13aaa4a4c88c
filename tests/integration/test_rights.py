"""Rights that PostgreSQL enforces, as `client.grants` gives and takes them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from secretstore import GrantError, KeyRing, PermissionDeniedError, RoleNotFoundError, SecretClient
from secretstore.orm.engines import make_engine
from tests.support.server import Server

PASSWORD = "only-for-tests"
NewRole = Callable[..., str]
LogIn = Callable[[str], SecretClient]


@pytest.fixture
def new_role(raw: psycopg.Connection) -> Iterator[NewRole]:
    """Makes roles that may log in, and drops them with all that they were given."""
    made: list[str] = []

    def make(name: str | None = None, attributes: str = "") -> str:
        made.append(name or f"secretstore_test_{uuid4().hex}")
        raw.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + attributes).format(
                sql.Identifier(made[-1]), sql.Literal(PASSWORD)
            )
        )
        return made[-1]

    yield make
    for role in made:
        raw.execute(sql.SQL("DROP OWNED BY {0}").format(sql.Identifier(role)))
        raw.execute(sql.SQL("DROP ROLE {0}").format(sql.Identifier(role)))


@pytest.fixture
def log_in(server: Server, database: str, keyring: KeyRing) -> Iterator[LogIn]:
    """Opens clients that log in as a role."""
    with ExitStack() as opened:

        def client(role: str) -> SecretClient:
            engine = make_engine(server.direct_url(database, user=role, password=PASSWORD))
            opened.callback(engine.dispose)
            return SecretClient(engine, keyring)

        yield client


def test_a_reader_reads_its_prefix(store: SecretClient, new_role: NewRole, log_in: LogIn) -> None:
    """Of `read` a role sees values of its prefix, and neither others nor how to write."""
    store.set_secrets({"a/1": 1, "b/1": 2})
    role = new_role()

    store.grants.add(role, prefix="a/", can=["read"])
    reader = log_in(role)

    assert reader.get_secret("a/1") == 1
    assert reader.list_secret_keys() == ["a/1"]
    with pytest.raises(PermissionDeniedError):
        reader.set_secret("a/1", 3)


def test_an_application_does_what_it_needs(store: SecretClient, new_role: NewRole, log_in: LogIn) -> None:
    """Of `read,write,delete` every method of the client works on its prefix, also as the first to write."""
    role = new_role()
    store.grants.add(role, prefix="a/", can=["read", "write", "delete"])
    application = log_in(role)

    application.set_secrets({"a/1": 1, "a/2": {"b": 2}})
    application.set_secret("a/1", 2, labels={"x": "y"})
    application.patch_secret("a/2", {"c": 3})
    application.rollback_secret("a/1", 1)
    application.set_labels("a/1", {"x": "z"})
    application.patch_labels("a/1", {"w": "v"})
    assert application.delete_secret("a/1")
    application.undelete_secret("a/1")
    assert application.destroy_versions("a/1", [2]) == 1
    application.set_max_versions(1, key="a/1")
    application.set_secret("a/1", 5)
    assert [one.version for one in application.list_versions("a/1")] == [4]
    assert application.purge_secret("a/1")
    with pytest.raises(PermissionDeniedError):
        application.set_secret("b/1", 2)
    assert store.list_changes()[-1].database_role == role


@pytest.mark.parametrize("name", ["plain", 'a"b', "a'b", "a\\b", "a%sb", "a:b", "äb", "%(x)s"])
def test_names_are_quoted(store: SecretClient, new_role: NewRole, log_in: LogIn, name: str) -> None:
    """Roles, namespaces and prefixes may have any name."""
    role = new_role(f"{name}.{uuid4().hex[:8]}")
    there = store.namespace(name)
    there.set_secrets({f"{name}/1": 1, "other": 2})

    there.grants.add(role, prefix=name, can=["read"])
    reader = log_in(role).namespace(name)

    assert reader.get_secrets([f"{name}/1", "other"]) == {f"{name}/1": 1}
    (grant,) = store.grants.list(role)
    assert (grant.namespace, grant.prefix, grant.can, grant.problem) == (name, name, ("read",), None)
    assert there.grants.revoke(role, prefix=name) == [there.grants.add(role, prefix=name, can=["read"])[0]]


def test_a_role_that_is_not_there(store: SecretClient) -> None:
    """It is an error of its own."""
    with pytest.raises(RoleNotFoundError, match="there is no role 'nobody'"):
        store.grants.add("nobody", can=["read"])


def test_columns_are_open_to_a_role(store: SecretClient, new_role: NewRole) -> None:
    """A role that reads values somewhere cannot list another prefix without seeing its values, and so it is refused."""
    role = new_role()
    store.grants.add(role, prefix="a/", can=["read"])

    with pytest.raises(GrantError, match="use another role"):
        store.grants.add(role, prefix="b/", can=["list"])
