"""Writers at the same moment, in real threads and processes, each on a connection of its own."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import permutations

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import KeyRing, SecretClient, SecretInfo, SecretService, VersionConflictError
from tests.support.stored import EVENTS, rows
from tests.support.threads import answers, in_thread, number, run_together, wait_until_blocked

Held = Callable[[], object]
_DATA_KEYS = "SELECT count(*) FROM secretstore.data_key WHERE state = 'active'"
_EVENTS = "SELECT count(*) FROM secretstore.change_event WHERE action = 'set'"
_GAPLESS = """
    SELECT count(*) FROM secretstore.secret_version v JOIN secretstore.change_event e USING (namespace, key, version)
    WHERE e.action = 'set'
"""


def _version_or_conflict(write: Callable[[], SecretInfo]) -> int:
    """Return the written version, or 0 for a conflict."""
    try:
        return write().version
    except VersionConflictError:
        return 0


@pytest.mark.parametrize("exists", [True, False], ids=["existing key", "new key"])
@pytest.mark.parametrize("namespace_exists", [True, False], ids=["used namespace", "new namespace"])
def test_two_writers_of_one_key_both_succeed(
    engine: Engine, store: SecretClient, raw: psycopg.Connection, *, exists: bool, namespace_exists: bool
) -> None:
    """A second writer waits for the first one's transaction, and then writes the version after it."""
    if exists or namespace_exists:
        store.set_secret("a" if exists else "other", "before")
    with Session(engine) as session:
        first = store.bind(session).set_secret("a", "first")
        with in_thread(lambda: store.set_secret("a", "second")) as second:
            wait_until_blocked(raw)
            session.commit()
    assert second.result().version == first.version + 1 == (3 if exists else 2)
    assert (store.get_secret("a"), store.get_secret("a", version=first.version)) == ("second", "first")


@pytest.mark.parametrize("exists", [True, False], ids=["existing key", "new key"])
def test_a_writer_goes_on_when_the_other_rolls_back(
    engine: Engine, store: SecretClient, raw: psycopg.Connection, *, exists: bool
) -> None:
    """A second writer that waited takes the number of the first one that was undone."""
    if exists:
        store.set_secret("a", "before")
    with Session(engine) as session:
        undone = store.bind(session).set_secret("a", "undone")
        with in_thread(lambda: store.set_secret("a", "second")) as second:
            wait_until_blocked(raw)
            session.rollback()
    assert second.result().version == undone.version
    assert store.get_secret("a") == "second"
    assert (number(raw, _DATA_KEYS), number(raw, _EVENTS)) == (1, undone.version)


def test_eight_threads_make_gapless_versions(store: SecretClient, raw: psycopg.Connection) -> None:
    """8 threads that write one key 25 times each make the versions 1 to 200, each with history and event."""

    def write(thread: int) -> list[int]:
        return [store.set_secret("a", [thread, n]).version for n in range(25)]

    versions = run_together(*(lambda thread=thread: write(thread) for thread in range(8)))
    assert sorted(version for own in versions for version in own) == list(range(1, 201))
    assert all(own == sorted(own) for own in versions)
    assert number(raw, _GAPLESS) == number(raw, _EVENTS) == 200
    read = [tuple(store.get_secret_or_raise("a", version=version)) for version in range(1, 201)]
    assert sorted(read) == [(thread, n) for thread in range(8) for n in range(25)]


@pytest.mark.parametrize("expected", [0, 1], ids=["new key", "existing key"])
def test_exactly_one_wins_with_an_expected_version(store: SecretClient, expected: int) -> None:
    """Of 8 threads that expect the same version one writes, and all others get a conflict, ten times over."""
    for key in (f"k{n}" for n in range(10)):
        if expected:
            store.set_secret(key, "before")
        writes = [lambda n=n, key=key: store.set_secret(key, n, expected_version=expected) for n in range(8)]
        outcomes = run_together(*(lambda write=write: _version_or_conflict(write) for write in writes))
        assert Counter(outcomes) == {expected + 1: 1, 0: 7}


@pytest.mark.parametrize("expected", [0, 1], ids=["new key", "existing key"])
def test_a_write_in_between_is_a_conflict(
    engine: Engine, store: SecretClient, raw: psycopg.Connection, expected: int
) -> None:
    """A writer that saw the expected version, waits, and finds the next one committed, gets a conflict."""
    store.set_secret("a" if expected else "other", "before")
    with Session(engine) as session:
        store.bind(session).set_secret("a", "first", expected_version=expected)
        with in_thread(lambda: store.set_secret("a", "second", expected_version=expected)) as second:
            wait_until_blocked(raw)
            session.commit()
            with pytest.raises(VersionConflictError) as caught:
                second.result()
    assert (caught.value.expected, caught.value.found) == (expected, expected + 1)
    assert store.get_secret("a") == "first"


def test_a_delete_in_between_is_a_conflict(engine: Engine, store: SecretClient, raw: psycopg.Connection) -> None:
    """A delete leaves the number as it is, and yet a writer that expected that version gets a conflict with none."""
    store.set_secret("a", "before")
    with Session(engine) as session:
        assert store.bind(session).delete_secret("a") is True
        with in_thread(lambda: store.set_secret("a", "second", expected_version=1)) as second:
            wait_until_blocked(raw)
            session.commit()
            with pytest.raises(VersionConflictError) as caught:
                second.result()
    assert caught.value.found == 0
    assert store.get_secret("a") is None


def test_a_rewrite_in_between_is_a_conflict_for_must_not_exist(
    engine: Engine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """A deleted key is written again while another writer, which saw it deleted, waits: that one gets a conflict."""
    store.set_secret("a", "before")
    store.delete_secret("a")
    with Session(engine) as session:
        store.bind(session).set_secret("a", "first", expected_version=0)
        with in_thread(lambda: store.set_secret("a", "second", expected_version=0)) as second:
            wait_until_blocked(raw)
            session.commit()
            with pytest.raises(VersionConflictError) as caught:
                second.result()
    assert (caught.value.found, store.get_secret("a")) == (2, "first")


def test_a_delete_waits_for_a_writer_and_deletes_what_it_wrote(
    engine: Engine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """The event of a delete names the version that was deleted, also where that came while it waited."""
    store.set_secret("a", "before")
    with Session(engine) as session:
        store.bind(session).set_secret("a", "first")
        with in_thread(lambda: store.delete_secret("a")) as deleted:
            wait_until_blocked(raw)
            session.commit()
    assert deleted.result() is True
    assert store.get_secret("a") is None
    assert number(raw, "SELECT version FROM secretstore.change_event WHERE action = 'delete'") == 2


def test_two_deletes_at_once_are_one(engine: Engine, store: SecretClient, raw: psycopg.Connection) -> None:
    """Of two that delete the same secret one answers True and the other False, with one event."""
    store.set_secret("a", "before")
    with Session(engine) as session:
        assert store.bind(session).delete_secrets(["a"]) == 1
        with in_thread(lambda: store.delete_secret("a")) as second:
            wait_until_blocked(raw)
            session.commit()
    assert second.result() is False
    assert number(raw, "SELECT count(*) FROM secretstore.change_event WHERE action = 'delete'") == 1


@pytest.mark.parametrize("new_keys", [False, True], ids=["existing keys", "new and existing keys"])
def test_overlapping_batches_never_deadlock(store: SecretClient, raw: psycopg.Connection, *, new_keys: bool) -> None:
    """Batches over the same keys in four different orders, 20 rounds from 4 threads, all succeed."""
    keys = ["a", "B", "é", "中"]
    orders = [list(order) for order in list(permutations(keys))[::6]]
    store.set_secrets(dict.fromkeys(keys, 0))
    fresh = [f"{place}{n}" for n in range(20) for place in "zmA"] if new_keys else [""] * 60

    for turn in range(20):
        added = [key for key in fresh[turn * 3 : turn * 3 + 3] if key]
        orders_now = [order + added if index % 2 else added[::-1] + order for index, order in enumerate(orders)]
        run_together(*(lambda order=order: store.set_secrets(dict.fromkeys(order, 1)) for order in orders_now))
    assert {info.version for info in store.list_secrets() if info.key in keys} == {81}
    assert {info.version for info in store.list_secrets() if info.key not in keys} == ({4} if new_keys else set())
    assert number(raw, _GAPLESS) == 4 * 81 + (60 * 4 if new_keys else 0)


def test_batches_that_write_and_delete_never_deadlock(store: SecretClient) -> None:
    """Batches that set and batches that delete the same keys in opposite orders all succeed."""
    keys = [f"k{n}" for n in range(6)]
    store.set_secrets(dict.fromkeys(keys, 0))

    def write(order: list[str]) -> None:
        for _ in range(20):
            store.set_secrets(dict.fromkeys(order, 1))

    def delete(order: list[str]) -> None:
        for _ in range(20):
            store.delete_secrets(order)

    back = keys[::-1]
    run_together(lambda: write(keys), lambda: delete(back), lambda: write(back), lambda: delete(keys))
    store.set_secrets(dict.fromkeys(keys, 2))
    assert [info.version for info in store.list_secrets()] == [42] * 6


def test_a_new_namespace_gets_one_data_key_from_many_threads(
    database_url: str, master_key: str, engine: Engine, raw: psycopg.Connection
) -> None:
    """8 threads, each with a key ring of its own, use a new namespace at once: one data key, all values readable."""
    stores = [SecretClient(engine, KeyRing.from_text(master_key), namespace="new") for _ in range(8)]

    run_together(*(lambda n=n, own=own: own.set_secret(f"k{n}", n) for n, own in enumerate(stores)))
    assert number(raw, _DATA_KEYS) == number(raw, "SELECT count(*) FROM secretstore.data_key") == 1
    assert all(store.get_secrets_by_prefix("k", int) == {f"k{n}": n for n in range(8)} for store in stores)


_PROGRAM = """
import sys
from secretstore import KeyRing, connect

url, number = sys.argv[1:]
with connect(url, namespace="new", keyring=KeyRing.from_text(sys.stdin.readline())) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    store.set_secret("k" + number, int(number))
"""


def test_a_new_namespace_gets_one_data_key_from_many_processes(
    database_url: str, master_key: str, store: SecretClient, raw: psycopg.Connection
) -> None:
    """4 processes use a new namespace at once: one data key, and all values readable here."""
    started = [_start(database_url, str(n)) for n in range(4)]
    for process in started:
        _tell(process, master_key)
    assert [process.stdout.readline() for process in started if process.stdout] == ["ready\n"] * 4
    for process in started:
        _tell(process, "go")
    assert [process.communicate(timeout=60)[1] for process in started] == [""] * 4

    assert number(raw, _DATA_KEYS) == number(raw, "SELECT count(*) FROM secretstore.data_key") == 1
    assert store.namespace("new").get_secrets_by_prefix("k") == {f"k{n}": n for n in range(4)}


def _start(*arguments: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def test_a_second_first_writer_goes_on_when_the_first_rolls_back(
    engine: Engine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """A namespace whose first writer is undone gets the data key of the second one, which waited."""
    with Session(engine) as session:
        store.bind(session).set_secret("a", "undone")
        with in_thread(lambda: store.set_secret("b", "second")) as second:
            wait_until_blocked(raw)
            session.rollback()
    assert second.result().version == 1
    assert store.get_secrets_by_prefix("") == {"b": "second"}
    assert number(raw, _DATA_KEYS) == 1


def test_writers_of_different_keys_do_not_wait(engine: Engine, store: SecretClient) -> None:
    """While one transaction with a set and a delete stays open, others write and delete other keys of the namespace."""
    store.set_secrets({"a": 1, "b": 1, "c": 1})
    with Session(engine) as session, session.begin():
        store.bind(session).set_secret("a", 2)
        store.bind(session).delete_secret("b")
        with in_thread(lambda: (store.set_secret("new", 1).version, store.delete_secret("c"))) as beside:
            assert answers([beside]) == [(1, True)]
        assert store.get_secrets(["a", "b", "c", "new"]) == {"a": 1, "b": 1, "new": 1}


BEFORE_THE_WRITE: dict[str, Callable[[SecretService], object]] = {
    "labels": lambda service: service.set_labels("a", {"n": "2"}),
    "undelete": lambda service: (service.delete_secret("a"), service.undelete_secret("a")),
    "delete": lambda service: service.delete_secret("a"),
    "destroy": lambda service: service.destroy_versions("a", [1]),
    "purge": lambda service: service.purge_secret("a"),
}


@pytest.mark.parametrize("change", BEFORE_THE_WRITE)
def test_a_writer_that_waited_wrote_later(
    engine: Engine, store: SecretClient, raw: psycopg.Connection, change: str
) -> None:
    """A change that leaves the version as it is, made while a writer waits for it, is recorded before that write."""
    store.set_secret("a", "before")
    with Session(engine) as session:
        service = store.bind(session)
        service.set_labels("a", {"n": "1"})
        with in_thread(lambda: store.set_secret("a", "second")) as second:
            wait_until_blocked(raw)
            BEFORE_THE_WRITE[change](service)
            session.commit()
    events = rows(raw, EVENTS)
    assert (events[-1]["version"], events[-1]["action"], second.result().version) == (2, "set", 2)
    assert events[-1]["occurred_at"] == second.result().updated_at > events[-2]["occurred_at"]
    as_it_was = store.as_of(events[-2]["occurred_at"]).describe_secret("a")
    assert as_it_was is None or as_it_was.version == 1
