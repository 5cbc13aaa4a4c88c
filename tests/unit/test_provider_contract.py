"""The suite for providers finds what is wrong with one."""

import inspect
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest

from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, SecretProvider, Version
from secretstore.errors import InvalidSecretKeyError, ProviderError
from secretstore.providers.base import Provider
from secretstore.providers.memory import MemoryProvider
from secretstore.testing import SecretProviderContract


def attempt(name: str, provider: SecretProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Run one test of the suite."""
    suite = SecretProviderContract()
    given = {"provider": provider, "spare": provider, "seed": provider.write, "caplog": caplog}
    test = getattr(suite, name)
    test(**{parameter: given[parameter] for parameter in inspect.signature(test).parameters})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a write is asked for."""

    key: str
    value_json: bytes
    expected_version: int | None
    labels: Mapping[str, str] | None


class Changing(MemoryProvider):
    """Writes something else than what it is asked for."""

    def changed(self, asked: Asked) -> Asked:
        """Return what is written."""
        raise NotImplementedError

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write."""
        asked = self.changed(Asked(key, value_json, expected_version, labels))
        return super().write(asked.key, asked.value_json, expected_version=asked.expected_version, labels=asked.labels)


class NullIsMissing(MemoryProvider):
    """Takes the value null for none."""

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Read."""
        secret = super().read(key, version=version)
        return secret if secret and secret.value_json != b"null" else None


class RoundsNumbers(MemoryProvider):
    """Reads 1.10 as 1.1."""

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Read."""
        secret = super().read(key, version=version)
        return replace(secret, value_json=secret.value_json.replace(b"1.10", b"1.1")) if secret else None


class CutsLargeValues(Changing):
    """Keeps the beginning of a value."""

    def changed(self, asked: Asked) -> Asked:
        """Cut."""
        return replace(asked, value_json=asked.value_json[:65536])


class HasNoCapitals(Changing):
    """Takes keys that differ in their case for one."""

    def changed(self, asked: Asked) -> Asked:
        """Make it small."""
        return replace(asked, key=asked.key.lower())


class RefusesKeysTooLate(MemoryProvider):
    """Says that it cannot hold a key, and has it all the same."""

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write."""
        info = super().write(key, value_json, expected_version=expected_version, labels=labels)
        if "%" in key:
            raise InvalidSecretKeyError(key)
        return info


class ForgetsLabels(Changing):
    """Takes labels away where none are given."""

    def changed(self, asked: Asked) -> Asked:
        """Forget."""
        return replace(asked, labels=asked.labels or {})


class ChecksNoVersion(Changing):
    """Writes over whatever there is."""

    def changed(self, asked: Asked) -> Asked:
        """Expect nothing."""
        return replace(asked, expected_version=None)


class IsAbleInSilence(ChecksNoVersion):
    """Passes over what it says it is not able to."""

    abilities = frozenset({Ability.WRITE})


class NamesNoProvider(MemoryProvider):
    """Refuses without saying who does."""

    abilities = frozenset(Ability) - {Ability.DELETE}

    def delete(self, key: str) -> bool:
        """Delete."""
        raise ProviderError("cannot")


class ShowsValues(MemoryProvider):
    """Shows what it holds."""

    def __repr__(self) -> str:
        return str(self._secrets["shown"].versions[0][1])


class LogsValues(MemoryProvider):
    """Notes what it is asked to read, and its answer."""

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Read."""
        secret = super().read(key, version=version)
        logging.getLogger(__name__).debug("%s is %s", key, secret.value_json if secret else None)
        return secret


class ListsFolders(MemoryProvider):
    """Takes a prefix for a folder."""

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """List."""
        keys = super().list_keys(prefix, after=after)
        return [key for key in keys if not prefix or key == prefix or key.startswith(f"{prefix}/")][:limit]


class SortsAsPeopleDo(MemoryProvider):
    """Has small letters and capitals beside each other."""

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """List."""
        return sorted(super().list_keys(prefix, after=after, limit=limit), key=str.lower)


class ListsOnePage(MemoryProvider):
    """Forgets that there are more."""

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """List."""
        return super().list_keys(prefix, after=after, limit=min(limit or 10, 10))


class BeginsWithAfter(MemoryProvider):
    """Gives the last key of a page again."""

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """List."""
        keys = super().list_keys(prefix)
        return [key for key in keys if after is None or key >= after][:limit]


class ReadsOneBatch(MemoryProvider):
    """Forgets the rest of a batch."""

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Read."""
        return super().read_many(list(keys)[:10])


class DeletesAlways(MemoryProvider):
    """Says that it has deleted what was not there."""

    def delete(self, key: str) -> bool:
        """Delete."""
        super().delete(key)
        return True


class ListsDeleted(MemoryProvider):
    """Lists what is missing."""

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """List."""
        return sorted(self._secrets)


class OldestFirst(MemoryProvider):
    """Tells versions the other way round."""

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """List."""
        return super().list_versions(key)[::-1]


class KeepsTheDestroyed(MemoryProvider):
    """Destroys nothing."""

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Destroy."""
        return len(versions)


class PassesOverWhatIsNot(MemoryProvider):
    """Destroys the versions that there are, whatever else was asked for."""

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Destroy."""
        there = {info.version for info in self.list_versions(key)}
        wanted = [version for version in versions if version in there]
        return super().destroy_versions(key, wanted) if wanted else 0


class OnlyReads(MemoryProvider):
    """Knows older versions, and takes no new ones."""

    abilities = frozenset({Ability.VERSIONS})

    write = Provider.write


FAULTS = [
    (NullIsMissing, "test_awkward_values"),
    (RoundsNumbers, "test_awkward_values"),
    (CutsLargeValues, "test_a_large_value"),
    (HasNoCapitals, "test_awkward_keys"),
    (RefusesKeysTooLate, "test_awkward_keys"),
    (ForgetsLabels, "test_labels"),
    (ChecksNoVersion, "test_only_where_there_is_none"),
    (ChecksNoVersion, "test_only_over_an_expected_version"),
    (ChecksNoVersion, "test_one_of_many_creates"),
    (ChecksNoVersion, "test_one_of_many_overwrites_an_expected_version"),
    (IsAbleInSilence, "test_what_it_is_not_able_to_is_refused"),
    (NamesNoProvider, "test_what_it_is_not_able_to_is_refused"),
    (ShowsValues, "test_nothing_shows_a_value"),
    (LogsValues, "test_no_log_shows_a_value"),
    (ListsFolders, "test_a_prefix_is_the_beginning_of_a_key"),
    (SortsAsPeopleDo, "test_keys_are_listed_in_the_order_of_code_points"),
    (ListsOnePage, "test_a_walk_page_by_page_gives_each_key_once"),
    (BeginsWithAfter, "test_pages_begin_behind_a_key"),
    (ReadsOneBatch, "test_many_are_read_at_once"),
    (DeletesAlways, "test_a_deleted_secret_is_missing"),
    (ListsDeleted, "test_a_deleted_secret_is_missing"),
    (OldestFirst, "test_older_versions"),
    (KeepsTheDestroyed, "test_destroyed_versions"),
    (PassesOverWhatIsNot, "test_a_version_that_there_is_not_destroys_nothing"),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS, ids=[f"{fault.__name__}-{name}" for fault, name in FAULTS])
def test_a_fault_is_found(fault: type[MemoryProvider], name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The test that is there for it fails, and passes without the fault."""
    attempt(name, MemoryProvider(), caplog)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        attempt(name, fault(), caplog)


def test_versions_are_tried_where_nothing_can_be_written() -> None:
    """What puts them there is the place's own."""
    provider = OnlyReads()
    SecretProviderContract().test_older_versions(
        provider, lambda key, value: MemoryProvider.write(provider, key, value)
    )
    assert [info.version for info in provider.list_versions("versioned")] == [3, 2, 1]
