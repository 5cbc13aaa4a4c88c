"""What the async faces answer, by type."""

from typing import Any, assert_type

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

import secretstore
from secretstore import AsyncProviderClient, AsyncSecretClient, AsyncSecretService, KeyRing, SecretInfo


class Login(BaseModel):
    """A type of a secret."""

    user: str


async def read_one(store: AsyncSecretClient | AsyncSecretService | AsyncProviderClient) -> None:
    """One secret, with and without a type, a version, a default."""
    assert_type(await store.get_secret("a", Login), Login | None)
    assert_type(await store.get_secret("a", Login, version=3), Login | None)
    assert_type(await store.get_secret("a", Login, default=Login(user="b")), Login)
    assert_type(await store.get_secret("a", Login, default="none"), Login | str)
    assert_type(await store.get_secret("a", as_type=list[int]), list[int] | None)
    assert_type(await store.get_secret("a"), Any)
    assert_type(await store.get_secret_or_raise("a", Login), Login)
    assert_type(await store.get_secret_or_raise("a"), Any)


async def read_many(store: AsyncSecretClient | AsyncSecretService | AsyncProviderClient) -> None:
    """Many secrets of one type."""
    assert_type(await store.get_secrets(["a"], Login), dict[str, Login])
    assert_type(await store.get_secrets(["a"]), dict[str, Any])
    assert_type(await store.get_secrets_by_prefix("a", Login, after="b", limit=5), dict[str, Login])
    assert_type(await store.get_secrets_by_prefix("a"), dict[str, Any])


async def read_what_is_known(store: AsyncSecretClient | AsyncSecretService) -> None:
    """Keys, counts and records."""
    assert_type(await store.list_secret_keys("a", after="b", limit=1), list[str])
    assert_type(await store.get_secret_count("a"), int)
    assert_type(await store.describe_secret("a"), SecretInfo | None)
    assert_type(await store.list_secrets("a", labels={"b": "c"}), list[SecretInfo])


async def write(store: AsyncSecretClient | AsyncSecretService) -> None:
    """Values of any kind are taken."""
    assert_type(await store.set_secret("a", Login(user="b"), expected_version=0), SecretInfo)
    assert_type(await store.set_secrets({"a": 1}, labels={}), dict[str, SecretInfo])
    assert_type(await store.delete_secret("a"), bool)
    assert_type(await store.delete_secrets(["a"]), int)


async def refuse(store: AsyncSecretClient | AsyncSecretService) -> None:
    """What is wrong is found before it runs."""
    await store.get_secret(1)  # type: ignore[call-overload]
    await store.set_secret("a")  # type: ignore[call-arg]


async def connect(session: AsyncSession, keyring: KeyRing) -> None:
    """Each way to a store."""
    async with await secretstore.connect_async("postgresql://", keyring=keyring) as client:
        assert_type(client, AsyncSecretClient)
        assert_type(client.bind(session), AsyncSecretService)
        assert_type(client.namespace("b"), AsyncSecretClient)
        assert_type(await client.close(), None)
    assert_type(AsyncSecretService(session, keyring, namespace="a"), AsyncSecretService)
