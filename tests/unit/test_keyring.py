"""The key ring: reading it, wrapping with it, and what it never shows."""

import copy
import pickle
import re
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from hashlib import sha256

import pytest

from secretstore.crypto.keyring import MAX_OPENED_DATA_KEYS, KeyRing
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError, MasterKeyError

OLD, NEW = sha256(b"old").digest(), sha256(b"new").digest()
PLACE = DataKeyPlace("prod", "data-key")


def entry(key_id: str, key: bytes) -> str:
    """A master key as it is written."""
    return f"{key_id}:{b64encode(key).decode()}"


def wrapped_by(text: str) -> Mapping[str, object]:
    """A data key of `PLACE` that is wrapped with the first key of a ring."""
    return LocalMasterKey.parse(text).wrap(b"d" * 32, PLACE)


@pytest.mark.parametrize(
    "text",
    [
        "{old},{new}",
        "{old}\n{new}",
        " {old} , {new} ",
        "\n\n# the keys of production\n{old}\n  # the next one\n\n{new}\n",
        "{old},\r\n{new},",
        ",,{old},,{new}",
    ],
)
def test_keys_are_divided_by_commas_or_line_ends(text: str) -> None:
    """Commas, lines, blanks and comments all give the same two keys in the same order."""
    ring = KeyRing.from_text(text.format(old=entry("old", OLD), new=entry("new", NEW)))

    assert repr(ring) == "KeyRing(old, new)"


def test_the_first_key_wraps() -> None:
    """A new data key is wrapped by the first master key and names it."""
    ring = KeyRing.from_text(f"{entry('new', NEW)},{entry('old', OLD)}")

    assert ring.new_data_key("prod").wrapped["key"] == "new"


def test_every_key_unwraps_what_it_wrapped() -> None:
    """What an older key wrapped still opens when it stands second."""
    ring = KeyRing.from_text(f"{entry('new', NEW)},{entry('old', OLD)}")
    sealed = KeyRing.from_text(entry("old", OLD)).new_data_key("prod")
    nonce, data = sealed.aead.seal(b"plain", b"")

    opened = ring.open(sealed.wrapped, DataKeyPlace("prod", sealed.id))

    assert opened.id == sealed.id
    assert opened.open(nonce, data, b"") == b"plain"


def test_new_data_keys_differ() -> None:
    """Each data key has an id and bytes of its own."""
    ring = KeyRing.from_text(entry("old", OLD))
    made = [ring.new_data_key("prod") for _ in range(50)]
    master_key = LocalMasterKey("old", OLD)
    opened = {master_key.unwrap(new.wrapped, DataKeyPlace("prod", new.id)) for new in made}

    assert len({new.id for new in made}) == len(opened) == 50
    assert {len(key) for key in opened} == {32}


def test_a_missing_master_key_is_named_with_the_namespace() -> None:
    """The error says which key to add, and for which namespace."""
    ring = KeyRing.from_text(entry("new", NEW))

    with pytest.raises(MasterKeyError, match="namespace 'prod' is wrapped by master key 'old'") as caught:
        ring.open(wrapped_by(entry("old", OLD)), PLACE)
    assert "not in the key ring (new); add it to SECRETSTORE_KEYS" in str(caught.value)


def test_other_bytes_under_the_same_id_are_a_decryption_error() -> None:
    """A key ring whose key was replaced under its old id is told apart from one that lacks the key."""
    ring = KeyRing.from_text(entry("old", NEW))

    with pytest.raises(DecryptionError, match="does not open with master key 'old'"):
        ring.open(wrapped_by(entry("old", OLD)), PLACE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the key ring is empty"),
        (" \n,\n# only words\n", "the key ring is empty"),
        (b64encode(NEW).decode(), "has no colon"),
        (f"a:{b64encode(NEW).decode()[:-3]}", "is not base64"),
        (f"a:{b64encode(NEW).decode()[:20]}!{b64encode(NEW).decode()[21:]}", "is not base64"),
        (f"a:{b64encode(NEW).decode()[:20]}é{b64encode(NEW).decode()[21:]}", "is not base64"),
        (entry("a", b""), "has 0 bytes instead of 32"),
        (entry("a", NEW[:16]), "has 16 bytes instead of 32"),
        (entry("a", NEW[:31]), "has 31 bytes instead of 32"),
        (entry("a", NEW + b"x"), "has 33 bytes instead of 32"),
        (f"a:{NEW.hex()}", "has 48 bytes instead of 32"),
        (entry("a", bytes(32)), "can be guessed"),
        (entry("a", b"\x07" * 32), "can be guessed"),
        (entry("a", b"\xff\x00" * 16), "can be guessed"),
        (entry("a", NEW[:14] + bytes(18)), "can be guessed"),
        (entry("a", bytes(range(32))), "can be guessed"),
        (entry("a", bytes(range(255, 223, -1))), "can be guessed"),
        (entry("a", bytes(step * 7 % 256 for step in range(32))), "can be guessed"),
        (entry("a", OLD.hex()[:32].encode()), "can be guessed"),
        (entry("a", b"correct horse battery staple 123"), "can be guessed"),
        (entry("", NEW), "the id of a master key"),
        (entry("-a", NEW), "the id of a master key"),
        (entry("a b", NEW), "the id of a master key"),
        (entry("é", NEW), "the id of a master key"),
        (entry("a" * 65, NEW), "the id of a master key"),
        (f"{b64encode(NEW).decode()}:a", "the id of a master key|is not base64"),
        (f"{b64encode(NEW).decode()}:abcd", "the id of a master key"),
        (f"{NEW.hex()}{NEW.hex()}:!", "the id of a master key"),
        (f"{entry('a', NEW)},{entry('a', OLD)}", "'a' is in the key ring twice"),
        (f"{entry('a', NEW)},{entry('a', NEW)}", "'a' is in the key ring twice"),
    ],
)
def test_a_bad_key_ring_is_refused_without_showing_a_key(text: str, problem: str) -> None:
    """Each mistake has its own words, and none of them repeats a key, also where id and key were swapped."""
    with pytest.raises(MasterKeyError, match=problem) as caught:
        KeyRing.from_text(text)

    shown = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    given = [part for part in re.split(r"[:,\s]", text) if len(part) >= 8]
    assert [part for part in given if part in shown or part[:8] in shown] == []


@pytest.mark.parametrize("key_id", ["a", "2024-01", "A.b_c-9", "a" * 64])
def test_a_made_key_is_32_random_bytes_under_its_id(key_id: str) -> None:
    """What `generate_master_key` returns is read by the key ring, and is another one each time."""
    made = [generate_master_key(key_id) for _ in range(50)]
    keys = {b64decode(text.removeprefix(f"{key_id}:"), validate=True) for text in made}

    assert len(keys) == 50
    assert {len(key) for key in keys} == {32}
    assert repr(KeyRing.from_text(made[0])) == f"KeyRing({key_id})"


def test_a_key_is_not_made_under_a_bad_id() -> None:
    """An id that the key ring would refuse is refused before a key is made."""
    with pytest.raises(MasterKeyError, match="the id of a master key"):
        generate_master_key("a:b")


class CountingMasterKey:
    """A master key that counts how often it unwraps."""

    id = "counting"
    fingerprint = "none"

    def __init__(self) -> None:
        self.unwrapped: list[DataKeyPlace] = []

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap nothing."""
        return {"key": self.id}

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Return a key made from the place."""
        self.unwrapped.append(place)
        return f"{place.namespace}/{place.data_key_id}".ljust(32).encode()


WRAPPED = {"key": CountingMasterKey.id}


def test_an_opened_data_key_is_kept_for_its_place_alone() -> None:
    """A data key is unwrapped once; the same id in another namespace is another key."""
    master_key = CountingMasterKey()
    ring = KeyRing(master_key)
    other = DataKeyPlace("staging", PLACE.data_key_id)
    assert ring.opened(*PLACE) is None

    opened = ring.open(WRAPPED, PLACE)

    assert ring.opened(*PLACE) is opened
    assert ring.opened(*other) is None
    assert ring.open(WRAPPED, other) is not opened
    assert master_key.unwrapped == [PLACE, other]


def test_the_number_of_opened_data_keys_has_a_limit() -> None:
    """The data key that was opened first makes room for one more than the limit."""
    ring = KeyRing(CountingMasterKey())
    places = [DataKeyPlace("prod", str(number)) for number in range(MAX_OPENED_DATA_KEYS + 1)]

    for place in places:
        ring.open(WRAPPED, place)

    assert ring.opened(*places[0]) is None
    assert all(ring.opened(*place) is not None for place in places[1:])


def test_an_opened_data_key_is_looked_at_again_after_a_while() -> None:
    """Past its age it is not at hand any more, and opening it once more makes it so."""
    now = [0.0]
    ring = KeyRing(CountingMasterKey(), max_age=60, clock=lambda: now[0])
    ring.open(WRAPPED, PLACE)

    now[0] = 59.9
    assert ring.opened(*PLACE) is not None
    now[0] = 60.0
    assert ring.opened(*PLACE) is None
    ring.open(WRAPPED, PLACE)
    now[0] = 119.9
    assert ring.opened(*PLACE) is not None


def test_a_data_key_that_is_gone_is_forgotten() -> None:
    """Nothing of it is at hand any more, and forgetting one that was never opened does nothing."""
    ring = KeyRing(CountingMasterKey())
    ring.open(WRAPPED, PLACE)

    ring.forget(PLACE)
    ring.forget(PLACE)

    assert ring.opened(*PLACE) is None


def test_threads_that_open_one_data_key_share_one_answer() -> None:
    """While the first one asks, the others wait, and an error is theirs too."""
    asked, answer = threading.Event(), threading.Event()

    class Slow(CountingMasterKey):
        def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
            asked.set()
            answer.wait(20)
            self.unwrapped.append(place)
            raise MasterKeyError("refused")

    slow = Slow()
    ring = KeyRing(slow)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ring.open, WRAPPED, PLACE)
        assert asked.wait(20)
        others = [pool.submit(ring.open, WRAPPED, PLACE) for _ in range(3)]
        assert wait(others, timeout=0.2).done == set()
        answer.set()
        for one in (first, *others):
            with pytest.raises(MasterKeyError, match="refused"):
                one.result(20)
    assert slow.unwrapped == [PLACE]


def test_a_prepared_data_key_is_taken_once() -> None:
    """What was made outside a transaction is what the next new data key of its namespace is, and of no other."""
    ring = KeyRing.from_text(entry("new", NEW))
    ring.prepare_data_key("prod")
    ring.prepare_data_key("prod")

    assert ring.take_prepared("staging") is None
    taken = ring.new_data_key("prod")
    assert ring.take_prepared("prod") is None
    assert ring.new_data_key("prod").id != taken.id
    assert ring.opened(*DataKeyPlace("prod", taken.id)) is taken.aead


def test_a_data_key_is_wrapped_anew_by_the_first_master_key() -> None:
    """The same data key opens afterwards with the new master key alone."""
    sealed = KeyRing.from_text(entry("old", OLD)).new_data_key("prod")
    place = DataKeyPlace("prod", sealed.id)

    rewrapped = KeyRing.from_text(f"{entry('new', NEW)},{entry('old', OLD)}").rewrap(sealed.wrapped, place)

    nonce, data = sealed.aead.seal(b"plain", b"")
    assert rewrapped["key"] == "new"
    assert KeyRing.from_text(entry("new", NEW)).open(rewrapped, place).open(nonce, data, b"") == b"plain"


@pytest.mark.parametrize("wrapped", [{}, {"key": None}, {"key": 7}, {"v": 1, "alg": "shredded"}], ids=str)
def test_what_names_no_master_key_does_not_open(wrapped: Mapping[str, object]) -> None:
    """A wrapped key without the id of a master key is a decryption error, also where it was shredded."""
    with pytest.raises(
        DecryptionError, match=r"data key 'data-key' of namespace 'prod' (is not in a format|was shredded)"
    ):
        KeyRing.from_text(entry("new", NEW)).open(wrapped, PLACE)


def test_a_data_key_that_does_not_open_is_not_kept() -> None:
    """A failed attempt leaves nothing behind."""
    ring = KeyRing.from_text(entry("new", NEW))

    with pytest.raises(MasterKeyError):
        ring.open(wrapped_by(entry("old", OLD)), PLACE)
    assert ring.opened(*PLACE) is None


def test_a_key_ring_shows_ids_only() -> None:
    """Its repr names the keys and holds none of their bytes, and neither does that of a key."""
    keys = LocalMasterKey("old", OLD), LocalMasterKey("new", NEW)
    shown = f"{keys!r} {KeyRing(*keys)!r} {[key.fingerprint for key in keys]}"

    assert "KeyRing(old, new)" in shown
    assert not any(part in shown for key in (OLD, NEW) for part in (repr(key), key.hex(), b64encode(key).decode()))


@pytest.mark.parametrize("leave", [pickle.dumps, copy.deepcopy])
@pytest.mark.parametrize("make", [LocalMasterKey, lambda *parts: KeyRing(LocalMasterKey(*parts))])
def test_a_key_ring_does_not_leave_its_process(
    make: Callable[[str, bytes], object], leave: Callable[[object], object]
) -> None:
    """Master keys cannot be pickled or copied, alone or in a ring."""
    with pytest.raises(TypeError, match="cannot"):
        leave(make("old", OLD))


def test_a_fingerprint_tells_keys_apart() -> None:
    """It is the same for the same bytes, whatever their id, and another one for other bytes."""
    assert LocalMasterKey("a", OLD).fingerprint == LocalMasterKey("b", OLD).fingerprint
    assert LocalMasterKey("a", OLD).fingerprint != LocalMasterKey("a", NEW).fingerprint
    assert re.fullmatch("[0-9a-f]{16}", LocalMasterKey("a", OLD).fingerprint)
