"""Makes secrets be as a file or the past has them: compares, and writes what differs, in the caller's transaction."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from secretstore.domain.names import Key, parse_key, parse_labels, parse_prefix
from secretstore.domain.records import ExportedSecret, Restoration, SecretDifference
from secretstore.errors import InvalidSecretKeyError
from secretstore.orm.past_repository import PastRepository
from secretstore.orm.reads import Page, State
from secretstore.service.checks import checked_expiry, checked_time
from secretstore.service.exporting import open_states
from secretstore.service.flows import OnProgress
from secretstore.service.synchronous import NewValue, SecretService
from secretstore.service.typed import from_json_as

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class _Decision:
    """What is to be done about one key; without a new value it is deleted, or left alone."""

    difference: SecretDifference
    new: NewValue | None = field(repr=False, default=None)


def import_secrets(
    service: SecretService,
    secrets: Iterable[ExportedSecret],
    *,
    prune: str | None,
    dry_run: bool,
    on_progress: OnProgress,
) -> list[SecretDifference]:
    """Make secrets be as given; with `prune` the others with that prefix are deleted."""
    wanted: dict[Key, NewValue] = {}
    for secret in secrets:
        key = parse_key(secret.key)
        if key in wanted:
            raise InvalidSecretKeyError(f"key {key!r} is given twice")
        checked_expiry(secret.expires_at, name=f"expires_at of {key!r}")
        wanted[key] = NewValue(service._to_json(key, secret.value), parse_labels(secret.labels), secret.expires_at)
    others = [] if prune is None else service.list_secret_keys(prune)
    return _apply(service, wanted, others, deletes=True, dry_run=dry_run, on_progress=on_progress)


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
    others = [key for key in service.list_secret_keys(prefix) if key not in {*gone, *expired}]
    differences = _apply(service, wanted, others, deletes=prune, dry_run=dry_run, on_progress=on_progress)
    return Restoration(differences=tuple(differences), gone=tuple(gone), expired=tuple(expired))


def _apply(
    service: SecretService,
    wanted: dict[Key, NewValue],
    others: Sequence[str],
    *,
    deletes: bool,
    dry_run: bool,
    on_progress: OnProgress,
) -> list[SecretDifference]:
    now = service._repository.now()
    keys = sorted(wanted.keys() | {Key(key) for key in others})
    differences: list[SecretDifference] = []
    for place in range(0, len(keys), _PAGE):
        # In the order of the keys, as every other writer: so no two of them wait for one another.
        decisions = _decide(service, keys[place : place + _PAGE], wanted, now, deletes=deletes)
        if not dry_run:
            _carry_out(service, decisions)
        differences += [decision.difference for decision in decisions]
        on_progress(len(differences), len(keys))
    return differences


def _decide(
    service: SecretService, keys: Sequence[Key], wanted: dict[Key, NewValue], now: datetime, *, deletes: bool
) -> list[_Decision]:
    opened = open_states(service, lambda: service._repository.find_states(keys))
    there = {state.value.key: (state, from_json_as(value.text, None, name=value.place)) for state, value in opened}
    compared = [_compare(key, there.get(key), wanted[key], now) for key in keys if key in wanted]
    kind: Literal["deleted", "extra"] = "deleted" if deletes else "extra"
    others = [
        _Decision(SecretDifference(key=key, kind=kind, old=there[key][1]))
        for key in keys
        if key in there.keys() - wanted
    ]
    return sorted([*compared, *others], key=lambda decision: decision.difference.key)


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


def _carry_out(service: SecretService, decisions: Sequence[_Decision]) -> None:
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
        service._write({key: new for key, new in to_write.items() if (new.labels is not None) is says_labels})
    for decision in decisions:
        if decision.difference.kind == "labels" and decision.new is not None:
            service.set_labels(decision.difference.key, decision.new.labels or {})
    service._delete([Key(one.difference.key) for one in decisions if one.difference.kind == "deleted"])
