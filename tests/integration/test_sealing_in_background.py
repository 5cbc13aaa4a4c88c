"""The record seals itself for as long as a block lasts, and many events need no more memory than a few."""

import asyncio
import logging
import tracemalloc

import psycopg
import pytest

from secretstore import AsyncSecretClient, KeyRing, SecretClient
from secretstore.service import sealing
from tests.support.caches import until
from tests.support.children import answer_of_child
from tests.support.faces import async_engine

OFTEN = 0.005
FILL = """
INSERT INTO secretstore.change_event (namespace, id, key, version, action, actor, request_id, seq)
SELECT %s, gen_random_uuid(), 'k' || n, 1, 'set', 'somebody', 'r', n FROM generate_series(1, %s) n
"""


def last_sealed(store: SecretClient) -> int:
    """Return the number of the last sealed change."""
    return max((head.last_seq for head in store.audit.head().heads), default=0)


def test_changes_are_sealed_while_the_block_lasts(store: SecretClient) -> None:
    """What is committed is sealed by the thread, without anybody asking for it."""
    with store.audit.sealing(every=OFTEN):
        store.set_secret("a", 1)
        until(lambda: last_sealed(store) == 1)
        store.set_secret("a", 2)
        until(lambda: last_sealed(store) == 2)

        assert store.audit.verify()[0].unsealed == 0


def test_the_end_of_the_block_seals_once_more_and_at_once(store: SecretClient) -> None:
    """Nobody waits for the next time, and what came last is sealed."""
    with store.audit.sealing(every=86_400):
        store.set_secret("a", 1)

    assert last_sealed(store) == 1


def test_a_task_seals_as_the_thread_does(store: SecretClient, database_url: str, keyring: KeyRing) -> None:
    """What is committed is sealed in the loop, and what came last at the end of the block."""

    async def write() -> int:
        async with async_engine(database_url) as engine:
            client = AsyncSecretClient(engine, keyring)
            async with client.audit.sealing(every=OFTEN):
                await client.set_secret("a", 1)
                while not (await client.audit.head()).heads:
                    pass
            async with client.audit.sealing(every=86_400):
                await client.set_secret("a", 2)
            return (await client.audit.head()).heads[0].last_seq

    assert asyncio.run(asyncio.wait_for(write(), 30)) == 2


def test_what_fails_is_told_and_tried_again(
    store: SecretClient, raw: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning says that nothing was sealed and why, and the next time it is."""
    raw.execute("ALTER TABLE secretstore.audit_checkpoint RENAME TO elsewhere")
    store.set_secret("a", "hunter2-of-the-test")

    with caplog.at_level(logging.WARNING, "secretstore.client"), store.audit.sealing(every=OFTEN):
        until(lambda: len(caplog.records) > 1)
        raw.execute("ALTER TABLE secretstore.elsewhere RENAME TO audit_checkpoint")
        until(lambda: last_sealed(store) == 1)

    assert "the record of namespace 'default' was not sealed: " in caplog.records[0].getMessage()
    assert "hunter2" not in caplog.text


def test_a_forked_child_leaves_the_block_without_waiting(store: SecretClient) -> None:
    """The thread stays with the process that has begun it, which goes on sealing."""
    block = store.audit.sealing(every=OFTEN)
    with block:
        store.set_secret("a", 1)

        def leave() -> str:
            block.__exit__(None, None, None)
            return "left"

        assert answer_of_child(leave) == "left"
        until(lambda: last_sealed(store) == 1)


@pytest.mark.parametrize("every", [0, -1, float("inf"), float("nan")])
def test_an_interval_is_checked(store: SecretClient, every: float) -> None:
    """Neither without a pause, nor never."""
    with pytest.raises(ValueError, match="more than 0"):
        store.audit.sealing(every=every)


def peak_of(store: SecretClient, raw: psycopg.Connection, events: int) -> int:
    """Return how much memory it takes at most to seal and to verify so many events."""
    raw.execute(FILL, [store.audit.namespace, events])
    tracemalloc.start()
    try:
        assert (store.audit.seal().events, store.audit.verify()[0].events) == (events, events)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_record(
    store: SecretClient, raw: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many checkpoints are sealed and verified in the memory of one."""
    monkeypatch.setattr(sealing, "MAX_EVENTS", 500)
    monkeypatch.setattr(sealing, "PAGE", 250)
    peak_of(store.namespace("warm"), raw, 500)

    few, many = peak_of(store.namespace("few"), raw, 500), peak_of(store.namespace("many"), raw, 4000)

    assert many < 1.5 * few
