"""What the blocking faces answer, by type."""

from datetime import UTC, datetime
from typing import Any, assert_type

from pydantic import BaseModel
from sqlalchemy.orm import Session

import secretstore
from secretstore import KeyRing, ProviderClient, SecretClient, SecretInfo, SecretRepository, SecretService


class Login(BaseModel):
    """A type of a secret."""

    user: str


def read_one(store: SecretClient | SecretService | ProviderClient) -> None:
    """One secret, with and without a type, a version, a default."""
    assert_type(store.get_secret("a", Login), Login | None)
    assert_type(store.get_secret("a", Login, version=3), Login | None)
    assert_type(store.get_secret("a", Login, default=None), Login | None)
    assert_type(store.get_secret("a", Login, default=Login(user="b")), Login)
    assert_type(store.get_secret("a", Login, default="none"), Login | str)
    assert_type(store.get_secret("a", as_type=int), int | None)
    assert_type(store.get_secret("a", str, default=""), str)
    assert_type(store.get_secret("a", list[int]), list[int] | None)
    assert_type(store.get_secret("a", dict[str, Login]), dict[str, Login] | None)
    assert_type(store.get_secret("a"), Any)
    assert_type(store.get_secret("a", default=1), Any)
    assert_type(store.get_secret("a", None), Any)


def read_one_or_raise(store: SecretClient | SecretService | ProviderClient) -> None:
    """A secret that has to be there is never None by type."""
    assert_type(store.get_secret_or_raise("a", Login), Login)
    assert_type(store.get_secret_or_raise("a", as_type=list[Login], version=1), list[Login])
    assert_type(store.get_secret_or_raise("a"), Any)


def read_many(store: SecretClient | SecretService | ProviderClient) -> None:
    """Many secrets of one type."""
    assert_type(store.get_secrets(["a"], Login), dict[str, Login])
    assert_type(store.get_secrets(iter(("a", "b")), as_type=int), dict[str, int])
    assert_type(store.get_secrets({"a"}), dict[str, Any])
    assert_type(store.get_secrets_by_prefix("a", Login), dict[str, Login])
    assert_type(store.get_secrets_by_prefix("", Login, after="a", limit=5), dict[str, Login])
    assert_type(store.get_secrets_by_prefix("a"), dict[str, Any])


def read_what_is_known(store: SecretClient | SecretService) -> None:
    """Keys, counts and records."""
    assert_type(store.list_secret_keys(), list[str])
    assert_type(store.list_secret_keys("a", after="b", limit=1), list[str])
    assert_type(store.get_secret_count(), int)
    assert_type(store.describe_secret("a"), SecretInfo | None)
    assert_type(store.list_secrets("a", labels={"b": "c"}, after="d", limit=1), list[SecretInfo])


def write(store: SecretClient | SecretService) -> None:
    """Values of any kind are taken."""
    now = datetime.now(UTC)
    assert_type(store.set_secret("a", Login(user="b")), SecretInfo)
    assert_type(store.set_secret("a", [1], expected_version=0, labels={"b": "c"}, expires_at=now), SecretInfo)
    assert_type(store.set_secrets({"a": 1, "b": None}, labels={}), dict[str, SecretInfo])
    assert_type(store.delete_secret("a"), bool)
    assert_type(store.delete_secrets(("a", "b")), int)


def refuse(store: SecretClient | SecretService) -> None:
    """What is wrong is found before it runs: an ignore that is not needed is an error of mypy."""
    store.get_secret(1)  # type: ignore[call-overload]
    store.get_secret("a", Login, 3)  # type: ignore[call-overload]
    store.set_secret("a")  # type: ignore[call-arg]
    store.set_secret("a", 1, expected_version="1")  # type: ignore[arg-type]
    store.list_secret_keys(limit="1")  # type: ignore[arg-type]


def connect(session: Session, keyring: KeyRing) -> None:
    """Each way to a store."""
    with secretstore.connect("postgresql://", namespace="a", keyring=keyring) as client:
        assert_type(client, SecretClient)
        assert_type(client.bind(session), SecretService)
        assert_type(client.namespace("b"), SecretClient)
        assert_type(client.close(), None)
    assert_type(SecretService(SecretRepository(session, namespace="a"), keyring), SecretService)


def look(info: SecretInfo) -> None:
    """A record's parts."""
    assert_type(info.version, int)
    assert_type(info.created_at, datetime)
    assert_type(info.expires_at, datetime | None)
    info.version = 2  # type: ignore[misc]
