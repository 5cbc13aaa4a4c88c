"""Every committed change is given once, in order, whatever happens to watchers, writers and connections."""

import asyncio
import random
from contextlib import aclosing, closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from secretstore import (
    AsyncSecretClient,
    Change,
    InvalidSecretKeyError,
    KeyRing,
    SecretClient,
    StoreUnavailableError,
    migrate,
)
from secretstore.client import watching
from secretstore.domain.names import Namespace
from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from secretstore.orm.engines import make_engine
from secretstore.orm.event_repository import EventRepository, Wanted
from secretstore.service.changes import ChangeReader
from tests.support.faces import async_engine
from tests.support.threads import in_thread, number, run_together, wait_until, wait_until_blocked

_LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
_NUMBERED = "SELECT count(*) FROM secretstore.change_event WHERE seq IS NOT NULL"
_LONG = 3600.0

Seen = list[tuple[int, str, int, str]]


def seen(changes: list[Change]) -> Seen:
    """What a change says, in short."""
    return [(change.seq, change.key, change.version, change.action) for change in changes]


def take(store: SecretClient, count: int, **options: object) -> list[Change]:
    """Return the first changes that a watch gives, and close it."""
    with closing(store.watch(**{"after": 0, "poll_seconds": 0.01, **options})) as changes:  # type: ignore[arg-type] # of one call or another
        return list(islice(changes, count))


def test_every_change_is_given_once(store: SecretClient) -> None:
    """Each kind of change is one event with number, key, version, action, actor and time."""
    first = store.set_secret("a", 1)
    store.set_secrets({"b": 1, "a": 2})
    store.set_labels("a", {"team": "web"})
    store.delete_secret("a")
    store.undelete_secret("a")
    store.destroy_versions("a", [1])
    store.purge_secret("b")

    changes = store.list_changes()
    of_a = [(change.version, change.action) for change in changes if change.key == "a"]
    assert of_a == [(1, "set"), (2, "set"), (2, "labels"), (2, "delete"), (2, "undelete"), (1, "destroy")]
    assert [(change.version, change.action) for change in changes if change.key == "b"] == [(1, "set"), (1, "purge")]
    assert [change.seq for change in changes] == list(range(1, 9))
    assert {(change.namespace, change.actor) for change in changes} == {("default", "postgres")}
    assert changes[0].occurred_at == first.updated_at
    assert take(store, 8) == changes == store.list_changes()


def test_changes_of_a_key_come_in_their_order(store: SecretClient) -> None:
    """What is numbered in one go is numbered by key, and of each key in the order in which it happened."""
    for value in range(3):
        store.set_secret("b", value)
        store.set_secret("a", value)
    store.delete_secret("a")
    store.undelete_secret("a")
    store.delete_secret("a")

    assert seen(store.list_changes("a")) == [
        (1, "a", 1, "set"),
        (2, "a", 2, "set"),
        (3, "a", 3, "set"),
        (4, "a", 3, "delete"),
        (5, "a", 3, "undelete"),
        (6, "a", 3, "delete"),
    ]
    assert seen(store.list_changes("b")) == [(7, "b", 1, "set"), (8, "b", 2, "set"), (9, "b", 3, "set")]


def test_the_destruction_of_an_old_version_comes_when_it_happened(store: SecretClient) -> None:
    """It names an old version, and comes after what was written before it, and before what was written after it."""
    for value in range(3):
        store.set_secret("a", value)
    store.destroy_versions("a", [2, 1])
    store.set_labels("a", {"team": "web"})
    store.set_secret("a", 3)
    store.destroy_versions("a", [3])

    changes = [(change.version, change.action) for change in store.list_changes()]
    assert changes[:3] == [(1, "set"), (2, "set"), (3, "set")]
    assert sorted(changes[3:5]) == [(1, "destroy"), (2, "destroy")]
    assert changes[5:] == [(3, "labels"), (4, "set"), (3, "destroy")]


def test_a_transaction_that_commits_late_is_not_missed(engine: Engine, store: SecretClient) -> None:
    """A change that was written early and committed late comes after what a watcher has seen by then."""
    store.set_secret("first", 1)
    assert seen(store.list_changes()) == [(1, "first", 1, "set")]
    with Session(engine) as session:
        store.bind(session).set_secret("late", 1)
        store.set_secret("early", 1)
        with closing(store.watch(after=1, poll_seconds=0.01)) as changes:
            assert seen([next(changes)]) == [(2, "early", 1, "set")]
            session.commit()
            assert seen([next(changes)]) == [(3, "late", 1, "set")]
    assert seen(take(store, 1, after=2)) == [(3, "late", 1, "set")]


def test_a_change_that_was_rolled_back_is_never_seen(engine: Engine, store: SecretClient) -> None:
    """Only what was committed is given, and it leaves no gap."""
    with Session(engine) as session:
        store.bind(session).set_secret("undone", 1)
    store.set_secret("done", 1)

    assert seen(take(store, 1)) == [(1, "done", 1, "set")]


def test_a_watch_goes_on_where_the_caller_was(store: SecretClient) -> None:
    """After any restart, a watch from the last number gives what comes after it, and nothing twice."""
    store.set_secrets({f"k{place}": place for place in range(10)})
    whole = take(store, 10)

    for place in range(10):
        assert take(store, 10 - place, after=place) == whole[place:]
    assert store.list_changes(after=10) == store.list_changes(after=1000) == []
    assert store.list_changes(after=3, limit=2) == whole[3:5]


def test_without_a_start_only_what_comes_is_given(store: SecretClient, raw: psycopg.Connection) -> None:
    """A watch without `after` begins with what is committed once it has begun."""
    store.set_secret("before", 1)
    with in_thread(lambda: take(store, 1, after=None, poll_seconds=0.01)) as watched:
        wait_until(raw, _NUMBERED, 1)
        wait_until(raw, _LISTENERS, 1)
        store.set_secret("then", 1)
    assert seen(watched.result()) == [(2, "then", 1, "set")]


def test_a_copy_is_kept_up_from_the_last_number(engine: Engine, store: SecretClient) -> None:
    """The last number counts what is committed by then, of any key, and what comes later is watched after it."""
    assert store.last_change_number() == 0
    store.set_secrets({"a": 1, "b": 1})
    with Session(engine) as session:
        store.bind(session).set_secret("late", 1)
        assert store.last_change_number() == 2
        session.commit()
    assert seen(take(store, 1, after=2)) == [(3, "late", 1, "set")]
    assert (store.last_change_number(), store.namespace("other").last_change_number()) == (3, 0)


def test_only_keys_with_the_prefix_are_given(store: SecretClient) -> None:
    """A prefix leaves other keys out, and namespaces are apart."""
    store.set_secrets({"a.1": 1, "b.1": 1, "a.2": 1})
    store.namespace("other").set_secret("a.3", 1)

    assert [change.key for change in take(store, 2, prefix="a.")] == ["a.1", "a.2"]
    assert seen(store.namespace("other").list_changes()) == [(1, "a.3", 1, "set")]
    with pytest.raises(InvalidSecretKeyError):
        store.list_changes("\0")


def test_a_watch_passes_over_many_other_keys(engine: Engine, store: SecretClient) -> None:
    """Changes of other keys are looked at once: the next look begins after them."""
    store.set_secrets({f"other.{place}": 1 for place in range(20)})
    reader = ChangeReader(Namespace("default"), Wanted(prefix="mine"))
    with Session(engine) as session, session.begin():
        page = reader.read(session, 0, 10)

    assert (page.changes, page.after, page.is_last) == ((), 20, True)


def test_a_long_history_comes_in_pages(store: SecretClient) -> None:
    """More changes than a page, and than are numbered at once, all come, each once."""
    store.set_secrets({f"k{place:04}": 1 for place in range(1500)})
    store.delete_secrets([f"k{place:04}" for place in range(1500)])

    changes = take(store, 3000)
    assert [change.seq for change in changes] == list(range(1, 3001))
    assert len({(change.key, change.action) for change in changes}) == 3000


def test_a_notice_wakes_a_watch(store: SecretClient, raw: psycopg.Connection) -> None:
    """Told of a change, a watch looks long before it would have."""
    with in_thread(lambda: take(store, 1, poll_seconds=_LONG)) as watched:
        wait_until(raw, _LISTENERS, 1)
        store.namespace("other").set_secret("elsewhere", 1)
        store.set_secret("a", 1)
    assert seen(watched.result()) == [(1, "a", 1, "set")]


def test_without_notices_a_watch_still_sees_everything(
    engine: Engine, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Where writers send no notices, looking again and again is enough."""
    silent = SecretClient(engine, keyring, notify="off")
    with in_thread(lambda: take(silent, 3, poll_seconds=0.01)) as watched:
        wait_until(raw, _LISTENERS, 1)
        for value in range(3):
            silent.set_secret("a", value)
    assert seen(watched.result()) == [(1, "a", 1, "set"), (2, "a", 2, "set"), (3, "a", 3, "set")]


def test_a_notice_names_key_and_version_and_no_value(
    engine: Engine, keyring: KeyRing, store: SecretClient, raw: psycopg.Connection
) -> None:
    """What is sent beside the data is a hint: namespace, key and version; of many keys the namespace alone."""
    raw.execute("LISTEN secretstore")
    store.set_secret("ключ", "canary-value")
    store.set_secrets({"a": "canary-value", "b": "canary-value"})
    SecretClient(engine, keyring, notify="off").set_secret("quiet", 1)
    store.delete_secret("a")

    payloads = [notice.payload for notice in raw.notifies(timeout=0.5, stop_after=3)]
    assert payloads == [
        '{"namespace": "default", "key": "ключ", "version": 1}',
        '{"namespace": "default"}',
        '{"namespace": "default", "key": "a", "version": 1}',
    ]


def test_the_longest_names_fit_into_a_notice(store: SecretClient) -> None:
    """A write of the longest key in the longest namespace is not refused for the sake of its notice."""
    assert store.namespace("\N{GRINNING FACE}" * 128).set_secret("\N{GRINNING FACE}" * 512, 1).version == 1


def cut(raw: psycopg.Connection) -> None:
    """End every other connection to the database."""
    raw.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def test_a_watch_outlives_its_connections(store: SecretClient, raw: psycopg.Connection) -> None:
    """Cut off again and again, between and while it waits, a watch misses nothing and gives nothing twice."""
    with closing(store.watch(after=0, poll_seconds=0.01)) as changes:
        for place in range(1, 11):
            cut(raw)
            store.set_secret("a", place)
            assert seen([next(changes)]) == [(place, "a", place, "set")]


def test_a_watch_that_waits_is_cut_off_and_goes_on(store: SecretClient, raw: psycopg.Connection) -> None:
    """The connection that listens is lost in the midst of waiting, and with it a notice."""
    with in_thread(lambda: take(store, 1, poll_seconds=_LONG)) as watched:
        wait_until(raw, _LISTENERS, 1)
        first = number(raw, _LISTENERS.replace("count(*)", "pid"))
        cut(raw)
        # It listens again, on another connection.
        wait_until(raw, f"{_LISTENERS} AND pid <> {first}", 1)
        store.set_secret("a", 1)
    assert seen(watched.result()) == [(1, "a", 1, "set")]


def test_a_watch_outlives_a_restart_of_postgresql(keyring: KeyRing) -> None:
    """The server is stopped and started again while the watch goes on: nothing is missed, and nothing comes twice."""
    with TemporaryDirectory(prefix="secretstore-watch-", ignore_cleanup_errors=True) as home:
        folder = EmbeddedFolder(Path(home) / "postgresql")
        server = EmbeddedServer(folder)
        engine = make_engine(server.url)
        migrate.upgrade(engine)
        store = SecretClient(engine, keyring)
        store.set_secret("a", 1)
        with closing(store.watch(after=0, poll_seconds=0.05)) as changes:
            assert seen([next(changes)]) == [(1, "a", 1, "set")]
            with in_thread(lambda: next(changes)) as second:
                server.stop()
                server = EmbeddedServer(folder)
                store.set_secret("a", 2)
            assert seen([second.result()]) == [(2, "a", 2, "set")]
        engine.dispose()
        server.stop()


def test_a_database_that_stays_away_is_told_of(keyring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while of trying, the watch ends with `StoreUnavailableError`."""
    monkeypatch.setattr(watching, "_PATIENCE_SECONDS", 0.2)
    nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")

    with pytest.raises(StoreUnavailableError):
        take(SecretClient(nowhere, keyring), 1)
    nowhere.dispose()


def test_a_watch_that_is_left_lets_its_connection_go(store: SecretClient, raw: psycopg.Connection) -> None:
    """Leaving the loop ends the connection that listened."""
    store.set_secret("a", 1)
    changes = store.watch(after=0)
    next(changes)
    assert number(raw, _LISTENERS) == 1
    changes.close()
    wait_until(raw, f"SELECT 1 - ({_LISTENERS})", 1)


def test_eight_watchers_agree(database_url: str, keyring: KeyRing) -> None:
    """Eight watchers that number at once, beside eight writers, all see the same changes in the same order."""
    with_engines = [create_engine(database_url.replace("://", "+psycopg://"), pool_size=2) for _ in range(16)]
    clients = [SecretClient(engine, keyring) for engine in with_engines]
    clients[0].set_secret("first", 0)
    total = 1 + 8 * 25

    def write(place: int) -> list[Change]:
        chance = random.Random(place)
        for value in range(25):
            clients[place].set_secret(f"k{chance.randrange(5)}", value)
        return []

    watchers = [lambda place=place: take(clients[place], total) for place in range(8, 16)]
    writers = [lambda place=place: write(place) for place in range(8)]
    results = [changes for changes in run_together(*watchers, *writers) if changes]
    for engine in with_engines:
        engine.dispose()

    assert len(results) == 8
    assert all(changes == results[0] for changes in results)
    assert [change.seq for change in results[0]] == list(range(1, total + 1))
    by_key: dict[str, list[int]] = {}
    for change in results[0]:
        by_key.setdefault(change.key, []).append(change.version)
    assert all(versions == list(range(1, len(versions) + 1)) for versions in by_key.values())


def test_numbering_waits_for_numbering_and_writers_for_nobody(
    engine: Engine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """While one watcher numbers and has not committed, another one waits, and writers go on."""
    store.set_secret("a", 1)
    with Session(engine) as session:
        assert EventRepository(session, Namespace("default")).number(10) == 1
        with in_thread(store.list_changes) as other:
            wait_until_blocked(raw)
            assert store.set_secret("a", 2).version == 2
            assert store.set_secret("b", 1).version == 1
            session.commit()
    assert seen(other.result()) == [(1, "a", 1, "set"), (2, "a", 2, "set"), (3, "b", 1, "set")]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_the_engine_s_isolation_does_not_matter(database_url: str, keyring: KeyRing, level: str) -> None:
    """Numbers are given in `READ COMMITTED`, whatever isolation the caller's engine has."""
    engine = create_engine(database_url.replace("://", "+psycopg://"), isolation_level=level)
    store = SecretClient(engine, keyring)
    store.set_secret("warm", 1)

    def number_all() -> list[Change]:
        return store.list_changes()

    for value in range(5):
        store.set_secrets({f"k{place}": value for place in range(20)})
        run_together(*[number_all] * 4)
    assert [change.seq for change in store.list_changes()] == list(range(1, 102))
    engine.dispose()


def test_an_async_watch_does_the_same(database_url: str, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """In a loop: in order, woken by a notice, cut off and going on, and closed at the end."""

    async def main() -> tuple[list[Change], list[Change]]:
        async with async_engine(database_url) as engine:
            store = AsyncSecretClient(engine, keyring)
            await store.set_secret("a", 1)
            changes = []
            async with aclosing(store.watch(after=0, poll_seconds=0.05)) as watch:
                async for change in watch:
                    changes.append(change)
                    if change.version == 4:
                        break
                    if change.version == 2:
                        cut(raw)
                    await store.set_secret("a", change.version + 1)
            async with aclosing(store.watch(after=4, poll_seconds=_LONG)) as watch:
                waiting = asyncio.ensure_future(anext(watch))
                while number(raw, _LISTENERS) == 0:  # noqa: ASYNC110 - PostgreSQL tells no loop
                    await asyncio.sleep(0.005)
                await store.set_secret("b", 1)
                woken = await asyncio.wait_for(waiting, 20)
            assert await store.last_change_number() == 5
            return [*changes, woken], await store.list_changes()

    changes, listed = asyncio.run(main())
    assert [(change.key, change.version) for change in changes] == [("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 1)]
    assert changes == listed
    wait_until(raw, f"SELECT 1 - ({_LISTENERS})", 1)
