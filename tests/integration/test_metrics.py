"""What Prometheus reads: every call, the cache, the connections, and what a store holds, under names that it likes."""

import asyncio
import gc
import re
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import (
    AsyncSecretClient,
    InvalidSecretKeyError,
    KeyRing,
    ProviderClient,
    SecretClient,
    StoreUnavailableError,
    VersionConflictError,
    connect,
    connect_async,
    open_chain,
    open_provider,
)
from secretstore.metrics import BOUNDS, Metrics
from secretstore.orm.engines import make_engine
from secretstore.service.data_keys import MAX_SEALS
from tests.support.caches import BY_HEARTBEAT, statistics, until, warm
from tests.support.failing import FailingProvider
from tests.support.observers import Told
from tests.support.threads import number, run_together

SHOWN_KEY = "a.key.that.nobody.may.see"
SHOWN_VALUE = "Zq7-marker-Xw9"
NAMESPACES = ("default", "staging")


@pytest.fixture
def metrics() -> Metrics:
    """Metrics with a registry of their own."""
    return Metrics()


@pytest.fixture
def observed(store: SecretClient, metrics: Metrics) -> SecretClient:
    """A client whose calls are counted."""
    return metrics.follow(store.observed_by(metrics))


def samples(metrics: Metrics, name: str) -> list[Sample]:
    """The samples of a name, as a reader of the page finds them."""
    return [sample for family in parse_text(metrics.text()) for sample in family.samples if sample.name == name]


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The one sample of a name and all of its labels."""
    (found,) = [sample.value for sample in samples(metrics, name) if sample.labels == labels]
    return found


def operations(metrics: Metrics) -> dict[tuple[str, str], float]:
    """How many operations there were, by name and outcome."""
    found = samples(metrics, "secretstore_operations_total")
    return {(sample.labels["operation"], sample.labels["outcome"]): sample.value for sample in found}


def test_each_operation_of_a_client_is_counted_once(observed: SecretClient, metrics: Metrics) -> None:
    """Whatever an operation does inside, it is one, with how it ended, and its time is in the histogram."""
    observed.set_secret("a", {"b": 1})
    observed.patch_secret("a", {"b": 2})
    observed.get_secret("a", resolve=True)
    observed.get_secret("missing")
    with pytest.raises(VersionConflictError):
        observed.set_secret("a", 1, expected_version=7)
    observed.keys.rotate()

    assert operations(metrics) == {
        ("set_secret", "ok"): 1,
        ("set_secret", "conflict"): 1,
        ("patch_secret", "ok"): 1,
        ("get_secret", "ok"): 2,
        ("keys_rotate", "ok"): 1,
    }
    assert value(metrics, "secretstore_operation_seconds_count", operation="set_secret") == 2
    assert 0 < value(metrics, "secretstore_operation_seconds_sum", operation="set_secret") < 60


def test_what_a_client_gives_is_counted_too(observed: SecretClient, metrics: Metrics, engine: Engine) -> None:
    """Siblings, services on a caller's session, and the past are counted like the client itself."""
    before = datetime.now(UTC)
    observed.namespace("staging").set_secret("a", 1)
    with Session(engine) as session, session.begin():
        bound = observed.bind(session)
        bound.set_secret("b", {"c": 1})
        bound.patch_secret("b", {"c": 2})
        bound.as_of(before).get_secret("b")
    observed.as_of(before).list_secret_keys()

    assert operations(metrics) == {
        ("set_secret", "ok"): 2,
        ("patch_secret", "ok"): 1,
        ("get_secret", "ok"): 1,
        ("list_secret_keys", "ok"): 1,
    }


def test_async_operations_are_counted_to_their_end(database_url: str, keyring: KeyRing, metrics: Metrics) -> None:
    """An awaited operation is counted when it is over, and one that is cancelled was broken off."""

    async def scenario() -> None:
        async with await connect_async(database_url, keyring=keyring, observer=metrics) as opened:
            store = metrics.follow(opened)
            await asyncio.gather(*(store.set_secret(f"k{place}", place) for place in range(5)))
            task = asyncio.create_task(store.get_secret_count())
            await asyncio.sleep(0)
            assert ("get_secret_count", "ok") not in operations(metrics)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert isinstance(store, AsyncSecretClient)
            assert value(metrics, "secretstore_pool_size") >= 1

    asyncio.run(scenario())

    assert operations(metrics) == {("set_secret", "ok"): 5, ("get_secret_count", "broken_off"): 1}


def test_threads_lose_no_call(observed: SecretClient, metrics: Metrics) -> None:
    """Many threads at once are counted exactly."""
    observed.set_secret("a", 1)

    run_together(*[lambda: [observed.get_secret("a") for _ in range(50)]] * 8)

    assert operations(metrics)["get_secret", "ok"] == 400
    assert value(metrics, "secretstore_operation_seconds_count", operation="get_secret") == 400


def test_a_histogram_holds_each_call_in_all_buckets_above_it(metrics: Metrics) -> None:
    """Buckets are cumulative, hold their own bound, begin at 50 µs, and end at 5 s and at infinity."""
    metrics.begin("client", "get_secret", "default")
    (tally,) = metrics._tallies.values()
    for seconds in (3e-6, BOUNDS[0], 2e-3, 7.0):
        tally.add("ok", seconds)

    found = samples(metrics, "secretstore_operation_seconds_bucket")
    buckets = {float(sample.labels["le"]): sample.value for sample in found}
    assert list(buckets) == [*BOUNDS, float("inf")]
    assert (BOUNDS[0], BOUNDS[-1]) == (50e-6, 5.0)
    assert {bound: buckets[bound] for bound in (50e-6, 1e-3, 2.5e-3, 5.0, float("inf"))} == {
        50e-6: 2,
        1e-3: 2,
        2.5e-3: 3,
        5.0: 3,
        float("inf"): 4,
    }


def test_a_hit_of_the_cache_is_an_operation_too(
    database_url: str, keyring: KeyRing, metrics: Metrics, store: SecretClient
) -> None:
    """Reads from memory are counted, and what the cache says of itself is on the page."""
    store.set_secret("k", 1)
    with connect(database_url, keyring=keyring, observer=metrics, cache=BY_HEARTBEAT) as cached:
        metrics.follow(cached)
        warm(cached)
        known = statistics(cached)

        assert operations(metrics)["get_secret", "ok"] == known.hits + known.misses
        for name in ("hits_total", "misses_total", "loads_total", "entries", "bytes", "stale"):
            expected = getattr(known, name.removesuffix("_total"))
            assert value(metrics, f"secretstore_cache_{name}", cache="store") == expected
        until(lambda: value(metrics, "secretstore_listener_connected") == 1)


def test_connections_in_hand_are_not_in_use(database_url: str, keyring: KeyRing, metrics: Metrics) -> None:
    """A connection that is kept for the next read rests, and one that somebody works with does not."""
    with metrics.follow(connect(database_url, keyring=keyring, observer=metrics)) as store:
        store.get_secret("a")
        assert value(metrics, "secretstore_pool_size") >= 1
        assert value(metrics, "secretstore_pool_in_use") == 0
        with store.engine.connect():
            assert value(metrics, "secretstore_pool_in_use") == 1


def test_transactions_that_are_tried_again_are_counted(observed: SecretClient, metrics: Metrics) -> None:
    """What is tried twice is one retry."""
    observed.set_secret("a", 1)
    tries = iter([StoreUnavailableError("cut", is_transient=True), None])

    def cut_once(_: Session) -> None:
        if (error := next(tries)) is not None:
            raise error

    observed._transact(observed._options.step(cut_once, is_repeatable=True), observed.engine)

    assert value(metrics, "secretstore_retries_total") == 1


def test_a_client_that_is_gone_is_not_on_the_page(metrics: Metrics, engine: Engine, keyring: KeyRing) -> None:
    """The page holds on to no client."""
    client = metrics.follow(SecretClient(engine, keyring))
    assert samples(metrics, "secretstore_pool_size")

    del client
    gc.collect()

    assert samples(metrics, "secretstore_pool_size") == []


def test_links_of_a_chain_are_shown(metrics: Metrics) -> None:
    """Calls by kind of provider, and which link is down, also through a client of providers."""
    with ProviderClient(open_chain("optional:memory: env://?prefix=OF_NOBODY_", observer=metrics)) as client:
        metrics.follow(client)
        client.get_secret("a")

        assert value(metrics, "secretstore_chain_link_down", link="memory:") == 0
        assert (
            value(metrics, "secretstore_provider_calls_total", kind="memory", operation="read_secret", outcome="ok")
            == 1
        )
        assert value(metrics, "secretstore_provider_call_seconds_count", kind="env", operation="read_secret") == 1


def test_a_link_that_is_down_is_shown() -> None:
    """It is 1 while the link is down, and its failures are counted."""
    from secretstore.providers.chain import ChainProvider, Link

    metrics, down = Metrics(), FailingProvider("down")
    down.go_down()
    chain = metrics.follow(ChainProvider([Link(down, optional=True), Link(open_provider("memory:"))]))

    chain.read("a")

    assert value(metrics, "secretstore_chain_link_down", link="down") == 1
    assert value(metrics, "secretstore_chain_link_failures_total", link="down") == 1


@pytest.fixture
def filled(store: SecretClient, raw: psycopg.Connection) -> SecretClient:
    """A store of two namespaces, with secrets in every state, whose data key of `default` is two days old."""
    soon, later = timedelta(days=3), timedelta(days=300)
    store.set_secrets({"a": 1, "b": 2})
    store.set_secret("soon", 1, ttl=soon)
    store.set_secret("later", 1, ttl=later)
    for key in ("expired", "deleted", "deleted and expired"):
        store.set_secret(key, 1, ttl=soon)
    store.delete_secrets(["deleted", "deleted and expired"])
    raw.execute("UPDATE secretstore.secret_store SET expires_at = now() WHERE key LIKE '%expired'")
    raw.execute("UPDATE secretstore.data_key SET created_at = now() - interval '2 days'")
    raw.execute(
        "INSERT INTO secretstore.data_key_use SELECT namespace, id, gen_random_uuid(), %s FROM secretstore.data_key",
        [MAX_SEALS // 4],
    )
    store.namespace("staging").set_secret("a", 1)
    return store


def test_what_a_store_holds_is_counted(filled: SecretClient, metrics: Metrics, raw: psycopg.Connection) -> None:
    """Secrets by state, the oldest data key, the most used one, and changes without a number, of all namespaces."""
    metrics.follow_store(filled.engine)

    states = {
        state: value(metrics, "secretstore_secrets", state=state) for state in ("live", "expiring_soon", "expired")
    }
    assert states == {"live": 4, "expiring_soon": 1, "expired": 1}
    assert value(metrics, "secretstore_store_up") == 1
    assert 172_800 <= value(metrics, "secretstore_data_key_age_seconds") < 180_000
    assert value(metrics, "secretstore_data_key_seals_left_ratio") == 0.75
    events = number(raw, "SELECT count(*) FROM secretstore.change_event WHERE seq IS NULL")
    assert value(metrics, "secretstore_changes_unnumbered") == events > 0
    for namespace in NAMESPACES:
        filled.namespace(namespace).last_change_number()
    assert value(metrics, "secretstore_changes_unnumbered") == 0


def test_what_waits_to_be_sealed_is_counted(filled: SecretClient, metrics: Metrics, raw: psycopg.Connection) -> None:
    """Events of both records that are in no checkpoint, and how long ago the last one was made where there are some."""
    metrics.follow_store(filled.engine)
    names = ("secretstore_audit_unsealed_events", "secretstore_audit_checkpoint_age_seconds")
    events = number(raw, "SELECT count(*) FROM secretstore.change_event")
    never = tuple(value(metrics, name) for name in names)
    for namespace in NAMESPACES:
        filled.namespace(namespace).audit.seal()
    sealed = tuple(value(metrics, name) for name in names)
    raw.execute("UPDATE secretstore.audit_checkpoint SET sealed_at = sealed_at - interval '1 hour'")
    filled.set_secret("more", 1)

    assert (never, sealed) == ((events, 0), (0, 0))
    assert value(metrics, names[0]) == 1
    assert 3600 <= value(metrics, names[1]) < 4000


def test_namespaces_are_shown_where_that_is_asked_for(filled: SecretClient) -> None:
    """With the label each namespace has numbers of its own, and without it none is named."""
    metrics = Metrics(with_namespace=True)
    metrics.follow_store(filled.engine, expiring_within=timedelta(days=1))
    filled.observed_by(metrics).namespace("staging").get_secret("a")

    assert value(metrics, "secretstore_secrets", namespace="default", state="expiring_soon") == 0
    assert value(metrics, "secretstore_secrets", namespace="staging", state="live") == 1
    assert value(metrics, "secretstore_data_key_seals_left_ratio", namespace="staging") == 1
    labels = {"namespace": "staging", "operation": "get_secret", "outcome": "ok"}
    assert value(metrics, "secretstore_operations_total", **labels) == 1


def test_a_store_that_cannot_be_asked_is_shown_as_that(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    """The rest of the page is served, and the log says why."""
    engine = make_engine("postgresql://app:hunter2@127.0.0.1:1/shop")
    metrics.follow_store(engine)

    assert value(metrics, "secretstore_store_up") == 0
    assert samples(metrics, "secretstore_secrets") == []
    assert [record.name for record in caplog.records if record.levelname == "WARNING"][:1] == ["secretstore.metrics"]
    assert "hunter2" not in caplog.text
    metrics.follow_store(engine, strict=True)
    with pytest.raises(StoreUnavailableError):
        metrics.text()


def test_the_page_is_served_in_both_formats(filled: SecretClient, metrics: Metrics) -> None:
    """Over HTTP Prometheus gets its own text or OpenMetrics, as it asks, and its parsers read both alike."""
    metrics.follow_store(filled.engine)
    metrics.follow(filled.observed_by(metrics)).get_secret("a")
    with metrics.served(0) as url:
        text = _fetched(url, "text/plain")
        open_ = _fetched(url, "application/openmetrics-text; version=1.0.0")

    found = {family.name for family in parse_text(text)}
    assert {"secretstore_operations", "secretstore_operation_seconds", "secretstore_secrets"} <= found
    assert {family.name for family in parse_openmetrics(open_)} == found  # type: ignore[no-untyped-call]
    assert open_.endswith("# EOF\n")
    with pytest.raises(OSError, match="refused"):
        _fetched(url, "text/plain")


def _fetched(url: str, accept: str) -> str:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def test_names_keep_prometheus_rules(everything: Metrics) -> None:
    """Prefix, base units, `_total` of counters alone, words for each, and labels that are few."""
    for family in everything.collect():
        assert re.fullmatch(r"secretstore(_[a-z]+)+", family.name)
        assert family.documentation[0].islower() or family.documentation[0].isdigit()
        assert not re.search(r"_(total|count|sum|bucket|info|ms|millis|milliseconds|minutes|kb|mb)$", family.name)
        assert family.type in {"counter", "gauge", "histogram"}
        if family.type == "histogram" or "age" in family.name:
            assert family.name.endswith("_seconds")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= {"cache", "kind", "link", "namespace", "operation", "outcome", "state"}


def test_no_key_and_no_value_is_on_the_page(everything: Metrics) -> None:
    """Whatever was done, in whatever way it failed, labels hold neither."""
    page = everything.text()

    assert "keys_rotate" in page
    assert SHOWN_KEY not in page
    assert SHOWN_VALUE not in page


@pytest.fixture
def everything(filled: SecretClient, database_url: str, keyring: KeyRing) -> Iterator[Metrics]:
    """Metrics that have something of every kind, of a key and a value that are known."""
    metrics = Metrics(with_namespace=True)
    metrics.follow_store(filled.engine)
    with connect(database_url, keyring=keyring, observer=metrics, cache=BY_HEARTBEAT) as store:
        _use(metrics.follow(store))
        with ProviderClient(open_chain("env://?prefix=OF_NOBODY_ write:memory:", observer=metrics)) as client:
            metrics.follow(client).set_secret(SHOWN_KEY, SHOWN_VALUE)
            yield metrics


def _use(store: SecretClient) -> None:
    store.set_secret(SHOWN_KEY, SHOWN_VALUE)
    store.get_secret(SHOWN_KEY)
    store.keys.rotate()
    failing: tuple[Callable[[], Any], ...] = (
        lambda: store.set_secret(SHOWN_KEY, SHOWN_VALUE, expected_version=9),
        lambda: store.get_secret_or_raise(SHOWN_KEY, int),
        lambda: store.set_secret(SHOWN_KEY, SHOWN_VALUE, labels={SHOWN_VALUE * 100: "a"}),
    )
    for call in failing:
        with pytest.raises(Exception, match=r"."):
            call()


def test_a_host_has_all_in_its_own_registry(metrics: Metrics) -> None:
    """Given a registry, the page is the host's; to register twice is refused by it, once there is something to show."""
    registry = CollectorRegistry()
    Gauge("host_things", "of the host", registry=registry).set(3)
    shared = Metrics(registry)
    shared.begin("client", "get_secret", "default")(None)

    assert registry.get_sample_value("host_things") == 3
    labels = {"operation": "get_secret", "outcome": "ok"}
    assert registry.get_sample_value("secretstore_operations_total", labels) == 1
    assert shared.registry is registry
    assert metrics.registry is not registry


def test_several_observers_are_all_told(store: SecretClient, metrics: Metrics) -> None:
    """A client that is observed twice tells both."""
    told = Told()

    store.observed_by(metrics).observed_by(told).get_secret_count()

    assert told.ended == [("client", "get_secret_count", "default", "ok")]
    assert operations(metrics) == {("get_secret_count", "ok"): 1}


def test_what_is_refused_is_counted_as_that(observed: SecretClient, metrics: Metrics) -> None:
    """What is wrong before anything is sent is an operation that was invalid."""
    with pytest.raises(InvalidSecretKeyError):
        observed.get_secret("")

    assert operations(metrics) == {("get_secret", "invalid"): 1}
