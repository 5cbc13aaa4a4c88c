"""Calls of roles that may do little: what is denied says so, and is never taken for what is not there."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy.orm import Session

from secretstore import AsyncSecretClient, CacheConfig, KeyRing, PermissionDeniedError, SecretClient
from secretstore.orm.engines import make_async_engine
from secretstore.service.news import RecordClosedError, read_news
from tests.support.roles import Roles, open_roles
from tests.support.server import Server

Call = Callable[[SecretClient, str], object]

CALLS: dict[str, Call] = {
    "get": lambda store, key: store.get_secret(key),
    "get or raise": lambda store, key: store.get_secret_or_raise(key),
    "get a version": lambda store, key: store.get_secret(key, version=1),
    "get with references": lambda store, key: store.get_secret(key, resolve=True),
    "get many": lambda store, key: store.get_secrets(["a/1", key]),
    "get of then": lambda store, key: store.as_of(datetime.now(UTC)).get_secret(key),
    "get many of then": lambda store, key: store.as_of(datetime.now(UTC)).get_secrets([key]),
    "describe": lambda store, key: store.describe_secret(key),
    "describe of then": lambda store, key: store.as_of(datetime.now(UTC)).describe_secret(key),
    "versions": lambda store, key: store.list_versions(key),
    "set": lambda store, key: store.set_secret(key, 2),
    "set over a version": lambda store, key: store.set_secret(key, 2, expected_version=1),
    "set where there is none": lambda store, key: store.set_secret(key, 2, expected_version=0),
    "set many": lambda store, key: store.set_secrets({"a/1": 2, key: 2}),
    "patch": lambda store, key: store.patch_secret(key, {"x": 1}),
    "patch a version": lambda store, key: store.patch_secret(key, {"x": 1}, expected_version=1),
    "roll back": lambda store, key: store.rollback_secret(key, 1),
    "labels": lambda store, key: store.set_labels(key, {"x": "y"}),
    "some labels": lambda store, key: store.patch_labels(key, {"x": "y"}),
    "delete": lambda store, key: store.delete_secret(key),
    "delete many": lambda store, key: store.delete_secrets(["a/1", key]),
    "undelete": lambda store, key: store.undelete_secret(key),
    "destroy": lambda store, key: store.destroy_versions(key, [1]),
    "purge": lambda store, key: store.purge_secret(key),
    "limit": lambda store, key: store.set_max_versions(3, key=key),
}


@pytest.fixture
def roles(server: Server, database: str, raw: psycopg.Connection, keyring: KeyRing) -> Iterator[Roles]:
    """Roles of this test."""
    with open_roles(server, database, raw, keyring) as opened:
        yield opened


@pytest.fixture
def writer(store: SecretClient, roles: Roles) -> str:
    """A role that may do everything with keys that begin with `a/`, and has nothing to do with the others."""
    store.set_secrets({"a/1": {}, "b/1": {}})
    store.namespace("other").set_secret("a/1", {})
    role = roles.make()
    store.grants.add(role, prefix="a/", can=["write", "delete"])
    return role


def outcomes(client: SecretClient, key: str) -> dict[str, str]:
    """Return how each call ends."""
    found = {}
    for name, call in CALLS.items():
        try:
            call(client, key)
            found[name] = "done"
        except PermissionDeniedError as error:
            found[name] = "denied" if "secretstore grants explain" in str(error) else str(error)
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            found[name] = repr(error)
    return found


@pytest.mark.parametrize("key", ["b/1", "b/none"], ids=["there", "not there"])
def test_what_lies_outside_of_a_grant_is_denied_and_not_missing(
    store: SecretClient, roles: Roles, writer: str, key: str
) -> None:
    """By no call can it be told whether it is there."""
    assert outcomes(roles.client(writer), key) == dict.fromkeys(CALLS, "denied")
    assert store.get_secrets(["a/1", "b/1"]) == {"a/1": {}, "b/1": {}}


def test_another_namespace_is_denied(roles: Roles, writer: str) -> None:
    """With an equal key, too."""
    assert outcomes(roles.client(writer, "other"), "a/1") == dict.fromkeys(CALLS, "denied")


def test_what_may_be_seen_and_is_not_there_is_missing(roles: Roles, writer: str) -> None:
    """Within the grant all is as it is without policies, and lists show what may be seen."""
    client = roles.client(writer)

    assert client.get_secret("a/none", default=7) == 7
    assert (client.get_secrets(["a/none"]), client.describe_secret("a/none"), client.list_versions("a/none")) == (
        {},
        None,
        [],
    )
    assert (client.delete_secret("a/none"), client.delete_secrets(["a/none"]), client.purge_secret("a/none")) == (
        False,
        0,
        False,
    )
    assert client.list_secret_keys() == ["a/1"]
    assert (client.list_secret_keys("b/"), client.get_secret_count("b/")) == ([], 0)


def test_what_may_be_seen_and_not_changed_is_denied(store: SecretClient, roles: Roles) -> None:
    """A role that reads everything and writes a part is not told that the rest were not there."""
    store.set_secrets({"a/1": {}, "b/1": {}})
    role = roles.make()
    store.grants.add(role, can=["read", "history"])
    store.grants.add(role, prefix="a/", can=["write", "read", "history"])
    client = roles.client(role)

    reads = {name for name in CALLS if name.startswith(("get", "describe", "versions"))}
    found = outcomes(client, "b/1")
    assert {name for name, end in found.items() if end == "done"} == reads
    assert "VersionConflictError" in found.pop("set where there is none")
    assert {end for name, end in found.items() if name not in reads} == {"denied"}


def test_it_is_denied_in_the_callers_transaction_and_in_tasks(
    store: SecretClient, roles: Roles, writer: str, keyring: KeyRing
) -> None:
    """On a session of their own, and awaited."""
    client = roles.client(writer)
    with Session(client.engine) as session, pytest.raises(PermissionDeniedError, match="whether it is there or not"):
        client.bind(session).get_secret("b/1")

    async def read() -> None:
        engine = make_async_engine(roles.url(writer))
        try:
            await AsyncSecretClient(engine, keyring).get_secret("b/1")
        finally:
            await engine.dispose()

    with pytest.raises(PermissionDeniedError, match="whether it is there or not"):
        asyncio.run(read())


def test_a_denied_key_is_not_kept_as_missing(store: SecretClient, roles: Roles, writer: str, keyring: KeyRing) -> None:
    """A right that is given later is there at once, in a process that has a cache."""
    client = SecretClient(roles.engine(writer), keyring, cache=CacheConfig())
    for _ in range(2):
        with pytest.raises(PermissionDeniedError):
            client.get_secret("b/1")
    store.grants.add(writer, prefix="b/", can=["write", "delete"])

    assert client.get_secret("b/1") == {}
    client.close()


def test_policies_of_others_are_left_to_them(
    store: SecretClient, roles: Roles, writer: str, raw: psycopg.Connection
) -> None:
    """Which keys they are about is not known, and so what they hide is missing."""
    roles.execute("CREATE POLICY theirs ON secretstore.secret_store FOR SELECT TO {} USING (key LIKE 'b/%')", writer)

    assert roles.client(writer).get_secret("b/none") is None
    assert roles.client(writer).describe_secret("b/1") is not None


def test_an_auditor_reads_what_others_have_numbered(store: SecretClient, roles: Roles) -> None:
    """Without a right to change anything; what nobody has numbered yet comes when somebody does."""
    auditor, sealer = roles.make("auditor"), roles.make("sealer")
    store.grants.add(auditor, prefix="a/", can=["audit"])
    store.grants.add(sealer, can=["seal"])
    store.set_secrets({"a/1": 1, "b/1": 1})
    client = roles.client(auditor)

    assert client.list_changes() == []
    roles.client(sealer).audit.seal()
    assert [(change.key, change.action) for change in client.list_changes()] == [("a/1", "set")]
    with closing(client.watch(after=0, poll_seconds=0.1)) as changes:
        assert next(changes).key == "a/1"
        store.set_secret("a/2", 1)
        assert store.last_change_number() >= 3
        assert next(changes).key == "a/2"
    assert client.audit.list_accesses() == []


def test_a_part_of_the_record_confirms_no_cache(store: SecretClient, roles: Roles, keyring: KeyRing) -> None:
    """A cache of a role that sees only some changes does not take the rest for unchanged."""
    role = roles.make()
    store.grants.add(role, can=["read"])
    store.grants.add(role, prefix="a/", can=["read", "audit"])
    with Session(roles.engine(role)) as session, pytest.raises(RecordClosedError):
        read_news(session, "default", None)


def test_history_that_is_denied_is_not_an_empty_one(store: SecretClient, roles: Roles) -> None:
    """A role that reads everything, and the past of a part, is not told that the rest had none."""
    store.set_secrets({"a/1": 1, "b/1": 1})
    role = roles.make()
    store.grants.add(role, can=["read"])
    store.grants.add(role, prefix="a/", can=["read", "history"])
    client = roles.client(role)

    assert (client.get_secret("b/1"), client.get_secret("a/1", version=1), len(client.list_versions("a/1"))) == (
        1,
        1,
        1,
    )
    for call in (
        lambda: client.list_versions("b/1"),
        lambda: client.get_secret("b/1", version=1),
        lambda: client.as_of(datetime.now(UTC)).get_secret("b/1"),
        lambda: client.as_of(datetime.now(UTC)).describe_secret("b/1"),
    ):
        with pytest.raises(PermissionDeniedError, match="whether it is there or not"):
            call()
