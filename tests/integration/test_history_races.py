"""Those who change history at the same moment, in real threads, each on a connection of its own."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from secretstore import (
    KeyRing,
    SecretClient,
    SecretNotFoundError,
    SecretService,
    VersionConflictError,
    VersionGoneError,
)
from secretstore.domain.names import Namespace
from secretstore.orm.engines import make_engine
from secretstore.orm.key_repository import DataKeyRepository, Replacement
from secretstore.orm.models import SecretVersion
from tests.support.server import Server
from tests.support.threads import in_thread, number, run_together, wait_until_blocked

T = TypeVar("T")
S = TypeVar("S")

WRITERS = 16
WRITES_OF_EACH = 100
ACTIONS = "SELECT action || ' ' || version FROM secretstore.change_event WHERE key = %s ORDER BY occurred_at"
# Of one key, later versions have later moments.
SWAPPED = """
    SELECT count(*) FROM secretstore.change_event AS one JOIN secretstore.change_event AS other USING (namespace, key)
    WHERE one.version < other.version AND one.occurred_at >= other.occurred_at
"""
HISTORY = "SELECT count(*) FROM secretstore.secret_version"


@dataclass(frozen=True)
class Race:
    """Two who meet on one secret: the second begins while the first holds its transaction open."""

    engine: Engine
    store: SecretClient
    raw: psycopg.Connection

    def run(self, first: Callable[[SecretService], T], second: Callable[[SecretClient], S]) -> tuple[T, S]:
        """Let the first commit when the second waits for it; return what both answer."""
        with Session(self.engine) as session:
            begun = first(self.store.bind(session))
            with in_thread(lambda: second(self.store)) as waiting:
                wait_until_blocked(self.raw)
                session.commit()
                return begun, waiting.result()

    def actions(self, key: str = "a") -> list[str]:
        """Return what was done to a secret, in the order of its moments, with the version of each."""
        return [row[0] for row in self.raw.execute(ACTIONS, [key])]


@pytest.fixture
def race(engine: Engine, store: SecretClient, raw: psycopg.Connection) -> Race:
    """Two versions of the secret `a`, and whoever changes it next."""
    store.set_secret("a", "first", labels={"team": "web"})
    store.set_secret("a", "second")
    return Race(engine, store, raw)


def test_sixteen_writers_make_gapless_versions(
    database: str, database_url: str, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """16 clients with engines of their own that write one key 100 times each make exactly the versions 1 to 1,600."""
    raw.execute(f"ALTER DATABASE {database} SET synchronous_commit = off".encode())
    engines = [make_engine(database_url) for _ in range(WRITERS)]

    def write(writer: int) -> list[int]:
        own = SecretClient(engines[writer], keyring)
        return [own.set_secret("a", [writer, n]).version for n in range(WRITES_OF_EACH)]

    written = run_together(*(lambda writer=writer: write(writer) for writer in range(WRITERS)))
    total = WRITERS * WRITES_OF_EACH
    assert sorted(version for own in written for version in own) == list(range(1, total + 1))
    assert all(own == sorted(own) for own in written)
    assert number(raw, f"{HISTORY} JOIN secretstore.change_event USING (namespace, key, version)") == total
    assert (number(raw, HISTORY), number(raw, SWAPPED)) == (total, 0)

    with Session(engines[0]) as session:
        reader = SecretClient(engines[0], keyring).bind(session)
        assert [info.version for info in reader.list_versions("a")] == list(range(total, 0, -1))
        assert [reader.get_secret("a", version=own[-1]) for own in written] == [
            [writer, WRITES_OF_EACH - 1] for writer in range(WRITERS)
        ]
    for engine in engines:
        engine.dispose()


def test_a_set_that_waits_for_a_delete_writes_the_secret_again(race: Race) -> None:
    """A writer that waited for a delete makes the next version, which is there; the delete answered that there was one."""
    deleted, written = race.run(lambda own: own.delete_secret("a"), lambda store: store.set_secret("a", "third"))
    assert (deleted, written.version, written.deleted_at) == (True, 3, None)
    assert (race.store.get_secret("a"), race.store.get_secret_count()) == ("third", 1)
    assert race.actions() == ["set 1", "set 2", "delete 2", "set 3"]


def test_a_delete_that_waits_for_a_set_deletes_the_new_version(race: Race) -> None:
    """A delete that waited for a writer deletes what that one wrote, and undelete brings just that back."""
    written, deleted = race.run(lambda own: own.set_secret("a", "third"), lambda store: store.delete_secret("a"))
    assert (written.version, deleted, race.store.get_secret("a")) == (3, True, None)
    assert race.actions() == ["set 1", "set 2", "set 3", "delete 3"]
    assert (race.store.undelete_secret("a").version, race.store.get_secret("a")) == (3, "third")


def test_an_undelete_that_waits_for_a_purge_finds_nothing(race: Race) -> None:
    """What was purged first is not brought back, not even as a shell."""
    race.store.delete_secret("a")

    purged, refused = race.run(
        lambda own: own.purge_secret("a"),
        lambda store: _refusal(SecretNotFoundError, lambda: store.undelete_secret("a")),
    )
    assert (purged, refused) == (True, True)
    _assert_only_its_number_is_left(race)
    assert race.actions() == ["set 1", "set 2", "delete 2", "purge 2", "set 3"]


def test_a_purge_that_waits_for_an_undelete_removes_what_came_back(race: Race) -> None:
    """A secret that came back while its purge waited is purged all the same."""
    race.store.delete_secret("a")

    back, purged = race.run(lambda own: own.undelete_secret("a"), lambda store: store.purge_secret("a"))
    assert (back.version, back.deleted_at, purged) == (2, None, True)
    _assert_only_its_number_is_left(race)
    assert race.actions() == ["set 1", "set 2", "delete 2", "undelete 2", "purge 2", "set 3"]


def _assert_only_its_number_is_left(race: Race) -> None:
    assert (race.store.get_secret("a"), race.store.list_versions("a")) == (None, [])
    assert race.store.list_secret_keys(include_deleted=True) == []
    assert race.store.set_secret("a", "anew").version == 3


def _refusal(error: type[Exception], call: Callable[[], object]) -> bool:
    """Return whether a call is refused, by that error."""
    try:
        call()
    except error:
        return True
    return False


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "READ COMMITTED"])
def test_a_reader_of_an_old_version_while_it_is_pruned(race: Race, isolation: str) -> None:
    """A reader with a snapshot goes on reading what a write prunes meanwhile, and one without is told that it is gone.

    The write does not wait for either.
    """
    race.store.set_max_versions(1)
    then = _now(race.raw)
    with Session(race.engine.execution_options(isolation_level=isolation)) as session:
        reader = race.store.bind(session)
        assert (reader.get_secret("a"), reader.get_secret("a", version=1)) == ("second", "first")

        assert race.store.set_secret("a", "third").version == 3
        assert number(race.raw, HISTORY) == 1
        if isolation == "REPEATABLE READ":
            assert (reader.get_secret("a"), reader.get_secret("a", version=1)) == ("second", "first")
            assert (reader.as_of(then).get_secret("a"), len(reader.list_versions("a"))) == ("second", 2)
        else:
            assert (reader.get_secret("a"), reader.get_secret("a", version=1)) == ("third", None)
            assert [info.version for info in reader.list_versions("a")] == [3]
            with pytest.raises(VersionGoneError):
                reader.as_of(then).get_secret("a")


def _now(raw: psycopg.Connection) -> datetime:
    row = raw.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def test_a_rollback_that_waits_for_a_set_comes_after_it(race: Race) -> None:
    """A rollback that waited for a writer makes the version after that one's, and loses none."""
    written, rolled_back = race.run(
        lambda own: own.set_secret("a", "third"), lambda store: store.rollback_secret("a", to_version=1)
    )
    assert (written.version, rolled_back.version) == (3, 4)
    assert _values(race, 4) == ["first", "second", "third", "first"]


def test_a_set_that_waits_for_a_rollback_comes_after_it(race: Race) -> None:
    """A writer that waited for a rollback makes the version after that one's, and loses none."""
    rolled_back, written = race.run(
        lambda own: own.rollback_secret("a", to_version=1), lambda store: store.set_secret("a", "fourth")
    )
    assert (rolled_back.version, written.version) == (3, 4)
    assert _values(race, 4) == ["first", "second", "first", "fourth"]


def test_a_rollback_can_go_to_what_it_waited_for(race: Race) -> None:
    """A version that is written while a rollback to it waits is there for the rollback."""
    _, rolled_back = race.run(
        lambda own: own.set_secret("a", "third"), lambda store: store.rollback_secret("a", to_version=3)
    )
    assert (rolled_back.version, race.store.get_secret("a")) == (4, "third")


def test_a_rollback_that_waits_for_a_delete_finds_no_secret(race: Race) -> None:
    """A rollback does not bring back a secret that was deleted while it waited."""
    _, refused = race.run(
        lambda own: own.delete_secret("a"),
        lambda store: _refusal(SecretNotFoundError, lambda: store.rollback_secret("a", to_version=1)),
    )
    assert (refused, race.store.get_secret("a"), number(race.raw, HISTORY)) == (True, None, 2)


def _values(race: Race, last: int) -> list[object]:
    return [race.store.get_secret("a", version=version) for version in range(1, last + 1)]


def test_a_patch_that_waits_for_a_set_changes_what_was_set(race: Race) -> None:
    """A patch is applied to what a writer has put there while the patch waited."""
    race.store.set_secret("a", {"kept": 1})

    written, patched = race.run(
        lambda own: own.set_secret("a", {"new": 1}), lambda store: store.patch_secret("a", {"patched": 1})
    )
    assert (written.version, patched.version) == (4, 5)
    assert race.store.get_secret("a") == {"new": 1, "patched": 1}


def test_a_set_that_waits_for_a_patch_comes_after_it(race: Race) -> None:
    """A writer that waited for a patch puts its value in the place of the patched one, which stays in the history."""
    race.store.set_secret("a", {"kept": 1})

    patched, written = race.run(
        lambda own: own.patch_secret("a", {"patched": 1}), lambda store: store.set_secret("a", {"new": 1})
    )
    assert (patched.version, written.version) == (4, 5)
    assert (race.store.get_secret("a", version=4), race.store.get_secret("a")) == (
        {"kept": 1, "patched": 1},
        {"new": 1},
    )


def test_a_patch_that_expects_what_was_there_before_is_a_conflict(race: Race) -> None:
    """A patch with an expected version is not applied to what was set while it waited."""
    race.store.set_secret("a", {"kept": 1})

    _, refused = race.run(
        lambda own: own.set_secret("a", {"new": 1}),
        lambda store: _refusal(
            VersionConflictError, lambda: store.patch_secret("a", {"patched": 1}, expected_version=3)
        ),
    )
    assert (refused, race.store.get_secret("a")) == (True, {"new": 1})


def test_patches_from_many_threads_are_all_applied(store: SecretClient) -> None:
    """8 threads that patch a member each, ten times over, lose nothing of one another."""
    store.set_secret("a", {})

    def patch(thread: int) -> None:
        for n in range(10):
            store.patch_secret("a", {f"{thread}.{n}": n})

    run_together(*(lambda thread=thread: patch(thread) for thread in range(8)))
    info = store.describe_secret("a")
    assert info is not None
    assert info.version == 81
    assert store.get_secret("a") == {f"{thread}.{n}": n for thread in range(8) for n in range(10)}


def test_a_set_that_waits_for_labels_keeps_them(race: Race) -> None:
    """A write without labels keeps those that were set while it waited."""
    labelled, written = race.run(
        lambda own: own.set_labels("a", {"team": "data"}), lambda store: store.set_secret("a", "third")
    )
    assert (labelled.version, written.version, written.labels) == (2, 3, {"team": "data"})
    assert _labels_of_versions(race) == {3: {"team": "data"}, 2: {"team": "data"}, 1: {"team": "web"}}


def test_labels_that_wait_for_a_set_come_to_the_new_version(race: Race) -> None:
    """Labels that are set while another writes a version are the labels of that version, and not of the one before."""
    written, labelled = race.run(
        lambda own: own.set_secret("a", "third"), lambda store: store.set_labels("a", {"team": "data"})
    )
    assert (written.labels, labelled.version, labelled.labels) == ({"team": "web"}, 3, {"team": "data"})
    assert race.store.list_secret_keys() == ["a"]
    assert _labels_of_versions(race) == {3: {"team": "data"}, 2: {"team": "web"}, 1: {"team": "web"}}
    assert (race.store.get_secret("a"), race.actions()[2:]) == ("third", ["set 3", "labels 3"])


@pytest.mark.parametrize("labels_come_first", [True, False])
def test_of_two_that_label_the_later_one_wins(race: Race, *, labels_come_first: bool) -> None:
    """A write that brings labels and a change of labels take effect one after the other."""

    def write(own: SecretClient | SecretService) -> object:
        return own.set_secret("a", "third", labels={"by": "write"})

    def label(own: SecretClient | SecretService) -> object:
        return own.set_labels("a", {"by": "labels"})

    race.run(*((label, write) if labels_come_first else (write, label)))
    (info,) = race.store.list_secrets()
    assert (info.version, info.labels) == (3, {"by": "write" if labels_come_first else "labels"})


def _labels_of_versions(race: Race) -> dict[int, Mapping[str, str]]:
    return {info.version: info.labels for info in race.store.list_versions("a")}


def test_a_rollback_that_waits_for_a_destroy_is_refused(race: Race) -> None:
    """A version whose ciphertext was destroyed while a rollback to it waited is gone, and nothing is written."""
    destroyed, refused = race.run(
        lambda own: own.destroy_versions("a", [1]),
        lambda store: _refusal(SecretNotFoundError, lambda: store.rollback_secret("a", to_version=1)),
    )
    assert (destroyed, refused, race.store.get_secret("a")) == (1, True, "second")
    assert race.actions() == ["set 1", "set 2", "destroy 1"]


def test_a_destroy_that_waits_for_a_rollback_destroys_the_old_version_only(race: Race) -> None:
    """The version that a rollback has made of an old one stays, whatever becomes of the old one."""
    rolled_back, destroyed = race.run(
        lambda own: own.rollback_secret("a", to_version=1), lambda store: store.destroy_versions("a", [1])
    )
    assert (rolled_back.version, destroyed) == (3, 1)
    assert _values(race, 3) == [None, "second", "first"]
    assert race.actions() == ["set 1", "set 2", "rollback 3", "destroy 1"]


def test_a_destroy_of_the_last_version_that_waits_for_a_set_leaves_the_secret(race: Race) -> None:
    """The version that was current is an old one by the time that it is destroyed, and the secret goes on."""
    _, destroyed = race.run(lambda own: own.set_secret("a", "third"), lambda store: store.destroy_versions("a", [2]))
    assert (destroyed, _values(race, 3)) == (1, ["first", None, "third"])


def test_a_set_that_waits_for_a_destroy_of_the_last_version_writes_the_secret_again(race: Race) -> None:
    """A secret that was deleted with its current value, while a writer waited, is there again with the new one."""
    destroyed, written = race.run(
        lambda own: own.destroy_versions("a", [2]), lambda store: store.set_secret("a", "third")
    )
    assert (destroyed, written.version) == (1, 3)
    assert _values(race, 3) == ["first", None, "third"]


@pytest.mark.parametrize("max_versions", [None, 2], ids=["all versions", "2 versions kept"])
def test_mixed_batches_never_deadlock(store: SecretClient, raw: psycopg.Connection, max_versions: int | None) -> None:
    """Batches that set and delete overlapping keys, in other orders each time, 30 rounds from 8 threads, all succeed."""
    keys = [f"k{n}" for n in range(12)]
    store.set_max_versions(max_versions)

    def change(thread: int) -> None:
        chance = random.Random(thread)
        for turn in range(30):
            some = chance.sample(keys, chance.randint(2, len(keys)))
            if chance.random() < 1 / 3:
                store.delete_secrets(some)
            else:
                store.set_secrets({key: [thread, turn] for key in some})

    run_together(*(lambda thread=thread: change(thread) for thread in range(8)))
    store.set_secrets(dict.fromkeys(keys, "last"))
    infos = store.list_secrets()
    written = sum(info.version for info in infos)
    assert [info.key for info in infos] == sorted(keys)
    assert number(raw, "SELECT count(*) FROM secretstore.change_event WHERE action = 'set'") == written
    assert number(raw, HISTORY) == (written if max_versions is None else max_versions * len(keys))
    assert number(raw, "SELECT count(DISTINCT version) FROM secretstore.secret_version WHERE key = 'k0'") == (
        infos[0].version if max_versions is None else max_versions
    )


REMOVALS: Mapping[str, Callable[[SecretClient], object]] = MappingProxyType(
    {
        "prune": lambda store: store.set_secrets(dict.fromkeys("amz", "new")),
        "purge": lambda store: [store.purge_secret(key) for key in "amz"],
        "destroy": lambda store: [store.destroy_versions(key, [1, 2, 3]) for key in "amz"],
    }
)


@pytest.mark.parametrize("held", ["key = 'm'", "version = 2"])
@pytest.mark.parametrize("removal", REMOVALS)
def test_what_removes_versions_and_a_rotation_never_deadlock(
    engine: Engine, store: SecretClient, raw: psycopg.Connection, removal: str, *, held: str
) -> None:
    """Both take the versions in the same order, also where those lie in the table in another one."""
    for value in range(3):
        for key in "zma":
            store.set_secret(key, value)
    store.set_max_versions(1)
    for version in (3, 2, 1):
        # A row that is changed comes to lie behind the others.
        raw.execute("UPDATE secretstore.secret_version SET created_by = 'raw' WHERE version = %s", [version])
    raw.execute("VACUUM (ANALYZE) secretstore.secret_version")

    with Session(engine) as session:
        session.execute(
            text(f"SELECT FROM secretstore.secret_version WHERE namespace = 'default' AND {held} FOR UPDATE")
        )
        with in_thread(lambda: REMOVALS[removal](store)) as removing:
            wait_until_blocked(raw)
            with in_thread(lambda: _reencrypt_history(engine)) as rotating:
                wait_until_blocked(raw, 2)
                session.rollback()
                rotating.result()
                removing.result()
    values = number(raw, f"{HISTORY} WHERE value IS NOT NULL")
    assert values == {"prune": 3, "purge": 0, "destroy": 0}[removal]


def _reencrypt_history(engine: Engine) -> int:
    """Put envelopes in the place of all old ones, waiting for whoever holds one, as a rotation does in the end."""
    with Session(engine) as session, session.begin():
        repository = DataKeyRepository(session, Namespace("default"))
        (info,) = repository.list_infos()
        page = repository.list_sealed(SecretVersion, [info.id], after=("", 0), limit=100)
        return repository.replace_envelopes(
            SecretVersion, [Replacement(value, value.text) for value in page], skip_locked=False
        )


Change = Callable[[Any, str], object]
CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "set": lambda own, key: own.set_secret(key, "new"),
        "delete": lambda own, key: own.delete_secret(key),
        "undelete": lambda own, key: own.undelete_secret(key),
        "set_labels": lambda own, key: own.set_labels(key, {"team": "data"}),
        "patch": lambda own, key: own.patch_secret(key, {"patched": True}),
        "rollback": lambda own, key: own.rollback_secret(key, to_version=2),
        "destroy": lambda own, key: own.destroy_versions(key, [2]),
        "destroy the last": lambda own, key: own.destroy_versions(key, [3]),
        "purge": lambda own, key: own.purge_secret(key),
        "limit": lambda own, key: own.set_max_versions(5, key=key),
    }
)
SINCE = "SELECT DISTINCT key FROM secretstore.change_event WHERE occurred_at > %s"


@pytest.fixture
def impatient(server: Server, database: str, keyring: KeyRing) -> Iterator[SecretClient]:
    """A client that waits for nobody's lock."""
    engine = make_engine(server.url(database, options="-clock_timeout=500ms"))
    yield SecretClient(engine, keyring)
    engine.dispose()


@pytest.mark.parametrize("max_versions", [None, 2], ids=["all versions", "2 versions kept"])
@pytest.mark.parametrize("held", CHANGES)
def test_changes_of_different_keys_never_wait(
    *,
    engine: Engine,
    store: SecretClient,
    impatient: SecretClient,
    raw: psycopg.Connection,
    held: str,
    max_versions: int | None,
) -> None:
    """While one transaction holds a change of any kind open, changes of every kind of other keys are committed."""
    store.set_max_versions(max_versions)
    for key in ("held", *CHANGES):
        _prepare(store, key, is_deleted=held == "undelete" if key == "held" else key == "undelete")
    before = _now(raw)

    with Session(engine) as session:
        CHANGES[held](store.bind(session), "held")
        for name, change in CHANGES.items():
            change(impatient, name)
        impatient.set_secrets({"new": 1, "set": 1})
        impatient.delete_secrets(["new", "delete"])
        committed = {row[0] for row in raw.execute(SINCE, [before])}
        session.commit()
    # A limit is no change of the secret, and so there is no event of it.
    assert committed == {*CHANGES, "new"} - {"limit"}
    assert {row[0] for row in raw.execute(SINCE, [before])} - committed == ({"held"} if held != "limit" else set())


def _prepare(store: SecretClient, key: str, *, is_deleted: bool) -> None:
    for turn in range(3):
        store.set_secret(key, {"turn": turn}, labels={"team": "web"})
    if is_deleted:
        store.delete_secret(key)
