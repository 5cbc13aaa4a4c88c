"""Compares two providers, a batch of keys at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, Self

from secretstore.domain.names import parse_key
from secretstore.domain.providers import Ability, ProvidedSecret, SecretProvider, Version
from secretstore.errors import ConfigurationError
from secretstore.moving.digests import Digests
from secretstore.moving.listing import Listed, listed_keys, side_by_side
from secretstore.moving.mapping import SAME_KEYS, KeyMap
from secretstore.moving.trying import PATIENCE_SECONDS, Patient, Problem, of_one_key

_BATCH = 100

Part = Literal["value", "labels"]
Loss = Literal["labels", "expiry", "history"]
_Read = dict[str, ProvidedSecret | Problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderDifference:
    """How a secret of a source and the one that it becomes in a target differ, without values.

    `added` ones are not in the target, `extra` ones not in the source; of `unreadable` ones `problem` says why.
    `differs` names what a copy would write; `left_behind` what the target cannot take over.
    """

    __module__ = "secretstore"

    key: str
    source_key: str
    kind: Literal["added", "changed", "same", "extra", "unreadable"]
    differs: tuple[Part, ...] = ()
    left_behind: tuple[Loss, ...] = ()
    source_version: Version | None = None
    target_version: Version | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A difference, and the secret of the source with its value and labels where it could be read."""

    difference: ProviderDifference
    listed: Listed
    secret: ProvidedSecret | None = field(default=None, repr=False)
    labels: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Comparing:
    """A source, a target, and how to compare them."""

    source: SecretProvider
    target: SecretProvider
    keys: KeyMap
    digests: Digests = field(default_factory=Digests, repr=False)

    def __post_init__(self) -> None:
        read, written = _path(self.source, self.keys.prefix), _path(self.target, self.keys.target_prefix)
        if read != written and _contains(read, written):
            raise ConfigurationError(
                f"within {self.source.name} this would copy what it has just written; choose places, a prefix and a map "
                "that lie apart"
            )

    @classmethod
    def patiently(
        cls,
        source: SecretProvider,
        target: SecretProvider,
        keys: KeyMap,
        *,
        seconds: float,
        wait: Callable[[float], None],
    ) -> Self:
        """Make one whose sides are asked again after temporary failures."""
        return cls(Patient(source, seconds=seconds, wait=wait), Patient(target, seconds=seconds, wait=wait), keys)

    def batches(self) -> Iterator[list[Pair]]:
        """Compare a batch of keys at a time; a batch that was given away is not kept."""
        source_keys = listed_keys(self.source, self.keys.prefix)
        target_keys = listed_keys(self.target, self.keys.target_prefix)
        listed = side_by_side(source_keys, target_keys, self.keys)
        while batch := list(islice(listed, _BATCH)):
            yield self._compare_batch(batch)

    def compare(self, listed: Listed, ours: ProvidedSecret, theirs: ProvidedSecret | None) -> Pair:
        """Compare a secret with what the target has."""
        labels = self.labels_of(self.source, listed.source_key, ours)
        differs = () if theirs is None else tuple(self._parts(listed.key, ours, theirs, labels))
        difference = ProviderDifference(
            key=listed.key,
            source_key=listed.source_key,
            kind="added" if theirs is None else "changed" if differs else "same",
            differs=differs,
            left_behind=tuple(self._losses(ours, labels, is_new=theirs is None)),
            source_version=ours.info.version,
            target_version=None if theirs is None else theirs.info.version,
        )
        return Pair(difference, listed, ours, labels if Ability.LABELS in self.target.abilities else None)

    def read(self, provider: SecretProvider, keys: Sequence[str]) -> _Read:
        """Read secrets at once, or one by one where that fails for one of them."""
        found = of_one_key(provider.read_many, keys) if keys else {}
        if not isinstance(found, Problem):
            return {**found}
        each = {key: of_one_key(provider.read, key) for key in keys}
        return {key: secret for key, secret in each.items() if secret is not None}

    def labels_of(self, provider: SecretProvider, key: str, secret: ProvidedSecret) -> dict[str, str] | None:
        """Return the labels of a secret; None where the place keeps none."""
        if Ability.LABELS not in provider.abilities:
            return None
        if secret.info.labels:
            return dict(secret.info.labels)
        # Some places tell of labels only when asked for them.
        info = provider.describe(key)
        return {} if info is None else dict(info.labels)

    def _compare_batch(self, batch: list[Listed]) -> list[Pair]:
        ours = self.read(self.source, [one.source_key for one in batch if one.in_source])
        illegal = {one.key: problem for one in batch if isinstance(problem := of_one_key(parse_key, one.key), Problem)}
        # What no list of the target has may be there all the same: some lists are late.
        asked = [one.key for one in batch if one.source_key in ours and one.key not in illegal]
        theirs: _Read = {**illegal, **self.read(self.target, asked)}
        return [self._pair(one, ours.get(one.source_key), theirs.get(one.key)) for one in batch]

    def _pair(
        self, listed: Listed, ours: ProvidedSecret | Problem | None, theirs: ProvidedSecret | Problem | None
    ) -> Pair:
        if not listed.in_source:
            return Pair(ProviderDifference(key=listed.key, source_key=listed.source_key, kind="extra"), listed)
        if ours is None:
            return self._unreadable(
                listed, Problem(f"{self.source.name} lists it and has no value of it; run it again")
            )
        if isinstance(ours, Problem):
            return self._unreadable(listed, ours)
        found = theirs if isinstance(theirs, Problem) else of_one_key(self.compare, listed, ours, theirs)
        return self._unreadable(listed, found) if isinstance(found, Problem) else found

    def _unreadable(self, listed: Listed, problem: Problem) -> Pair:
        difference = ProviderDifference(
            key=listed.key, source_key=listed.source_key, kind="unreadable", problem=problem.words
        )
        return Pair(difference, listed)

    def _parts(
        self, key: str, ours: ProvidedSecret, theirs: ProvidedSecret, labels: dict[str, str] | None
    ) -> Iterator[Part]:
        if self.digests.of(ours.value_json) != self.digests.of(theirs.value_json):
            yield "value"
        if labels is not None and self.labels_of(self.target, key, theirs) not in (None, labels):
            yield "labels"

    def _losses(self, ours: ProvidedSecret, labels: dict[str, str] | None, *, is_new: bool) -> Iterator[Loss]:
        if labels and Ability.LABELS not in self.target.abilities:
            yield "labels"
        if ours.info.expires_at is not None:
            yield "expiry"
        version = ours.info.version
        has_older = Ability.VERSIONS in self.source.abilities and isinstance(version, int) and version > 1
        if is_new and has_older and Ability.VERSIONS not in self.target.abilities:
            yield "history"


def _path(provider: SecretProvider, prefix: str) -> tuple[str, str]:
    """Return the options that a place is named by, and its path with a prefix."""
    path, _, options = provider.name.partition("?")
    return options, f"{path.rstrip('/')}/{prefix}"


def _contains(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether one of two places may be within the other."""
    (options, path), (other_options, other_path) = one, other
    return options == other_options and (path.startswith(other_path) or other_path.startswith(path))


def compare_providers(
    source: SecretProvider,
    target: SecretProvider,
    *,
    prefix: str = "",
    map_to: str = SAME_KEYS,
    patience_seconds: float = PATIENCE_SECONDS,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[ProviderDifference]:
    """Return how each secret under `prefix` differs from what `map_to` makes of its key, in the order of the target.

    A place that asks to wait is asked again for `patience_seconds`.  Memory does not grow with the number of secrets.
    Raises `ConfigurationError` where `map_to` does not end in `{key}` or `{rest}`, and what listing raises; what concerns
    one key is told of that key.
    """
    keys = KeyMap.parse(map_to, prefix)
    comparing = Comparing.patiently(source, target, keys, seconds=patience_seconds, wait=wait)
    return (pair.difference for batch in comparing.batches() for pair in batch)


# As people import it.
compare_providers.__module__ = "secretstore"
