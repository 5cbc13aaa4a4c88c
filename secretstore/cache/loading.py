"""One load of a key at a time: whoever wants it meanwhile waits for what that load brings, or for its error."""

import asyncio
import copy
import threading
from collections.abc import Awaitable, Callable

from secretstore.cache.entries import Entries, Load
from secretstore.errors import SecretStoreError
from secretstore.service.keeping import Found


def get_or_load(entries: Entries, namespace: str, key: str, load: Callable[[], Found]) -> Found:
    """Return what is kept of a key, or load it; for threads."""
    me = threading.get_ident()
    while True:
        found = entries.get(namespace, key)
        if found is not None:
            return found
        under_way, is_leader = entries.join(namespace, key, leader=me, done=threading.Event)
        if is_leader:
            return _lead(entries, under_way, load)
        if under_way.leader == me:
            # A signal handler, in the midst of the load that it would wait for.
            return load()
        under_way.done.wait()
        answer = _answer(under_way)
        if answer is not None:
            return answer


async def get_or_load_async(entries: Entries, namespace: str, key: str, load: Callable[[], Awaitable[Found]]) -> Found:
    """As `get_or_load`, for the tasks of one loop."""
    while True:
        found = entries.get(namespace, key)
        if found is not None:
            return found
        under_way, is_leader = entries.join(namespace, key, leader=asyncio.current_task(), done=asyncio.Event)
        if is_leader:
            return await _lead_async(entries, under_way, load)
        await under_way.done.wait()
        answer = _answer(under_way)
        if answer is not None:
            return answer


def _lead(entries: Entries, under_way: Load[threading.Event], load: Callable[[], Found]) -> Found:
    error: Exception | None = None
    try:
        found = load()
    except Exception as raised:
        error = raised
        raise
    else:
        entries.finish(under_way, found)
        return found
    finally:
        _end(entries, under_way, error)
        del error


async def _lead_async(entries: Entries, under_way: Load[asyncio.Event], load: Callable[[], Awaitable[Found]]) -> Found:
    error: Exception | None = None
    try:
        found = await load()
    except Exception as raised:
        error = raised
        raise
    else:
        entries.finish(under_way, found)
        return found
    finally:
        _end(entries, under_way, error)
        del error


def _end(entries: Entries, under_way: "Load[threading.Event] | Load[asyncio.Event]", error: Exception | None) -> None:
    if under_way.found is None:
        # Without an error the leader was told to end, by Ctrl-C say, which is no business of the others.
        entries.fail(under_way, error)
    under_way.done.set()


def _answer(under_way: "Load[threading.Event] | Load[asyncio.Event]") -> Found | None:
    error = under_way.error
    if error is not None:
        # Each gets an error of its own, whose traceback nobody else writes to; all of ours can be copied.
        raise copy.copy(error) if isinstance(error, SecretStoreError) else error
    return under_way.found
