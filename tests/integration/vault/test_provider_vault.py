"""Secrets in the KV engine of a real OpenBao: what is written is read, listed, deleted and brought back."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from secretstore import open_provider
from secretstore.domain.providers import Ability, ProvidedSecret
from secretstore.errors import (
    InvalidSecretValueError,
    SecretNotFoundError,
    VersionConflictError,
)
from secretstore.providers.vault import VaultProvider, open_vault
from tests.support.threads import run_together

VALUES = [
    b"null",
    b"true",
    b'""',
    b'"caf\xc3\xa9 <&>\\u2028\\u0000"',
    b"[]",
    b"{}",
    b'{"value": 1}',
    b'{"value_json": "2"}',
    b'{"value": {"value": null}}',
    b'{"value_json": {"value": null}}',
    b'{"user": "app", "port": 5432, "ratio": 0.1}',
    b"1.0",
    b"-0.0",
    b"1e400",
    b"1e-400",
    b"9007199254740993",
    b"123456789012345678901234567890",
    b"0.1000000000000000055511151231257827",
    b'"\\ud800"',
    json.dumps(["x"] * 2000).encode(),
    json.dumps({str(number): number for number in range(2000)}).encode(),
    b"[" * 150 + b"]" * 150,
]

KEYS = [
    "a",
    "a/b",
    "a/b/c",
    "a-b",
    "a.b",
    "a//b",
    "/a",
    "a/",
    "/",
    "//",
    ".",
    "..",
    "a/../b",
    "...",
    "a..b",
    "%",
    "a%2Fb",
    "%2E",
    "a b",
    "a /b",
    "a/ b",
    "a?b#c;d&e=f+g",
    "a\\b'c\"d<e>",
    "caf\u00e9",
    "cafe\u0301",
    "\u6771\u4eac",
    "\U0001f600",
    "a\u00a0b\u200bc",
    "\ue000\u0378",
    "x" * 512,
    "\U0001f600" * 512,
    "a/" * 40 + "b",
    "data",
    "metadata",
]


def value_of(found: ProvidedSecret | None) -> Any:
    """Return what a value is, or fail."""
    assert found is not None
    return json.loads(found.value_json)


@pytest.mark.parametrize("value_json", VALUES, ids=[f"{value[:20]!r}" for value in VALUES])
def test_every_value_comes_back(provider: VaultProvider, value_json: bytes) -> None:
    """What is read is the value that was written, with the types of its numbers; only the order of members may differ."""
    provider.write("a", value_json)

    assert json.dumps(value_of(provider.read("a")), sort_keys=True) == json.dumps(
        json.loads(value_json), sort_keys=True
    )


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        ({"user": "app", "port": 1}, {"user": "app", "port": 1}),
        ("text", {"value": "text"}),
        (None, {"value": None}),
        ({"value": "text"}, {"value_json": '{"value": "text"}'}),
        (1.0, {"value_json": "1.0"}),
    ],
)
def test_a_value_stands_as_the_members_of_an_entry(
    provider: VaultProvider, entry_in_vault: Callable[[], object], value: object, entry: object
) -> None:
    """So that other programs find an object's members where they look for them."""
    provider.write("a", json.dumps(value).encode())

    assert entry_in_vault() == entry


@pytest.fixture
def entry_in_vault(admin: Any, folder: str) -> Callable[[], object]:
    """What other programs see at the key `a`."""

    def read() -> object:
        found = admin.secrets.kv.v2.read_secret_version(f"{folder}/a", raise_on_deleted_version=True)
        return found["data"]["data"]

    return read


def test_what_others_wrote_is_read(url: str, admin: Any, folder: str) -> None:
    """One member is the value where it has the name, and every other entry is an object."""
    for name, entry in {
        "one": {"password": "p"},
        "two": {"a": "b", "value": "c"},
        "odd": {"password_json": "{"},
    }.items():
        admin.secrets.kv.v2.create_or_update_secret(f"{folder}/{name}", secret=entry)
    with open_vault(f"{url}&member=password") as provider:
        assert value_of(provider.read("one")) == "p"
        assert value_of(provider.read("two")) == {"a": "b", "value": "c"}
        assert value_of(provider.read("odd")) == {"password_json": "{"}


def test_every_key_has_a_place_of_its_own(provider: VaultProvider) -> None:
    """Keys that are parts of others, or hold what paths and URLs give a meaning, are kept apart and listed in order."""
    for key in KEYS:
        provider.write(key, json.dumps(key).encode())

    assert {key: json.loads(found.value_json) for key, found in provider.read_many(KEYS).items()} == {
        key: key for key in KEYS
    }
    assert provider.list_keys() == sorted(KEYS)


def test_a_path_that_no_key_leads_to_is_passed_over(provider: VaultProvider, admin: Any, folder: str) -> None:
    """What is listed can be read."""
    for name in ("a%2eb", "%zz", "%80", " a", "good"):
        admin.adapter.post(f"/v1/secret/data/{folder}/{name.replace('%', '%25')}", json={"data": {"value": 1}})

    assert provider.list_keys() == ["good"]


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/b/", "b", "x"])
def test_lists_are_cut_as_asked(listed: VaultProvider, prefix: str) -> None:
    """A prefix is the beginning of a text and not a folder, and deleted keys count for nothing."""
    for after in (None, "", "a", "a/", "a/b/c", "a/c", "b", "zz"):
        expected = [key for key in LISTED if key.startswith(prefix) and key > (after or "")]
        for limit in (None, 0, 1, 3):
            assert listed.list_keys(prefix, after=after, limit=limit) == expected[:limit]


LISTED = sorted(["a", "a/b", "a/b/c", "a/b/d", "a/c", "a-b", "ab", "b/a", "b"])


@pytest.fixture(scope="module")
def listed(bao: Any) -> Any:
    """A provider of some keys, and of two that were deleted."""
    provider = open_vault(f"{bao.address.replace('http', 'vault')}/secret/listed?tls=false")
    with pytest.MonkeyPatch.context() as patch, provider:
        patch.setenv("VAULT_TOKEN", bao.token)
        for key in (*LISTED, "a/a", "c"):
            provider.write(key, b"1")
        assert provider.delete("a/a")
        assert provider.delete("c")
        yield provider


def test_what_is_known_of_a_secret(provider: VaultProvider, url: str) -> None:
    """Version, labels and times are those of the engine, wherever they are asked for."""
    before = datetime.now(UTC)
    first = provider.write("a", b"1", labels={"team": "core"})
    second = provider.write("a", b"2")

    found, described = provider.read("a"), provider.describe("a")
    assert found is not None
    assert described is not None
    assert (first.version, second.version, found.info.version, described.version) == (1, 2, 2, 2)
    assert first.labels == second.labels == found.info.labels == described.labels == {"team": "core"}
    assert second.updated_at == found.info.updated_at == described.updated_at
    times = [before, described.created_at, described.updated_at, datetime.now(UTC)]
    assert times == sorted(time for time in times if time is not None)
    assert {info.provider for info in (first, second, found.info, described)} == {provider.name}
    assert provider.name == url.partition("?")[0]
    assert provider.describe("b") is None
    assert provider.read("b") is None


def test_labels_stay_go_and_have_limits(provider: VaultProvider) -> None:
    """None leaves them, an empty mapping takes them away, and what does not fit is refused before the value is written."""
    provider.write("a", b"1", labels={"x": "1", "\u00e9": "2"})
    assert provider.write("a", b"2", labels={"y": "3"}).labels == {"y": "3"}
    for labels in (
        {"a": ""},
        {"a": "\u00e9" * 257},
        {"\u00e9" * 65: "a"},
        {"a": "b\nc"},
        dict.fromkeys(map(str, range(65)), "1"),
    ):
        with pytest.raises(InvalidSecretValueError, match="label"):
            provider.write("a", b"3", labels=labels)
    found = provider.read("a")
    assert value_of(found) == 2
    assert found is not None
    assert found.info.labels == {"y": "3"}
    assert provider.write("a", b"4", labels={}).labels == {}
    assert provider.write("a", b"5").labels == {}
    assert provider.write("a", b"6", labels={"k" * 128: "v" * 512}).labels


def test_an_expected_version_counts(provider: VaultProvider) -> None:
    """A wrong one says which was found, and writes nothing."""
    assert provider.write("a", b"1", expected_version=0).version == 1
    for expected, found in ((0, 1), (2, 1)):
        with pytest.raises(VersionConflictError) as caught:
            provider.write("a", b"2", expected_version=expected)
        assert (caught.value.expected, caught.value.found) == (expected, found)
    assert provider.write("a", b"3", expected_version=1).version == 2
    with pytest.raises(VersionConflictError):
        provider.write("b", b"1", expected_version=1)
    assert provider.read("b") is None


def test_a_deleted_secret_can_be_made_anew(provider: VaultProvider) -> None:
    """It is missing, so that version 0 is expected, though the engine goes on counting."""
    provider.write("a", b"1")
    provider.delete("a")

    with pytest.raises(VersionConflictError) as caught:
        provider.write("a", b"2", expected_version=1)
    assert caught.value.found == 0
    assert provider.write("a", b"3", expected_version=0).version == 2
    assert value_of(provider.read("a")) == 3


@pytest.mark.parametrize("expected", [0, 1])
def test_one_of_many_writers_wins(provider: VaultProvider, expected: int) -> None:
    """Of eight that expect the same version one writes, and the others are told."""
    if expected:
        provider.write("a", b"0")

    def write(number: int) -> int:
        try:
            return int(provider.write("a", str(number).encode(), expected_version=expected).version or 0)
        except VersionConflictError as error:
            return -int(error.found)

    results = run_together(*[lambda n=n: write(n) for n in range(8)])
    assert sorted(results) == [-expected - 1] * 7 + [expected + 1]
    assert value_of(provider.read("a")) == results.index(expected + 1)
    assert len(provider.list_versions("a")) == expected + 1


def test_deleting_can_be_undone(provider: VaultProvider) -> None:
    """Deleted is missing everywhere, and comes back as it was."""
    provider.write("a", b"1", labels={"x": "1"})
    provider.write("a", b"2")

    assert provider.delete("a") is True
    assert provider.delete("a") is False
    assert provider.delete("never") is False
    assert (provider.read("a"), provider.describe("a"), provider.list_keys()) == (None, None, [])
    assert provider.read_many(["a"]) == {}
    assert [info.version for info in provider.list_versions("a")] == [2, 1]
    back = provider.undelete("a")
    assert (back.version, back.labels) == (2, {"x": "1"})
    assert provider.undelete("a") == back
    assert value_of(provider.read("a")) == 2
    with pytest.raises(SecretNotFoundError):
        provider.undelete("never")


def test_older_versions_are_read_and_destroyed(provider: VaultProvider) -> None:
    """A destroyed version is gone for good, stands in the list, and is counted once."""
    for value in (b"1", b"2", b"3"):
        provider.write("a", value)

    assert [value_of(provider.read("a", version=number)) for number in (1, 2, 3)] == [1, 2, 3]
    assert [provider.read("a", version=number) for number in (0, -1, 4, "1")] == [None] * 4
    assert provider.destroy_versions("a", [1, 1]) == 1
    assert provider.destroy_versions("a", [1, 2]) == 1
    assert provider.read("a", version=1) is None
    assert [(info.version, info.destroyed_at is None) for info in provider.list_versions("a")] == [
        (3, True),
        (2, False),
        (1, False),
    ]
    for missing in (4, 0, "3"):
        with pytest.raises(SecretNotFoundError):
            provider.destroy_versions("a", [3, missing])
    assert value_of(provider.read("a")) == 3
    assert provider.destroy_versions("a", [3]) == 1
    assert provider.read("a") is None
    with pytest.raises(SecretNotFoundError):
        provider.undelete("a")
    assert provider.list_versions("never") == []


def test_an_end_that_the_engine_sets_is_told_and_kept(provider: VaultProvider, admin: Any, folder: str) -> None:
    """A secret is there until its time, and missing from then on."""
    admin.secrets.kv.v2.update_metadata(f"{folder}/a", delete_version_after="1h")
    info = provider.write("a", b"1")

    assert info.expires_at is not None
    assert 3500 < (info.expires_at - datetime.now(UTC)).total_seconds() <= 3600
    described = provider.describe("a")
    assert described is not None
    assert described.expires_at == info.expires_at


def test_metadata_alone_is_no_secret(provider: VaultProvider, admin: Any, folder: str) -> None:
    """Where there is no version yet, a secret can be made."""
    admin.secrets.kv.v2.update_metadata(f"{folder}/a", custom_metadata={"x": "1"})

    assert (provider.read("a"), provider.describe("a"), provider.list_keys(), provider.delete("a")) == (
        None,
        None,
        [],
        False,
    )
    assert provider.write("a", b"1", expected_version=0).labels == {"x": "1"}


def test_a_value_that_is_too_large_is_refused(provider: VaultProvider) -> None:
    """Nothing is sent, and nothing is shown."""
    with pytest.raises(InvalidSecretValueError, match="too large") as caught:
        provider.write("a", json.dumps("x" * 1024 * 1024).encode())
    assert "xxx" not in str(caught.value)
    assert provider.read("a") is None
    assert provider.write("a", json.dumps("x" * 1_000_000).encode()).version == 1


@pytest.mark.parametrize("value_json", [b"", b"{", b"NaN", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused(provider: VaultProvider, value_json: bytes) -> None:
    """Nothing is written."""
    with pytest.raises(InvalidSecretValueError, match="is not JSON"):
        provider.write("a", value_json)
    assert provider.read("a") is None


def test_it_can_do_everything(provider: VaultProvider, url: str) -> None:
    """And it is opened by its URL."""
    assert provider.abilities == set(Ability)
    with_the_name = open_provider(url)
    assert isinstance(with_the_name, VaultProvider)
    assert with_the_name.name in repr(with_the_name)
