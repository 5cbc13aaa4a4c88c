"""How a cache learns of changes, as a flow of steps without any input or output; a listener carries them out.

It hears notices, which name a key or only say that there is something to look for.  As notices can be lost, it asks the
record of changes again and again, and after each new connection, and only that confirms what is kept.  Where notices do not
arrive at all, it asks every second.
"""

import json
import logging
import random
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast
from uuid import uuid4

from sqlalchemy.orm import Session

from secretstore.cache.entries import Entries
from secretstore.errors import PermissionDeniedError, SecretStoreError
from secretstore.orm.listening import CannotListenError
from secretstore.service.news import Mark, News, RecordClosedError, read_news

_PROBE_SECONDS = 3.0
_POLL_SECONDS = 1.0
_LISTEN_AGAIN_SECONDS = 300.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

_LOGGER = logging.getLogger("secretstore.cache")


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection of its own in the place of the one before, to listen on or only to ask."""

    listens: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """Send a notice through the connections that the client works with."""

    payload: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A transaction on the connection; the answer is what it returns."""

    do: Callable[[Session], Any]  # the flow knows what its own question returns


@dataclass(frozen=True, slots=True)
class Hear:
    """Wait for notices, and answer with those that came; none where the time is over, or there is something to do."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, without a connection to listen on."""

    seconds: float


Step: TypeAlias = Connect | Probe | Ask | Hear | Pause
# What a flow is sent is what its step brought, and so it is of any type.
Steps: TypeAlias = Generator[Step, Any, None]


class Following:
    """Keeps entries up with the changes of all processes."""

    def __init__(self, entries: Entries, *, chance: Callable[[], float] = random.random) -> None:
        self._entries = entries
        self._chance = chance
        self._pause = _FIRST_PAUSE_SECONDS
        self._said: set[str] = set()

    def run(self) -> Steps:
        """Follow for ever, whatever happens to the database."""
        try:
            while True:
                try:
                    yield from self._while_connected()
                except PermissionDeniedError:
                    # A right that was taken away counts for what was read by it, too.
                    self._entries.clear()
                    yield from self._pause_longer()
                except SecretStoreError:
                    yield from self._pause_longer()
        finally:
            self._entries.is_listening = False

    def _pause_longer(self) -> Steps:
        self._entries.is_listening = False
        # Many processes lose their connections at once, and do not come back at once.
        yield Pause(self._pause * (0.5 + self._chance() / 2))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

    def _while_connected(self) -> Steps:
        hears = yield from self._connect()
        self._entries.is_listening = hears
        ends = self._entries.now() + _LISTEN_AGAIN_SECONDS
        while hears or self._entries.now() < ends:
            yield from self._heartbeat()
            self._pause = _FIRST_PAUSE_SECONDS
            if hears:
                yield from self._listen_until(self._entries.now() + self._entries.config.heartbeat_seconds)
            else:
                yield Pause(_POLL_SECONDS)

    def _connect(self) -> Generator[Step, Any, bool]:
        """Connect, and return whether notices arrive."""
        try:
            yield Connect(listens=True)
            probe = json.dumps({"probe": str(uuid4())})
            yield Probe(probe)
            if (yield from self._arrives(probe)):
                return True
        except (CannotListenError, SecretStoreError):
            pass
        # If it is the database that is away, that shows here.
        yield Connect(listens=False)
        self._say(
            "notices",
            "notices of changes do not arrive, as behind a pooler in transaction mode or on a standby; the cache asks for "
            "changes every second instead (listen_url or SECRETSTORE_LISTEN_URL names a direct way)",
        )
        return False

    def _arrives(self, probe: str) -> Generator[Step, Any, bool]:
        ends = self._entries.now() + _PROBE_SECONDS
        while (left := ends - self._entries.now()) > 0:
            payloads = yield Hear(left)
            # What else there is to ask for is asked next anyway.
            self.hear(payloads)
            if probe in payloads:
                return True
        return False

    def _listen_until(self, moment: float) -> Steps:
        while (left := moment - self._entries.now()) > 0:
            payloads: list[str] = yield Hear(left)
            changed = self.hear(payloads)
            for namespace in sorted(changed | self._entries.take_new()):
                is_known = yield from self._catch_up(namespace)
                if namespace in changed and not is_known:
                    self._entries.clear_namespace(namespace)

    def hear(self, payloads: list[str]) -> set[str]:
        """Let go of what notices name, and return the namespaces to ask for."""
        return {namespace for payload in payloads for namespace in self._hear(payload)}

    def _hear(self, payload: str) -> set[str]:
        match _parsed(payload):
            case {"namespace": str(namespace), "everything": True}:
                self._entries.clear_namespace(namespace)
            case {"namespace": str(namespace), "keys": [*keys]}:
                self._entries.drop(namespace, [key for key in keys if isinstance(key, str)])
            case {"namespace": str(namespace), "key": str(key)}:
                self._entries.drop(namespace, [key])
            case {"namespace": str(namespace)}:
                return {namespace}
        return set()

    def _heartbeat(self) -> Steps:
        moment = self._entries.now()
        self._entries.take_new()
        is_complete = True
        for space in self._entries.spaces():
            is_complete &= yield from self._catch_up(space.namespace)
        if is_complete:
            self._entries.confirm_all(moment)

    def _catch_up(self, namespace: str) -> Generator[Step, Any, bool]:
        """Ask for what has changed in a namespace, let go of it, and confirm the rest; return whether that was possible."""
        space = self._entries.space(namespace)
        if space is None:
            return True
        moment = self._entries.now()
        mark = cast("Mark | None", space.mark)
        try:
            news: News = yield Ask(partial(read_news, namespace=namespace, mark=mark))
        except RecordClosedError:
            self._say(
                "changes",
                "the record of changes cannot be read (it takes UPDATE on change_event, and no standby); the cache keeps "
                "values for max_stale_seconds only",
            )
            return False
        if news.keys is None:
            self._entries.clear_namespace(namespace)
        else:
            self._entries.drop(namespace, news.keys)
        space.mark = news.mark
        self._entries.confirm(space, moment)
        return True

    def _say(self, missing: str, message: str) -> None:
        if missing not in self._said:
            self._said.add(missing)
            _LOGGER.warning(message, extra={"secretstore_missing": missing})


def _parsed(payload: str) -> object:
    with suppress(ValueError, RecursionError):
        return json.loads(payload)
    return None
