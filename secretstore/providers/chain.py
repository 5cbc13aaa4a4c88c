"""Several providers as one: asked in order, and written in one of them.

A read is answered by the first link that has the key.  What changes something goes to the one link that is named for it,
and is refused where another link would make it look otherwise than it was asked for.  No link stands in for another
silently: one that fails ends the call, unless it is optional and down; then the chain says so, counts it, and goes on.
"""

import heapq
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby, islice
from operator import itemgetter
from typing import TypeVar

from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, SecretProvider, Version
from secretstore.errors import (
    ConfigurationError,
    InvalidSecretKeyError,
    PermissionDeniedError,
    ProviderError,
    SecretStoreError,
    VersionConflictError,
)
from secretstore.providers.base import Provider

T = TypeVar("T")

_LOGGER = logging.getLogger("secretstore.providers")


@dataclass(frozen=True, slots=True)
class Link:
    """A provider in a chain.

    Danger: where an optional one is down, the links behind it answer, perhaps with another value than it holds.
    """

    provider: SecretProvider
    optional: bool = field(default=False, kw_only=True)
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.provider.name)


class LinkState(StrEnum):
    """What a link has to say of a key."""

    ANSWERS = "answers"
    HOLDS_IT_TOO = "holds it too"
    HAS_NONE = "has none"
    IS_DOWN = "is down"
    IS_DENIED = "may not be asked"
    FAILS = "fails"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAnswer:
    """What a link says of a key: what it knows of the secret, or why it says nothing."""

    name: str
    optional: bool
    state: LinkState
    info: ProvidedInfo | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Which link answers a read of a key, and what the others say; `problem` is why the read is an error."""

    key: str
    answered_by: str | None
    problem: str | None
    links: tuple[LinkAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatistics:
    """How often a link was found to be down, and whether it was when it was last asked."""

    name: str
    optional: bool
    failures: int
    is_down: bool


class ChainProvider(Provider):
    """Providers that are asked in order.

    `write_to` names the link that changes go to; without it nothing can be changed.  The chain closes its links.
    """

    def __init__(self, links: Sequence[Link], *, write_to: str | None = None) -> None:
        names = [link.name for link in links]
        _check_names(names, write_to)
        self.name = f"chain of {', '.join(names)}"
        self._links = tuple(links)
        self._writer = None if write_to is None else links[names.index(write_to)]
        self._outages = {link.name: _Outages(link) for link in links}
        self.abilities = self._abilities()
        self.may_hide_secrets = any(
            link.optional or getattr(link.provider, "may_hide_secrets", False) for link in links
        )

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return the secret of the first link that has it; an older version is one of that link's."""
        if version is None:
            found = self._first(lambda provider: provider.read(key))
            return None if found is None else _named_secret(*found)
        self.require(Ability.VERSIONS)
        link = self._keeper(key)
        secret = None if link is None else link.provider.read(key, version=version)
        return None if link is None or secret is None else _named_secret(link, secret)

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are; a link is asked only for what those before it do not have."""
        found: dict[str, ProvidedSecret] = {}
        wanted = list(dict.fromkeys(keys))
        for link in self._links:
            found |= self._read_from(link, [key for key in wanted if key not in found])
        return {key: found[key] for key in wanted if key in found}

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return the keys that any of the links has, each once."""
        return list(self.list_sources(prefix, after=after, limit=limit))

    def list_sources(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> dict[str, str]:
        """Return the same keys in the same order, each with the name of the first link that lists it.

        A link that lists keys in a form of its own may answer for others too; `explain` says who does.
        """
        lists = (
            [(key, link.name) for key in self._ask(link, lambda p: p.list_keys(prefix, after=after, limit=limit)) or ()]
            for link in self._links
        )
        return dict(islice(_merged(lists), limit))

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what the link that answers knows of a secret; `provider` is that link's name."""
        found = self._first(lambda provider: provider.describe(key))
        return None if found is None else _named(*found)

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Return the versions that the link that answers has."""
        self.require(Ability.VERSIONS)
        link = self._keeper(key)
        return [] if link is None else [_named(link, info) for info in link.provider.list_versions(key)]

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret; raises `ProviderError` where a link above holds the key and would go on answering."""
        self.require_what_a_write_needs(expected_version, labels)
        writer = self._link_to(Ability.WRITE)
        self._refuse_where_held(key, Ability.WRITE, self._above(writer))
        if expected_version == 0:
            self._require_none_below(writer, key)
        info = writer.provider.write(key, value_json, expected_version=expected_version, labels=labels)
        return _named(writer, info)

    def delete(self, key: str) -> bool:
        """Delete a secret; raises `ProviderError` where another link holds the key, and would answer afterwards."""
        writer = self._link_to(Ability.DELETE)
        self._refuse_where_held(key, Ability.DELETE, self._others(writer))
        return writer.provider.delete(key)

    def undelete(self, key: str) -> ProvidedInfo:
        """Bring a deleted secret back; raises `ProviderError` where a link above holds the key."""
        writer = self._link_to(Ability.UNDELETE)
        self._refuse_where_held(key, Ability.UNDELETE, self._above(writer))
        return _named(writer, writer.provider.undelete(key))

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Destroy versions; raises `ProviderError` where another link holds the key, whose versions they may be."""
        writer = self._link_to(Ability.DESTROY)
        self._refuse_where_held(key, Ability.DESTROY, self._others(writer))
        return writer.provider.destroy_versions(key, versions)

    def explain(self, key: str) -> Explanation:
        """Return which link answers a read of a key and what the others say, without reading a value.

        Every link is asked; one that fails is part of the answer.
        """
        answers = [_answer_of(link, key) for link in self._links]
        decisive = next((place for place, answer in enumerate(answers) if _ends_a_read(answer)), None)
        if decisive is None:
            return Explanation(key=key, answered_by=None, problem=None, links=tuple(answers))
        answer = answers[decisive]
        if answer.info is not None:
            answers[decisive] = replace(answer, state=LinkState.ANSWERS)
        answered_by = None if answer.info is None else answer.name
        return Explanation(key=key, answered_by=answered_by, problem=answer.problem, links=tuple(answers))

    def statistics(self) -> tuple[LinkStatistics, ...]:
        """Return how often each link was down."""
        return tuple(outages.statistics() for outages in self._outages.values())

    def close(self) -> None:
        """Close every link, also where one fails to."""
        with ExitStack() as closing:
            for link in reversed(self._links):
                closing.callback(link.provider.close)

    def _abilities(self) -> frozenset[Ability]:
        # No cache of the whole: it would keep what a link answered in the place of one that was down.
        written = frozenset() if self._writer is None else self._writer.provider.abilities - {Ability.CACHE}
        has_versions = any(Ability.VERSIONS in link.provider.abilities for link in self._links)
        return written | {Ability.VERSIONS} if has_versions else written

    def _read_from(self, link: Link, keys: list[str]) -> dict[str, ProvidedSecret]:
        found = self._ask(link, lambda provider: provider.read_many(keys)) if keys else None
        return {key: _named_secret(link, secret) for key, secret in (found or {}).items()}

    def _first(self, question: Callable[[SecretProvider], T | None]) -> tuple[Link, T] | None:
        for link in self._links:
            try:
                found = self._ask(link, question)
            except InvalidSecretKeyError:
                # What the place cannot hold is not there.
                continue
            if found is not None:
                return link, found
        return None

    def _ask(self, link: Link, question: Callable[[SecretProvider], T]) -> T | None:
        """Return the answer of a link, or None where it may be down and is."""
        try:
            answer = question(link.provider)
        except ProviderError as error:
            if error.is_temporary:
                self._outages[link.name].failed(error)
            if not (error.is_temporary and link.optional):
                raise
            return None
        self._outages[link.name].answered()
        return answer

    def _keeper(self, key: str) -> Link | None:
        """Return the link whose versions count: the one that answers, else the one where the key may be deleted."""
        found = self._first(lambda provider: provider.describe(key))
        return self._writer if found is None else found[0]

    def _link_to(self, ability: Ability) -> Link:
        if self._writer is None or ability not in self.abilities:
            self.refuse(ability)
        return self._writer

    def _above(self, writer: Link) -> tuple[Link, ...]:
        return self._links[: self._links.index(writer)]

    def _others(self, writer: Link) -> tuple[Link, ...]:
        return tuple(link for link in self._links if link is not writer)

    def _refuse_where_held(self, key: str, ability: Ability, links: Iterable[Link]) -> None:
        for link in links:
            if self._held(link, key, ability) is not None:
                raise self.failed(
                    ability,
                    f"{link.name} holds {key!r} as well, and its value would be read in the place of the change; "
                    "take it away there first, or change it there",
                )

    def _require_none_below(self, writer: Link, key: str) -> None:
        for link in self._links[self._links.index(writer) + 1 :]:
            info = self._held(link, key, Ability.CREATE)
            if info is not None:
                raise VersionConflictError(self.name, key, 0, info.version or 1)

    def _held(self, link: Link, key: str, ability: Ability) -> ProvidedInfo | None:
        """Return what a link has of a key; that it is down is an error here, optional or not."""
        try:
            return link.provider.describe(key)
        except InvalidSecretKeyError:
            return None
        except ProviderError as error:
            problem = f"it cannot be known whether {link.name} holds {key!r} as well: {error}"
            is_temporary = error.is_temporary
        raise self.failed(ability, problem, is_temporary=is_temporary)


class _Outages:
    """Counts the failures of a link, and tells of each outage once."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._failures = 0
        self._is_down = False

    def failed(self, error: ProviderError) -> None:
        with self._lock:
            self._failures += 1
            is_new, self._is_down = not self._is_down, True
        if is_new and self._link.optional:
            _LOGGER.warning(
                "%s is down, and the chain goes on without it: %s",
                self._link.name,
                error,
                extra={"secretstore_provider": self._link.name},
            )

    def answered(self) -> None:
        # The lock is for the few answers that end an outage.
        if self._is_down:
            with self._lock:
                self._is_down = False

    def statistics(self) -> LinkStatistics:
        with self._lock:
            return LinkStatistics(
                name=self._link.name, optional=self._link.optional, failures=self._failures, is_down=self._is_down
            )


def _check_names(names: Sequence[str], write_to: str | None) -> None:
    if not names:
        raise ConfigurationError("a chain has at least one link")
    if len(set(names)) < len(names):
        raise ConfigurationError(f"links of a chain have different names, not {', '.join(names)}; give them some")
    if write_to is not None and write_to not in names:
        raise ConfigurationError(f"a chain of {', '.join(names)} cannot write to {write_to}; name one of these")


def _merged(lists: Iterable[list[tuple[str, str]]]) -> Iterator[tuple[str, str]]:
    """Merge sorted lists; of what has the same key the first list counts."""
    merged = heapq.merge(*lists, key=itemgetter(0))
    return (next(same) for _, same in groupby(merged, key=itemgetter(0)))


def _named(link: Link, info: ProvidedInfo) -> ProvidedInfo:
    return info if info.provider == link.name else replace(info, provider=link.name)


def _named_secret(link: Link, secret: ProvidedSecret) -> ProvidedSecret:
    return replace(secret, info=_named(link, secret.info))


def _answer_of(link: Link, key: str) -> LinkAnswer:
    info = problem = None
    try:
        info = link.provider.describe(key)
        state = LinkState.HAS_NONE if info is None else LinkState.HOLDS_IT_TOO
    except InvalidSecretKeyError:
        state = LinkState.HAS_NONE
    except SecretStoreError as error:
        state, problem = _failure(error), str(error)
    info = None if info is None else _named(link, info)
    return LinkAnswer(name=link.name, optional=link.optional, state=state, info=info, problem=problem)


def _failure(error: SecretStoreError) -> LinkState:
    if isinstance(error, PermissionDeniedError):
        return LinkState.IS_DENIED
    is_down = isinstance(error, ProviderError) and error.is_temporary
    return LinkState.IS_DOWN if is_down else LinkState.FAILS


def _ends_a_read(answer: LinkAnswer) -> bool:
    may_be_passed = answer.optional and answer.state is LinkState.IS_DOWN
    return not (answer.state is LinkState.HAS_NONE or may_be_passed)
