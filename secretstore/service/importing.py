"""Writes secrets that come from another place, with the times that they had there.

No public method does this: who imports vouches for times and actor.  Of two changes of one key the later one stays, so an
import can be run again, and two can run at once.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from secretstore.domain.names import Key, parse_key
from secretstore.errors import StoreUnavailableError
from secretstore.orm.repository import StoredSecret, Times
from secretstore.service.data_keys import DataKeyGoneError
from secretstore.service.synchronous import NewValue, SecretService
from secretstore.service.typed import from_json_as

# The first go locks every head that it does not write, so the second finds them as they stay.
_GOES = 3


class Outcome(StrEnum):
    """What came of one secret."""

    IMPORTED = "imported"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    CHANGED_HERE = "changed here"
    DELETED_HERE = "deleted here"


_WRITES = frozenset({Outcome.IMPORTED, Outcome.UPDATED})


@dataclass(frozen=True, slots=True)
class Incoming:
    """A secret as it is in another place; `incoming` makes one."""

    key: Key
    text: bytes = field(repr=False)
    times: Times


def incoming(service: SecretService, key: str, value: object, times: Times) -> Incoming:
    """Check a secret; raises `InvalidSecretKeyError` or `InvalidSecretValueError`."""
    checked = parse_key(key)
    return Incoming(checked, service._to_json(checked, value), times)


def import_secrets(service: SecretService, secrets: Iterable[Incoming], *, dry_run: bool = False) -> dict[Key, Outcome]:
    """Write those secrets that are new here, or newer than here, in the caller's transaction; no key may come twice.

    With `dry_run` nothing is sent but a question.  Raises `DecryptionError` where a value that is here does not open.
    """
    if not dry_run:
        service._acting()
    given = {secret.key: secret for secret in secrets}
    outcomes: dict[Key, Outcome] = {}
    for _ in range(_GOES):
        left = [given[key] for key in sorted(given.keys() - outcomes.keys())]
        if not left:
            return outcomes
        decided = _decide(service, left)
        wanted = {secret.key: secret for secret in left if decided[secret.key] in _WRITES and not dry_run}
        written = _write(service, wanted) if wanted else set()
        # What was to be written and was not has changed in between: it is looked at once more.
        outcomes.update((key, outcome) for key, outcome in decided.items() if key in written or key not in wanted)
    raise StoreUnavailableError(
        "PostgreSQL did not store all secrets of an import; look for triggers and row-level security on its tables"
    )


def _decide(service: SecretService, secrets: Collection[Incoming]) -> dict[Key, Outcome]:
    try:
        return _compare(service, secrets)
    except DataKeyGoneError:
        # As for every reader, whose data key may be destroyed after a rotation.
        return _compare(service, secrets)


def _compare(service: SecretService, secrets: Collection[Incoming]) -> dict[Key, Outcome]:
    stored = service._repository.find_stored([secret.key for secret in secrets])
    return {secret.key: _outcome(service, secret, stored.get(secret.key)) for secret in secrets}


def _outcome(service: SecretService, secret: Incoming, stored: StoredSecret | None) -> Outcome:
    if stored is None:
        return Outcome.IMPORTED
    if stored.is_live and _has_value(service, stored, secret):
        return Outcome.UNCHANGED
    if secret.times.updated_at > stored.updated_at:
        return Outcome.UPDATED
    return Outcome.DELETED_HERE if stored.is_deleted else Outcome.CHANGED_HERE


def _has_value(service: SecretService, stored: StoredSecret, secret: Incoming) -> bool:
    opened = service._open(stored.value)
    here, there = from_json_as(opened.text, None, name=opened.place), from_json_as(secret.text, None, name=secret.key)
    # As text, because Python takes 1, 1.0 and true for equal.
    return json.dumps(here, sort_keys=True) == json.dumps(there, sort_keys=True)


def _write(service: SecretService, secrets: Mapping[Key, Incoming]) -> set[str]:
    heads, data_key = service._prepare_to_seal(list(secrets))
    infos = service._repository.write(
        [service._sealed(data_key, heads, key, NewValue(secret.text)) for key, secret in secrets.items()],
        moment=heads.moment,
        keeps_labels=True,
        was_deleted=None,
        by=service._acting(),
        action="import",
        times=[secret.times for secret in secrets.values()],
    )
    service._prune(heads, infos)
    if infos:
        service._tell([Key(info.key) for info in infos], infos[0].version)
    return {info.key for info in infos}
