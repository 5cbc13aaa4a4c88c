"""What every `MasterKey` promises."""

import json
import logging
import pickle
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from secretstore.crypto.keyring import KeyRing
from secretstore.domain.protocols import DataKeyPlace, MasterKey
from secretstore.errors import DecryptionError, MasterKeyError, SecretStoreError

DATA_KEY = bytes(range(100, 132))
PLACE = DataKeyPlace("prod", "6f1d3a52-7f0e-4a6b-9d0c-1f2e3d4c5b6a")
AWKWARD_NAMESPACES = ("a", "ü/ß \"quoted\" 'and' more", "💥", "a" * 128, "中" * 128, "utf8:61", "x=y&z,{}[]<>|\\%")
_THREADS = 8


class MasterKeyContract:
    """Subclass it with the fixtures `master_key` and `other_master_key`, which has another id."""

    @pytest.fixture
    def master_key(self) -> MasterKey:
        """Return the master key to be tried."""
        raise NotImplementedError

    @pytest.fixture
    def other_master_key(self) -> MasterKey:
        """Return another master key of the same kind."""
        raise NotImplementedError

    @pytest.fixture
    def wrapped(self, master_key: MasterKey) -> dict[str, object]:
        """Return a wrapped data key."""
        return master_key.wrap(DATA_KEY, PLACE)

    @pytest.mark.parametrize("namespace", AWKWARD_NAMESPACES)
    def test_a_data_key_comes_back(self, master_key: MasterKey, namespace: str) -> None:
        """What was wrapped for a namespace is unwrapped for it, whatever its name."""
        place = DataKeyPlace(namespace, PLACE.data_key_id)

        assert master_key.unwrap(master_key.wrap(DATA_KEY, place), place) == DATA_KEY

    def test_what_is_stored_is_json_that_names_the_master_key(
        self, master_key: MasterKey, wrapped: Mapping[str, object]
    ) -> None:
        """It survives JSON, names its master key as `key`, and shows nothing of the data key."""
        stored = json.dumps(wrapped)

        assert json.loads(stored) == wrapped
        assert wrapped["key"] == master_key.id
        assert master_key.unwrap(json.loads(stored), PLACE) == DATA_KEY
        _assert_shows_nothing(stored)

    def test_no_log_shows_a_data_key(self, master_key: MasterKey, caplog: pytest.LogCaptureFixture) -> None:
        """Nor does that of an SDK, at its lowest level."""
        caplog.set_level(logging.DEBUG)

        master_key.unwrap(master_key.wrap(DATA_KEY, PLACE), PLACE)
        _assert_shows_nothing(caplog.text)

    def test_no_two_wrappings_are_the_same(self, master_key: MasterKey, wrapped: Mapping[str, object]) -> None:
        """Nobody sees that two data keys are the same."""
        assert master_key.wrap(DATA_KEY, PLACE) != wrapped

    @pytest.mark.parametrize(
        "place",
        [
            DataKeyPlace("staging", PLACE.data_key_id),
            DataKeyPlace("prod", "another"),
            DataKeyPlace("prod6", PLACE.data_key_id[1:]),
            DataKeyPlace("", ""),
        ],
        ids=["namespace", "data key", "shifted", "empty"],
    )
    def test_it_opens_at_its_place_alone(
        self, master_key: MasterKey, wrapped: Mapping[str, object], place: DataKeyPlace
    ) -> None:
        """Another namespace, another data key, and a border between them that was moved, are refused."""
        with pytest.raises(DecryptionError) as caught:
            master_key.unwrap(wrapped, place)
        _assert_shows_nothing(repr(caught.value), str(caught.value), repr(caught.value.__context__))

    def test_every_member_counts(self, master_key: MasterKey, wrapped: Mapping[str, object]) -> None:
        """With any member missing, changed, of another type, or one more, it is refused."""
        changes: list[dict[str, object]] = [{**wrapped, "more": 1}]
        for name, member in wrapped.items():
            changes.append({other: value for other, value in wrapped.items() if other != name})
            others: tuple[object, ...] = (None, 7, [], f"{member}x", f"x{member}", str(member)[:-1])
            changes += [{**wrapped, name: other} for other in others]
        assert [change for change in changes if change != wrapped and not _is_refused(master_key, change)] == []

    def test_every_character_of_what_was_wrapped_counts(
        self, master_key: MasterKey, wrapped: Mapping[str, object]
    ) -> None:
        """Changed in its middle, near its end or near its beginning, it is refused."""
        longest = max(
            (name for name in wrapped if isinstance(wrapped[name], str)), key=lambda name: len(str(wrapped[name]))
        )
        text = str(wrapped[longest])
        places = [len(text) // 2, len(text) // 3, len(text) - 8]
        changes = [{**wrapped, longest: text[:n] + ("A" if text[n] != "A" else "B") + text[n + 1 :]} for n in places]
        assert [change for change in changes if not _is_refused(master_key, change)] == []

    def test_another_master_key_does_not_open_it(
        self, other_master_key: MasterKey, wrapped: Mapping[str, object]
    ) -> None:
        """A data key opens with the master key that wrapped it, and with no other one."""
        assert other_master_key.id != wrapped["key"]
        assert _is_refused(other_master_key, wrapped)
        assert _is_refused(other_master_key, {**wrapped, "key": other_master_key.id})

    def test_many_threads_use_it_at_once(self, master_key: MasterKey) -> None:
        """Each gets its own data key back."""

        def use(number: int) -> bool:
            place, data_key = DataKeyPlace("prod", str(number)), bytes([number]) * 32
            return master_key.unwrap(master_key.wrap(data_key, place), place) == data_key

        with ThreadPoolExecutor(_THREADS) as pool:
            assert all(pool.map(use, range(_THREADS * 3)))

    def test_it_shows_and_gives_away_nothing(self, master_key: MasterKey) -> None:
        """It has an id and a fingerprint that stay, and cannot be pickled."""
        before = (master_key.id, master_key.fingerprint)
        master_key.wrap(DATA_KEY, PLACE)

        assert (master_key.id, master_key.fingerprint) == before
        assert all(before)
        with pytest.raises(TypeError):
            pickle.dumps(master_key)

    def test_a_key_ring_moves_from_one_to_another(self, master_key: MasterKey, other_master_key: MasterKey) -> None:
        """A data key that one has wrapped is wrapped by the other one, and opens with that alone."""
        made = KeyRing(master_key).new_data_key("prod")
        place = DataKeyPlace("prod", made.id)
        nonce, sealed = made.aead.seal(b"plain", b"")

        moved = KeyRing(other_master_key, master_key).rewrap(made.wrapped, place)

        assert KeyRing(other_master_key).open(moved, place).open(nonce, sealed, b"") == b"plain"
        with pytest.raises(MasterKeyError):
            KeyRing(master_key).open(moved, place)


def _is_refused(master_key: MasterKey, wrapped: Mapping[str, object]) -> bool:
    try:
        master_key.unwrap(wrapped, PLACE)
    except (DecryptionError, MasterKeyError) as error:
        _assert_shows_nothing(repr(error), str(error), repr(error.__cause__), repr(error.__context__))
        return isinstance(error, SecretStoreError)
    return False


def _assert_shows_nothing(*shown: str) -> None:
    for text in shown:
        for form in (DATA_KEY.hex(), b64encode(DATA_KEY).decode(), repr(DATA_KEY)[2:-1]):
            assert form not in text, "a data key is shown"
