"""Master keys behind a server: it is asked rarely, never inside a transaction of ours, and may be down or slow."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from secretstore import AsyncSecretClient, KeyRing, MasterKeyError, SecretClient
from secretstore.crypto import keyring as keyring_module
from secretstore.domain.protocols import DataKeyPlace
from tests.support.clock import Clock
from tests.support.faces import async_engine
from tests.support.keys import ServedMasterKey
from tests.support.threads import CLIENT_BACKENDS, number, run_together

_OPEN_TRANSACTIONS = f"{CLIENT_BACKENDS} AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
SERVER_SECONDS = 0.2
LONGEST_STALL_SECONDS = 0.02


@pytest.fixture
def served() -> ServedMasterKey:
    """A master key behind a server."""
    return ServedMasterKey()


@pytest.fixture
def ring(served: ServedMasterKey) -> KeyRing:
    """A key ring of that key."""
    return KeyRing(served, chance=lambda: 1.0)


def watched(served: ServedMasterKey, raw: psycopg.Connection) -> list[int]:
    """Note how many transactions are open whenever the server is asked."""
    seen: list[int] = []
    served.during = lambda: seen.append(number(raw, _OPEN_TRANSACTIONS))
    return seen


def every_call(store: SecretClient) -> list[Callable[[], object]]:
    """Calls that need a data key, in an order in which each has something to do."""
    return [
        lambda: store.set_secret("a", 1),
        lambda: store.set_secrets({"b": 2, "c": 3}),
        lambda: store.get_secret("a"),
        lambda: store.get_secret("a", version=1),
        lambda: store.get_secrets(["a", "b"]),
        lambda: store.get_secrets_by_prefix(""),
        store.keys.rotate,
        store.keys.reencrypt,
        lambda: store.keys.rewrap(everything=True),
        store.audit.seal,
        store.audit.verify,
    ]


@pytest.mark.parametrize("call", range(11))
def test_a_client_asks_outside_every_transaction(
    engine: Engine, served: ServedMasterKey, raw: psycopg.Connection, call: int
) -> None:
    """Whatever a client does, no transaction is open while the key server answers, and the answer is right."""
    for before in every_call(SecretClient(engine, KeyRing(served)))[:call]:
        before()
    seen = watched(served, raw)

    every_call(SecretClient(engine, KeyRing(served)))[call]()

    assert seen
    assert set(seen) == {0}


def test_an_awaited_client_asks_outside_every_transaction(
    database_url: str, served: ServedMasterKey, raw: psycopg.Connection
) -> None:
    """The same on the async client, for a first write, a read by another process, and a rotation."""
    seen = watched(served, raw)

    async def use() -> object:
        async with async_engine(database_url) as engine:
            await AsyncSecretClient(engine, KeyRing(served)).set_secret("a", 1)
            other = AsyncSecretClient(engine, KeyRing(served))
            read = await other.get_secret("a")
            await other.keys.rotate()
            await other.keys.rewrap(everything=True)
            return read

    assert asyncio.run(use()) == 1
    assert len(seen) >= 6
    assert set(seen) == {0}


def test_a_data_key_is_opened_once_by_all_threads(engine: Engine, served: ServedMasterKey) -> None:
    """Eight threads that read at once, and then again, ask the server once."""
    SecretClient(engine, KeyRing(served)).set_secret("a", 1)
    served.calls.clear()
    entered = threading.Event()
    served.during = lambda: entered.wait(0.1)
    store = SecretClient(engine, KeyRing(served))

    assert run_together(*[lambda: store.get_secret("a")] * 8) == [1] * 8
    assert [store.get_secret("a"), store.set_secret("a", 2).version] == [1, 2]
    assert served.calls == ["unwrap"]


def test_the_process_that_makes_a_data_key_does_not_ask_to_open_it(
    engine: Engine, ring: KeyRing, served: ServedMasterKey
) -> None:
    """A first write asks once, to wrap, and reading afterwards asks nothing."""
    store = SecretClient(engine, ring)
    store.set_secret("a", 1)

    assert store.get_secret("a") == 1
    assert served.calls == ["wrap"]


def test_a_key_server_never_sees_a_value(engine: Engine) -> None:
    """What is sent to it are data keys of 32 bytes, their wrappings, and the names of namespaces, in all that can be done."""
    told: list[tuple[object, ...]] = []

    class Told(ServedMasterKey):
        def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
            told.append((len(data_key), place))
            return super().wrap(data_key, place)

        def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
            told.append((sorted(wrapped), place))
            return super().unwrap(wrapped, place)

    told_to = Told()
    for store in (SecretClient(engine, KeyRing(told_to)), SecretClient(engine, KeyRing(told_to))):
        for call in every_call(store):
            call()

    ids = {info.id for info in store.keys.list_data_keys()}
    assert {sent for sent, _ in told if isinstance(sent, int)} == {32}
    assert all(sent == ["alg", "data", "key", "nonce", "v"] for sent, _ in told if not isinstance(sent, int))
    assert {place for _, place in told} == {DataKeyPlace("default", data_key_id) for data_key_id in ids}


def test_while_the_server_is_down_opened_data_keys_go_on(engine: Engine, served: ServedMasterKey) -> None:
    """Reading and writing go on, also past the age at which the server is asked again; what is not opened is an error."""
    clock = Clock()
    store = SecretClient(engine, KeyRing(served, clock=clock))
    store.set_secret("a", 1)
    store.namespace("cold").set_secret("a", 1)
    served.go_down()
    clock.now += 2 * keyring_module.MAX_AGE_SECONDS

    assert (store.get_secret("a"), store.set_secret("a", 2).version, store.get_secret("a")) == (1, 2, 2)
    with pytest.raises(MasterKeyError, match="does not answer") as caught:
        SecretClient(engine, KeyRing(served)).get_secret("a")
    assert caught.value.is_temporary
    with pytest.raises(MasterKeyError, match="does not answer"):
        store.namespace("new").set_secret("a", 1)
    assert store.namespace("new").list_secret_keys() == []


def test_a_server_that_is_down_is_not_asked_at_every_read(engine: Engine, served: ServedMasterKey) -> None:
    """It is asked again half a minute later, so that not every read waits for it, and used again when it answers."""
    clock = Clock()
    store = SecretClient(engine, KeyRing(served, clock=clock))
    store.set_secret("a", 1)
    served.go_down()
    served.calls.clear()
    clock.now += keyring_module.MAX_AGE_SECONDS

    assert [store.get_secret("a") for _ in range(5)] == [1] * 5
    assert len(served.calls) == 1
    clock.now += 31
    served.refusal = None
    assert [store.get_secret("a") for _ in range(5)] == [1] * 5
    assert len(served.calls) == 2


def test_a_server_that_refuses_ends_the_use_of_a_data_key(engine: Engine, served: ServedMasterKey) -> None:
    """A process whose right was taken away reads on until the age is reached, and then no more."""
    clock = Clock()
    store = SecretClient(engine, KeyRing(served, clock=clock))
    store.set_secret("a", 1)
    served.deny()

    assert store.get_secret("a") == 1
    clock.now += keyring_module.MAX_AGE_SECONDS
    for _ in range(2):
        with pytest.raises(MasterKeyError, match="refuses") as caught:
            store.get_secret("a")
        assert not caught.value.is_temporary


def test_a_bound_service_asks_in_the_callers_transaction(
    engine: Engine, ring: KeyRing, served: ServedMasterKey, raw: psycopg.Connection
) -> None:
    """There the transaction is the caller's, who can open the data key before; then nothing is asked inside."""
    store = SecretClient(engine, ring)
    store.set_secret("a", 1)
    served.calls.clear()
    cold, warm = SecretClient(engine, KeyRing(served)), SecretClient(engine, KeyRing(served))
    with Session(engine) as session:
        assert cold.bind(session).get_secret("a") == 1
    assert served.calls == ["unwrap"]

    warm.get_secret("a")
    seen = watched(served, raw)
    with Session(engine) as session, session.begin():
        warm.bind(session).set_secret("a", 2)
    assert seen == []


async def longest_stall(work: Callable[[], object]) -> float:
    """Return for how long at most the loop did nothing else, while some work was done."""
    stall, ended = 0.0, False

    async def watch() -> None:
        nonlocal stall
        before = time.perf_counter()
        while not ended:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            stall, before = max(stall, now - before), now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    stall = 0.0
    try:
        await work()  # type: ignore[misc]
    finally:
        ended = True
        await watching
    return stall


@pytest.mark.parametrize("kind", ["client", "service"])
@pytest.mark.parametrize("first_use", [True, False], ids=["write of a new namespace", "read of another process"])
def test_the_loop_goes_on_while_the_server_is_slow(
    database_url: str, served: ServedMasterKey, kind: str, *, first_use: bool
) -> None:
    """While the key server takes 200 ms, no other task waits for longer than 20 ms."""

    async def use() -> float:
        async with async_engine(database_url) as engine, AsyncSession(engine) as session:
            warm = AsyncSecretClient(engine, KeyRing(served))
            await warm.set_secret("a", 1)
            await warm.bind(session).get_secret("a")
            served.calls.clear()
            served.during = lambda: threading.Event().wait(SERVER_SECONDS)
            cold = AsyncSecretClient(engine, KeyRing(served), namespace="new" if first_use else "default")
            face = cold if kind == "client" else cold.bind(session)
            # A stall may also be the machine's; it is the library's if it is there every time.
            stall = await longest_stall(lambda: face.set_secret("a", 1) if first_use else face.get_secret("a"))
            await session.commit()
            return stall

    stalls = []
    for _ in range(3):
        stalls.append(asyncio.run(use()))
        assert served.calls == (["wrap"] if first_use else ["unwrap"])
        served.during = lambda: None
        with psycopg.connect(database_url, autocommit=True) as raw:
            raw.execute("DELETE FROM secretstore.secret_version WHERE namespace = 'new'")
            raw.execute("DELETE FROM secretstore.secret_store WHERE namespace = 'new'")
            raw.execute("DELETE FROM secretstore.data_key WHERE namespace = 'new'")
        if stalls[-1] <= LONGEST_STALL_SECONDS:
            break
    assert min(stalls) <= LONGEST_STALL_SECONDS
