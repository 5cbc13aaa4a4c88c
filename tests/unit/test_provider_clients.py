"""Secrets of a provider by the methods of the store's own client, waited for and awaited."""

import asyncio
import inspect
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from secretstore import (
    AsyncProviderClient,
    CacheConfig,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    ProviderClient,
    ProviderError,
    SecretClient,
    SecretNotFoundError,
    VersionConflictError,
)
from secretstore.domain.providers import Ability
from tests.support.errors import assert_tells_nothing
from tests.support.threads import DEADLINE_SECONDS
from tests.support.told_provider import ToldProvider

BY_KEY = (
    *("get_secret", "get_secret_or_raise", "has_secret", "describe_secret"),
    *("delete_secret", "undelete_secret", "list_versions"),
)
# What only these clients have.
OF_PROVIDERS = {"has_secret"}


class Login(BaseModel):
    """A value with a secret field."""

    user: str
    password: SecretStr


class Awaited:
    """Calls the methods of an async client from a loop of their own."""

    def __init__(self, client: AsyncProviderClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method that runs to its end."""
        method = getattr(self._client, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return await method(*arguments, **options)

        return lambda *arguments, **options: asyncio.run(call(*arguments, **options))


@pytest.fixture
def place() -> ToldProvider:
    """An empty place."""
    return ToldProvider()


@pytest.fixture(params=["waits", "awaited"])
def client(request: pytest.FixtureRequest, place: ToldProvider) -> Iterator[Any]:
    """Each of both clients in turn."""
    if request.param == "waits":
        with ProviderClient(place, max_value_bytes=100) as waits:
            yield waits
    else:
        awaited = Awaited(AsyncProviderClient(place, max_value_bytes=100))
        yield awaited
        awaited.close()


def test_values_come_back_by_type(client: Any) -> None:
    """What a model hides is written revealed, and comes back hidden."""
    client.set_secret("login", Login(user="ada", password=SecretStr("s3cret")))

    assert client.get_secret("login") == {"user": "ada", "password": "s3cret"}
    assert client.get_secret("login", Login).password.get_secret_value() == "s3cret"
    assert client.get_secret_or_raise("login", Login).user == "ada"
    assert client.get_secrets(["missing", "login"], Login)["login"].user == "ada"


def test_missing_is_never_null(client: Any) -> None:
    """A default stands for what is missing, and not for null."""
    client.set_secret("null", None)

    assert client.get_secret("null", default="default") is None
    assert client.get_secret_or_raise("null") is None
    assert client.get_secret("missing") is None
    assert client.get_secret("missing", default="default") == "default"
    with pytest.raises(SecretNotFoundError, match="there is no secret 'missing' in namespace 'memory:'"):
        client.get_secret_or_raise("missing")
    with pytest.raises(SecretNotFoundError, match="'null' in version 7"):
        client.get_secret_or_raise("null", version=7)
    assert client.has_secret("null") is True
    assert client.has_secret("missing") is False


def test_many_are_read_in_the_order_asked_for(client: Any) -> None:
    """By keys and by prefix, page by page."""
    for key in ("b", "a", "app/y", "app/x", "app/z"):
        client.set_secret(key, key)

    assert list(client.get_secrets(["b", "missing", "a", "b"])) == ["b", "a"]
    assert client.get_secrets_by_prefix("app/", str, after="app/x", limit=1) == {"app/y": "app/y"}
    assert client.list_secret_keys("app/") == ["app/x", "app/y", "app/z"]
    assert client.list_secret_keys(after="app/y") == ["app/z", "b"]
    assert [info.key for info in client.list_secrets("app/", limit=2)] == ["app/x", "app/y"]
    assert client.get_secret_count("app/") == 3
    assert client.get_secret_count() == 5


def test_references_are_followed_within_the_provider(client: Any) -> None:
    """In all methods that read values, by type, and only where that is asked for."""
    client.set_secret("password", "s3cret")
    client.set_secret("login", {"user": "ada", "password": {"$ref": "password"}})
    expected = {"user": "ada", "password": "s3cret"}

    assert client.get_secret("login")["password"] == {"$ref": "password"}
    assert client.get_secret("login", resolve=True) == expected
    assert client.get_secret("missing", resolve=True, default=1) == 1
    assert client.get_secret("login", Login, version=1, resolve=True).password.get_secret_value() == "s3cret"
    assert client.get_secret_or_raise("login", resolve=True) == expected
    assert client.get_secrets(["login"], resolve=True) == {"login": expected}
    assert client.get_secrets_by_prefix("log", resolve=True) == {"login": expected}
    client.delete_secret("password")
    with pytest.raises(InvalidSecretValueError, match="'login' → 'password' leads nowhere"):
        client.get_secret("login", resolve=True)


def test_versions(client: Any) -> None:
    """They are counted, checked, listed, read and destroyed."""
    first = client.set_secret("a", 1, labels={"team": "x"})
    second = client.set_secret("a", 2, expected_version=first.version)
    with pytest.raises(VersionConflictError, match="expected no secret at 'a' in namespace 'memory:', found version 2"):
        client.set_secret("a", 3, expected_version=0)

    assert client.get_secret("a", version=1) == 1
    assert client.describe_secret("a").labels == {"team": "x"}
    assert [info.version for info in client.list_versions("a")] == [second.version, first.version]
    assert client.destroy_versions("a", iter([1, 1])) == 1
    assert client.get_secret("a", version=1, default="gone") == "gone"
    assert client.get_secret("a", version="no number here") is None


def test_deleting_can_be_undone(client: Any) -> None:
    """Where the provider is able to."""
    client.set_secret("a", 1)

    assert client.delete_secret("a") is True
    assert client.delete_secret("a") is False
    assert client.describe_secret("a") is None
    assert client.undelete_secret("a").version == 1
    assert client.get_secret("a", int) == 1
    with pytest.raises(SecretNotFoundError):
        client.undelete_secret("missing")


def test_a_value_that_does_not_fit_is_told_without_it(client: Any) -> None:
    """The error names version, key and provider, and the field."""
    client.set_secret("a", {"user": "ada", "password": ["s3cret"]})
    calls: list[Callable[[], object]] = [
        lambda: client.get_secret("a", Login),
        lambda: client.get_secret_or_raise("a", Login),
        lambda: client.get_secrets(["a"], Login),
    ]
    for call in calls:
        with pytest.raises(InvalidSecretValueError, match=r"version 1 of 'a' in memory: .* password") as caught:
            call()
        assert_tells_nothing(caught.value, "s3cret", "ada")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "NaN"),
        ("s3cret" * 20, "122 bytes of JSON are more than 100"),
        (object(), "not of a type|not JSON"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_it_is_sent(
    client: Any, place: ToldProvider, value: object, problem: str
) -> None:
    """The error names key and provider."""
    with pytest.raises(InvalidSecretValueError, match=rf"the value of 'a' in memory: cannot be stored: .*({problem})"):
        client.set_secret("a", value)
    assert place.writes == 0


@pytest.mark.parametrize("key", ["", " a", "a\n", "a" * 513, 7, None])
def test_a_wrong_key_is_refused_before_anything_is_asked(client: Any, place: ToldProvider, key: Any) -> None:
    """Every method checks it."""
    calls: list[Callable[[], object]] = [
        *(partial(getattr(client, name), key) for name in BY_KEY),
        lambda: client.get_secrets([key]),
        lambda: client.set_secret(key, 1),
        lambda: client.destroy_versions(key, [1]),
    ]
    for call in calls:
        with pytest.raises(InvalidSecretKeyError):
            call()
    assert (place.reads, place.writes) == (0, 0)


def test_other_arguments_are_checked_as_by_the_store(client: Any) -> None:
    """Limits, versions, labels and lists of keys."""
    wrong_numbers: list[Callable[[], object]] = [
        lambda: client.list_secret_keys(limit=0),
        lambda: client.set_secret("a", 1, expected_version=-1),
        lambda: client.get_secret("a", version=-1),
    ]
    wrong_texts: list[Callable[[], object]] = [
        lambda: client.set_secret("a", 1, labels={"": "x"}),
        lambda: client.get_secrets("ab"),
        lambda: client.list_secret_keys("a\n"),
    ]
    for call in wrong_numbers:
        with pytest.raises(ValueError, match="1 or more"):
            call()
    for call in wrong_texts:
        with pytest.raises(InvalidSecretKeyError):
            call()


def test_what_a_provider_is_not_able_to_is_refused(client: Any, place: ToldProvider) -> None:
    """The error is the provider's own."""
    place.abilities = frozenset({Ability.WRITE})
    place.undelete = lambda key: place.refuse(Ability.UNDELETE)  # type: ignore[method-assign]

    with pytest.raises(ProviderError, match="memory: cannot undelete a secret"):
        client.undelete_secret("a")


def test_a_place_that_is_down_is_left_alone(client: Any, place: ToldProvider) -> None:
    """The second call does not ask."""
    place.is_down = True
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            client.get_secret("a")
        assert caught.value.is_temporary
    assert place.reads == 1


def test_values_are_kept_where_that_is_wanted(place: ToldProvider) -> None:
    """A write through the client is read at once."""
    with ProviderClient(place, cache=CacheConfig()) as client:
        client.set_secret("a", [1])
        client.get_secret("a").append(2)
        assert client.get_secret("a") == [1]
        client.set_secret("a", 3)
        assert client.get_secret("a") == 3
        assert (statistics := client.cache_statistics()) is not None
        assert (statistics.hits, statistics.loads, place.reads) == (1, 2, 2)
    assert ProviderClient(place).cache_statistics() is None


def test_both_have_the_same_methods_with_the_same_parameters() -> None:
    """One is the other, awaited."""
    waits, awaited = methods(ProviderClient), methods(AsyncProviderClient)
    coroutines = dict(inspect.getmembers(AsyncProviderClient, inspect.iscoroutinefunction))

    assert waits == awaited
    assert awaited.keys() - coroutines.keys() == {"cache_statistics"}


@pytest.mark.source
def test_the_page_shows_every_method_with_its_parameters() -> None:
    """The table of the page is the list of the methods that deal with secrets."""
    page = (Path(__file__).parents[2] / "docs" / "providers" / "using.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `(\w+)\((.*?)\)` \|", page, re.MULTILINE)

    expected = {
        name: [parameter[0] for parameter in parameters[1:]] for name, parameters in methods(ProviderClient).items()
    }
    assert {name: re.findall(r"(\w+)(?:=[^,]*)?(?:, |$)", parameters) for name, parameters in shown} == {
        name: parameters for name, parameters in expected.items() if name not in {"close", "cache_statistics"}
    }


def test_what_the_store_has_too_is_called_the_same() -> None:
    """Whoever knows the store's own client knows these."""
    ours, theirs = methods(ProviderClient), methods(SecretClient)

    assert ours.keys() - theirs.keys() == OF_PROVIDERS
    for name, parameters in ours.items():
        known = theirs.get(name, parameters)
        assert [parameter for parameter in known if parameter in parameters] == parameters


def methods(face: type) -> dict[str, list[tuple[str, object, object]]]:
    """The public methods of a client, and their parameters without types."""
    return {
        name: [
            (parameter.name, parameter.default, parameter.kind)
            for parameter in inspect.signature(method).parameters.values()
        ]
        for name, method in inspect.getmembers(face, inspect.isfunction)
        if not name.startswith("_")
    }


def test_a_place_that_hangs_does_not_hold_the_loop(place: ToldProvider) -> None:
    """While a provider is waited for, other tasks go on, on the threads of everybody else, too."""
    released, let_go = threading.Event(), list[bool]()
    place.during = lambda: let_go.append(released.wait(DEADLINE_SECONDS))

    async def use() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        async with AsyncProviderClient(place, threads=2) as client:
            calls = asyncio.gather(*[client.get_secret(f"key.{number}") for number in range(2)])
            while place.reads < 2:
                await asyncio.to_thread(lambda: None)
            released.set()
            await calls

    asyncio.run(use())
    # Neither has waited in vain for the other tasks.
    assert let_go == [True, True]


def test_what_is_kept_is_read_though_every_thread_waits(place: ToldProvider) -> None:
    """A place that hangs does not keep anybody from values in memory, nor from the word that there is none."""
    entered, released = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        released.wait(DEADLINE_SECONDS)

    async def use() -> None:
        async with AsyncProviderClient(place, cache=CacheConfig(), threads=1) as client:
            await client.set_secret("a", "kept")
            before = await client.get_secret("a"), await client.get_secret("missing")
            place.during = hang
            other = asyncio.create_task(client.get_secret("other"))
            await asyncio.to_thread(entered.wait, DEADLINE_SECONDS)
            assert (await client.get_secret("a", str), await client.get_secret("missing")) == before
            assert await client.get_secret_or_raise("a") == "kept"
            assert await client.get_secret("missing", default="default") == "default"
            with pytest.raises(SecretNotFoundError):
                await client.get_secret_or_raise("missing")
            assert not other.done()
            released.set()
            await other

    asyncio.run(use())
    assert place.reads == 3


def test_a_task_that_is_cancelled_waits_no_longer(place: ToldProvider) -> None:
    """What it has begun goes on, as is said."""
    entered, released, written = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        released.wait(DEADLINE_SECONDS)
        written.set()

    place.during = hang

    async def use() -> None:
        async with AsyncProviderClient(place) as client:
            writer = asyncio.create_task(client.set_secret("a", 1))
            await asyncio.to_thread(entered.wait, DEADLINE_SECONDS)
            writer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writer
            assert not written.is_set()
            released.set()
            assert await asyncio.to_thread(written.wait, DEADLINE_SECONDS)
            place.during = lambda: None

    asyncio.run(use())
    assert place.writes == 1


def test_closing_does_not_wait_for_a_place_that_hangs(place: ToldProvider) -> None:
    """Though every thread is taken."""
    entered, released = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        released.wait(DEADLINE_SECONDS)

    place.during = hang

    async def use() -> None:
        client = AsyncProviderClient(place, threads=1)
        reader = asyncio.create_task(client.get_secret("a"))
        await asyncio.to_thread(entered.wait, DEADLINE_SECONDS)
        await client.close()
        assert not reader.done()
        released.set()
        assert await reader is None

    asyncio.run(use())


def test_a_client_shows_where_and_not_what() -> None:
    """Its name is that of its provider."""
    place = ToldProvider()

    assert repr(ProviderClient(place)) == "ProviderClient(memory:)"
    assert repr(AsyncProviderClient(place)) == "AsyncProviderClient(memory:)"


@dataclass(frozen=True)
class Point:
    """A value."""

    x: int


def test_types_are_known_to_type_checkers(place: ToldProvider) -> None:
    """What is read by a type is of that type."""
    with ProviderClient(place) as client:
        client.set_secret("a", Point(1))
        found: Point | None = client.get_secret("a", Point)
        there: Point = client.get_secret_or_raise("a", Point)
        many: dict[str, Point] = client.get_secrets(["a"], Point)

    assert found == there == many["a"]
