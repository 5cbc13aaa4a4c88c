"""Copies secrets from one provider to another, a batch of keys at a time."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import dropwhile
from typing import Literal

from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, SecretProvider, Version
from secretstore.errors import ConfigurationError, ProviderError, VersionConflictError
from secretstore.moving.comparing import Comparing, Pair, ProviderDifference
from secretstore.moving.mapping import SAME_KEYS, KeyMap
from secretstore.moving.trying import PATIENCE_SECONDS, Problem, of_one_key

Outcome = Literal["written", "deleted", "kept", "failed"]

_CHANGED = "it reads back otherwise than it was written; somebody else may have written it meanwhile: run it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedSecret:
    """What became of a key of the target; `version` is the one that was written, `problem` why it failed."""

    __module__ = "secretstore"

    difference: ProviderDifference
    outcome: Outcome
    version: Version | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """How many secrets there were of each kind, what became of them, and how many left something behind."""

    __module__ = "secretstore"

    kinds: Mapping[str, int]
    outcomes: Mapping[str, int]
    left_behind: Mapping[str, int]

    @property
    def is_complete(self) -> bool:
        """Whether nothing failed."""
        return not self.outcomes["failed"]


@dataclass(frozen=True, slots=True)
class _Copying:
    comparing: Comparing
    delete_extra: bool
    history: bool
    verify: bool

    def run(self) -> Iterator[CopiedSecret]:
        for pairs in self.comparing.batches():
            copied = map(self._copy, pairs)
            yield from self._verified(pairs, list(copied)) if self.verify else copied

    def _copy(self, pair: Pair) -> CopiedSecret:
        found = pair.difference
        if found.kind == "unreadable":
            return CopiedSecret(difference=found, outcome="failed", problem=found.problem)
        if found.kind == "same" or (found.kind == "extra" and not self.delete_extra):
            return CopiedSecret(difference=found, outcome="kept")
        done = of_one_key(self._delete if found.kind == "extra" else self._write, pair)
        if isinstance(done, Problem):
            return CopiedSecret(difference=found, outcome="failed", problem=done.words)
        return done

    def _delete(self, pair: Pair) -> CopiedSecret:
        found = pair.difference
        # Some lists are late, and what is in the source is never deleted.
        if self.comparing.source.describe(found.source_key) is not None:
            return CopiedSecret(difference=found, outcome="failed", problem="it is in the source now; run it again")
        self.comparing.target.delete(found.key)
        return CopiedSecret(difference=found, outcome="deleted")

    def _write(self, pair: Pair) -> CopiedSecret:
        assert pair.secret is not None  # noqa: S101 - for the type checker: only what was read is written
        found = pair.difference
        expected = self._expected(found.target_version, is_new=found.kind == "added")
        if found.kind == "added" and self.history:
            expected, is_whole = self._write_older(pair, pair.secret.info, expected)
            found = found if is_whole else replace(found, left_behind=(*found.left_behind, "history"))
        info = self._put(found.key, pair.secret, pair.labels, expected)
        return CopiedSecret(difference=found, outcome="written", version=info.version)

    def _write_older(self, pair: Pair, current: ProvidedInfo, expected: int | None) -> tuple[int | None, bool]:
        """Write the versions before the current one; return what to expect then, and whether all could be written."""
        versions = of_one_key(self._older_versions, pair.difference.source_key, current)
        if isinstance(versions, Problem):
            return expected, False
        is_whole = True
        for version in versions:
            info = of_one_key(self._write_version, pair, version, expected)
            if isinstance(info, Problem):
                is_whole = False
            elif info is not None:
                expected = self._expected(info.version)
        return expected, is_whole

    def _older_versions(self, key: str, current: ProvidedInfo) -> list[Version]:
        """Return the versions before the current one, oldest first."""
        source, target = self.comparing.source, self.comparing.target
        if Ability.VERSIONS not in source.abilities & target.abilities:
            return []
        newest_first = dropwhile(lambda info: info.version != current.version, source.list_versions(key))
        older = [*newest_first][1:]
        return [info.version for info in reversed(older) if info.version is not None and info.destroyed_at is None]

    def _write_version(self, pair: Pair, version: Version, expected: int | None) -> ProvidedInfo | None:
        older = self.comparing.source.read(pair.difference.source_key, version=version)
        if older is None:
            return None
        return self._put(pair.difference.key, older, None if pair.labels is None else older.info.labels, expected)

    def _expected(self, version: Version | None, *, is_new: bool = False) -> int | None:
        """Return the version to expect, so that nobody's write is lost, where the target can do that."""
        abilities = self.comparing.target.abilities
        if is_new:
            return 0 if Ability.CREATE in abilities else None
        return version if isinstance(version, int) and Ability.CHECK_AND_SET in abilities else None

    def _put(
        self, key: str, secret: ProvidedSecret, labels: Mapping[str, str] | None, expected: int | None
    ) -> ProvidedInfo:
        target = self.comparing.target
        try:
            return target.write(key, secret.value_json, expected_version=expected, labels=labels)
        except VersionConflictError as error:
            conflict = error
        there = target.read(key)
        if there is not None and self._is_ours(key, there, secret, labels):
            return there.info
        raise conflict

    def _is_ours(
        self, key: str, there: ProvidedSecret, secret: ProvidedSecret, labels: Mapping[str, str] | None
    ) -> bool:
        """Whether what stands in the way of a write is that write itself, whose answer was lost."""
        of = self.comparing.digests.of
        return of(there.value_json) == of(secret.value_json) and (
            labels is None or labels == self.comparing.labels_of(self.comparing.target, key, there)
        )

    def _verified(self, pairs: list[Pair], copied: list[CopiedSecret]) -> Iterator[CopiedSecret]:
        """Read back what was written, and compare it again."""
        written = [one.difference.key for one in copied if one.outcome == "written"]
        there = self.comparing.read(self.comparing.target, written)
        for pair, one in zip(pairs, copied, strict=True):
            problem = self._fault(pair, there.get(pair.difference.key)) if one.outcome == "written" else None
            yield one if problem is None else replace(one, outcome="failed", problem=problem)

    def _fault(self, pair: Pair, there: ProvidedSecret | Problem | None) -> str | None:
        assert pair.secret is not None  # noqa: S101 - as in `_write`
        found = (
            there if isinstance(there, Problem) else of_one_key(self.comparing.compare, pair.listed, pair.secret, there)
        )
        if isinstance(found, Problem):
            return f"it was written and cannot be read back: {found.words}"
        return None if found.difference.kind == "same" else _CHANGED


@dataclass(slots=True)
class _Counts:
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    left_behind: Counter[str] = field(default_factory=Counter)

    def add(self, one: CopiedSecret) -> None:
        self.kinds[one.difference.kind] += 1
        self.outcomes[one.outcome] += 1
        self.left_behind.update(one.difference.left_behind)

    def report(self) -> CopyReport:
        return CopyReport(kinds=self.kinds, outcomes=self.outcomes, left_behind=self.left_behind)


def copy_secrets(  # noqa: PLR0913 - an option each
    source: SecretProvider,
    target: SecretProvider,
    *,
    prefix: str = "",
    map_to: str = SAME_KEYS,
    delete_extra: bool = False,
    allow_empty_source: bool = False,
    history: bool = True,
    verify: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
    wait: Callable[[float], None] = time.sleep,
    on_secret: Callable[[CopiedSecret], None] | None = None,
) -> CopyReport:
    """Make the target have the secrets under `prefix`, each under the key that `map_to` makes of its own.

    What is the same is not written, so that a copy that was broken off goes on when it is run again.  Where the target can
    check, nothing that somebody else wrote meanwhile is overwritten.  What fails for one key is told to `on_secret`, and
    the others go on; `is_complete` of the report says whether that happened.  `verify` reads back what was written.
    Older versions are written, too, where both sides keep them and the target has nothing of the key (`history`).
    Danger: `delete_extra` deletes what begins like the keys of the copy and is not in the source; with a source that has
    nothing it is a `ConfigurationError` unless `allow_empty_source`, and with a chain that has optional links always.
    Raises what listing raises, and `ProviderError` where a place asks to wait for longer than `patience_seconds`.
    """
    keys = KeyMap.parse(map_to, prefix)
    comparing = Comparing.patiently(source, target, keys, seconds=patience_seconds, wait=wait)
    _require(target, Ability.WRITE, *([Ability.DELETE] if delete_extra else []))
    if delete_extra:
        _refuse_one_that_hides(source)
    if delete_extra and not allow_empty_source:
        _refuse_empty(comparing)
    counts = _Counts()
    for one in _Copying(comparing, delete_extra, history, verify).run():
        counts.add(one)
        if on_secret is not None:
            on_secret(one)
    return counts.report()


def _require(provider: SecretProvider, *abilities: Ability) -> None:
    for ability in abilities:
        if ability not in provider.abilities:
            raise ProviderError(f"{provider.name} cannot {ability}", provider=provider.name, operation=ability.value)


def _refuse_one_that_hides(source: SecretProvider) -> None:
    if getattr(source, "may_hide_secrets", False):
        raise ConfigurationError(
            f"{source.name} has an optional link, and while that is down its secrets look as if they were gone, so that "
            "they would be deleted; copy without delete_extra, or from a chain whose links must answer"
        )


def _refuse_empty(comparing: Comparing) -> None:
    if not comparing.source.list_keys(comparing.keys.prefix, limit=1):
        raise ConfigurationError(
            f"{comparing.source.name} has nothing to copy, so that this would delete all secrets of "
            f"{comparing.target.name} that begin with {comparing.keys.target_prefix!r}; if that is meant, say "
            "allow_empty_source=True, or --allow-empty-source on the command line"
        )


# As people import it.
copy_secrets.__module__ = "secretstore"
