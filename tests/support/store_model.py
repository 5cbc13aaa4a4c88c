"""What a store has to hold after everything that was done to it, in plain dicts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MISSING = "there is no such secret"
SHREDDED = "nobody can ever read it again"


class Place(NamedTuple):
    """Where a secret stands."""

    namespace: str
    key: str


class Row(NamedTuple):
    """A stored value: the current one of a secret is in the head, and every one is in the history."""

    table: str
    namespace: str
    key: str
    version: int

    @property
    def place(self) -> Place:
        """Where its secret stands."""
        return Place(self.namespace, self.key)


@dataclass(slots=True)
class DataKeyState:
    """What is to be known of a data key; a shredded one has no master key."""

    namespace: str
    master_key_id: str | None
    state: str = "active"


@dataclass(slots=True)
class StoreModel:
    """Values by version, and the data key that each row is under."""

    values: dict[Place, list[object]] = field(default_factory=dict)
    deleted: set[Place] = field(default_factory=set)
    rows: dict[Row, str] = field(default_factory=dict)
    data_keys: dict[str, DataKeyState] = field(default_factory=dict)

    def set(self, place: Place, value: object) -> int:
        """Write the next version, under the active data key; return its number."""
        data_key_id = self.active(place.namespace)
        assert data_key_id is not None
        versions = self.values.setdefault(place, [])
        self.rows.pop(Row("head", *place, len(versions)), None)
        versions.append(value)
        self.deleted.discard(place)
        for table in ("head", "history"):
            self.rows[Row(table, *place, len(versions))] = data_key_id
        return len(versions)

    def delete(self, places: Iterable[Place]) -> int:
        """Delete secrets; return how many there were."""
        found = [place for place in places if self.is_live(place)]
        self.deleted.update(found)
        return len(found)

    def is_live(self, place: Place) -> bool:
        """Whether a secret is there to be read."""
        return place in self.values and place not in self.deleted

    def read(self, place: Place, version: int | None = None) -> object:
        """The value of a secret in its current or another version."""
        versions = self.values.get(place, [])
        if not self.is_live(place) or not 1 <= (version or 1) <= len(versions):
            return MISSING
        return versions[(version or len(versions)) - 1]

    def live(self, namespace: str, prefix: str = "") -> dict[str, object]:
        """The current values of a namespace by key."""
        places = [place for place in sorted(self.values) if self.is_live(place)]
        return {
            place.key: self.read(place)
            for place in places
            if place.namespace == namespace and place.key.startswith(prefix)
        }

    def active(self, namespace: str) -> str | None:
        """The data key that seals for a namespace."""
        return next(iter(self.data_keys_of(namespace, "active")), None)

    def data_keys_of(self, namespace: str, *states: str) -> list[str]:
        """The data keys of a namespace in some states, in the order in which they were made."""
        return [id_ for id_, key in self.data_keys.items() if key.namespace == namespace and key.state in states]

    def add_data_key(self, data_key_id: str, namespace: str, master_key_id: str) -> None:
        """Let a new data key seal, and retire the one before."""
        for before in self.data_keys_of(namespace, "active"):
            self.data_keys[before].state = "retired"
        self.data_keys[data_key_id] = DataKeyState(namespace, master_key_id)

    def can_be_destroyed(self, namespace: str, data_key_id: str) -> bool:
        """Whether a data key is there, seals nothing any more, and nothing is under it."""
        return data_key_id in self.data_keys_of(namespace, "retired", "shredded") and not self.count(data_key_id)

    def count(self, *data_key_ids: str) -> int:
        """How many values are under some data keys, or were before they were shredded."""
        return sum(under in data_key_ids for under in self.rows.values())

    def wrapped_by(self, master_key_id: str) -> list[str]:
        """The data keys that need a master key."""
        return [id_ for id_, key in self.data_keys.items() if key.master_key_id == master_key_id]

    def shred(self, namespace: str) -> int:
        """Lose the values of a namespace and its data keys; return how many values there were."""
        lost = self.data_keys_of(namespace, "active", "retired")
        for data_key_id in lost:
            self.data_keys[data_key_id] = DataKeyState(namespace, None, "shredded")
        for place, versions in self.values.items():
            if place.namespace == namespace:
                versions[:] = [SHREDDED] * len(versions)
        return self.count(*lost)

    def states(self) -> Iterator[tuple[str, str, str | None, str]]:
        """What `DATA_KEYS` answers."""
        return ((id_, key.namespace, key.master_key_id, key.state) for id_, key in self.data_keys.items())


def is_lost(values: Mapping[str, object]) -> bool:
    """Whether one of some values cannot be read."""
    return SHREDDED in values.values()
