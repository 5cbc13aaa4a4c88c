"""A namespace whose data keys were destroyed: nothing of it can be read again, by anyone, and the rest goes on."""

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import DecryptionError, KeyRing, SecretClient
from secretstore.crypto.envelope import shredded
from secretstore.domain.names import Namespace
from secretstore.orm.key_repository import DataKeyRepository
from secretstore.service import rotation
from secretstore.service.flows import InTransaction
from tests.support.faces import Face
from tests.support.keys import drive, stored_rows
from tests.support.threads import in_thread, number, wait_until_blocked

DEFAULT = Namespace("default")
WHY = "was shredded: its data key was destroyed"
_CIPHERTEXTS = """
    SELECT (SELECT count(*) FROM secretstore.secret_store WHERE namespace = 'default' AND value ? 'data')
         + (SELECT count(*) FROM secretstore.secret_version WHERE namespace = 'default' AND value ? 'data')
"""

_ENVELOPES = """
    SELECT 'head', key, version, value::text FROM secretstore.secret_store WHERE namespace = 'default'
    UNION ALL
    SELECT 'history', key, version, value::text FROM secretstore.secret_version WHERE namespace = 'default' ORDER BY 1, 2, 3
"""


@pytest.fixture
def filled(store: SecretClient) -> SecretClient:
    """A store with current, old and deleted values under two data keys, and another namespace."""
    store.set_secrets({f"k{n:03}": n for n in range(250)}, labels={"team": "web"})
    store.keys.rotate()
    store.set_secret("k001", "second")
    store.delete_secret("k002")
    store.namespace("other").set_secret("a", "elsewhere")
    return store


def assert_is_lost(store: SecretClient) -> None:
    """Reading is an error that says why, whichever way it is done."""
    for read in (
        lambda: store.get_secret("k001"),
        lambda: store.get_secret("k001", version=1),
        lambda: store.get_secrets(["k001", "k003"]),
        lambda: store.get_secrets_by_prefix("k"),
    ):
        with pytest.raises(DecryptionError, match=WHY):
            read()


def test_a_shredded_namespace_is_lost_and_still_listed(filled: SecretClient, raw: psycopg.Connection) -> None:
    """No data key and no ciphertext is left; keys, numbers, labels and times are, and so is the other namespace."""
    rows = stored_rows(raw)

    assert filled.keys.shred() == 502 - 1

    assert_is_lost(filled)
    assert stored_rows(raw) == rows
    assert number(raw, _CIPHERTEXTS) == 0
    assert (
        number(raw, "SELECT count(*) FROM secretstore.data_key WHERE namespace = 'default' AND wrapped ? 'data'") == 0
    )
    assert (len(filled.list_secret_keys()), filled.get_secret_count("k")) == (249, 249)
    info = filled.describe_secret("k001")
    assert info is not None
    assert (info.version, info.labels) == (2, {"team": "web"})
    assert filled.namespace("other").get_secret("a") == "elsewhere"


def test_a_process_with_the_data_key_in_memory_reads_nothing(filled: SecretClient, master_key: str) -> None:
    """Whoever had opened the data keys before gets the same error as everyone."""
    beside = SecretClient(filled.engine, KeyRing.from_text(master_key))
    assert beside.get_secret("k003") == 3

    filled.keys.shred()

    assert_is_lost(beside)
    assert_is_lost(SecretClient(filled.engine, KeyRing.from_text(master_key)))


def test_the_first_step_is_enough(filled: SecretClient, keyring: KeyRing, master_key: str) -> None:
    """Broken off after its first step, a new process reads nothing any more; run again, it ends what it began."""
    flow = rotation.shred(keyring, DEFAULT, lambda *_: None)
    with Session(filled.engine) as session, session.begin():
        step = next(flow)
        assert isinstance(step, InTransaction)
        step.do(session)
    flow.close()

    fresh = SecretClient(filled.engine, KeyRing.from_text(master_key))
    with pytest.raises(DecryptionError, match=WHY):
        fresh.get_secret("k003")
    assert filled.keys.shred() == 501
    assert filled.keys.shred() == 0
    assert_is_lost(filled)


def test_a_shredded_namespace_can_be_used_again(filled: SecretClient) -> None:
    """New values get a new data key, also under keys whose older values are lost, and rotate as any."""
    filled.keys.shred()

    assert filled.set_secret("k001", "new").version == 3
    assert filled.set_secret("fresh", 1).version == 1

    assert filled.get_secret("k001") == "new"
    with pytest.raises(DecryptionError, match=WHY):
        filled.get_secret("k001", version=2)
    assert (filled.keys.rotate().values, filled.get_secrets(["k001", "fresh"])) == (4, {"k001": "new", "fresh": 1})
    assert [info.state for info in filled.keys.list_data_keys()] == ["shredded", "shredded", "retired", "active"]


def test_every_face_says_why(face: Face, store: SecretClient) -> None:
    """Client and service, awaited or not, tell that the value was shredded."""
    face.set_secret("a", 1)
    face.commit()
    store.keys.shred()

    with pytest.raises(DecryptionError, match=WHY):
        face.get_secret("a")
    face.commit()


def test_shredding_waits_for_a_writer(engine: Engine, filled: SecretClient, raw: psycopg.Connection) -> None:
    """First order: a writer that has sealed under the data key commits first, and its value is shredded with the others."""
    with Session(engine) as session:
        filled.bind(session).set_secret("slow", 1)
        with in_thread(filled.keys.shred) as shredded:
            wait_until_blocked(raw)
            session.commit()
    assert shredded.result() == 503
    with pytest.raises(DecryptionError, match=WHY):
        filled.get_secret("slow")
    assert number(raw, _CIPHERTEXTS) == 0


def test_a_writer_waits_for_shredding(
    engine: Engine, filled: SecretClient, raw: psycopg.Connection, master_key: str
) -> None:
    """Second order: a writer with the data key in memory, while that is being destroyed, seals under a new one."""
    with Session(engine) as session:
        DataKeyRepository(session, DEFAULT).shred(shredded())
        with in_thread(lambda: filled.set_secret("late", "kept")) as written:
            wait_until_blocked(raw)
            session.commit()
    assert written.result().version == 1
    # Whoever has the destroyed key in memory could read what it had sealed.
    assert SecretClient(engine, KeyRing.from_text(master_key)).get_secret("late") == "kept"


@pytest.mark.parametrize("moment", range(2, 12))
def test_a_rotation_seals_nothing_under_a_shredded_data_key(
    filled: SecretClient, keyring: KeyRing, raw: psycopg.Connection, moment: int
) -> None:
    """Between any two of its steps the data keys may be destroyed: what it has not replaced by then it leaves alone."""
    envelopes: list[tuple[object, ...]] = []

    def interfere(step: int) -> None:
        if step == moment:
            with Session(filled.engine) as session, session.begin():
                DataKeyRepository(session, DEFAULT).shred(shredded())
            envelopes.extend(raw.execute(_ENVELOPES).fetchall())

    drive(filled, rotation.rotate(keyring, DEFAULT, lambda *_: None), interfere)

    assert len(envelopes) == 501
    assert raw.execute(_ENVELOPES).fetchall() == envelopes


@pytest.mark.parametrize(
    "odd",
    [
        '{"data": 0.1234567890123456789012345}',
        '{"data": 1e400}',
        '{"data": ' + "[" * 3000 + "]" * 3000 + "}",
    ],
    ids=["many digits", "more than a float", "deep"],
)
def test_odd_json_in_the_place_of_an_envelope_stops_nothing(
    store: SecretClient, raw: psycopg.Connection, odd: str
) -> None:
    """What Python reads otherwise than PostgreSQL is passed over by a rotation, and taken away by shredding."""
    store.set_secrets({"a": 1, "b": 2})
    raw.execute("UPDATE secretstore.secret_store SET value = value || %s::jsonb WHERE key = 'a'", [odd])

    done = store.keys.rotate()
    assert (done.values, done.unreadable) == (3, 1)
    assert store.keys.shred() == 4
    assert number(raw, _CIPHERTEXTS) == 0


def test_a_namespace_without_data_keys_can_be_shredded(store: SecretClient) -> None:
    """There is nothing to do."""
    assert store.keys.shred() == 0
