"""What the cache holds, and until when it is served.  Knows no database; safe to use from many threads.

An entry is served until its time to live is over, its secret expires, or nobody has said for too long that it is still
right.  A load that was under way when its key was let go is answered to whoever waits for it, and never kept.
"""

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from secretstore.cache.config import CacheConfig, CacheStatistics
from secretstore.service.keeping import Found

Place = tuple[str, str]


class Done(Protocol):
    """An event of threads or of a loop."""

    def set(self) -> None:
        """Let those go on who wait."""


E = TypeVar("E", bound=Done)

_JITTER = 0.1
_LARGEST_PART = 8
# What an entry takes in memory beside its texts, about.
_OVERHEAD_BYTES = 512
_LONG_AGO = float("-inf")


def boot_time() -> Callable[[], float]:
    """Return a clock that goes on while the machine sleeps, where there is one: a value ages then, too."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if clock is None else partial(time.clock_gettime, clock)


class Space:
    """A namespace that has entries: until when they are confirmed, and what its listener has to remember of it."""

    __slots__ = ("confirmed_until", "entries", "loads", "mark", "namespace", "used_at")

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.used_at = _LONG_AGO
        self.confirmed_until = _LONG_AGO
        self.entries = 0
        self.loads = 0
        # Opaque to the entries: how far the record of changes was read.
        self.mark: object = None


class _Entry:
    __slots__ = ("found", "fresh_until", "is_used", "size", "space", "until")

    def __init__(self, found: Found, space: Space, *, size: int, until: float, fresh_until: float) -> None:
        self.found = found
        self.space = space
        self.size = size
        self.until = until
        self.is_used = False
        self.fresh_until = fresh_until


class Load(Generic[E]):
    """A load that is under way; one leads it, and the others wait for what it brings."""

    __slots__ = ("began", "done", "error", "found", "leader", "place", "space")

    def __init__(self, place: Place, space: Space, *, began: float, leader: object, done: E) -> None:
        self.place = place
        self.space = space
        self.began = began
        self.leader = leader
        self.done = done
        self.found: Found | None = None
        self.error: Exception | None = None


class Entries:
    """Values by namespace and key, about those that were used last."""

    def __init__(
        self,
        config: CacheConfig,
        *,
        clock: Callable[[], float] | None = None,
        chance: Callable[[], float] = random.random,
        on_new_space: Callable[[], object] = lambda: None,
    ) -> None:
        self.config = config
        self.is_listening = False
        self._clock = clock or boot_time()
        self._chance = chance
        self._on_new_space = on_new_space
        # A signal handler may read a secret while its own thread is in here.
        self._lock = threading.RLock()
        self._kept: OrderedDict[Place, _Entry] = OrderedDict()
        # A cache serves either threads or a loop, so all of its events are of one kind.
        self._loads: dict[Place, Load[Any]] = {}
        self._spaces: dict[str, Space] = {}
        self._new: set[str] = set()
        self._bytes = 0
        self._confirmed_at = self.now()
        self._hits = self._misses = self._started = self._evictions = self._invalidations = 0

    def now(self) -> float:
        """Return the time of the clock that entries live by."""
        return self._clock()

    def get(self, namespace: str, key: str) -> Found | None:
        """Return what is kept of a key and may be served."""
        # Without the lock, for which many threads would queue: whoever is in here while a key is let go of reads at the
        # same time as that.  Of hits that are counted at once one may be lost.
        entry = self._kept.get((namespace, key))
        if entry is None:
            return None
        now = self._clock()
        if now >= entry.until or (now >= entry.fresh_until and now >= entry.space.confirmed_until):
            return None
        entry.is_used = True
        self._hits += 1
        return entry.found

    def join(self, namespace: str, key: str, *, leader: object, done: Callable[[], E]) -> tuple[Load[E], bool]:
        """Return the load of a key that is under way, or a new one and that the caller leads it."""
        place = (namespace, key)
        with self._lock:
            found = self.get(namespace, key)
            if found is not None:
                # Brought by a load that has ended since the caller looked.
                return _ended(place, self._kept[place].space, found, done()), False
            self._misses += 1
            under_way = self._loads.get(place)
            if under_way is not None:
                return under_way, False
            space, is_new = self._space(namespace)
            load = self._loads[place] = Load(place, space, began=self._clock(), leader=leader, done=done())
            space.loads += 1
            space.used_at = load.began
            self._started += 1
        if is_new:
            self._on_new_space()
        return load, True

    def finish(self, load: Load[Any], found: Found) -> None:
        """Keep what a load has brought, unless its key was let go meanwhile."""
        load.found = found
        with self._lock:
            if self._end(load):
                self._keep(load, found)

    def fail(self, load: Load[Any], error: Exception | None) -> None:
        """Keep nothing; an error is what those who wait get, and without one they begin anew."""
        load.error = error
        with self._lock:
            self._end(load)

    def drop(self, namespace: str, keys: Iterable[str]) -> None:
        """Let go of keys, also of those that are being loaded."""
        with self._lock:
            for key in keys:
                self._drop((namespace, key))

    def clear_namespace(self, namespace: str) -> None:
        """Let go of a whole namespace."""
        with self._lock:
            for place in [place for place in (*self._kept, *self._loads) if place[0] == namespace]:
                self._drop(place)

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            for place in [*self._kept, *self._loads]:
                self._drop(place)

    def spaces(self) -> Iterator[Space]:
        """Give the namespaces that are in use, by name; the others are forgotten, and so is what is too old."""
        with self._lock:
            self._sweep()
            self._spaces = {name: space for name, space in self._spaces.items() if self._is_in_use(space)}
            used = sorted(self._spaces.items())
        return iter([space for _, space in used])

    def space(self, namespace: str) -> Space | None:
        """Return a namespace, if it is in use."""
        return self._spaces.get(namespace)

    def take_new(self) -> set[str]:
        """Return the namespaces that are new since the last call."""
        with self._lock:
            taken, self._new = self._new, set()
        return taken

    def confirm(self, space: Space, moment: float) -> None:
        """Take note that every change of a namespace that was committed before a moment has been dealt with."""
        with self._lock:
            space.confirmed_until = max(space.confirmed_until, moment + self.config.max_stale_seconds)

    def confirm_all(self, moment: float) -> None:
        """Take note that this holds for every namespace."""
        with self._lock:
            self._confirmed_at = max(self._confirmed_at, moment)

    def statistics(self) -> CacheStatistics:
        """Return what the cache did, and how it is."""
        with self._lock:
            return CacheStatistics(
                hits=self._hits,
                misses=self._misses,
                loads=self._started,
                entries=len(self._kept),
                bytes=self._bytes,
                evictions=self._evictions,
                invalidations=self._invalidations,
                stale=bool(self._spaces) and self._clock() >= self._confirmed_at + self.config.max_stale_seconds,
                listening=self.is_listening,
            )

    def __repr__(self) -> str:
        return f"Entries({len(self._kept)} of at most {self.config.max_entries})"

    def _is_in_use(self, space: Space) -> bool:
        # For some time it is known without entries, too: what is read now and then is kept at the second time at least.
        unused_for = self._clock() - space.used_at
        return bool(space.entries or space.loads) or unused_for < self.config.ttl_seconds

    def _space(self, namespace: str) -> tuple[Space, bool]:
        space = self._spaces.get(namespace)
        if space is not None:
            return space, False
        if not self._spaces:
            # Nothing had to be confirmed until now.
            self._confirmed_at = max(self._confirmed_at, self._clock())
        space = self._spaces[namespace] = Space(namespace)
        self._new.add(namespace)
        return space, True

    def _end(self, load: Load[Any]) -> bool:
        """End a load; return whether it still counts."""
        if self._loads.get(load.place) is not load:
            return False
        self._forget_load(load)
        return True

    def _forget_load(self, load: Load[Any]) -> None:
        del self._loads[load.place]
        load.space.loads -= 1

    def _keep(self, load: Load[Any], found: Found) -> None:
        config, life = self.config, self._life(found)
        size = len(found.text or b"") + sum(map(len, load.place)) + _OVERHEAD_BYTES
        if life <= 0 or size > config.max_bytes // _LARGEST_PART:
            self._forget(load.place)
            return
        entry = _Entry(
            found,
            load.space,
            size=size,
            until=load.began + life,
            fresh_until=load.began + config.max_stale_seconds,
        )
        self._forget(load.place)
        self._kept[load.place] = entry
        self._bytes += size
        entry.space.entries += 1
        self._make_room()

    def _life(self, found: Found) -> float:
        life = self.config.ttl_seconds * (1 - _JITTER * self._chance())
        return life if found.seconds_left is None else min(life, found.seconds_left)

    def _make_room(self) -> None:
        while self._bytes > self.config.max_bytes or len(self._kept) > self.config.max_entries:
            place, entry = next(iter(self._kept.items()))
            if entry.is_used:
                # A second chance, until all others had theirs.
                entry.is_used = False
                self._kept.move_to_end(place)
            else:
                self._forget(place)
                self._evictions += 1

    def _sweep(self) -> None:
        now = self._clock()
        for place in [place for place, entry in self._kept.items() if now >= entry.until]:
            self._forget(place)

    def _drop(self, place: Place) -> None:
        load = self._loads.get(place)
        if load is not None:
            self._forget_load(load)
        if self._forget(place) or load is not None:
            self._invalidations += 1

    def _forget(self, place: Place) -> bool:
        entry = self._kept.pop(place, None)
        if entry is None:
            return False
        self._bytes -= entry.size
        entry.space.entries -= 1
        return True


def _ended(place: Place, space: Space, found: Found, done: E) -> Load[E]:
    load = Load(place, space, began=_LONG_AGO, leader=None, done=done)
    load.found = found
    done.set()
    return load
