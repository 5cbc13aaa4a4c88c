"""Rows changed or moved by hand: each is an error that names the place, and never a value."""

import json
from base64 import b64decode, b64encode
from typing import Any

import psycopg
import pytest
from psycopg.errors import ForeignKeyViolation
from psycopg.types.json import Jsonb

from secretstore import DecryptionError, KeyRing, MasterKeyError, SecretClient, SecretStoreError
from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import Envelope, ValuePlace, open_value, seal_value

VALUE = "correct-horse-battery"
PLACE = r"version 1 of 'a' in namespace 'default'"
Json = dict[str, Any]


def _read(raw: psycopg.Connection, column: str = "value", table: str = "secret_store") -> Json:
    """Return the one row's JSON of the default namespace, first by key."""
    statement = f"SELECT {column} FROM secretstore.{table} WHERE namespace = 'default' ORDER BY 1 LIMIT 1"
    row = raw.execute(statement.encode()).fetchone()
    assert row is not None
    return dict(row[0])


def _write(raw: psycopg.Connection, value: object, key: str = "a") -> None:
    raw.execute("UPDATE secretstore.secret_store SET value = %s WHERE key = %s", [Jsonb(value), key])


def _rows(raw: psycopg.Connection) -> list[Any]:
    return raw.execute("SELECT * FROM secretstore.secret_store ORDER BY namespace, key").fetchall()


def _flipped(encoded: str, position: int) -> str:
    data = bytearray(b64decode(encoded))
    data[position] ^= 1
    return b64encode(data).decode()


def assert_refuses(store: SecretClient, key: str = "a", place: str = PLACE) -> None:
    """Every way to read the secret raises an error that names the place and shows nothing."""
    reads = (
        lambda: store.get_secret(key, default="default"),
        lambda: store.get_secret_or_raise(key, str),
        lambda: store.get_secrets([key]),
        lambda: store.get_secrets_by_prefix(key),
    )
    for read in reads:
        with pytest.raises(DecryptionError, match=place) as caught:
            read()
        assert VALUE not in str(caught.value)


CHANGES: dict[str, Json] = {
    "format": {"v": 2},
    "format as text": {"v": "1"},
    "format as bool": {"v": True},
    "algorithm": {"alg": "none"},
    "no nonce": {"nonce": ""},
    "other nonce": {"nonce": b64encode(bytes(12)).decode()},
    "no data": {"data": ""},
    "only a tag": {"data": b64encode(bytes(16)).decode()},
    "other data": {"data": b64encode(bytes(40)).decode()},
    "plaintext as data": {"data": b64encode(b'"correct-horse-battery"').decode()},
    "data that is no base64": {"data": "?"},
    "data as null": {"data": None},
    "one member more": {"more": 1},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_member_is_noticed(store: SecretClient, raw: psycopg.Connection, change: Json) -> None:
    """Whichever member of the envelope is changed, the secret does not open; others go on, and the row stays."""
    store.set_secrets({"a": VALUE, "b": "other"})
    _write(raw, {**_read(raw), **change})
    before = _rows(raw)

    assert_refuses(store)
    assert store.get_secret("b") == "other"
    assert (store.list_secret_keys(), [info.key for info in store.list_secrets()]) == (["a", "b"], ["a", "b"])
    assert _rows(raw) == before


@pytest.mark.parametrize("member", ["v", "alg", "nonce", "data"])
def test_a_missing_member_is_noticed(store: SecretClient, raw: psycopg.Connection, member: str) -> None:
    """An envelope without one of its members does not open."""
    store.set_secret("a", VALUE)
    _write(raw, {name: part for name, part in _read(raw).items() if name != member})

    assert_refuses(store)


@pytest.mark.parametrize(("member", "position"), [("nonce", 0), ("nonce", -1), ("data", 0), ("data", -1), ("data", 8)])
def test_a_flipped_bit_in_the_row_is_noticed(
    store: SecretClient, raw: psycopg.Connection, member: str, position: int
) -> None:
    """One bit of nonce, ciphertext or tag is enough; with the old bit the secret opens again."""
    store.set_secret("a", VALUE)
    intact = _read(raw)
    _write(raw, {**intact, member: _flipped(intact[member], position)})

    assert_refuses(store)
    _write(raw, intact)
    assert store.get_secret("a") == VALUE


def test_every_flipped_bit_is_noticed() -> None:
    """No single bit of nonce, ciphertext or tag can be changed, nor the data key id, without an error."""
    place = ValuePlace("default", "a", 1)
    data_key = Aead("k", bytes(range(32)))
    envelope = seal_value(data_key, b"7", place)
    assert open_value(data_key, envelope, place) == b"7"

    bits = [(name, bit) for name in ("nonce", "data") for bit in range(len(getattr(envelope, name)) * 8)]
    for name, bit in bits:
        parts = {"nonce": bytearray(envelope.nonce), "data": bytearray(envelope.data)}
        parts[name][bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecryptionError, match="does not open"):
            open_value(data_key, Envelope("k", bytes(parts["nonce"]), bytes(parts["data"])), place)
    with pytest.raises(DecryptionError, match="does not open"):
        open_value(data_key, Envelope("K", envelope.nonce, envelope.data), place)


def test_an_envelope_does_not_open_under_another_key(store: SecretClient, raw: psycopg.Connection) -> None:
    """A value copied to another secret of the same namespace and version is refused there, and still opens at home."""
    store.set_secrets({"a": VALUE, "b": "other"})
    raw.execute(
        "UPDATE secretstore.secret_store SET value = (SELECT value FROM secretstore.secret_store"
        " WHERE key = 'a') WHERE key = 'b'"
    )

    assert_refuses(store, "b", r"version 1 of 'b' in namespace 'default' does not open")
    assert store.get_secret("a") == VALUE


def test_an_envelope_does_not_fit_into_another_namespace(store: SecretClient, raw: psycopg.Connection) -> None:
    """PostgreSQL itself refuses a value in a namespace that does not have its data key."""
    store.set_secret("a", VALUE)
    store.namespace("other").set_secret("a", "other")

    with pytest.raises(ForeignKeyViolation):
        raw.execute("UPDATE secretstore.secret_store SET value = %s WHERE namespace = 'other'", [Jsonb(_read(raw))])
    assert store.namespace("other").get_secret("a") == "other"


def test_an_envelope_moved_with_its_data_key_does_not_open(
    store: SecretClient, raw: psycopg.Connection, master_key: str
) -> None:
    """With the data key's row copied too, the wrapped key does not open in the other namespace; nor with a fresh ring."""
    store.set_secret("a", VALUE)
    raw.execute(
        "INSERT INTO secretstore.data_key (namespace, id, wrapped, state)"
        " SELECT 'other', id, wrapped, state FROM secretstore.data_key"
    )
    raw.execute(
        "INSERT INTO secretstore.secret_store (namespace, key, value, version, created_by, updated_by)"
        " SELECT 'other', key, value, version, created_by, updated_by FROM secretstore.secret_store"
    )

    for keyring in (store._options.keyring, KeyRing.from_text(master_key)):
        moved = SecretClient(store.engine, keyring, namespace="other")
        assert_refuses(moved, place=r"data key '[0-9a-f-]{36}' of namespace 'other' does not open")
    assert store.get_secret("a") == VALUE


_PUT_BACK = """
    UPDATE secretstore.secret_store SET value = (SELECT value FROM secretstore.secret_version WHERE version = 1)
"""


def test_an_older_version_does_not_open_under_the_newest_number(store: SecretClient, raw: psycopg.Connection) -> None:
    """The envelope of an older version, put back as the current one, is refused."""
    store.set_secret("a", VALUE)
    store.set_secret("a", "newer")
    raw.execute(_PUT_BACK.encode())

    assert_refuses(store, place=r"version 2 of 'a' in namespace 'default' does not open")


def test_an_older_version_put_back_with_its_number_cannot_be_written_over(
    store: SecretClient, raw: psycopg.Connection
) -> None:
    """Put back together with its number an older version opens as what it is, and the next write meets the history."""
    store.set_secret("a", VALUE)
    store.set_secret("a", "newer")
    raw.execute(f"{_PUT_BACK.rstrip()}, version = 1".encode())

    info = store.describe_secret("a")
    assert info is not None
    assert (store.get_secret("a"), info.version) == (VALUE, 1)
    with pytest.raises(SecretStoreError, match="23505"):
        store.set_secret("a", "newest")
    assert store.get_secret("a", version=2) == "newer"


def test_a_newer_version_does_not_open_as_an_old_one(store: SecretClient, raw: psycopg.Connection) -> None:
    """History is bound to its numbers too: the envelope of version 2 does not open as version 1."""
    store.set_secret("a", "older")
    store.set_secret("a", VALUE)
    raw.execute("UPDATE secretstore.secret_version SET value = (SELECT value FROM secretstore.secret_store)")

    with pytest.raises(DecryptionError, match=PLACE):
        store.get_secret("a", version=1)
    assert store.get_secret("a", version=2) == VALUE


def test_a_wrong_master_key_opens_nothing(store: SecretClient, wrong_keyring: KeyRing) -> None:
    """A key of the right id and other bytes is told apart from a missing one, and neither reads nor writes."""
    store.set_secret("a", VALUE)
    wrong = SecretClient(store.engine, wrong_keyring)

    assert_refuses(wrong, place=r"does not open with master key 'test'")
    with pytest.raises(DecryptionError, match="not the bytes that the key of this id had"):
        wrong.set_secret("a", "new")
    assert store.get_secret("a") == VALUE


def test_a_missing_master_key_says_which(store: SecretClient, master_key: str) -> None:
    """The error names the master key that is needed, those that are there, and the setting to add it to."""
    store.set_secret("a", VALUE)
    other = SecretClient(store.engine, KeyRing.from_text(master_key.replace("test:", "new:")))

    with pytest.raises(
        MasterKeyError, match=r"the key ring \(new\) lacks master key 'test', .*; add it to SECRETSTORE_KEYS"
    ):
        other.get_secret("a")


@pytest.mark.parametrize("member", ["nonce", "data"])
def test_a_changed_data_key_opens_nothing(
    store: SecretClient, raw: psycopg.Connection, master_key: str, member: str
) -> None:
    """A data key of which one bit was changed is refused by every process that has not opened it before."""
    store.set_secret("a", VALUE)
    wrapped = _read(raw, "wrapped", "data_key")
    changed = {**wrapped, member: _flipped(wrapped[member], 5)}
    raw.execute("UPDATE secretstore.data_key SET wrapped = %s", [Jsonb(changed)])

    assert_refuses(
        SecretClient(store.engine, KeyRing.from_text(master_key)), place="does not open with master key 'test'"
    )


@pytest.mark.parametrize("plaintext", ['"plain"', '{"user": "ann"}', "null", "7", '[{"v": 1}]', "{}"])
def test_plaintext_is_never_read(store: SecretClient, raw: psycopg.Connection, plaintext: str) -> None:
    """JSON that somebody wrote into the column by hand is not taken for a value."""
    store.set_secret("a", VALUE)
    _write(raw, json.loads(plaintext))

    assert_refuses(store, place=f"{PLACE} is not in a format that this release knows")
    assert store.set_secret("a", "healed").version == 2
    assert store.get_secret("a") == "healed"
