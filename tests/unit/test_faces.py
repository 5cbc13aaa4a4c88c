"""The four faces have the same methods with the same parameters."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from secretstore import (
    AsyncPastSecrets,
    AsyncSecretClient,
    AsyncSecretService,
    PastSecretClient,
    PastSecrets,
    SecretClient,
    SecretService,
)
from secretstore.client.audit import AsyncAudit, Audit
from secretstore.client.grants import AsyncGrants, Grants
from secretstore.client.keys import AsyncKeys, Keys

# As the contract's table gives them.
CONTRACT = {
    "get_secret": "(self, key, as_type=None, *, version=None, default=None, resolve=False)",
    "get_secret_or_raise": "(self, key, as_type=None, *, version=None, resolve=False)",
    "set_secret": "(self, key, value, *, expected_version=None, labels=None, expires_at=None, ttl=None)",
    "delete_secret": "(self, key)",
    "list_secret_keys": "(self, prefix='', *, include_deleted=False, after=None, limit=None)",
    "get_secret_count": "(self, prefix='', *, include_deleted=False)",
    "get_secrets": "(self, keys, as_type=None, *, resolve=False)",
    "get_secrets_by_prefix": "(self, prefix, as_type=None, *, after=None, limit=None, resolve=False)",
    "set_secrets": "(self, values, *, labels=None)",
    "delete_secrets": "(self, keys)",
    "describe_secret": "(self, key)",
    "list_secrets": (
        "(self, prefix='', *, labels=None, include_deleted=False, expired=False, expiring_within=None, "
        "unchanged_for=None, after=None, limit=None)"
    ),
    "patch_secret": "(self, key, patch, *, expected_version=None)",
    "list_versions": "(self, key)",
    "rollback_secret": "(self, key, to_version)",
    "undelete_secret": "(self, key)",
    "destroy_versions": "(self, key, versions)",
    "purge_secret": "(self, key)",
    "set_labels": "(self, key, labels, *, expected_version=None)",
    "patch_labels": "(self, key, changes)",
    "set_max_versions": "(self, max_versions, *, key=None)",
}
# The view on the past, which only reads.
OF_THE_PAST = {
    **{
        name: CONTRACT[name]
        for name in ("get_secret", "get_secret_or_raise", "get_secrets", "get_secrets_by_prefix", "describe_secret")
    },
    "list_secret_keys": "(self, prefix='', *, after=None, limit=None)",
    "get_secret_count": "(self, prefix='')",
    "list_secrets": "(self, prefix='', *, labels=None, after=None, limit=None)",
}
# What only a stand-alone face has.
OF_CLIENTS = {
    "bind",
    "namespace",
    "close",
    "gc",
    "list_changes",
    "last_change_number",
    "watch",
    "export_secrets",
    "import_secrets",
    "restore",
    "cache_statistics",
    "observed_by",
    "statistics",
}
BLOCKING: tuple[type, ...] = (SecretService, SecretClient)
AWAITED: tuple[type, ...] = (AsyncSecretService, AsyncSecretClient)
PAST: tuple[type, ...] = (PastSecrets, PastSecretClient, AsyncPastSecrets)
FACES = pytest.mark.parametrize("face", BLOCKING + AWAITED)


def methods(face: type) -> dict[str, Callable[..., Any]]:
    """The public methods of a face."""
    return {name: found for name, found in inspect.getmembers(face, inspect.isfunction) if not name.startswith("_")}


def bare(method: Callable[..., Any]) -> str:
    """The parameters of a method without their types."""
    signature = inspect.signature(method)
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


@FACES
@pytest.mark.parametrize("name", CONTRACT)
def test_a_method_has_the_parameters_of_the_contract(face: type, name: str) -> None:
    """Names, order, kinds and defaults of parameters are as promised, on every face."""
    assert bare(methods(face)[name]) == CONTRACT[name]


@pytest.mark.parametrize("face", [SecretClient, *AWAITED])
def test_a_method_has_the_same_types_on_every_face(face: type) -> None:
    """Types of parameters and of answers are those of the service, awaited or not."""
    service, others = methods(SecretService), methods(face)

    different = [name for name in service if inspect.signature(service[name]) != inspect.signature(others[name])]
    # Its answer is a face itself.
    assert different == ["as_of"]


@pytest.mark.parametrize("face", PAST)
def test_the_past_is_read_by_the_same_methods(face: type) -> None:
    """A view on the past has the reading methods, with their parameters and types, and no other."""
    assert {name: bare(method) for name, method in methods(face).items()} == OF_THE_PAST
    first = methods(PastSecrets)
    assert [name for name in first if inspect.signature(first[name]) != inspect.signature(methods(face)[name])] == []
    awaited = {inspect.iscoroutinefunction(method) for method in methods(face).values()}
    assert awaited == {face is AsyncPastSecrets}


@FACES
def test_no_face_has_a_method_more(face: type) -> None:
    """What one face can do, all can; only clients can be closed and lend themselves to a session or a namespace."""
    extra = OF_CLIENTS if face in {SecretClient, AsyncSecretClient} else set()

    assert methods(face).keys() == methods(SecretService).keys() | extra
    assert CONTRACT.keys() <= methods(face).keys()


@pytest.mark.parametrize("name", CONTRACT)
def test_only_the_async_faces_are_awaited(name: str) -> None:
    """A method is a coroutine function on the async faces and an ordinary one on the others."""
    assert [inspect.iscoroutinefunction(methods(face)[name]) for face in BLOCKING] == [False, False]
    assert [inspect.iscoroutinefunction(methods(face)[name]) for face in AWAITED] == [True, True]


def test_clients_of_both_kinds_are_used_alike() -> None:
    """`bind` and `namespace` are never awaited; `close` and the block are, where the client is async."""
    assert [inspect.iscoroutinefunction(AsyncSecretClient.bind), inspect.iscoroutinefunction(SecretClient.bind)] == [
        False,
        False,
    ]
    assert not inspect.iscoroutinefunction(AsyncSecretClient.namespace)
    assert not inspect.iscoroutinefunction(AsyncSecretClient.as_of)
    assert inspect.iscoroutinefunction(AsyncSecretClient.close)
    assert not inspect.iscoroutinefunction(SecretClient.close)
    assert {"__enter__", "__exit__"} <= vars(SecretClient).keys()
    assert {"__aenter__", "__aexit__"} <= vars(AsyncSecretClient).keys()


@FACES
def test_nothing_commits_on_request(face: type) -> None:
    """No method takes `auto_commit` or the like."""
    assert [name for name, method in methods(face).items() if "commit" in str(inspect.signature(method))] == []


@pytest.mark.parametrize(
    ("of_client", "of_async_client"), [(Keys, AsyncKeys), (Audit, AsyncAudit), (Grants, AsyncGrants)]
)
def test_the_parts_of_both_clients_have_the_same_methods(of_client: type, of_async_client: type) -> None:
    """`client.keys`, `client.audit` and `client.grants` have the same methods with the same parameters and answers, awaited or not."""
    blocking, awaited = methods(of_client), methods(of_async_client)

    assert blocking.keys() == awaited.keys()
    assert [name for name in blocking if bare(blocking[name]) != bare(awaited[name])] == []
    assert {name for name in blocking if inspect.signature(blocking[name]) != inspect.signature(awaited[name])} <= {
        "sealing"
    }
    # What gives a block is not awaited itself.
    assert [name for name, method in awaited.items() if not inspect.iscoroutinefunction(method)] == [
        name for name in awaited if name == "sealing"
    ]
