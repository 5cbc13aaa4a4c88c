"""The stored form of values and of data keys, read by a reader of its own."""

import json
import string
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import (
    Envelope,
    ValuePlace,
    open_value,
    seal_value,
    unwrap_data_key,
    wrap_data_key,
)
from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError

DATA_KEY_ID = "6f1d3a52-7f0e-4a6b-9d0c-1f2e3d4c5b6a"
MASTER_KEY_ID = "2024-01"
DATA_KEY = bytes(range(200, 232))
MASTER_KEY = bytes(range(7, 167, 5))
PLACE = ValuePlace("prod", "oauth.gïthub", 3)
KEY_PLACE = DataKeyPlace("prod", DATA_KEY_ID)
SECRET = '{"password":"pässword"}'.encode()

# Sealed once with the keys above, and never to be changed: what was stored by the first release opens for ever.
STORED_VALUE: Mapping[str, Any] = {
    "v": 1,
    "alg": "A256GCM",
    "key": DATA_KEY_ID,
    "nonce": "RKScbBMSZbCZTKca",
    "data": "Qzq5JdCyFfOZELF9Xzcjg8L9GufL51d/0098nnPR4e4chuXUfEOnGQ==",
}
STORED_DATA_KEY: Mapping[str, Any] = {
    "v": 1,
    "alg": "A256GCM",
    "key": MASTER_KEY_ID,
    "nonce": "HwRvfxqe3yOpctJX",
    "data": "5olRrvmCG0pLCpIjei7NPXp2JHgX92xrLD2Er+kz/URZESWFW53Rs5TTVfikZ4Xg",
}
BASE64 = string.ascii_letters + string.digits + "+/="


@dataclass(frozen=True)
class Kind:
    """One of the two things that are sealed, with all that opens it."""

    stored: Mapping[str, Any]
    plaintext: bytes
    open: Callable[[Mapping[str, Any]], bytes]


def _open_value(stored: Mapping[str, Any], place: ValuePlace = PLACE, key: bytes = DATA_KEY) -> bytes:
    envelope = Envelope.parse(stored, place)
    return open_value(Aead(envelope.key_id, key), envelope, place)


def _unwrap(stored: Mapping[str, Any], place: DataKeyPlace = KEY_PLACE, key: bytes = MASTER_KEY) -> bytes:
    envelope = Envelope.parse(stored, "the data key")
    return unwrap_data_key(Aead(envelope.key_id, key), envelope, place)


KINDS = {
    "value": Kind(STORED_VALUE, SECRET, _open_value),
    "data key": Kind(STORED_DATA_KEY, DATA_KEY, _unwrap),
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def independent_context(*fields: str) -> bytes:
    """Associated data as the head of `crypto/envelope.py` describes them."""
    context = b""
    for field in fields:
        context += len(field.encode("utf-8")).to_bytes(4, "big") + field.encode("utf-8")
    return context


VALUE_CONTEXT = independent_context("secretstore value 1", "prod", "oauth.gïthub", "3", DATA_KEY_ID)
KEY_CONTEXT = independent_context("secretstore data key 1", "prod", DATA_KEY_ID, MASTER_KEY_ID)


def independent_open(key: bytes, stored: Mapping[str, Any], context: bytes) -> bytes:
    """Open an envelope with nothing of this library."""
    assert (stored["v"], stored["alg"]) == (1, "A256GCM")
    return AESGCM(key).decrypt(b64decode(stored["nonce"]), b64decode(stored["data"]), context)


def independent_seal(key: bytes, key_id: str, plaintext: bytes, context: bytes) -> dict[str, Any]:
    """Make an envelope with nothing of this library."""
    nonce = bytes(range(12))
    data = AESGCM(key).encrypt(nonce, plaintext, context)
    encoded = {"nonce": b64encode(nonce).decode(), "data": b64encode(data).decode()}
    return {"v": 1, "alg": "A256GCM", "key": key_id, **encoded}


def refused(kind: Kind, stored: Any) -> bool:
    """Tell whether an envelope is refused as it should be: one class of error, no plaintext in it, no original."""
    try:
        kind.open(stored)
    except DecryptionError as error:
        shown = f"{error!r} {error} {error.__cause__!r}"
        assert not any(word in shown for word in ("pässword", "password", b64encode(DATA_KEY).decode(), repr(DATA_KEY)))
        return True
    return False


@EACH_KIND
def test_what_the_first_release_stored_opens_for_ever(kind: Kind) -> None:
    """A constant envelope opens with constant keys."""
    assert kind.open(kind.stored) == kind.plaintext


def test_another_program_opens_our_envelopes() -> None:
    """The description at the head of the file is enough to read what we seal."""
    value = seal_value(Aead(DATA_KEY_ID, DATA_KEY), SECRET, PLACE).as_object()
    wrapped = wrap_data_key(Aead(MASTER_KEY_ID, MASTER_KEY), DATA_KEY, KEY_PLACE).as_object()

    assert independent_open(DATA_KEY, value, VALUE_CONTEXT) == SECRET
    assert independent_open(MASTER_KEY, wrapped, KEY_CONTEXT) == DATA_KEY


def test_we_open_the_envelopes_of_another_program() -> None:
    """The description at the head of the file is enough to write what we open."""
    value = independent_seal(DATA_KEY, DATA_KEY_ID, SECRET, VALUE_CONTEXT)
    wrapped = independent_seal(MASTER_KEY, MASTER_KEY_ID, DATA_KEY, KEY_CONTEXT)

    assert _open_value(value) == SECRET
    assert _unwrap(wrapped) == DATA_KEY


def test_an_envelope_is_a_json_object_of_five_members() -> None:
    """What is stored is exactly what is described, as text and as an object."""
    envelope = seal_value(Aead(DATA_KEY_ID, DATA_KEY), SECRET, PLACE)

    assert list(envelope.as_object()) == ["v", "alg", "key", "nonce", "data"]
    assert json.loads(envelope.as_json()) == envelope.as_object()
    assert Envelope.parse(envelope.as_object(), PLACE) == envelope


@EACH_KIND
def test_the_order_of_the_members_is_free(kind: Kind) -> None:
    """JSONB orders members in its own way."""
    assert kind.open(dict(sorted(kind.stored.items(), reverse=True))) == kind.plaintext


@EACH_KIND
@pytest.mark.parametrize("member", STORED_VALUE)
def test_a_missing_member_is_refused(kind: Kind, member: str) -> None:
    """Each of the five members is needed."""
    assert refused(kind, {name: part for name, part in kind.stored.items() if name != member})


@EACH_KIND
@pytest.mark.parametrize("member", STORED_VALUE)
def test_a_member_of_another_name_is_refused(kind: Kind, member: str) -> None:
    """Five members are not enough: they have to be those five."""
    assert refused(kind, {"aad" if name == member else name: part for name, part in kind.stored.items()})


@EACH_KIND
@pytest.mark.parametrize("member", STORED_VALUE)
@pytest.mark.parametrize("wrong", [None, True, 1.0, 2, 0, -1, "1", "", [], {}, "A128GCM", "a256gcm"], ids=repr)
def test_a_changed_member_is_refused(kind: Kind, member: str, wrong: object) -> None:
    """No member can be replaced, not even by what Python takes for equal: `true` and `1.0` are not format 1."""
    assert refused(kind, {**kind.stored, member: wrong})


@EACH_KIND
@pytest.mark.parametrize("added", ["aad", "V", ""])
def test_a_further_member_is_refused(kind: Kind, added: str) -> None:
    """Nothing can be written beside the five members."""
    assert refused(kind, {**kind.stored, added: None})


@EACH_KIND
@pytest.mark.parametrize("stored", [None, "text", 1, [], ["v"], {}], ids=repr)
def test_what_is_not_an_envelope_is_refused(kind: Kind, stored: object) -> None:
    """Any other JSON value in its place, plaintext too, is an error and never taken for a value."""
    assert refused(kind, stored)


@EACH_KIND
@pytest.mark.parametrize("member", ["nonce", "data"])
def test_every_changed_character_is_refused(kind: Kind, member: str) -> None:
    """At each position of nonce and data every other base64 character is noticed, the last ones before padding too."""
    text = kind.stored[member]
    changed = [
        text[:position] + character + text[position + 1 :]
        for position in range(len(text))
        for character in BASE64
        if character != text[position]
    ]
    assert len(changed) == 64 * len(text)
    assert [other for other in changed if not refused(kind, {**kind.stored, member: other})] == []


@EACH_KIND
@pytest.mark.parametrize("member", ["nonce", "data"])
@pytest.mark.parametrize("pattern", [" {}", "{}\n", "{}=", "{}====", "é{}", "{}AAAA"])
def test_text_around_base64_is_refused(kind: Kind, member: str, pattern: str) -> None:
    """Base64 has one canonical form."""
    assert refused(kind, {**kind.stored, member: pattern.format(kind.stored[member])})


@EACH_KIND
def test_every_flipped_bit_is_refused(kind: Kind) -> None:
    """Each single bit of ciphertext and tag is covered."""
    data = int.from_bytes(b64decode(kind.stored["data"]), "big")
    length = len(b64decode(kind.stored["data"]))
    flipped = [b64encode((data ^ (1 << bit)).to_bytes(length, "big")).decode() for bit in range(8 * length)]

    assert [other for other in flipped if not refused(kind, {**kind.stored, "data": other})] == []


@EACH_KIND
@pytest.mark.parametrize("member", ["nonce", "data"])
def test_every_shorter_part_is_refused(kind: Kind, member: str) -> None:
    """Nonce and data cannot be cut at either end, down to nothing."""
    part = b64decode(kind.stored[member])
    cut = [part[:length] for length in range(len(part))] + [part[start:] for start in range(1, len(part))]

    assert all(refused(kind, {**kind.stored, member: b64encode(shorter).decode()}) for shorter in cut)


@pytest.mark.parametrize(
    "other",
    [
        PLACE._replace(namespace="staging"),
        PLACE._replace(key="oauth.gitlab"),
        PLACE._replace(version=4),
        PLACE._replace(version=33),
        ValuePlace("prodo", "auth.gïthub", 3),
        ValuePlace("pro", "doauth.gïthub", 3),
    ],
)
def test_a_value_opens_at_its_own_place_only(other: ValuePlace) -> None:
    """Another namespace, key or version, also one that reads the same end to end, does not open; the error names it."""
    with pytest.raises(DecryptionError, match="moved here from another place") as caught:
        _open_value(STORED_VALUE, other)
    assert str(other) in str(caught.value)
    assert "password" not in str(caught.value)


def test_a_value_opens_under_its_own_data_key_id_only() -> None:
    """The id of the data key is covered by the tag, even where the key's bytes are the same."""
    assert refused(KINDS["value"], {**STORED_VALUE, "key": "another"})


def test_a_value_opens_with_its_own_data_key_only() -> None:
    """Other bytes under the same id do not open it."""
    with pytest.raises(DecryptionError):
        _open_value(STORED_VALUE, key=MASTER_KEY)


@pytest.mark.parametrize("other", [DataKeyPlace("staging", DATA_KEY_ID), DataKeyPlace("prod", "another")])
def test_a_data_key_opens_at_its_own_place_only(other: DataKeyPlace) -> None:
    """Namespace and data key id are covered by the tag of a wrapped data key."""
    with pytest.raises(DecryptionError, match="does not open with master key '2024-01'"):
        _unwrap(STORED_DATA_KEY, other)


def test_a_data_key_opens_with_its_own_master_key_only() -> None:
    """Other bytes under the same id do not open it, nor the same bytes under another id."""
    with pytest.raises(DecryptionError, match="not the bytes that the key of this id had"):
        _unwrap(STORED_DATA_KEY, key=DATA_KEY)
    with pytest.raises(DecryptionError):
        _unwrap({**STORED_DATA_KEY, "key": "2025-01"})


def test_a_wrapped_data_key_is_no_value() -> None:
    """What was sealed as one kind does not open as the other, even with the same key and the same names."""
    aead = Aead("same", MASTER_KEY)
    value = seal_value(aead, DATA_KEY, ValuePlace("prod", DATA_KEY_ID, 1))
    wrapped = wrap_data_key(aead, DATA_KEY, KEY_PLACE)

    with pytest.raises(DecryptionError):
        unwrap_data_key(aead, value, KEY_PLACE)
    with pytest.raises(DecryptionError):
        open_value(aead, wrapped, ValuePlace("prod", DATA_KEY_ID, 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(value=json_values, namespace=names, key=names, version=st.integers(1, 2**63 - 1))
def test_any_value_at_any_place_comes_back(value: object, namespace: str, key: str, version: int) -> None:
    """Whatever is sealed opens as the same bytes, and never under the same nonce twice."""
    aead, place = Aead(DATA_KEY_ID, DATA_KEY), ValuePlace(namespace, key, version)
    text = json.dumps(value).encode()

    first, second = seal_value(aead, text, place), seal_value(aead, text, place)

    assert open_value(aead, Envelope.parse(first.as_object(), place), place) == text
    assert first.nonce != second.nonce
    assert first.data != second.data
