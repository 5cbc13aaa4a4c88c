"""A data key is replaced by itself long before AES-GCM's bound for random nonces."""

import json

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import KeyRing, SecretClient
from secretstore.crypto.keyring import SEALS_PER_RECORD
from secretstore.crypto.local import LocalMasterKey
from secretstore.service.data_keys import MAX_SEALS
from tests.support.faces import KINDS, open_face
from tests.support.threads import in_thread, number

_USE = "INSERT INTO secretstore.data_key_use SELECT namespace, id, gen_random_uuid(), %s FROM secretstore.data_key"
_RECORDED = "SELECT coalesce(sum(seals), 0) FROM secretstore.data_key_use"
_STATES = "SELECT state, count(*) FROM secretstore.data_key GROUP BY state"


@pytest.fixture
def counting(master_key: str) -> KeyRing:
    """A key ring that records at every seal."""
    return KeyRing(LocalMasterKey.parse(master_key), chance=lambda: 0.0)


def states(raw: psycopg.Connection) -> dict[str, int]:
    """How many data keys there are of each state."""
    return dict(raw.execute(_STATES).fetchall())


@pytest.mark.parametrize("kind", KINDS)
def test_a_used_up_data_key_is_replaced_by_the_next_write(
    database_url: str, raw: psycopg.Connection, counting: KeyRing, kind: str
) -> None:
    """On every face, the write that finds the limit reached makes a new data key, and all values stay readable."""
    with open_face(kind, database_url, counting) as face:
        face.set_secret("a", "under the first")
        face.commit()
        raw.execute(_USE, [MAX_SEALS - 2 * SEALS_PER_RECORD])
        for n in range(3):
            assert face.set_secret("b", n).version == n + 1
            face.commit()
        assert states(raw) == {"active": 1, "retired": 1}
        assert (face.get_secret("a"), face.get_secret("b")) == ("under the first", 2)
        assert face.set_secrets({"a": 1, "c": 2})["a"].version == 2
        face.commit()
    assert states(raw) == {"active": 1, "retired": 1}


def test_a_data_key_below_the_limit_stays(raw: psycopg.Connection, engine: Engine, counting: KeyRing) -> None:
    """One record less, and nothing happens."""
    store = SecretClient(engine, counting)
    store.set_secret("a", 1)
    raw.execute(_USE, [MAX_SEALS - 2 * SEALS_PER_RECORD - 1])
    store.set_secret("a", 2)

    assert states(raw) == {"active": 1}


def test_only_one_of_many_writers_replaces_it(raw: psycopg.Connection, engine: Engine, counting: KeyRing) -> None:
    """While one caller's transaction is about to replace it, others write on under the old one, and wait for nothing."""
    store = SecretClient(engine, counting)
    store.set_secret("a", 1)
    raw.execute(_USE, [MAX_SEALS])
    with Session(engine) as session:
        store.bind(session).set_secret("a", 2)
        with in_thread(lambda: store.set_secret("b", 1).version) as beside:
            assert beside.result(20) == 1
        session.commit()

    assert states(raw) == {"active": 1, "retired": 1}
    assert store.get_secrets(["a", "b"]) == {"a": 2, "b": 1}


def test_a_rolled_back_replacement_is_none(raw: psycopg.Connection, engine: Engine, counting: KeyRing) -> None:
    """The caller's rollback takes the new data key with it, and the next write makes another one."""
    store = SecretClient(engine, counting)
    store.set_secret("a", 1)
    raw.execute(_USE, [MAX_SEALS])
    with Session(engine) as session:
        store.bind(session).set_secret("a", 2)
        session.rollback()
    assert states(raw) == {"active": 1}

    store.set_secret("a", 3)
    assert states(raw) == {"active": 1, "retired": 1}
    assert (store.get_secret("a"), store.get_secret("a", version=1)) == (3, 1)


def test_the_count_is_not_sealed(raw: psycopg.Connection, engine: Engine, counting: KeyRing) -> None:
    """Whoever writes to the database can set it back, and the data key is then replaced late."""
    store = SecretClient(engine, counting)
    store.set_secret("a", 1)
    raw.execute(_USE, [MAX_SEALS])
    raw.execute("DELETE FROM secretstore.data_key_use")
    store.set_secret("a", 2)

    assert states(raw) == {"active": 1}


def test_a_batch_counts_all_its_seals(raw: psycopg.Connection, engine: Engine, master_key: str) -> None:
    """Whole thousands are recorded surely, and the rest by chance."""
    never = SecretClient(engine, KeyRing(LocalMasterKey.parse(master_key), chance=lambda: 1.0))
    never.set_secret("a", 1)
    assert number(raw, _RECORDED) == 0

    never.set_secrets({f"k{n}": n for n in range(SEALS_PER_RECORD + 10)})
    assert number(raw, _RECORDED) == SEALS_PER_RECORD
    assert [info.seals for info in never.keys.list_data_keys()] == [2 * (SEALS_PER_RECORD + 11)]


def test_a_rotation_counts_its_seals_under_the_new_data_key(
    raw: psycopg.Connection, engine: Engine, counting: KeyRing
) -> None:
    """What it seals is recorded for the key that seals it, and the records of a destroyed key go with it."""
    store = SecretClient(engine, counting)
    store.set_secret("a", 1)
    done = store.keys.rotate()

    recorded: dict[str, int] = dict(
        raw.execute("SELECT data_key_id, sum(seals) FROM secretstore.data_key_use GROUP BY 1").fetchall()
    )
    assert recorded[done.data_key_id] == 2 * SEALS_PER_RECORD
    retired = [info.id for info in store.keys.list_data_keys() if info.state == "retired"]
    store.keys.destroy(retired[0])
    assert number(raw, _RECORDED) == 2 * SEALS_PER_RECORD


def test_what_is_recorded_is_right_on_average(master_key: str) -> None:
    """Over a million seals in writes of all sizes, the estimate is within ten times its standard error."""
    ring = KeyRing.from_text(master_key)
    sizes = [1, 3, 10, 100, 1000, 5000] * 200
    recorded = sum(ring.seals_to_record(size) for size in sizes)
    made = sum(sizes)

    # Each record that is due by chance adds at most the variance of one.
    deviation = (made * SEALS_PER_RECORD) ** 0.5
    assert abs(recorded - made) < 10 * deviation
    assert json.dumps(recorded % SEALS_PER_RECORD) == "0"
