"""What a store held at every moment, in plain dicts, and random changes of both."""

import random
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from secretstore import SecretNotFoundError
from tests.support.faces import Face

KEYS = ("a", "a/b", "b", "c", "é")
LABELS: tuple[dict[str, str], ...] = ({}, {"team": "web"}, {"team": "ops"}, {"team": "web", "tier": "1"})


@dataclass
class Secret:
    """A secret with all its values, deleted or not."""

    values: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    is_deleted: bool = False


@dataclass
class PastModel:
    """The secrets of one namespace."""

    secrets: dict[str, Secret] = field(default_factory=dict)

    def live(self) -> dict[str, Secret]:
        """Those that are there, by key."""
        return {key: self.secrets[key] for key in sorted(self.secrets) if not self.secrets[key].is_deleted}

    def values(self, prefix: str = "") -> dict[str, Any]:
        """The current values by key."""
        return {key: secret.values[-1] for key, secret in self.live().items() if key.startswith(prefix)}

    def labelled(self, labels: dict[str, str]) -> dict[str, dict[str, str]]:
        """The labels of those secrets that carry some, by key."""
        return {key: secret.labels for key, secret in self.live().items() if labels.items() <= secret.labels.items()}

    def write(self, key: str, value: dict[str, Any], labels: dict[str, str] | None = None) -> None:
        """Write the next version."""
        secret = self.secrets.setdefault(key, Secret())
        secret.values.append(value)
        secret.is_deleted = False
        secret.labels = secret.labels if labels is None else labels


class Walk:
    """Random changes, each made to a face and to the model of it."""

    def __init__(self, face: Face, seed: int) -> None:
        self.face = face
        self.model = PastModel()
        self._random = random.Random(seed)
        self._steps = [self._set, self._set, self._set_many, self._delete, self._undelete, self._label]
        self._steps += [self._rollback, self._patch]

    def step(self) -> PastModel:
        """Make one change, and return the model as it is then."""
        self._random.choice(self._steps)(self._random.choice(KEYS))
        return deepcopy(self.model)

    def _value(self) -> dict[str, Any]:
        return {"n": self._random.randrange(1000)}

    def _set(self, key: str) -> None:
        value, labels = self._value(), self._random.choice((None, *LABELS))
        self.face.set_secret(key, value, labels=labels)
        self.model.write(key, value, labels)

    def _set_many(self, key: str) -> None:
        values = {other: self._value() for other in {key, *self._random.sample(KEYS, 2)}}
        self.face.set_secrets(values)
        for other, value in values.items():
            self.model.write(other, value)

    def _delete(self, key: str) -> None:
        assert self.face.delete_secret(key) is (key in self.model.live())
        if key in self.model.secrets:
            self.model.secrets[key].is_deleted = True

    def _undelete(self, key: str) -> None:
        if key in self.model.secrets:
            self.face.undelete_secret(key)
            self.model.secrets[key].is_deleted = False

    def _label(self, key: str) -> None:
        labels = self._random.choice(LABELS)
        if self._is_there(key, lambda: self.face.set_labels(key, labels)):
            self.model.secrets[key].labels = labels

    def _rollback(self, key: str) -> None:
        versions = self.model.secrets.get(key, Secret()).values
        to = self._random.randint(1, max(1, len(versions)))
        if self._is_there(key, lambda: self.face.rollback_secret(key, to)):
            self.model.write(key, versions[to - 1])

    def _patch(self, key: str) -> None:
        value = self._value()
        if self._is_there(key, lambda: self.face.patch_secret(key, {"m": value})):
            self.model.write(key, {**self.model.secrets[key].values[-1], "m": value})

    def _is_there(self, key: str, change: Any) -> bool:
        try:
            change()
        except SecretNotFoundError:
            assert key not in self.model.live()
            return False
        assert key in self.model.live()
        return True
