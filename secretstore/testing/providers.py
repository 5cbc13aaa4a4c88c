"""What every `SecretProvider` promises."""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any
from zlib import crc32

import pytest

from secretstore.domain.names import MAX_KEY_LENGTH, parse_key
from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, SecretProvider, Version
from secretstore.errors import (
    InvalidSecretKeyError,
    InvalidSecretValueError,
    ProviderError,
    SecretNotFoundError,
    SecretStoreError,
    VersionConflictError,
)
from secretstore.testing.leaks import MARKER, assert_shows_nothing

Seed = Callable[[str, bytes], object]

# The first of two keys that differ in their case, or that an escape could confuse, stands before the other one.
AWKWARD_KEYS = (
    *("UPPER", "upper", "Dotted.Name", "a.", ".hidden", ".", "..", "...", "..data", "../up", "a/../b", "a/./b"),
    *("a/b", "a//b", "/leading", "trailing/", "/", "deep/" * 20 + "end", "with space", "two  spaces", "a/ b"),
    *("100%", "a%2Fb", "%2E%2E", "a%25b", "%", "quote'\"`", "back\\slash", "a:b", "a?b#c", "a&b=c+d", "a*b", "$HOME"),
    *(
        "${x}",
        "~",
        "-dash",
        "a,b;c",
        "{a}",
        "[a]",
        "<a>",
        "a|b",
        "a@b",
        "x-AbCdEf",
        "aws/a",
        "ssm.a",
        "metadata",
        "null",
    ),
    *("\u00e9", "e\u0301", "ß", "中/文", "💥", "\uffff", "a\u200bb", "k" * MAX_KEY_LENGTH, "中" * MAX_KEY_LENGTH),
)
VALUES = (
    *("null", "true", "false", "0", '""', "[]", "{}", '"null"', '"{}"', '"[1]"', '" spaces "', '"line\\nline\\n"'),
    *("-1", "1.0", "1.10", "-0.0", "1E5", "12345678901234567890", "0.1234567890123456789", "1e400", "[1.0, 1]"),
    *('"\\u0000"', '"ü 中 💥"', '"\\"quoted\\" \\\\"', '{"ü": [{"a": {"": null}}, [[]], ""]}', '{"value": 1}'),
    *('{"value": "v"}', '{"a": 1.0, "b": [true, null]}', '{"data": {"data": {}}}', '"\'${HOME} $(id) # `x`"'),
)
# Some would be folders of others, and some have what means something in a pattern.
_RELATED_KEYS = (
    "a_b",
    "a_c",
    "axb",
    "a%b",
    "a%c",
    "a.b",
    "app",
    "app/db",
    "app/dbs",
    "app/x/y",
    "apple",
    "b",
    "Z",
    "é",
)
# In UTF-16 the last two would change places.
_KEYS_TO_SORT = ("a_", "aa", "a", "b0", "b", "Z", "a/b", "a-b", "a.b", "é", "中", "\uff5e", "💥")
_THREADS = 8
_NO_NUMBER = 999_999
_NO_NAME = "00000000-0000-4000-8000-000000000000"

_REFUSED: dict[Ability, Sequence[Callable[[SecretProvider], object]]] = {
    Ability.WRITE: [lambda provider: provider.write("refused", text("new"))],
    Ability.CREATE: [lambda provider: provider.write("refused", text("new"), expected_version=0)],
    Ability.CHECK_AND_SET: [lambda provider: provider.write("refused", text("new"), expected_version=1)],
    Ability.LABELS: [lambda provider: provider.write("refused", text("new"), labels={"team": "payments"})],
    Ability.DELETE: [lambda provider: provider.delete("refused")],
    Ability.UNDELETE: [lambda provider: provider.undelete("refused")],
    Ability.VERSIONS: [
        lambda provider: provider.list_versions("refused"),
        lambda provider: provider.read("refused", version=1),
    ],
    Ability.DESTROY: [lambda provider: provider.destroy_versions("refused", [1])],
}


def text(of: object) -> bytes:
    """Return a value that every place can hold, another one for each thing, and by which a leak is found."""
    return json.dumps(f"{MARKER} {crc32(str(of).encode())}").encode()


class SecretProviderContract:
    """Subclass it with the fixture `provider`: an empty place, for each test anew or emptied.

    What is tried follows from its abilities; what it is not able to must be refused.  Every place holds strings, under
    keys of small letters, digits and `_`.  One that cannot be written to overrides `seed` too.
    """

    # A place that cannot hold every key or every value refuses them by the errors that there are for it.
    holds_every_key: bool = True
    holds_every_value: bool = True
    # In bytes of JSON; above `too_large`, where that is given, a value is refused.
    largest: int = 256 * 1024
    too_large: int | None = None
    # More than one page of the place.
    many: int = 25

    @pytest.fixture
    def provider(self) -> SecretProvider:
        """Return the provider to be tried, without any secret."""
        raise NotImplementedError

    @pytest.fixture
    def seed(self, provider: SecretProvider) -> Seed:
        """Return what puts a secret into the place; it refuses what a write would refuse."""
        return provider.write

    @pytest.fixture
    def spare(self, provider: SecretProvider) -> SecretProvider:
        """Return a provider that may be closed, where other tests go on with `provider`."""
        return provider

    def test_nothing_is_there_at_first(self, provider: SecretProvider) -> None:
        """Missing is None, an empty answer and an empty list, and never an error."""
        assert provider.read("missing") is None
        assert provider.describe("missing") is None
        assert provider.read_many(["missing", "missing_too"]) == {}
        assert provider.read_many([]) == {}
        assert provider.list_keys() == provider.list_keys("missing", after="a", limit=3) == []

    def test_a_secret_comes_back(self, provider: SecretProvider, seed: Seed) -> None:
        """It is read, described and listed, and says where it is from."""
        seed("app_token", text("first"))

        secret = provider.read("app_token")
        info = provider.describe("app_token")
        assert secret is not None
        assert info is not None
        assert secret.value_json == text("first")
        assert (info.key, info.version) == (secret.info.key, secret.info.version) == ("app_token", info.version)
        assert info.provider
        assert all(moment.tzinfo for moment in (info.created_at, info.updated_at) if moment)
        assert provider.list_keys() == ["app_token"]

    def test_awkward_keys(self, provider: SecretProvider, seed: Seed) -> None:
        """Each is held as it is, beside all others, or refused as a key and then not there."""
        held, wrong = [], []
        for key in AWKWARD_KEYS:
            assert parse_key(key) == key
            if self._holds(seed, key, text(key)):
                held.append(key)
            elif not self._has_none(provider, key):
                wrong.append(key)
        assert wrong == []
        assert len(held) == len(AWKWARD_KEYS) or not self.holds_every_key
        assert provider.list_keys() == sorted(held)
        # Those that are refused spoil no batch.
        found = _values(provider.read_many(AWKWARD_KEYS))
        assert {key: found.get(key) for key in held} == {key: text(key) for key in held}
        assert [key for key in held if _value(provider.read(key)) != text(key)] == []
        # A few of them, because some places walk through all keys for each list.
        assert [key for key in held[::7] if provider.list_keys(key, limit=1) != [key]] == []
        assert [key for key in held[::3] if (info := provider.describe(key)) is None or info.key != key] == []

    def test_awkward_keys_are_deleted(self, provider: SecretProvider, seed: Seed) -> None:
        """Each goes alone; one that the place cannot hold is not there."""
        _needs(provider, Ability.DELETE)
        held = [key for key in AWKWARD_KEYS if self._holds(seed, key, text(key))]

        half = held[::2]
        assert [key for key in half if not provider.delete(key)] == []
        assert [key for key in AWKWARD_KEYS if key not in held and provider.delete(key)] == []
        assert provider.list_keys() == sorted(set(held) - set(half))

    def test_awkward_values(self, provider: SecretProvider, seed: Seed) -> None:
        """Each comes back with every digit, or is refused as a value and then not there."""
        held = {f"value_{number:02}": value.encode() for number, value in enumerate(VALUES)}
        for key, value in list(held.items()):
            try:
                seed(key, value)
            except InvalidSecretValueError:
                assert not self.holds_every_value, f"{value!r} was refused"
                del held[key]
        found = _values(provider.read_many([*held, "value_missing"]))
        one_by_one = {key: _value(provider.read(key)) for key in held}
        assert [(value, found.get(key)) for key, value in held.items() if not _same(value, found.get(key))] == []
        assert [(held[key], value) for key, value in one_by_one.items() if not _same(held[key], value)] == []
        assert provider.list_keys() == sorted(held)
        assert held

    def test_a_large_value(self, provider: SecretProvider, seed: Seed) -> None:
        """The largest value comes back whole."""
        value = _of_size(self.largest)
        seed("large", value)

        assert _value(provider.read("large")) == value
        assert _values(provider.read_many(["large"])) == {"large": value}

    def test_a_value_that_is_too_large_is_refused(self, provider: SecretProvider, seed: Seed) -> None:
        """It is refused before anything is written."""
        if self.too_large is None:
            pytest.skip("no size is too large for it")
        _needs(provider, Ability.WRITE)
        seed("full", text("before"))
        for key in ("full", "empty"):
            with refused(InvalidSecretValueError):
                provider.write(key, _of_size(self.too_large))
        assert _value(provider.read("full")) == text("before")
        assert provider.list_keys() == ["full"]

    def test_many_are_read_at_once(self, provider: SecretProvider, seed: Seed) -> None:
        """Those that there are come back, each once, whatever else was asked for."""
        expected = {f"batch_{number:02}": text(number) for number in range(self.many)}
        for key, value in expected.items():
            seed(key, value)

        keys = [*expected, "batch_missing", *reversed(expected), "missing"]
        assert _values(provider.read_many(keys)) == expected
        assert _values(provider.read_many(dict.fromkeys(keys).keys())) == expected
        assert _values(provider.read_many({"batch_00", "missing"})) == {"batch_00": text(0)}

    def test_keys_are_listed_in_the_order_of_code_points(self, provider: SecretProvider, seed: Seed) -> None:
        """Not in that of a language, of folders, or of UTF-16."""
        held = [key for key in _KEYS_TO_SORT if self._holds(seed, key, text(key))]

        assert provider.list_keys() == sorted(held)
        assert len(held) >= len(("a_", "aa", "a", "b0", "b"))

    def test_a_prefix_is_the_beginning_of_a_key(self, provider: SecretProvider, seed: Seed) -> None:
        """It is no folder and no pattern, and counts capitals."""
        held = sorted(key for key in _RELATED_KEYS if self._holds(seed, key, text(key)))

        prefixes = (
            "",
            "a",
            "a_",
            "a%",
            "a.",
            "app",
            "app/",
            "app/d",
            "app/db",
            "app/x",
            "appl",
            "b",
            "bb",
            "A",
            "é",
            "*",
        )
        listed = {prefix: provider.list_keys(prefix) for prefix in prefixes}
        assert listed == {prefix: [key for key in held if key.startswith(prefix)] for prefix in prefixes}

    def test_pages_begin_behind_a_key(self, provider: SecretProvider, seed: Seed) -> None:
        """`after` need not be there, and a limit is kept to the key."""
        held = sorted(key for key in _RELATED_KEYS if self._holds(seed, key, text(key)))

        for prefix in ("", "app", "a_"):
            for after in ("a_b", "app", "app/", "app/db", "appa", "Zz", "zz", "0"):
                expected = [key for key in held if key.startswith(prefix) and key > after]
                assert provider.list_keys(prefix, after=after) == expected
                assert provider.list_keys(prefix, after=after, limit=1) == expected[:1]
                assert provider.list_keys(prefix, after=after, limit=3) == expected[:3]

    def test_a_walk_page_by_page_gives_each_key_once(self, provider: SecretProvider, seed: Seed) -> None:
        """Also past the pages of the place."""
        keys = [f"many_{number:03}" for number in range(self.many)]
        for key in reversed(keys):
            seed(key, text(key))
        seed("more", text("more"))

        assert list(_walk(provider, "many_", limit=10)) == keys
        assert list(_walk(provider, "", limit=self.many)) == [*keys, "more"]
        assert provider.list_keys("many_") == provider.list_keys("many_", limit=self.many + 1) == keys

    def test_what_it_is_not_able_to_is_refused(self, provider: SecretProvider, seed: Seed) -> None:
        """The error names the provider and what was asked, and nothing is changed."""
        seed("refused", text("before"))
        for ability, calls in _REFUSED.items():
            for call in calls:
                if ability in provider.abilities:
                    continue
                with refused(ProviderError) as caught:
                    call(provider)
                error = caught.value
                assert isinstance(error, ProviderError)
                assert error.operation
                assert error.provider == provider.name
                assert provider.name in str(error)
                assert not error.is_temporary
        assert _value(provider.read("refused")) == text("before")
        assert provider.list_keys() == ["refused"]

    def test_a_write_is_a_new_version(self, provider: SecretProvider) -> None:
        """It takes the place of what was there, and says what it has become."""
        _needs(provider, Ability.WRITE)
        first = provider.write("app_token", text("first"))
        second = provider.write("app_token", text("second"))

        assert first.key == second.key == "app_token"
        assert first.version != second.version or second.version is None
        assert _value(provider.read("app_token")) == text("second")
        info = provider.describe("app_token")
        assert info is not None
        assert info.version == second.version
        assert provider.list_keys() == ["app_token"]

    def test_only_where_there_is_none(self, provider: SecretProvider) -> None:
        """Expected version 0 creates, and never overwrites."""
        _needs(provider, Ability.CREATE)
        provider.write("created", text("first"), expected_version=0)
        with refused(VersionConflictError) as caught:
            provider.write("created", text("second"), expected_version=0)

        assert isinstance(caught.value, VersionConflictError)
        assert (caught.value.key, caught.value.expected) == ("created", 0)
        assert _value(provider.read("created")) == text("first")

    def test_one_of_many_creates(self, provider: SecretProvider) -> None:
        """Whoever comes second is told so."""
        _needs(provider, Ability.CREATE)
        winners = _race(lambda number: provider.write("created", text(number), expected_version=0))

        assert len(winners) == 1
        assert _value(provider.read("created")) == text(winners[0])

    def test_only_over_an_expected_version(self, provider: SecretProvider) -> None:
        """A stale version, or one of a secret that is missing, is a conflict, and nothing is changed."""
        _needs(provider, Ability.CHECK_AND_SET)
        first = _number(provider.write("checked", text("first")))
        second = _number(provider.write("checked", text("second"), expected_version=first))
        for key, version in (("checked", first), ("checked", second + 1), ("missing", first)):
            with refused(VersionConflictError) as caught:
                provider.write(key, text("third"), expected_version=version)
            assert isinstance(caught.value, VersionConflictError)
            assert (caught.value.key, caught.value.expected) == (key, version)
        assert _value(provider.read("checked")) == text("second")
        assert provider.list_keys() == ["checked"]

    def test_one_of_many_overwrites_an_expected_version(self, provider: SecretProvider) -> None:
        """No update is lost."""
        _needs(provider, Ability.CHECK_AND_SET)
        first = _number(provider.write("checked", text("first")))
        winners = _race(lambda number: provider.write("checked", text(number), expected_version=first))

        assert len(winners) == 1
        assert _value(provider.read("checked")) == text(winners[0])

    def test_labels(self, provider: SecretProvider) -> None:
        """They are shown with the secret, stay where none are given, and are replaced as a whole."""
        _needs(provider, Ability.LABELS)
        given: list[tuple[dict[str, str] | None, dict[str, str]]] = [
            ({"team": "payments", "stage": "prod 1"}, {"team": "payments", "stage": "prod 1"}),
            (None, {"team": "payments", "stage": "prod 1"}),
            ({"team": "search"}, {"team": "search"}),
            ({}, {}),
        ]
        for number, (labels, expected) in enumerate(given):
            provider.write("labelled", text(number), labels=labels)
            secret, info = provider.read("labelled"), provider.describe("labelled")
            assert _value(secret) == text(number)
            assert info is not None
            assert dict(info.labels) == expected

    def test_a_deleted_secret_is_missing(self, provider: SecretProvider, seed: Seed) -> None:
        """Everywhere, and it is deleted once."""
        _needs(provider, Ability.DELETE)
        seed("kept", text("kept"))
        seed("deleted", text("deleted"))

        assert provider.delete("deleted") is True
        assert provider.delete("deleted") is provider.delete("missing") is False
        assert self._has_none(provider, "deleted")
        assert provider.list_keys() == ["kept"]
        assert _values(provider.read_many(["deleted", "kept"])) == {"kept": text("kept")}

    def test_a_deleted_secret_is_written_again(self, provider: SecretProvider) -> None:
        """It is there as if it were new."""
        _needs(provider, Ability.DELETE)
        for number in range(3):
            provider.write(
                "deleted", text(number), expected_version=0 if Ability.CREATE in provider.abilities else None
            )
            assert _value(provider.read("deleted")) == text(number)
            assert provider.list_keys() == ["deleted"]
            assert provider.delete("deleted")

    def test_a_deleted_secret_comes_back(self, provider: SecretProvider) -> None:
        """Undelete brings the value that it had."""
        _needs(provider, Ability.UNDELETE)
        provider.write("deleted", text("first"))
        provider.write("deleted", text("second"))
        provider.delete("deleted")

        assert provider.undelete("deleted").key == "deleted"
        assert _value(provider.read("deleted")) == text("second")
        assert provider.list_keys() == ["deleted"]
        with refused(SecretNotFoundError):
            provider.undelete("missing")

    def test_older_versions(self, provider: SecretProvider, seed: Seed) -> None:
        """They are told newest first, and each has its value."""
        _needs(provider, Ability.VERSIONS)
        written = _seeded(provider, seed, "versioned", 3)

        listed = [info.version for info in provider.list_versions("versioned")]
        assert listed == written[::-1]
        assert [_of_version(provider, "versioned", version) for version in written] == [text(n) for n in range(3)]
        assert provider.read("versioned", version=_unknown(written)) is None
        assert provider.read("missing", version=written[0]) is None
        assert provider.list_versions("missing") == []

    def test_destroyed_versions(self, provider: SecretProvider, seed: Seed) -> None:
        """A value is gone for good, the record of its version stays, and so do the others."""
        _needs(provider, Ability.DESTROY)
        written = _seeded(provider, seed, "versioned", 3)

        assert provider.destroy_versions("versioned", [written[0]]) == 1
        assert provider.destroy_versions("versioned", written[:2]) == 1
        values = [_of_version(provider, "versioned", version) for version in written]
        assert values == [None, None, text(2)]
        gone = [info.destroyed_at is not None for info in provider.list_versions("versioned")]
        assert gone == [False, True, True]
        assert _value(provider.read("versioned")) == text(2)

    def test_a_version_that_there_is_not_destroys_nothing(self, provider: SecretProvider, seed: Seed) -> None:
        """It is an error, and the versions beside it stay."""
        _needs(provider, Ability.DESTROY)
        written = _seeded(provider, seed, "versioned", 2)
        for key in ("versioned", "missing"):
            with refused(SecretNotFoundError):
                provider.destroy_versions(key, [written[0], _unknown(written)])
        assert [_of_version(provider, "versioned", version) for version in written] == [text(0), text(1)]

    def test_nothing_shows_a_value(self, provider: SecretProvider, seed: Seed) -> None:
        """Neither the provider, nor its records, though a person prints them."""
        name = provider.name
        seed("shown", text("shown"))
        shown = [provider, provider.read("shown"), provider.read_many(["shown"]), provider.describe("shown")]

        assert [thing for thing in shown if MARKER in f"{thing!r}{thing}"] == []
        assert provider.name == name
        assert name

    def test_no_log_shows_a_value(self, provider: SecretProvider, seed: Seed, caplog: pytest.LogCaptureFixture) -> None:
        """Nor does that of an SDK, at its lowest level."""
        caplog.set_level(logging.DEBUG)
        seed("logged", text("logged"))

        assert _value(provider.read("logged")) == _values(provider.read_many(["logged"]))["logged"] == text("logged")
        assert MARKER not in caplog.text

    def test_many_threads_use_it_at_once(self, provider: SecretProvider, seed: Seed) -> None:
        """Each gets its own."""
        keys = [f"thread_{number}" for number in range(_THREADS)]
        if Ability.WRITE not in provider.abilities:
            for key in keys:
                seed(key, text(key))

        def use(key: str) -> bool:
            if Ability.WRITE in provider.abilities:
                provider.write(key, text(key))
            single, several = _value(provider.read(key)), _values(provider.read_many([key]))
            return single == several[key] == text(key) and provider.list_keys(key) == [key]

        with ThreadPoolExecutor(_THREADS) as pool:
            assert all(pool.map(use, keys * 2))
        assert provider.list_keys() == keys

    def test_it_is_closed(self, spare: SecretProvider) -> None:
        """Also where it was used before, and twice."""
        assert spare.read("missing") is None
        spare.close()
        spare.close()

    def _holds(self, seed: Seed, key: str, value: bytes) -> bool:
        try:
            seed(key, value)
        except InvalidSecretKeyError as error:
            assert_shows_nothing(error)
            return False
        return True

    def _has_none(self, provider: SecretProvider, key: str) -> bool:
        return (
            provider.read(key) is None
            and provider.describe(key) is None
            and provider.read_many([key]) == {}
            and key not in provider.list_keys(key)
        )


@contextmanager
def refused(kind: type[SecretStoreError]) -> Iterator[pytest.ExceptionInfo[SecretStoreError]]:
    """Expect an error that shows no value, nor does what it came from."""
    with pytest.raises(kind) as caught:
        yield caught
    assert_shows_nothing(caught.value)


def _needs(provider: SecretProvider, ability: Ability) -> None:
    if ability not in provider.abilities:
        pytest.skip(f"this provider cannot {ability}")


def _race(write: Callable[[int], ProvidedInfo]) -> list[int]:
    """Return who of those who write at once has written."""
    together = Barrier(_THREADS)

    def attempt(number: int) -> bool:
        together.wait()
        try:
            write(number)
        except VersionConflictError:
            return False
        return True

    with ThreadPoolExecutor(_THREADS) as pool:
        return [number for number, has_won in enumerate(pool.map(attempt, range(_THREADS))) if has_won]


def _walk(provider: SecretProvider, prefix: str, *, limit: int) -> Iterator[str]:
    after = None
    while page := provider.list_keys(prefix, after=after, limit=limit):
        assert len(page) <= limit
        yield from page
        after = page[-1]


def _of_size(size: int) -> bytes:
    filled = MARKER + "x" * (size - len(MARKER) - 2)
    return json.dumps(filled).encode()


def _value(secret: ProvidedSecret | None) -> bytes | None:
    return None if secret is None else secret.value_json


def _values(secrets: dict[str, ProvidedSecret]) -> dict[str, bytes]:
    return {key: secret.value_json for key, secret in secrets.items()}


def _seeded(provider: SecretProvider, seed: Seed, key: str, times: int) -> list[Version]:
    """Put versions of a secret there, and return what they are called, oldest first."""
    return [_version_of(provider, seed, key, number) for number in range(times)]


def _version_of(provider: SecretProvider, seed: Seed, key: str, number: int) -> Version:
    seed(key, text(number))
    info = provider.describe(key)
    assert info is not None
    assert info.version is not None, "whoever keeps versions names them"
    return info.version


def _of_version(provider: SecretProvider, key: str, version: Version) -> bytes | None:
    return _value(provider.read(key, version=version))


def _number(info: ProvidedInfo) -> int:
    assert isinstance(info.version, int), "whoever checks versions counts them"
    return info.version


def _unknown(versions: Collection[Version]) -> Version:
    return _NO_NUMBER if all(isinstance(version, int) for version in versions) else _NO_NAME


def _same(expected: bytes, found: bytes | None) -> bool:
    return found is not None and _parsed(expected) == _parsed(found)


def _parsed(value_json: bytes) -> Any:  # any JSON value, numbers by their text
    return json.loads(value_json, parse_float=_Number, parse_int=_Number)


class _Number(str):
    """The text of a number, which equals no string."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and str.__eq__(self, other)

    __hash__ = str.__hash__
