"""Whatever is sealed anywhere opens there; whatever is changed, swapped or opened with something else does not."""

import json
import string
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import Envelope, ValuePlace, open_value, seal_value, unwrap_data_key
from secretstore.crypto.local import LocalMasterKey
from secretstore.domain.names import MAX_KEY_LENGTH, MAX_NAMESPACE_LENGTH, parse_key, parse_namespace
from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError
from secretstore.service.typed import from_json_as, to_json

Stored = dict[str, Any]
Draw = Callable[..., Any]

# Other tests share the machine, so no example has a deadline.
thorough = settings(max_examples=100, deadline=None)
quick = settings(max_examples=40, deadline=None)


@dataclass(frozen=True)
class Sealed:
    """Something as it is stored, and all that opens it."""

    stored: Stored
    plaintext: bytes
    place: Any
    key: bytes
    opener: Callable[[Stored, Any, bytes], bytes]

    def open(self, stored: Stored | None = None, place: Any = None, key: bytes | None = None) -> bytes:
        """Open it, or another envelope, at its place or another one, with its key or another one."""
        return self.opener(stored or self.stored, place or self.place, key or self.key)

    def is_refused(self, stored: Stored | None = None, place: Any = None, key: bytes | None = None) -> bool:
        """Tell whether it does not open; any error but `DecryptionError` is raised."""
        try:
            self.open(stored, place, key)
        except DecryptionError:
            return True
        return False


# Both take the key by the id that the envelope names, and with the same bytes: nobody could do more to open it.
def _open_value(stored: Stored, place: ValuePlace, key: bytes) -> bytes:
    envelope = Envelope.parse(stored, place)
    return open_value(Aead(envelope.key_id, key), envelope, place)


def _unwrap(stored: Stored, place: DataKeyPlace, key: bytes) -> bytes:
    envelope = Envelope.parse(stored, place)
    return unwrap_data_key(Aead(envelope.key_id, key), envelope, place)


def as_stored(envelope: Envelope) -> Stored:
    """Return an envelope as it comes back from JSON text."""
    return dict(json.loads(envelope.as_json()))


def names(longest: int) -> st.SearchStrategy[str]:
    """Any legal name: what Python strips and control characters are not."""
    characters = st.characters(exclude_categories=["Cs", "Cc"])
    return st.text(characters, min_size=1, max_size=longest).filter(lambda name: name == name.strip())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
namespaces = names(MAX_NAMESPACE_LENGTH)
keys = names(MAX_KEY_LENGTH)
versions = st.integers(1, 2**63 - 1)
key_ids = st.uuids(version=4).map(str)
# A seed's hash is as random as a real key; drawn byte by byte it would mostly be zeros, which no master key may be.
key_bytes = st.integers(0, 2**64).map(lambda seed: sha256(str(seed).encode()).digest())
value_places = st.builds(ValuePlace, namespaces, keys, versions)
data_key_places = st.builds(DataKeyPlace, namespaces, key_ids)
master_key_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@st.composite
def sealed_values(draw: st.DrawFn) -> Sealed:
    """Any value, sealed at any place under any data key."""
    place, key, text = draw(value_places), draw(key_bytes), to_json(draw(json_values), name="the value")
    envelope = seal_value(Aead(draw(key_ids), key), text, place)
    return Sealed(as_stored(envelope), text, place, key, _open_value)


@st.composite
def wrapped_data_keys(draw: st.DrawFn) -> Sealed:
    """Any data key of any place, wrapped by any local master key."""
    place, key, data_key = draw(data_key_places), draw(key_bytes), draw(st.binary(min_size=32, max_size=32))
    wrapped = LocalMasterKey(draw(master_key_ids), key).wrap(data_key, place)
    return Sealed(json.loads(json.dumps(wrapped)), data_key, place, key, _unwrap)


sealed_things = sealed_values() | wrapped_data_keys()


@given(name=keys)
@quick
def test_the_names_that_are_tried_are_legal(name: str) -> None:
    """The names of these tests are those that the library takes."""
    assert parse_key(name) == name
    assert parse_namespace(name[:MAX_NAMESPACE_LENGTH].strip()) == name[:MAX_NAMESPACE_LENGTH].strip()


@given(sealed=sealed_things)
@quick
def test_what_was_sealed_opens_at_its_place(sealed: Sealed) -> None:
    """Any value and any data key come back as the same bytes, at any legal place and with any key."""
    assert sealed.open() == sealed.plaintext


@given(value=json_values, place=value_places, data_key_id=key_ids, key=key_bytes)
@thorough
def test_any_json_value_comes_back_as_it_was(value: Any, place: ValuePlace, data_key_id: str, key: bytes) -> None:
    """From a value to its stored text and back, types and the order of members are kept: `1` is not `1.0` or `true`."""
    envelope = seal_value(Aead(data_key_id, key), to_json(value, name=place), place)

    found = from_json_as(_open_value(as_stored(envelope), place, key), None, name=place)

    assert repr(found) == repr(value)


class Login(BaseModel):
    """A typed value with a secret in it."""

    user: str
    password: SecretStr
    ports: list[int] = []


@given(user=st.text(), password=st.text(), ports=st.lists(st.integers()), place=value_places, key=key_bytes)
@quick
def test_any_typed_value_comes_back_as_its_type(
    *, user: str, password: str, ports: list[int], place: ValuePlace, key: bytes
) -> None:
    """A model's secret field is sealed revealed, and comes back wrapped with the same text in it."""
    assume("*" * 10 not in user + password)
    login = Login(user=user, password=SecretStr(password), ports=ports)
    envelope = seal_value(Aead("k", key), to_json(login, name=place), place)

    found = from_json_as(_open_value(as_stored(envelope), place, key), Login, name=place)

    assert found == login
    assert found.password.get_secret_value() == password


BASE64 = string.ascii_letters + string.digits + "+/="
# JSONB holds neither NUL nor lone surrogates.
storable = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def _added(draw: Draw, stored: Stored) -> Stored:
    name = draw(st.text(storable).filter(lambda name: name not in stored))
    return {**stored, name: draw(json_values)}


def _removed(draw: Draw, stored: Stored) -> Stored:
    gone = draw(st.sampled_from(sorted(stored)))
    return {name: part for name, part in stored.items() if name != gone}


def _replaced(draw: Draw, stored: Stored) -> Stored:
    member = draw(st.sampled_from(sorted(stored)))
    others = json_values | st.sampled_from([[stored[member]], {member: stored[member]}])
    return {**stored, member: draw(others.filter(lambda other: repr(other) != repr(stored[member])))}


def _edited(draw: Draw, stored: Stored) -> Stored:
    member = draw(st.sampled_from(["alg", "key", "nonce", "data"]))
    text = stored[member]
    start = draw(st.integers(0, len(text)))
    new = draw(st.sampled_from(["", *BASE64]) | storable)
    edited = text[:start] + new + text[start + draw(st.integers(0, 1)) :]
    assume(edited != text)
    return {**stored, member: edited}


def _changed_byte(draw: Draw, stored: Stored) -> Stored:
    member = draw(st.sampled_from(["nonce", "data"]))
    data = bytearray(b64decode(stored[member]))
    data[draw(st.integers(0, len(data) - 1))] ^= draw(st.integers(1, 255))
    return {**stored, member: b64encode(data).decode()}


def _equal_to_python(draw: Draw, stored: Stored) -> Stored:
    return {**stored, "v": draw(st.sampled_from([True, 1.0]))}


def _unused_bits(draw: Draw, stored: Stored) -> Stored:
    # The last character before the padding holds bits of which the decoded bytes know nothing.
    text = stored["data"].rstrip("=")
    padding = stored["data"][len(text) :]
    assume(padding)
    other = BASE64[BASE64.index(text[-1]) ^ draw(st.integers(1, 4 ** len(padding) - 1))]
    return {**stored, "data": text[:-1] + other + padding}


CHANGES = {
    "a member added": _added,
    "a member removed": _removed,
    "a member replaced": _replaced,
    "a character changed": _edited,
    "a byte changed": _changed_byte,
    "a format that equals ours": _equal_to_python,
    "another spelling of the same bytes": _unused_bits,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@given(data=st.data(), sealed=sealed_things)
@thorough
def test_no_changed_envelope_opens(*, change: Callable[..., Stored], data: st.DataObject, sealed: Sealed) -> None:
    """One change anywhere in what is stored is a `DecryptionError`, and never an answer or another error."""
    assert sealed.is_refused(change(data.draw, sealed.stored))


OTHER_FIELDS: dict[str, st.SearchStrategy[Any]] = {"namespace": namespaces, "key": keys, "version": versions}


@pytest.mark.parametrize("field", OTHER_FIELDS)
@given(data=st.data(), place=value_places, data_key_id=key_ids, key=key_bytes)
@quick
def test_no_two_rows_can_be_swapped(
    *, field: str, data: st.DataObject, place: ValuePlace, data_key_id: str, key: bytes
) -> None:
    """Of two values that differ in one field of their places, under one data key, neither opens as the other."""
    other = place._replace(**{field: data.draw(OTHER_FIELDS[field])})
    assume(other != place)
    data_key = Aead(data_key_id, key)
    one, two = (as_stored(seal_value(data_key, b'"same"', there)) for there in (place, other))

    for stored, home, elsewhere in ((one, place, other), (two, other, place)):
        sealed = Sealed(stored, b'"same"', home, key, _open_value)
        assert sealed.open() == b'"same"'
        assert sealed.is_refused(place=elsewhere)


@given(place=value_places, cut=st.integers(1, MAX_KEY_LENGTH), key=key_bytes)
@quick
def test_no_place_reads_like_another_end_to_end(place: ValuePlace, cut: int, key: bytes) -> None:
    """Characters that go over from the key to the namespace, or from the version to the key, make another place."""
    sealed = Sealed(as_stored(seal_value(Aead("k", key), b"1", place)), b"1", place, key, _open_value)
    digits = str(place.version)

    assert sealed.is_refused(place=ValuePlace(place.namespace + place.key[:cut], place.key[cut:] or "x", place.version))
    assert sealed.is_refused(place=ValuePlace(place.namespace, place.key + digits[:1], int(digits[1:] or "1")))


@given(sealed=sealed_things, other_key=key_bytes)
@quick
def test_nothing_opens_with_other_key_bytes(sealed: Sealed, other_key: bytes) -> None:
    """Another key under the same id opens nothing."""
    assume(other_key != sealed.key)
    assert sealed.is_refused(key=other_key)


@given(sealed=sealed_values(), other=key_ids)
@quick
def test_no_value_opens_under_another_data_key_id(sealed: Sealed, other: str) -> None:
    """The same bytes under another id open nothing."""
    assume(other != sealed.stored["key"])
    assert sealed.is_refused({**sealed.stored, "key": other})


@given(one=sealed_values(), two=sealed_values(), member=st.sampled_from(["key", "nonce", "data"]))
@quick
def test_no_parts_of_two_envelopes_make_a_third(one: Sealed, two: Sealed, member: str) -> None:
    """A member taken from another envelope is noticed."""
    assume(one.stored[member] != two.stored[member])
    assert one.is_refused({**one.stored, member: two.stored[member]})


@given(data_key=st.binary(min_size=32, max_size=32), place=data_key_places, id_=master_key_ids, key=key_bytes)
@quick
def test_a_local_master_key_unwraps_what_it_wrapped(
    *, data_key: bytes, place: DataKeyPlace, id_: str, key: bytes
) -> None:
    """Any 32 bytes of any place come back, also after a restart of the process."""
    wrapped = LocalMasterKey(id_, key).wrap(data_key, place)

    assert LocalMasterKey(id_, key).unwrap(json.loads(json.dumps(wrapped)), place) == data_key


@given(place=data_key_places, other=data_key_places, id_=master_key_ids, key=key_bytes)
@quick
def test_no_two_wrapped_data_keys_can_be_swapped(
    *, place: DataKeyPlace, other: DataKeyPlace, id_: str, key: bytes
) -> None:
    """A wrapped data key opens neither in another namespace nor under another id."""
    assume(place.namespace != other.namespace and place.data_key_id != other.data_key_id)
    master_key = LocalMasterKey(id_, key)
    wrapped = master_key.wrap(bytes(32), place)

    for elsewhere in (other, place._replace(namespace=other.namespace), other._replace(namespace=place.namespace)):
        with pytest.raises(DecryptionError):
            master_key.unwrap(wrapped, elsewhere)


@given(place=data_key_places, ids=st.lists(master_key_ids, min_size=2, max_size=2, unique=True), key=key_bytes)
@quick
def test_no_data_key_opens_with_another_master_key_of_the_same_bytes(
    place: DataKeyPlace, ids: list[str], key: bytes
) -> None:
    """The id of the master key is covered too: its bytes under another id open nothing, also with the id replaced."""
    wrapping, other = (LocalMasterKey(id_, key) for id_ in ids)
    wrapped = wrapping.wrap(bytes(32), place)

    for stored in (wrapped, {**wrapped, "key": other.id}):
        with pytest.raises(DecryptionError):
            other.unwrap(stored, place)


def test_no_data_key_opens_that_names_another_master_key() -> None:
    """A wrapped data key whose member `key` was changed is refused, also by the master key that did wrap it."""
    place = DataKeyPlace("prod", "6f1d3a52-7f0e-4a6b-9d0c-1f2e3d4c5b6a")
    master_key = LocalMasterKey("old", sha256(b"old").digest())
    wrapped = master_key.wrap(bytes(32), place)

    with pytest.raises(DecryptionError):
        master_key.unwrap({**wrapped, "key": "new"}, place)
