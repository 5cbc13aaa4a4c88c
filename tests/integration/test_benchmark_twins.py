"""The twins of the benchmarks do what the library does, so that the two can be compared."""

from collections.abc import Iterator

import psycopg
import pytest

from benchmarks.filling import add_data_key, new_vault
from benchmarks.raw import RawStore
from benchmarks.values import NAMESPACE
from secretstore import SecretClient
from secretstore.crypto.local import LocalMasterKey
from tests.support.server import Server
from tests.support.threads import number

EVENTS = "SELECT count(*) FROM secretstore.change_event WHERE action = 'set'"


@pytest.fixture
def bench(store: SecretClient) -> SecretClient:
    """The library, where the twins write."""
    return store.namespace(NAMESPACE)


@pytest.fixture
def twin(server: Server, database: str, bench: SecretClient, master_key: str) -> Iterator[RawStore]:
    """The twin, with a data key that the library opens."""
    del bench
    vault = new_vault(LocalMasterKey.parse(master_key))
    with psycopg.connect(server.direct_url(database)) as connection:
        add_data_key(connection, vault)
        connection.commit()
        yield RawStore(connection, vault)


def test_what_one_writes_the_other_reads(twin: RawStore, bench: SecretClient) -> None:
    """One by one, in versions of the same row."""
    bench.set_secret("k", {"by": "library"})
    assert twin.get("k") == {"by": "library"}
    assert twin.set_and_commit("k", {"by": "twin"}) is not None
    info = bench.describe_secret("k")
    assert (bench.get_secret("k"), info and info.version) == ({"by": "twin"}, 2)
    assert [one.version for one in bench.list_versions("k")] == [2, 1]


def test_so_it_is_with_many(twin: RawStore, bench: SecretClient) -> None:
    """New ones and those that are there, each with its history."""
    values = {f"k{place}": place for place in range(20)}
    bench.set_secrets(dict.fromkeys(values, "before"))
    assert len(twin.set_many(values | {"new": 1})) == 21
    assert bench.get_secrets([*values, "new"]) == twin.get_many([*values, "new"]) == values | {"new": 1}
    assert len(bench.list_versions("k3")) == 2


def test_each_writes_its_events(twin: RawStore, bench: SecretClient, raw: psycopg.Connection) -> None:
    """The one that is compared with leaves out nothing."""
    before = number(raw, EVENTS)
    twin.set_and_commit("a", 1)
    twin.set_many({"a": 2, "b": 2})
    assert number(raw, EVENTS) == before + 3
    bench.set_secret("a", 3)
    assert number(raw, EVENTS) == before + 4
