"""Master keys are changed while the store is in use: every data key is wrapped anew, and no value is touched."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import AsyncSecretClient, DecryptionError, KeyInUseError, KeyRing, MasterKeyError, SecretClient
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.domain.names import Namespace
from secretstore.domain.protocols import MasterKey
from secretstore.orm.engines import make_engine
from secretstore.orm.key_repository import DataKeyRepository
from secretstore.service import master_keys
from tests.support.faces import async_engine, open_face
from tests.support.flows import HeldFlow
from tests.support.keys import ServedMasterKey, stored_rows
from tests.support.server import Server
from tests.support.threads import number, run_together

NAMESPACES = [f"n{n:03}" for n in range(250)]
ROTATED = NAMESPACES[:10]
DATA_KEYS = len(NAMESPACES) + len(ROTATED)
# What each page takes: it is read, wrapped and stored.  Before the first one the data keys are counted.
STEPS_BEFORE, STEPS_OF_PAGE, PAGE = 1, 3, master_keys.PAGE

Wrappings = dict[tuple[str, str], dict[str, object]]
_ENVELOPES = """
    SELECT 'head', namespace, key, version, value FROM secretstore.secret_store
    UNION ALL
    SELECT 'history', namespace, key, version, value FROM secretstore.secret_version
    ORDER BY 1, 2, 3, 4
"""
_OTHER_COLUMNS = (
    "SELECT namespace, id, state, created_at, retired_at, shredded_at FROM secretstore.data_key ORDER BY 1, 2"
)
# Zeros in place of the ciphertext, still canonical base64 and of the right length.
_CHANGE = f"""
    UPDATE secretstore.data_key SET wrapped = wrapped || '{{"data": "{"A" * 64}"}}' WHERE namespace = %s
"""


def local(key_id: str) -> LocalMasterKey:
    """A master key in memory."""
    return LocalMasterKey.parse(generate_master_key(key_id))


@dataclass(frozen=True)
class ThreeKeys:
    """Two master keys that wrap all data keys, and the one that is to take their place."""

    old: LocalMasterKey
    older: LocalMasterKey
    new: LocalMasterKey

    @property
    def all(self) -> tuple[LocalMasterKey, ...]:
        """What a ring holds while the change is on."""
        return self.new, self.old, self.older


@dataclass(frozen=True)
class Many:
    """A database with many namespaces, each with a data key or two, wrapped by one or the other old master key."""

    url: str
    engine: Engine
    raw: psycopg.Connection
    three: ThreeKeys

    def store(self, *ring: MasterKey) -> SecretClient:
        """A client with a key ring of its own: of all three keys, if nothing else is said."""
        return SecretClient(self.engine, KeyRing(*(ring or self.three.all)))

    def hold(self, *ring: MasterKey) -> HeldFlow[int]:
        """A re-wrapping that goes on when it is told to."""
        keyring = KeyRing(*(ring or self.three.all))
        return HeldFlow(self.engine, master_keys.rewrap(keyring, everything=False, on_progress=lambda *_: None))

    def count_under(self, master_key: MasterKey) -> int:
        """How many data keys a master key wraps."""
        return number(self.raw, f"SELECT count(*) FROM secretstore.data_key WHERE master_key_id = '{master_key.id}'")


@pytest.fixture(scope="module")
def three() -> ThreeKeys:
    """The master keys of this module."""
    return ThreeKeys(local("old"), local("older"), local("new"))


@pytest.fixture(scope="module")
def filled_template(server: Server, template: str, three: ThreeKeys) -> Iterator[str]:
    """The name of a database that was filled once, never connected to again."""
    with server.database(template) as name:
        engine = make_engine(server.url(name))
        _fill(engine, three)
        engine.dispose()
        yield name


def _fill(engine: Engine, three: ThreeKeys) -> None:
    """Write a secret into each namespace; every other one is of the older key, and of some a rotation was broken off."""
    rings = KeyRing(three.old), KeyRing(three.older)
    with Session(engine) as session, session.begin():
        for position, namespace in enumerate(NAMESPACES):
            store = SecretClient(engine, rings[position % 2], namespace=namespace)
            store.bind(session).set_secret("a", namespace, labels={"of": namespace})
    for namespace in ROTATED:
        both = KeyRing(three.old, three.older)
        new = both.new_data_key(namespace)
        with Session(engine) as session, session.begin():
            DataKeyRepository(session, Namespace(namespace)).replace_active(new.id, new.wrapped)


@pytest.fixture
def many(server: Server, filled_template: str, three: ThreeKeys) -> Iterator[Many]:
    """A database with many namespaces."""
    with server.database(filled_template) as name:
        engine = make_engine(server.url(name))
        with psycopg.connect(server.url(name), autocommit=True) as raw:
            yield Many(server.url(name), engine, raw, three)
        engine.dispose()


def wrappings(raw: psycopg.Connection) -> Wrappings:
    """Every data key as it is stored."""
    rows = raw.execute("SELECT namespace, id, wrapped FROM secretstore.data_key")
    return {(namespace, id_): wrapped for namespace, id_, wrapped in rows}


def assert_all_is_readable(store: SecretClient) -> None:
    """Every namespace gives back its secret."""
    assert [store.namespace(namespace).get_secret("a") for namespace in NAMESPACES] == NAMESPACES


def refusal(call: Callable[[], object]) -> MasterKeyError:
    """The error of a call that a key ring does not allow."""
    with pytest.raises(MasterKeyError) as caught:
        call()
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return caught.value


# Re-wrapping


def test_every_data_key_is_wrapped_by_the_first_master_key_and_no_value_is_touched(many: Many) -> None:
    """Afterwards the new master key alone is enough, and values, labels, times and states of data keys are as before."""
    before = stored_rows(many.raw), many.raw.execute(_ENVELOPES).fetchall(), many.raw.execute(_OTHER_COLUMNS).fetchall()
    progress: list[tuple[int, int]] = []

    changed = many.store().keys.rewrap(on_progress=lambda done, total: progress.append((done, total)))

    assert changed == DATA_KEYS == many.count_under(many.three.new)
    assert progress == [(done, DATA_KEYS) for done in (PAGE, 2 * PAGE, DATA_KEYS)]
    after = stored_rows(many.raw), many.raw.execute(_ENVELOPES).fetchall(), many.raw.execute(_OTHER_COLUMNS).fetchall()
    assert after == before
    assert_all_is_readable(many.store(many.three.new))


def test_there_is_nothing_to_do_a_second_time(many: Many) -> None:
    """The second run changes nothing, and says so."""
    many.store().keys.rewrap()
    done = wrappings(many.raw)

    assert many.store().keys.rewrap() == 0
    assert wrappings(many.raw) == done


@pytest.mark.parametrize(
    ("steps", "done"),
    [
        pytest.param(STEPS_BEFORE + 2, 0, id="wrapped and not stored"),
        pytest.param(STEPS_BEFORE + STEPS_OF_PAGE, PAGE, id="after a page"),
        pytest.param(STEPS_BEFORE + 2 * STEPS_OF_PAGE + 1, 2 * PAGE, id="in the last page"),
    ],
)
def test_what_was_broken_off_goes_on(many: Many, steps: int, done: int) -> None:
    """After any number of steps everything is readable, and the next run does the rest and nothing twice."""
    many.hold().advance(steps)
    assert many.count_under(many.three.new) == done
    so_far = {place: wrapped for place, wrapped in wrappings(many.raw).items() if wrapped["key"] == "new"}

    assert_all_is_readable(many.store())
    assert many.store().keys.rewrap() == DATA_KEYS - done
    assert many.count_under(many.three.new) == DATA_KEYS
    after = wrappings(many.raw)
    assert {place: after[place] for place in so_far} == so_far
    assert_all_is_readable(many.store(many.three.new))


def test_two_at_once_share_the_work(many: Many) -> None:
    """Two processes with key rings of their own wrap each data key once, and in the end all of them are wrapped."""
    changed = run_together(many.store().keys.rewrap, many.store().keys.rewrap)

    assert sum(changed) == DATA_KEYS == many.count_under(many.three.new)
    assert_all_is_readable(many.store(many.three.new))


def test_what_another_process_has_wrapped_meanwhile_stays(many: Many) -> None:
    """A page that was read, and that others have wrapped before it is written, is left as they left it."""
    held = many.hold()
    held.advance(STEPS_BEFORE + 2)
    assert many.store().keys.rewrap() == DATA_KEYS
    theirs = wrappings(many.raw)

    assert held.advance(100)
    assert held.results == [0]
    assert wrappings(many.raw) == theirs


def test_what_is_destroyed_meanwhile_stays_destroyed(many: Many) -> None:
    """Data keys that were read, and that are then shredded or removed, do not come back."""
    kept, removed = ROTATED[0], ROTATED[1]
    held = many.hold()
    held.advance(STEPS_BEFORE + 2)
    many.store().namespace(kept).keys.shred()
    rotated = many.store().namespace(removed).keys
    rotated.reencrypt()
    rotated.destroy(next(info.id for info in rotated.list_data_keys() if info.state == "retired"))

    assert held.advance(100)
    assert held.results == [DATA_KEYS - 3]
    assert {info.state for info in many.store().namespace(kept).keys.list_data_keys()} == {"shredded"}
    assert [info.state for info in rotated.list_data_keys()] == ["active"]


def test_a_data_key_that_was_changed_stops_nothing(many: Many) -> None:
    """It stays as it is, all others are wrapped, and the error tells how many there are and what is wrong with one."""
    changed = NAMESPACES[110], NAMESPACES[220]
    for namespace in changed:
        many.raw.execute(_CHANGE.encode(), [namespace])
    before = wrappings(many.raw)

    error = refusal(many.store().keys.rewrap)

    assert f"{DATA_KEYS - 2} data keys were re-wrapped, 2 were not" in str(error)
    assert f"namespace {changed[0]!r} does not open with master key 'old'" in str(error)
    assert not error.is_temporary
    assert many.count_under(many.three.new) == DATA_KEYS - 2
    after = wrappings(many.raw)
    assert {namespace for namespace, id_ in after if after[namespace, id_] == before[namespace, id_]} == set(changed)


def test_a_data_key_that_names_no_master_key_is_told_of(many: Many) -> None:
    """One whose wrapping does not say any more by whom it was made is not passed over in silence."""
    many.raw.execute(
        "UPDATE secretstore.data_key SET wrapped = wrapped - 'key' WHERE namespace = %s", [NAMESPACES[110]]
    )

    error = refusal(many.store().keys.rewrap)

    assert f"{DATA_KEYS - 1} data keys were re-wrapped, 1 were not" in str(error)
    assert f"namespace {NAMESPACES[110]!r} is not in a format that this release knows" in str(error)


def test_a_master_key_that_is_missing_stops_nothing(many: Many) -> None:
    """What the ring can unwrap is wrapped anew; the error counts the others and names the key; adding it ends the work."""
    lacking = many.store(many.three.new, many.three.old)
    under_older = many.count_under(many.three.older)

    error = refusal(lacking.keys.rewrap)

    assert under_older == len(NAMESPACES) // 2
    assert f"{DATA_KEYS - under_older} data keys were re-wrapped, {under_older} were not" in str(error)
    assert "wrapped by master key 'older', which is not in the key ring (new, old)" in str(error)
    assert many.count_under(many.three.older) == under_older
    assert many.store().keys.rewrap() == under_older
    assert_all_is_readable(many.store(many.three.new))


@pytest.mark.parametrize("role", ["wraps", "unwraps"])
def test_a_key_server_that_does_not_answer_stops_it_at_once(engine: Engine, role: str) -> None:
    """It is asked once, not for each data key; nothing is changed, and when it answers again all is done."""
    served, other = ServedMasterKey(), local("other")
    ring = (served, other) if role == "wraps" else (other, served)
    before = KeyRing(ring[1])
    for namespace in ("a", "b", "c"):
        SecretClient(engine, before, namespace=namespace).set_secret("a", namespace)
    store = SecretClient(engine, KeyRing(*ring))
    served.calls.clear()
    served.go_down()

    error = refusal(store.keys.rewrap)

    assert error.is_temporary
    assert served.calls == [role.removesuffix("s")]
    assert [(key.id, key.data_keys) for key in store.keys.list_master_keys()] == [(ring[0].id, 0), (ring[1].id, 3)]
    served.refusal = None
    assert store.keys.rewrap() == 3


def test_pages_before_a_key_server_went_down_stay_done(engine: Engine, raw: psycopg.Connection) -> None:
    """What was stored before the failure is not done again."""
    served, other = ServedMasterKey(), local("other")
    with Session(engine) as session, session.begin():
        for n in range(PAGE + 1):
            SecretClient(engine, KeyRing(other), namespace=f"n{n:03}").bind(session).set_secret("a", n)
    store = SecretClient(engine, KeyRing(served, other))

    assert refusal(lambda: store.keys.rewrap(on_progress=lambda *_: served.go_down())).is_temporary

    assert number(raw, "SELECT count(*) FROM secretstore.data_key WHERE master_key_id = 'served'") == PAGE
    served.refusal = None
    assert store.keys.rewrap() == 1


def test_everything_is_wrapped_again_if_that_is_wanted(many: Many) -> None:
    """As after a rotation inside a key server: those under the first master key too, each in a new wrapping."""
    store = many.store()
    store.namespace(NAMESPACES[0]).keys.shred()
    shredded = 2
    store.keys.rewrap()
    before, times = wrappings(many.raw), _wrapped_at(many.raw)

    assert store.keys.rewrap(everything=True) == DATA_KEYS - shredded

    after, times_after = wrappings(many.raw), _wrapped_at(many.raw)
    moved = {place for place in before if before[place] != after[place] and times[place] < times_after[place]}
    assert len(moved) == DATA_KEYS - shredded
    assert {place for place in before if before[place] == after[place] and times[place] == times_after[place]} == (
        before.keys() - moved
    )
    assert_all_is_readable_but_first(many.store(many.three.new))


def _wrapped_at(raw: psycopg.Connection) -> dict[tuple[str, str], Any]:
    rows = raw.execute("SELECT namespace, id, wrapped_at FROM secretstore.data_key")
    return {(namespace, id_): time for namespace, id_, time in rows}


def assert_all_is_readable_but_first(store: SecretClient) -> None:
    """Every namespace gives back its secret, but the first, which was shredded."""
    assert [store.namespace(namespace).get_secret("a") for namespace in NAMESPACES[1:]] == NAMESPACES[1:]
    with pytest.raises(DecryptionError, match="shredded"):
        store.namespace(NAMESPACES[0]).get_secret("a")


def test_the_awaited_face_does_the_same(many: Many) -> None:
    """Re-wrapping, lists and checks on the async client answer as on the other."""

    async def change() -> None:
        async with async_engine(many.url) as engine:
            store = AsyncSecretClient(engine, KeyRing(*many.three.all))
            with pytest.raises(KeyInUseError, match="'old', which wraps 135 data keys"):
                await store.keys.check_removable("old")
            await store.keys.check_complete()
            assert await store.keys.rewrap() == DATA_KEYS
            assert await store.keys.rewrap(everything=True) == DATA_KEYS
            await store.keys.check_removable("old")
            assert [key.data_keys for key in await store.keys.list_master_keys()] == [DATA_KEYS, 0, 0]

    asyncio.run(change())
    assert_all_is_readable(many.store(many.three.new))


# What depends on master keys


def test_master_keys_are_listed_with_what_depends_on_them(many: Many) -> None:
    """Each key of the ring in its order, then those that are missing; `since` is the oldest wrapping."""
    times = _wrapped_at(many.raw)
    wrapped = wrappings(many.raw)
    by_key = {key_id: [times[at] for at in wrapped if wrapped[at]["key"] == key_id] for key_id in ("old", "older")}

    new, old, missing = many.store(many.three.new, many.three.old).keys.list_master_keys()

    assert [key.id for key in (new, old, missing)] == ["new", "old", "older"]
    assert [key.state for key in (new, old, missing)] == ["wraps", "unwraps", "missing"]
    assert [key.data_keys for key in (new, old, missing)] == [0, 135, 125]
    assert [key.values for key in (new, old, missing)] == [0, 250, 250]
    assert [key.since for key in (new, old, missing)] == [None, min(by_key["old"]), min(by_key["older"])]
    assert [key.fingerprint for key in (new, old)] == [many.three.new.fingerprint, many.three.old.fingerprint]
    assert missing.fingerprint is None


def test_the_list_follows_a_rewrapping(many: Many) -> None:
    """All data keys and values depend on the first master key then, since the re-wrapping, and nothing on the others."""
    store = many.store()
    before = store.keys.list_master_keys()
    store.keys.rewrap()

    new, *others = store.keys.list_master_keys()

    assert (new.state, new.data_keys, new.values) == ("wraps", DATA_KEYS, 2 * len(NAMESPACES))
    assert new.since is not None
    assert all(key.since is None or key.since < new.since for key in before)
    assert [(key.state, key.data_keys, key.values, key.since) for key in others] == [("unwraps", 0, 0, None)] * 2


def test_a_store_without_data_keys_needs_no_master_key(store: SecretClient) -> None:
    """There is nothing to wrap, nothing is missing, and the list names the ring's key alone."""
    assert store.keys.rewrap() == 0
    store.keys.check_complete()
    (listed,) = store.keys.list_master_keys()
    assert (listed.id, listed.state, listed.data_keys, listed.since) == ("test", "wraps", 0, None)


@pytest.fixture
def few(engine: Engine, three: ThreeKeys) -> ThreeKeys:
    """The master keys of a store with two namespaces, each named after the one that wraps its data key."""
    for master_key, other in ((three.old, three.older), (three.older, three.old)):
        SecretClient(engine, KeyRing(master_key, other), namespace=master_key.id).set_secret("a", master_key.id)
    return three


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_a_ring_that_lacks_a_needed_key_opens_nothing(
    database_url: str, raw: psycopg.Connection, few: ThreeKeys, kind: str
) -> None:
    """Reading and writing name the master key that is missing, also where it is not of that namespace; names are listed."""
    with open_face(kind, database_url, KeyRing(few.new, few.old)) as lacking:
        for namespace in ("old", "older", "fresh"):
            there = lacking.with_options(namespace=namespace)
            error = refusal(partial(there.set_secret, "b", "never written"))
            assert "lacks master key 'older', which wraps 1 data key (one is of namespace 'older')" in str(error)
        for namespace in ("old", "older"):
            there = lacking.with_options(namespace=namespace)
            assert "'older'" in str(refusal(partial(there.get_secret, "a")))
            assert "'older'" in str(refusal(partial(there.get_secrets_by_prefix, "")))
            assert there.list_secret_keys() == ["a"]
            assert there.get_secret_count() == 1
            assert (there.describe_secret("a").version, there.describe_secret("b")) == (1, None)
    assert number(raw, "SELECT count(*) FROM secretstore.secret_store") == 2
    assert number(raw, "SELECT count(*) FROM secretstore.data_key") == 2


def test_a_refused_client_works_when_nothing_is_missing_any_more(engine: Engine, few: ThreeKeys) -> None:
    """The store is looked at again by each call that was refused before; nobody has to begin anew."""
    lacking = SecretClient(engine, KeyRing(few.new, few.old), namespace="old")
    assert "'older'" in str(refusal(lambda: lacking.get_secret("a")))
    assert "'older'" in str(refusal(lacking.keys.check_complete))

    assert SecretClient(engine, KeyRing(*few.all)).keys.rewrap() == 2

    lacking.keys.check_complete()
    assert lacking.get_secret("a") == "old"
    assert lacking.namespace("older").get_secret("a") == "older"


def test_all_master_keys_that_are_missing_are_named(engine: Engine, few: ThreeKeys) -> None:
    """One error names them all, so that they can be added at once."""
    error = refusal(SecretClient(engine, KeyRing(few.new)).keys.check_complete)

    assert "the key ring (new) lacks master key 'old', which wraps 1 data key" in str(error)
    assert "'older', which wraps 1 data key" in str(error)


def test_shredded_data_keys_need_no_master_key(engine: Engine, few: ThreeKeys) -> None:
    """Where a namespace was shredded its master key can go, and is not listed; its values say why they do not open."""
    whole = SecretClient(engine, KeyRing(*few.all))
    assert whole.namespace("older").keys.shred() == 2
    whole.keys.check_removable("older")

    without = SecretClient(engine, KeyRing(few.new, few.old))
    without.keys.check_complete()
    assert without.namespace("old").get_secret("a") == "old"
    with pytest.raises(DecryptionError, match="shredded"):
        without.namespace("older").get_secret("a")
    assert without.keys.rewrap() == without.keys.rewrap(everything=True) == 1
    assert [(key.id, key.data_keys, key.values) for key in without.keys.list_master_keys()] == [
        ("new", 1, 2),
        ("old", 0, 0),
    ]
    assert without.namespace("older").set_secret("a", "again").version == 2
    assert without.namespace("older").get_secret("a") == "again"


@pytest.mark.parametrize(
    ("master_key_id", "reason"),
    [
        pytest.param(
            "old", r"'old', which wraps 1 data key \(one is of namespace 'old'\), is still needed", id="needed"
        ),
        pytest.param("new", "'new' stands first in the ring", id="first in the ring"),
    ],
)
def test_a_master_key_that_cannot_be_taken_out(engine: Engine, few: ThreeKeys, master_key_id: str, reason: str) -> None:
    """One that is needed and one that stands first stay; the error says why, and changes nothing."""
    store = SecretClient(engine, KeyRing(*few.all))
    before = store.keys.list_master_keys()

    with pytest.raises(KeyInUseError, match=reason):
        store.keys.check_removable(master_key_id)
    assert store.keys.list_master_keys() == before


def test_a_first_master_key_that_is_needed_is_told_of_as_needed(engine: Engine, few: ThreeKeys) -> None:
    """Of two reasons the one that takes more work comes first."""
    with pytest.raises(KeyInUseError, match=r"'old', which wraps 1 data key .* is still needed"):
        SecretClient(engine, KeyRing(few.old, few.older)).keys.check_removable("old")


def test_master_keys_that_can_be_taken_out(engine: Engine, few: ThreeKeys) -> None:
    """One that is not needed any more can go, and so can one that nobody knows."""
    store = SecretClient(engine, KeyRing(*few.all))
    store.keys.check_removable("unknown")
    store.keys.rewrap()

    store.keys.check_removable("old")
    store.keys.check_removable("older")
    assert SecretClient(engine, KeyRing(few.new), namespace="old").get_secret("a") == "old"


def test_a_missing_master_key_that_is_needed_cannot_be_taken_out_either(engine: Engine, few: ThreeKeys) -> None:
    """It is needed, whether the ring of the one who asks has it or not."""
    with pytest.raises(KeyInUseError, match="'older'"):
        SecretClient(engine, KeyRing(few.new, few.old)).keys.check_removable("older")
