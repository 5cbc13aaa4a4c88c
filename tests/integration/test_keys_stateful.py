"""Whatever is done to a store and to its keys, in any order, it holds what plain dicts hold."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import DecryptionError, KeyInUseError, KeyRing, MasterKeyError, SecretClient
from secretstore.crypto.envelope import Envelope, ValuePlace, open_value
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.domain.key_records import StoredDataKey
from secretstore.domain.names import Namespace
from secretstore.domain.protocols import DataKeyPlace
from secretstore.service import master_keys, rotation
from secretstore.service.flows import Flow
from tests.support.flows import HeldFlow
from tests.support.keys import stored_rows
from tests.support.store_model import MISSING, SHREDDED, Place, Row, StoreModel, is_lost

_EMPTY = """
    TRUNCATE secretstore.label_change, secretstore.data_key, secretstore.data_key_use, secretstore.secret_store, secretstore.secret_version,
             secretstore.change_event, secretstore.access_event, secretstore.audit_checkpoint
"""
_ROWS = """
    SELECT 'head', namespace, key, version, value FROM secretstore.secret_store
    UNION ALL
    SELECT 'history', namespace, key, version, value FROM secretstore.secret_version
"""
_DATA_KEYS = """
    SELECT id, namespace, master_key_id, CASE WHEN shredded_at IS NULL THEN state ELSE 'shredded' END
    FROM secretstore.data_key
"""

NAMESPACES = ("dev", "prod")
KEYS = ("a", "a.b", "b", "c")
# The one that is filled in the beginning, mostly.
namespaces = st.sampled_from(["prod", "prod", "dev"])
keys = st.sampled_from(KEYS)
many_keys = st.lists(keys, unique=True)
versions = st.integers(1, 4)
# How long a held flow goes on: to somewhere in its midst.
steps = st.integers(1, 20)
numbers = st.integers(0, 7)
TO_THE_END = 1000
MANY_VALUES = 10
MAX_HELD = 3
flows = st.sampled_from(["rotate", "reencrypt", "rewrap"])
meanwhile = st.sampled_from(["set", "reencrypt", "rotate", "rewrap"])
# Which process does it: the main one, one that lives long with a key ring of its own, or one that has just begun.
processes = st.sampled_from(["main", "beside", "fresh"])


@dataclass(frozen=True)
class Process:
    """A client and its key ring."""

    keyring: KeyRing
    store: SecretClient


@dataclass(slots=True)
class Held:
    """A flow that another process is in the midst of, and how many values it has moved."""

    flow: HeldFlow[Any]
    namespace: str
    is_rotation: bool
    moved: int = 0


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to its model."""

    def __init__(self, engine: Engine, raw: psycopg.Connection) -> None:
        super().__init__()
        self.engine, self.raw = engine, raw
        self.model = StoreModel()
        self.master_keys: dict[str, LocalMasterKey] = {}
        self.ring: list[str] = []
        self.held: list[Held] = []
        self.written = 0
        self.destroyed: list[str] = []
        self.has_shredded = False

    @initialize()
    def begin(self) -> None:
        """Begin with one master key, and a namespace in which some secrets have an old version."""
        self.raw.execute(_EMPTY)
        self.put_first()
        self.set_secrets("main", "prod", list(KEYS))
        self.set_secrets("main", "prod", list(KEYS[:2]))

    # Secrets

    @rule(process=processes, namespace=namespaces, key=keys)
    def set_secret(self, process: str, namespace: str, key: str) -> None:
        """Write a new secret, another version of one, or one that was deleted."""
        value = self.new_value()
        info = self.store(process, namespace).set_secret(key, value, labels={"of": value})
        self.learn_first_data_key(namespace)
        assert info.version == self.model.set(Place(namespace, key), value)

    @rule(process=processes, namespace=namespaces, some=many_keys)
    def set_secrets(self, process: str, namespace: str, some: list[str]) -> None:
        """Write many at once."""
        values = {key: self.new_value() for key in some}
        infos = self.store(process, namespace).set_secrets(values)
        if values:
            self.learn_first_data_key(namespace)
        expected = {key: self.model.set(Place(namespace, key), value) for key, value in values.items()}
        assert {key: info.version for key, info in infos.items()} == expected

    @rule(process=processes, namespace=namespaces, some=many_keys)
    def delete(self, process: str, namespace: str, some: list[str]) -> None:
        """Delete many, of which some may not be there, or one alone."""
        store = self.store(process, namespace)
        deleted = store.delete_secret(some[0]) if len(some) == 1 else store.delete_secrets(some)
        assert deleted == self.model.delete(Place(namespace, key) for key in some)

    @rule(process=processes, namespace=namespaces, key=keys, version=st.none() | versions, some=many_keys)
    def read(self, process: str, namespace: str, *, key: str, version: int | None, some: list[str]) -> None:
        """Read one value, of now or of before, and many at once."""
        store, live = self.store(process, namespace), self.model.live(namespace)
        expected = self.model.read(Place(namespace, key), version)
        assert_reads(expected, lambda: store.get_secret(key, version=version, default=MISSING))
        assert_reads_all({one: live[one] for one in some if one in live}, lambda: store.get_secrets(some))

    @rule(process=processes, namespace=namespaces, prefix=st.sampled_from(["", "a", "a.", "b"]))
    def read_prefix(self, process: str, namespace: str, prefix: str) -> None:
        """Read, list and count what begins alike."""
        store, expected = self.store(process, namespace), self.model.live(namespace, prefix)
        assert_reads_all(expected, lambda: store.get_secrets_by_prefix(prefix))
        assert store.list_secret_keys(prefix) == list(expected)
        assert store.get_secret_count(prefix) == len(expected)

    @rule(process=processes, namespace=namespaces, written=many_keys, deleted=many_keys)
    def roll_back(self, process: str, namespace: str, written: list[str], deleted: list[str]) -> None:
        """Write and delete in a transaction that is rolled back; inside it all of it is seen."""
        value = self.new_value()
        with Session(self.engine) as session:
            service = self.store(process, namespace).bind(session)
            service.set_secrets(dict.fromkeys(written, value))
            service.delete_secrets(deleted)
            left = [key for key in written if key not in deleted]
            assert service.get_secrets(left) == dict.fromkeys(left, value)
            session.rollback()

    # Data keys

    @rule(process=processes, namespace=namespaces, with_rotation=st.booleans())
    def rotate(self, process: str, namespace: str, *, with_rotation: bool) -> None:
        """Rotate the data key, or go on with what was broken off; afterwards nothing is under a retired data key."""
        before = dict(self.model.rows)
        manager = self.store(process, namespace).keys
        to_do = manager.count_to_reencrypt(after_rotation=with_rotation)
        with self.untouched_secrets():
            done = manager.rotate() if with_rotation else manager.reencrypt()
        self.adopt_rotation(namespace)
        retired = self.model.data_keys_of(namespace, "retired")
        assert done.data_key_id == (self.model.active(namespace) or "")
        assert not self.model.count(*retired)
        changed = [row for row, under in self.model.rows.items() if before[row] != under]
        assert (done.values, done.unreadable) == (len(changed), 0)
        assert to_do == len(changed)

    @rule(process=processes, namespace=namespaces, what=flows, number=st.integers(0, MAX_HELD - 1), go=steps)
    def go_on(self, process: str, namespace: str, *, what: str, number: int, go: int) -> None:
        """Go on with a change of keys, or begin one, that other steps will come in between of."""
        if number >= len(self.held):
            self.begin_flow(process, namespace, what)
            number = -1
        self.advance(self.held[number], go)

    @rule(namespace=namespaces, go=steps, meanwhile=meanwhile, some=many_keys)
    def overtake(self, namespace: str, go: int, meanwhile: str, some: list[str]) -> None:
        """Do something to a namespace while a rotation of it is in its midst, and then end that."""
        held = self.begin_flow("main", namespace, "rotate")
        self.advance(held, go)
        if meanwhile == "set":
            self.set_secrets("beside", namespace, some)
        elif meanwhile == "rewrap":
            self.rewrap("beside", everything=True)
        else:
            self.rotate("beside", namespace, with_rotation=meanwhile == "rotate")
        if held in self.held:
            self.advance(held, TO_THE_END)

    @precondition(lambda self: self.held)
    @rule(number=numbers)
    def break_off(self, number: int) -> None:
        """Never go on with a change of keys, as when its process is killed."""
        del self.held[number % len(self.held)]

    @rule(process=processes, namespace=namespaces, number=numbers)
    def destroy(self, process: str, namespace: str, number: int) -> None:
        """Try to destroy a data key, whatever its state, also where it is not or not any more."""
        retired = self.model.data_keys_of(namespace, "retired")
        known = [*retired, *self.model.data_keys, *self.destroyed[-1:], "unknown"]
        data_key_id = known[number % len(known)]
        manager = self.store(process, namespace).keys
        with self.untouched_secrets():
            if not self.model.can_be_destroyed(namespace, data_key_id):
                with pytest.raises(KeyInUseError):
                    manager.destroy(data_key_id)
                return
            manager.destroy(data_key_id)
        del self.model.data_keys[data_key_id]
        self.destroyed.append(data_key_id)

    @precondition(lambda self: self.written > MANY_VALUES and not self.has_shredded)
    @rule(process=processes, go=st.integers(0, 6))
    def shred(self, process: str, go: int) -> None:
        """Shred a namespace once, which may be broken off and begun again."""
        self.has_shredded = True
        namespace, used = "prod", self.process(process)
        lost = self.model.shred(namespace)
        with self.untouched_secrets():
            flow = HeldFlow(self.engine, rotation.shred(used.keyring, Namespace(namespace), _unseen))
            flow.advance(go)
            left = used.store.namespace(namespace).keys.shred()
        assert left == lost if go <= 2 else left <= lost

    # Master keys

    @precondition(lambda self: len(self.ring) <= 2)
    @rule()
    def put_first(self) -> None:
        """Put a new master key first into the ring of every process, all of which begin anew."""
        master_key = LocalMasterKey.parse(generate_master_key(f"m{len(self.master_keys)}"))
        self.master_keys[master_key.id] = master_key
        self.ring.insert(0, master_key.id)
        self.held.clear()
        self.main, self.beside = self.new_process(self.ring), self.new_process(self.ring)

    @rule(process=processes, everything=st.booleans())
    def rewrap(self, process: str, *, everything: bool) -> None:
        """Wrap all data keys by the first master key."""
        wanted = [key for key in self.model.data_keys.values() if key.master_key_id is not None]
        changed = [key for key in wanted if everything or key.master_key_id != self.ring[0]]
        with self.untouched_secrets():
            assert self.store(process, NAMESPACES[0]).keys.rewrap(everything=everything) == len(changed)
        for key in changed:
            key.master_key_id = self.ring[0]

    @rule(number=numbers)
    def take_out(self, number: int) -> None:
        """Take a master key out of the ring if that is allowed; if it is needed, the ring without it is refused."""
        candidates = [*self.ring, "unknown"]
        master_key_id = candidates[number % len(candidates)]
        if self.model.wrapped_by(master_key_id):
            self.assert_needed(master_key_id)
        elif master_key_id == self.ring[0]:
            with pytest.raises(KeyInUseError, match="stands first"):
                self.main.store.keys.check_removable(master_key_id)
        else:
            self.main.store.keys.check_removable(master_key_id)
            self.ring = [key_id for key_id in self.ring if key_id != master_key_id]
            self.main = self.new_process(self.ring)

    def assert_needed(self, master_key_id: str) -> None:
        """Refuse to let go of a master key, and refuse a ring without it, unless only names are asked for."""
        with pytest.raises(KeyInUseError, match="is still needed"):
            self.main.store.keys.check_removable(master_key_id)
        left = [key_id for key_id in self.ring if key_id != master_key_id]
        lacking = self.new_process(left) if left else self.process_of_a_stranger()
        for namespace in NAMESPACES:
            store = lacking.store.namespace(namespace)
            with pytest.raises(MasterKeyError, match=master_key_id):
                store.set_secret("a", "never written")
            assert store.list_secret_keys() == list(self.model.live(namespace))
        with pytest.raises(MasterKeyError, match=master_key_id):
            lacking.store.keys.check_complete()

    # What holds after each step

    @invariant()
    def every_secret_is_read(self) -> None:
        """A process that has just begun lists and reads the current values, and nothing that was deleted."""
        reader = self.new_process(self.ring)
        with Session(self.engine) as session:
            for namespace in NAMESPACES:
                live = self.model.live(namespace)
                service = reader.store.namespace(namespace).bind(session)
                assert service.list_secret_keys() == list(live)
                assert_reads_all(live, partial(service.get_secrets_by_prefix, ""))
                for key in (place.key for place in self.model.deleted if place.namespace == namespace):
                    assert service.get_secret(key, version=1, default=MISSING) == MISSING

    @invariant()
    def every_row_opens(self) -> None:
        """Versions count up without gaps, and each of them, deleted ones too, opens with the data key it has to be under."""
        keyring = self.new_process(self.ring).keyring
        wrapped: dict[str, Mapping[str, object]] = dict(
            self.raw.execute("SELECT id, wrapped FROM secretstore.data_key").fetchall()
        )
        rows = {Row(*place): envelope for *place, envelope in self.raw.execute(_ROWS)}
        assert {row: envelope["key"] for row, envelope in rows.items()} == self.model.rows
        for row, envelope in rows.items():
            stored = StoredDataKey(DataKeyPlace(row.namespace, envelope["key"]), wrapped[envelope["key"]])
            value = self.model.values[row.place][row.version - 1]
            assert ("data" in envelope) == (value != SHREDDED)
            assert_reads(value, partial(opened, keyring, stored, row, envelope))

    @invariant()
    def data_keys_are_in_the_states_that_are_expected(self) -> None:
        """No namespace has two active data keys, and each data key is known by its state and master key."""
        assert set(self.raw.execute(_DATA_KEYS)) == set(self.model.states())
        assert all(len(self.model.data_keys_of(namespace, "active")) <= 1 for namespace in NAMESPACES)

    @invariant()
    def what_is_told_of_keys_is_so(self) -> None:
        """The lists of data keys and master keys have the model's numbers."""
        manager, model = self.main.store.keys, self.model
        infos = {info.id: info for info in manager.list_data_keys(of_all_namespaces=True)}
        assert {id_: (info.state, info.values) for id_, info in infos.items()} == {
            id_: (key.state, model.count(id_)) for id_, key in model.data_keys.items()
        }
        told = {info.id: (info.state, info.data_keys, info.values) for info in manager.list_master_keys()}
        assert told == {
            id_: ("wraps" if id_ == self.ring[0] else "unwraps", len(needing), model.count(*needing))
            for id_, needing in ((id_, model.wrapped_by(id_)) for id_ in self.ring)
        }

    # What the rules are made of

    def new_value(self) -> str:
        """A value that was never written before."""
        self.written += 1
        return f"value {self.written}"

    def process(self, name: str) -> Process:
        """One of the processes."""
        return {"main": self.main, "beside": self.beside}.get(name) or self.new_process(self.ring)

    def store(self, process: str, namespace: str) -> SecretClient:
        """The client of a process on a namespace."""
        return self.process(process).store.namespace(namespace)

    def new_process(self, ring: Iterable[str]) -> Process:
        """A process that has opened nothing yet; its key ring records no seals, which would be left to chance."""
        keyring = KeyRing(*(self.master_keys[key_id] for key_id in ring), chance=lambda: 1.0)
        return Process(keyring, SecretClient(self.engine, keyring))

    def process_of_a_stranger(self) -> Process:
        """A process whose only master key wraps nothing."""
        keyring = KeyRing(LocalMasterKey.parse(generate_master_key("stranger")))
        return Process(keyring, SecretClient(self.engine, keyring))

    def stored_places(self) -> dict[Row, str]:
        """Every stored value, and the data key that it names."""
        return {Row(*place): envelope["key"] for *place, envelope in self.raw.execute(_ROWS)}

    def learn_first_data_key(self, namespace: str) -> None:
        """Take over the data key that a first write has made: one that was not there before."""
        if self.model.active(namespace) is None:
            self.learn_new_data_key(namespace)
            assert self.model.active(namespace) is not None

    def learn_new_data_key(self, namespace: str) -> None:
        """Take over the data key that is active now, if that is a new one."""
        stored = {id_: key for id_, *key in self.raw.execute(_DATA_KEYS)}
        new = [id_ for id_ in stored if id_ not in self.model.data_keys]
        assert len(new) <= 1
        for data_key_id in new:
            assert stored[data_key_id] == [namespace, self.ring[0], "active"]
            assert data_key_id not in self.destroyed
            self.model.add_data_key(data_key_id, namespace, self.ring[0])

    def adopt_rotation(self, namespace: str) -> int:
        """Take over what a part of a rotation did: it moves values to the active data key; return how many."""
        self.learn_new_data_key(namespace)
        active = self.model.active(namespace)
        rows = self.stored_places()
        assert rows.keys() == self.model.rows.keys()
        moved = {row: under for row, under in rows.items() if under != self.model.rows[row]}
        assert all(row.namespace == namespace and under == active for row, under in moved.items())
        self.model.rows.update(moved)
        return len(moved)

    def adopt_rewrap(self) -> int:
        """Take over what a part of a re-wrapping did: it moves data keys to the first master key; return how many."""
        changed = set(self.raw.execute(_DATA_KEYS)) - set(self.model.states())
        for data_key_id, _, master_key_id, _ in changed:
            assert master_key_id == self.ring[0]
            self.model.data_keys[data_key_id].master_key_id = master_key_id
        return len(changed)

    def begin_flow(self, process: str, namespace: str, what: str) -> Held:
        """Begin a change of keys, without any of its steps."""
        keyring = self.process(process).keyring
        begun: dict[str, Callable[[], Flow[Any]]] = {
            "rotate": lambda: rotation.rotate(keyring, Namespace(namespace), _unseen),
            "reencrypt": lambda: rotation.reencrypt(keyring, Namespace(namespace), _unseen),
            "rewrap": lambda: master_keys.rewrap(keyring, everything=True, on_progress=_unseen),
        }
        self.held.append(Held(HeldFlow(self.engine, begun[what]()), namespace, is_rotation=what != "rewrap"))
        return self.held[-1]

    def advance(self, held: Held, go: int) -> None:
        """Let a held flow go on; what it says in the end is what it did."""
        with self.untouched_secrets():
            is_over = held.flow.advance(go)
        held.moved += self.adopt_rotation(held.namespace) if held.is_rotation else self.adopt_rewrap()
        if is_over:
            self.held.remove(held)
            (done,) = held.flow.results
            if held.is_rotation:
                assert (done.values, done.unreadable) == (held.moved, 0)

    @contextmanager
    def untouched_secrets(self) -> Iterator[None]:
        """Whatever is done to keys, versions, labels and times stay as they are."""
        before = stored_rows(self.raw)
        yield
        assert stored_rows(self.raw) == before


def opened(keyring: KeyRing, stored: StoredDataKey, row: Row, envelope: Mapping[str, object]) -> object:
    """Open a stored value by hand, past what readers are shown."""
    place = ValuePlace(row.namespace, row.key, row.version)
    parsed = Envelope.parse(envelope, place)
    return json.loads(open_value(keyring.open(stored.wrapped, stored.place), parsed, place))


def assert_reads(expected: object, read: Callable[[], object]) -> None:
    """Read a value as the model has it."""
    if expected == SHREDDED:
        with pytest.raises(DecryptionError, match="shredded"):
            read()
    else:
        assert read() == expected


def assert_reads_all(expected: Mapping[str, object], read: Callable[[], object]) -> None:
    """Read values as the model has them, or none where one cannot be read."""
    assert_reads(SHREDDED if is_lost(expected) else expected, read)


def _unseen(_: int, __: int) -> None:
    """Nobody looks at the progress."""


def test_a_store_holds_what_plain_dicts_hold(
    engine: Engine, raw: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads, writes and changes of keys by three processes, broken off and in between of one another, lose nothing."""
    # So that few values are many pages.
    monkeypatch.setattr(rotation, "PAGE", 3)
    monkeypatch.setattr(master_keys, "PAGE", 2)

    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(engine, raw)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
