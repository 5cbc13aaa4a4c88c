"""Makes secrets be as a file or the past has them: compares, and writes what differs, in the caller's transaction."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from typing import Literal

from secretstore.domain.names import Key, Namespace, parse_key, parse_labels, parse_prefix
from secretstore.domain.records import ExportedSecret, Restoration, SecretDifference
from secretstore.orm.past_repository import PastRepository
from secretstore.orm.reads import Page, State
from secretstore.service.checks import checked_expiry, checked_time
from secretstore.service.exporting import open_states
from secretstore.service.flows import OnProgress
from secretstore.service.spooling import Differences, GivenSecrets
from secretstore.service.synchronous import NewValue, SecretService
from secretstore.service.typed import from_json_as, name_of_value, to_json

_PAGE = 1000
_KEY = itemgetter(0)


@dataclass(frozen=True, slots=True)
class _Decision:
    """What is to be done about one key; without a new value it is deleted, or left alone."""

    difference: SecretDifference
    new: NewValue | None = field(repr=False, default=None)


def gathered(secrets: Iterable[ExportedSecret], *, namespace: Namespace, max_bytes: int) -> GivenSecrets:
    """Check secrets, all before anything is sent, and return them as they are to be stored."""
    given = GivenSecrets()
    for secret in secrets:
        key = parse_key(secret.key)
        checked_expiry(secret.expires_at, name=f"expires_at of {key!r}")
        text = to_json(secret.value, name=name_of_value(namespace, key), max_bytes=max_bytes)
        given.add(key, NewValue(text, parse_labels(secret.labels), secret.expires_at))
    given.check_keys()
    return given


def import_secrets(
    service: SecretService,
    given: GivenSecrets,
    *,
    prune: str | None,
    dry_run: bool,
    on_progress: OnProgress,
) -> Differences:
    """Make secrets be as given; with `prune` the others with that prefix are deleted."""
    if not dry_run:
        service._acting()
    others: Iterable[Key] = () if prune is None else _Keys(service, parse_prefix(prune))
    total = len(given) if prune is None else sum(1 for _ in _side_by_side(given, others))
    wanted = _side_by_side(given, others)
    return _apply(service, wanted, total, action="import", deletes=True, dry_run=dry_run, on_progress=on_progress)


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of secrets with a prefix in their order, a page at a time."""

    service: SecretService
    prefix: str

    def __iter__(self) -> Iterator[Key]:
        after = ""
        while page := self.service._repository.list_keys(Page(self.prefix, after, _PAGE)):
            yield from map(Key, page)
            after = page[-1]


def restore(
    service: SecretService,
    moment: datetime,
    prefix: str,
    *,
    prune: bool,
    dry_run: bool,
    on_progress: OnProgress,
) -> Restoration:
    """Make the secrets with a prefix be as they were at a moment; with `prune` those that were not there are deleted."""
    checked_time(moment, name="the moment")
    if not dry_run:
        service._acting()
    now, past = service._repository.now(), PastRepository(service._repository.session, service._namespace, moment)
    gone: list[Key] = []
    expired: list[Key] = []

    def find() -> list[State]:
        states = past.list_states(Page(parse_prefix(prefix)))
        gone[:] = [state.value.key for state in states if state.value.envelope is None]
        expired[:] = [state.value.key for state in states if state.expires_at is not None and state.expires_at <= now]
        return [state for state in states if state.value.key not in {*gone, *expired}]

    there = open_states(service, find)
    wanted = {state.value.key: NewValue(opened.text, state.labels, state.expires_at) for state, opened in there}
    left_out = {*gone, *expired}
    others = [Key(key) for key in service.list_secret_keys(prefix) if key not in left_out]
    rows, total = _side_by_side(sorted(wanted.items(), key=_KEY), others), len(wanted.keys() | set(others))
    differences = _apply(
        service, rows, total, action="restore", deletes=prune, dry_run=dry_run, on_progress=on_progress
    )
    return Restoration(differences=tuple(differences), gone=tuple(gone), expired=tuple(expired))


def _side_by_side(
    wanted: Iterable[tuple[Key, NewValue | None]], others: Iterable[Key]
) -> Iterator[tuple[Key, NewValue | None]]:
    """Give each key once, in order, with what it is to be; None for those of which nothing is said."""
    rows = merge(wanted, ((key, None) for key in others), key=_KEY)
    # Of two alike the first comes first.
    return (next(alike) for _, alike in groupby(rows, key=_KEY))


def _apply(
    service: SecretService,
    wanted: Iterator[tuple[Key, NewValue | None]],
    total: int,
    *,
    action: str,
    deletes: bool,
    dry_run: bool,
    on_progress: OnProgress,
) -> Differences:
    now = service._repository.now()
    differences = Differences()
    # In the order of the keys, as every other writer: so no two of them wait for one another.
    while page := dict(islice(wanted, _PAGE)):
        decisions = _decide(service, page, now, deletes=deletes)
        if not dry_run:
            _carry_out(service, decisions, action)
        for decision in decisions:
            differences.add(decision.difference)
        on_progress(len(differences), total)
    return differences


def _decide(
    service: SecretService, page: Mapping[Key, NewValue | None], now: datetime, *, deletes: bool
) -> list[_Decision]:
    opened = open_states(service, lambda: service._repository.find_states(list(page)))
    there = {state.value.key: (state, from_json_as(value.text, None, name=value.place)) for state, value in opened}
    kind: Literal["deleted", "extra"] = "deleted" if deletes else "extra"
    decisions = []
    for key, wanted in page.items():
        if wanted is not None:
            decisions.append(_compare(key, there.get(key), wanted, now))
        elif key in there:
            decisions.append(_Decision(SecretDifference(key=key, kind=kind, old=there[key][1])))
    return decisions


def _compare(key: Key, there: tuple[State, object] | None, wanted: NewValue, now: datetime) -> _Decision:
    new = from_json_as(wanted.text, None, name=key)
    if there is None and wanted.expires_at is not None and wanted.expires_at <= now:
        # It would read as missing, which it does.
        return _Decision(SecretDifference(key=key, kind="unchanged", new=new))
    if there is None:
        return _Decision(SecretDifference(key=key, kind="added", new=new), wanted)
    state, old = there
    says_all = wanted.labels is not None
    if _as_text(old) != _as_text(new) or (says_all and state.expires_at != wanted.expires_at):
        return _Decision(SecretDifference(key=key, kind="changed", old=old, new=new), wanted)
    kind: Literal["labels", "unchanged"] = "labels" if says_all and wanted.labels != state.labels else "unchanged"
    return _Decision(SecretDifference(key=key, kind=kind, old=old, new=new), wanted)


def _as_text(value: object) -> str:
    # As text, because Python takes 1, 1.0 and true for equal.
    return json.dumps(value, sort_keys=True)


def _carry_out(service: SecretService, decisions: Sequence[_Decision], action: str) -> None:
    differing = [one.difference.key for one in decisions if one.difference.kind not in {"unchanged", "extra"}]
    if differing:
        # All at once, because the kinds follow one another below, and none may wait for an earlier key later.
        service._repository.lock([Key(key) for key in differing])
    to_write = {
        Key(decision.difference.key): decision.new
        for decision in decisions
        if decision.new is not None and decision.difference.kind in {"added", "changed"}
    }
    for says_labels in (True, False):
        alike = {key: new for key, new in to_write.items() if (new.labels is not None) is says_labels}
        service._write(alike, action=action)
    for decision in decisions:
        if decision.difference.kind == "labels" and decision.new is not None:
            service.set_labels(decision.difference.key, decision.new.labels or {})
    service._delete([Key(one.difference.key) for one in decisions if one.difference.kind == "deleted"])
