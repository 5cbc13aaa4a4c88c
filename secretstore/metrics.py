"""Metrics for Prometheus (extra `metrics`): what this process does with secrets, and what a store holds.

No label holds a key or anything of a value.  Counting a call takes about a microsecond: a lock, and no allocation but its
end.  All else is asked when the page is read.
"""

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import TypeVar
from weakref import ref

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore.cache.config import CacheStatistics
from secretstore.client.asynchronous import AsyncSecretClient
from secretstore.client.statistics import ClientStatistics
from secretstore.client.synchronous import SecretClient
from secretstore.domain.holdings import Holdings
from secretstore.domain.observing import End, Outcome, Part, outcome_of
from secretstore.errors import SecretStoreError
from secretstore.orm.holdings import list_holdings
from secretstore.orm.translate import translated
from secretstore.providers.chain import ChainProvider, LinkStatistics
from secretstore.providers.clients import ProviderClient
from secretstore.service.data_keys import MAX_SEALS

try:
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
except ImportError as error:
    raise ImportError("metrics need the extra `metrics`: python -m pip install 'pg-secretstore[metrics]'") from error

_LOGGER = logging.getLogger("secretstore.metrics")

# From a hit of the cache to a database that is about to be given up.
BOUNDS = (
    *(50e-6, 100e-6, 250e-6, 500e-6),
    *(1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0),
)
SOON = timedelta(days=7)

F = TypeVar("F", SecretClient, AsyncSecretClient, ProviderClient, ChainProvider)


class _Tally:
    """How often one operation was called in one place, how long it took, and how it ended."""

    __slots__ = ("buckets", "lock", "outcomes", "seconds")

    def __init__(self) -> None:
        # A signal handler may read a secret while its own thread is in here.
        self.lock = threading.RLock()
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.outcomes: dict[Outcome, int] = {}
        self.seconds = 0.0

    def add(self, outcome: Outcome, seconds: float) -> None:
        with self.lock:
            self.buckets[bisect_left(BOUNDS, seconds)] += 1
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
            self.seconds += seconds

    def taken(self) -> tuple[list[tuple[str, int]], float, list[tuple[Outcome, int]]]:
        with self.lock:
            buckets, seconds, outcomes = list(self.buckets), self.seconds, sorted(self.outcomes.items())
        bounds = [str(bound) for bound in (*BOUNDS, "+Inf")]
        below = [sum(buckets[: place + 1]) for place in range(len(buckets))]
        return list(zip(bounds, below, strict=True)), seconds, outcomes


@dataclass(frozen=True, slots=True)
class _Family:
    """How the calls of a part are named."""

    calls: str
    seconds: str
    words: str
    place: str


_FAMILIES: dict[Part, _Family] = {
    "client": _Family(
        "secretstore_operations", "secretstore_operation_seconds", "operations of clients and services", "namespace"
    ),
    "provider": _Family(
        "secretstore_provider_calls", "secretstore_provider_call_seconds", "calls of providers", "kind"
    ),
    "key_server": _Family(
        "secretstore_key_server_calls", "secretstore_key_server_call_seconds", "calls of key servers", "kind"
    ),
}


class Metrics:
    """Counts what it observes, and gives it to a registry of `prometheus_client`: the host's, or one of its own.

    Hand it over as `observer`, to as many clients and providers as there are.  With `with_namespace` operations, and what
    a store holds, are told apart by namespace: as many series as there are namespaces.
    Danger: a process that forks has metrics of its own, and `prometheus_client`'s mode for many processes, which sums
    files, knows nothing of these; let each process have a page.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, with_namespace: bool = False) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._with_namespace = with_namespace
        self._lock = threading.RLock()
        self._tallies: dict[tuple[Part, str, str], _Tally] = {}
        self._followed: list[ref[SecretClient | AsyncSecretClient | ProviderClient | ChainProvider]] = []
        self._store: Callable[[], list[Holdings] | None] | None = None
        self.registry.register(self)

    def begin(self, part: Part, operation: str, place: str) -> End:
        """See `Observer.begin`."""
        named = (part, operation, "" if part == "client" and not self._with_namespace else place)
        tally = self._tallies.get(named) or self._tallies.setdefault(named, _Tally())
        begun = perf_counter()

        def end(error: BaseException | None) -> None:
            tally.add("ok" if error is None else outcome_of(error), perf_counter() - begun)

        return end

    def follow(self, thing: F) -> F:
        """Show the cache, the connections and the retries of a client, or the links of a chain, while it lives; return it.

        Of a client's siblings on other namespaces one is enough: they share all that.
        """
        with self._lock:
            self._followed.append(ref(thing))
        return thing

    def follow_store(self, engine: Engine, *, expiring_within: timedelta = SOON, strict: bool = False) -> None:
        """Show what the store of a blocking engine holds, counted each time that the page is read.

        One process of many is enough.  It takes a second where there are millions of secrets.  A store that cannot be asked
        is shown as `secretstore_store_up` 0; with `strict` reading the page then raises.
        """
        self._store = partial(_holdings_of, engine, expiring_within, strict=strict)

    @contextmanager
    def served(self, port: int, *, host: str = "127.0.0.1") -> Iterator[str]:
        """Serve the page over HTTP from a thread, and give its URL; port 0 takes one that is free.

        Danger: there is no login and no TLS.
        """
        server, thread = start_http_server(port, host, self.registry)
        try:
            yield f"http://{host}:{server.server_port}/metrics"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def text(self) -> str:
        """Return the page, in Prometheus' own text."""
        return generate_latest(self.registry).decode()

    def collect(self) -> Iterator[Metric]:
        """Give all metrics, as a registry asks for them."""
        yield from (family for family in self._families() if family.samples)

    def _families(self) -> Iterator[Metric]:
        for part in _FAMILIES:
            yield from self._calls(part)
        followed = self._living()
        clients = [one.statistics() for one in followed if isinstance(one, SecretClient | AsyncSecretClient)]
        providers = [one for one in followed if isinstance(one, ProviderClient)]
        yield from _of_clients(clients)
        caches = {"store": [one.cache for one in clients], "provider": [one.cache_statistics() for one in providers]}
        yield from _of_caches({name: kept for name, found in caches.items() if (kept := [*filter(None, found)])})
        places = [*followed, *(one.provider for one in providers)]
        yield from _of_chains(place for place in places if isinstance(place, ChainProvider))
        if self._store is not None:
            yield from _of_store(self._store(), with_namespace=self._with_namespace)

    def _calls(self, part: Part) -> tuple[Metric, Metric]:
        family = _FAMILIES[part]
        place = [family.place] if part != "client" or self._with_namespace else []
        counted = CounterMetricFamily(
            family.calls, f"{family.words}, by outcome", labels=[*place, "operation", "outcome"]
        )
        timed = HistogramMetricFamily(family.seconds, f"how long {family.words} took", labels=[*place, "operation"])
        # Others may add to them meanwhile.
        for (of_part, operation, where), tally in sorted(self._tallies.copy().items()):
            if of_part == part:
                labels = [where, operation] if place else [operation]
                buckets, seconds, outcomes = tally.taken()
                timed.add_metric(labels, buckets, seconds)
                for outcome, times in outcomes:
                    counted.add_metric([*labels, outcome], times)
        return counted, timed

    def _living(self) -> list[SecretClient | AsyncSecretClient | ProviderClient | ChainProvider]:
        with self._lock:
            self._followed = [one for one in self._followed if one() is not None]
            return [thing for one in self._followed if (thing := one()) is not None]


def _of_clients(clients: list[ClientStatistics]) -> Iterator[Metric]:
    if not clients:
        return
    yield GaugeMetricFamily(
        "secretstore_pool_size", "connections to PostgreSQL that are open", sum(one.connections for one in clients)
    )
    yield GaugeMetricFamily(
        "secretstore_pool_in_use",
        "connections to PostgreSQL that work for somebody",
        sum(one.connections_in_use for one in clients),
    )
    yield CounterMetricFamily(
        "secretstore_retries", "transactions that were tried again", sum(one.retries for one in clients)
    )
    yield CounterMetricFamily(
        "secretstore_accesses_dropped",
        "accesses that are missing from the record of them",
        sum(one.accesses_dropped for one in clients),
    )
    listening = [one.cache.listening for one in clients if one.cache is not None]
    if listening:
        yield GaugeMetricFamily(
            "secretstore_listener_connected", "1 where notices of changes reach every cache", int(all(listening))
        )


_COUNTED = {
    "hits": "reads that were answered from memory",
    "misses": "reads that were not",
    "loads": "loads for all who waited",
    "evictions": "values that made room for others",
    "invalidations": "values that were let go of, because they were changed",
}
_HELD = {
    "entries": "values in memory",
    "bytes": "what they take, about",
    "stale": "1 where nothing was found to be unchanged for max_stale_seconds",
}


def _of_caches(caches: dict[str, list[CacheStatistics]]) -> Iterator[Metric]:
    for name, words in _COUNTED.items():
        counted = CounterMetricFamily(f"secretstore_cache_{name}", words, labels=["cache"])
        for cache, found in caches.items():
            counted.add_metric([cache], sum(getattr(one, name) for one in found))
        yield counted
    for name, words in _HELD.items():
        held = GaugeMetricFamily(f"secretstore_cache_{name}", words, labels=["cache"])
        for cache, found in caches.items():
            numbers = [int(getattr(one, name)) for one in found]
            held.add_metric([cache], max(numbers) if name == "stale" else sum(numbers))
        yield held


def _of_chains(chains: Iterable[ChainProvider]) -> Iterator[Metric]:
    failures = CounterMetricFamily("secretstore_chain_link_failures", "times that a link was down", labels=["link"])
    down = GaugeMetricFamily("secretstore_chain_link_down", "1 where a link was down when last asked", labels=["link"])
    links: dict[str, list[LinkStatistics]] = {}
    for chain in chains:
        for link in chain.statistics():
            links.setdefault(link.name, []).append(link)
    for name, found in links.items():
        failures.add_metric([name], sum(link.failures for link in found))
        down.add_metric([name], int(any(link.is_down for link in found)))
    if links:
        yield from (failures, down)


def _of_store(holdings: Sequence[Holdings] | None, *, with_namespace: bool) -> Iterator[Metric]:
    """Give what a store holds; None where it could not be asked."""
    yield GaugeMetricFamily("secretstore_store_up", "1 where the store could be asked", int(holdings is not None))
    if holdings is None:
        return
    place = ["namespace"] if with_namespace else []
    shown = {one.namespace: [one] for one in holdings} if with_namespace else {"": holdings}
    secrets = GaugeMetricFamily(
        "secretstore_secrets", "secrets that are not deleted, by state", labels=[*place, "state"]
    )
    unnumbered = GaugeMetricFamily(
        "secretstore_changes_unnumbered", "changes that nobody has asked for since", labels=place
    )
    unsealed = GaugeMetricFamily(
        "secretstore_audit_unsealed_events", "events of both records that are in no checkpoint yet", labels=place
    )
    waits = GaugeMetricFamily(
        "secretstore_audit_checkpoint_age_seconds",
        "age of the last checkpoint, of namespaces that have unsealed events",
        labels=place,
    )
    ages = GaugeMetricFamily("secretstore_data_key_age_seconds", "age of the oldest active data key", labels=place)
    room = GaugeMetricFamily(
        "secretstore_data_key_seals_left_ratio",
        "what is left of the seals of the most used data key, before it is replaced by itself",
        labels=place,
    )
    for namespace, found in shown.items():
        labels = [namespace] if with_namespace else []
        for state, numbers in _by_state(found):
            secrets.add_metric([*labels, state], sum(numbers))
        unnumbered.add_metric(labels, sum(one.unnumbered_changes for one in found))
        unsealed.add_metric(labels, sum(one.unsealed_events for one in found))
        waits.add_metric(
            labels, max((one.checkpoint_age_seconds or 0.0 for one in found if one.unsealed_events), default=0.0)
        )
        ages.add_metric(labels, max((one.data_key_age_seconds for one in found), default=0.0))
        room.add_metric(labels, min((max(MAX_SEALS - one.seals, 0) / MAX_SEALS for one in found), default=1.0))
    yield from (secrets, unnumbered, unsealed, waits, ages, room)


def _by_state(holdings: Sequence[Holdings]) -> Iterator[tuple[str, list[int]]]:
    yield "live", [one.live for one in holdings]
    yield "expiring_soon", [one.expiring for one in holdings]
    yield "expired", [one.expired for one in holdings]


def _holdings_of(engine: Engine, expiring_within: timedelta, *, strict: bool) -> list[Holdings] | None:
    try:
        with translated(), Session(engine) as session:
            return list_holdings(session, expiring_within=expiring_within)
    except SecretStoreError as error:
        if strict:
            raise
        kind = type(error).__name__
        _LOGGER.warning("what the store holds could not be asked: %s", error, extra={"secretstore_error": kind})
        return None
