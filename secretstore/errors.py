"""Every error that this library raises.

SecretStoreError
├── SecretNotFoundError        there is no such secret (exit code 3)
│   └── VersionGoneError       its version of then was pruned, destroyed or purged (3)
├── VersionConflictError       `expected_version` is not the version that is stored (4)
├── InvalidSecretKeyError      a namespace, key, prefix or label that breaks a limit
├── InvalidSecretValueError    a value that is not JSON, too large, or does not fit the type
├── DecryptionError            a stored value that its key does not open (5)
├── MasterKeyError             no key ring, a malformed key ring, or a missing master key (5)
├── KeyInUseError              a key cannot go, because something still needs it (8)
├── RecordTamperedError        the record of changes or of accesses is not as it was sealed (8)
├── GrantError                 a grant that cannot be made, or is not there (2)
│   └── RoleNotFoundError      the database has no such role (2)
├── PermissionDeniedError      PostgreSQL refused the login or the statement (6)
├── StoreUnavailableError      PostgreSQL cannot be reached, or asks to try again (7)
├── SchemaOutOfDateError       the tables are missing or behind: `secretstore db upgrade`
├── ConfigurationError         a setting is missing or wrong
└── ProviderError              another place for secrets failed or cannot do what was asked

No message holds a value or a part of one.  All are picklable.
"""

from functools import partial

__all__ = [
    "ConfigurationError",
    "DecryptionError",
    "GrantError",
    "InvalidSecretKeyError",
    "InvalidSecretValueError",
    "KeyInUseError",
    "MasterKeyError",
    "PermissionDeniedError",
    "ProviderError",
    "RecordTamperedError",
    "RoleNotFoundError",
    "SchemaOutOfDateError",
    "SecretNotFoundError",
    "SecretStoreError",
    "StoreUnavailableError",
    "VersionConflictError",
    "VersionGoneError",
]


class SecretStoreError(Exception):
    """The root of every error of this library."""


class SecretNotFoundError(SecretStoreError):
    """There is no such secret: never written, deleted, or expired."""

    def __init__(self, namespace: str, key: str, version: int | str | None = None) -> None:
        super().__init__(namespace, key, version)
        self.namespace = namespace
        self.key = key
        self.version = version

    def __str__(self) -> str:
        which = "" if self.version is None else f" in version {self.version}"
        return f"there is no secret {self.key!r}{which} in namespace {self.namespace!r}"


class VersionGoneError(SecretNotFoundError):
    """The value that a secret had at that time is gone for good: its version was pruned, destroyed or purged."""

    def __init__(self, namespace: str, key: str, version: int) -> None:
        super().__init__(namespace, key, version)

    def __str__(self) -> str:
        return (
            f"version {self.version} of {self.key!r} in namespace {self.namespace!r} was current then, and its value is "
            "gone: pruned, destroyed or purged"
        )


class VersionConflictError(SecretStoreError):
    """The stored version is not the expected one; nothing was written.

    `found` is 0 where there is no such secret, and a text where a provider names its versions.
    """

    def __init__(self, namespace: str, key: str, expected: int, found: int | str) -> None:
        super().__init__(namespace, key, expected, found)
        self.namespace = namespace
        self.key = key
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        expected = f"version {self.expected}" if self.expected else "no secret"
        found = f"version {self.found}" if self.found else "none"
        return (
            f"expected {expected} at {self.key!r} in namespace {self.namespace!r}, found {found}; "
            "read it again and decide anew"
        )


class InvalidSecretKeyError(SecretStoreError):
    """A namespace, key, prefix, label, name of an actor or request id breaks a limit; nothing was sent."""


class InvalidSecretValueError(SecretStoreError):
    """A value is not JSON, is too large, or does not fit the type that was asked for."""


class DecryptionError(SecretStoreError):
    """A stored value does not open: it was changed, moved, or sealed with another key."""


class MasterKeyError(SecretStoreError):
    """The key ring is missing, malformed, or lacks the master key that a data key needs; or a key server failed.

    `is_temporary` says that a key server did not answer, and that the same call may succeed later.
    """

    def __init__(self, message: str, *, is_temporary: bool = False) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary


class KeyInUseError(SecretStoreError):
    """A key cannot be taken away, because something still needs it; nothing was changed."""


class RecordTamperedError(SecretStoreError):
    """The record of a namespace is not as it was sealed; names the first event or checkpoint that is wrong, and how.

    `record` is `change` or `access`, and `how` is `edited`, `removed`, `inserted`, `reordered`, `cut` or `key gone`.  `seq` is
    the number of the event, or None; `checkpoint` is the number of the checkpoint that is wrong or has the event, or None.
    """

    def __init__(
        self, namespace: str, record: str, how: str, *, seq: int | None = None, checkpoint: int | None = None
    ) -> None:
        super().__init__(namespace, record, how, seq, checkpoint)
        self.namespace = namespace
        self.record = record
        self.how = how
        self.seq = seq
        self.checkpoint = checkpoint

    def __reduce__(self) -> tuple[object, ...]:
        return partial(RecordTamperedError, *self.args[:3], seq=self.seq, checkpoint=self.checkpoint), ()

    def __str__(self) -> str:
        return f"the {self.record} record of namespace {self.namespace!r} was tampered with: {self._finding()}"

    def _finding(self) -> str:
        if self.seq is not None:
            return f"event {self.seq} was {self.how}"
        if self.checkpoint is None or self.how == "key gone":
            return "the key that authenticates its checkpoints is gone, or does not open"
        if self.how == "cut":
            return f"it ends before checkpoint {self.checkpoint}, which an earlier head names"
        return f"checkpoint {self.checkpoint} was {self.how}"


class GrantError(SecretStoreError):
    """A grant cannot be made, or is not there; nothing was changed."""


class RoleNotFoundError(GrantError):
    """The database has no role of that name."""

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self.role = role

    def __str__(self) -> str:
        return f"there is no role {self.role!r}; create it first (CREATE ROLE)"


class PermissionDeniedError(SecretStoreError):
    """PostgreSQL refused the login or the statement."""


class StoreUnavailableError(SecretStoreError):
    """PostgreSQL cannot be reached, or broke off in a way that a new transaction may survive.

    `is_transient` says that the whole transaction, tried again, may succeed; a client does so by itself, and whoever has a
    transaction of their own rolls it back and begins it anew.  `was_lost` says that the connection was lost: if that
    happened during COMMIT, nobody knows whether it was carried out.  `was_unreached` says that there was no connection to
    the server that was wanted, so that nothing was done.
    """

    def __init__(
        self, message: str, *, is_transient: bool = False, was_lost: bool = False, was_unreached: bool = False
    ) -> None:
        super().__init__(message)
        self.is_transient = is_transient
        self.was_lost = was_lost
        self.was_unreached = was_unreached


class SchemaOutOfDateError(SecretStoreError):
    """The tables are missing or not those that this release expects."""


class ConfigurationError(SecretStoreError):
    """A setting is missing or wrong."""


class ProviderError(SecretStoreError):
    """Another place for secrets failed, or cannot do what was asked of it.

    `is_temporary` says that it did not answer, or asked to wait, and that the same call may succeed later.
    """

    def __init__(
        self, message: str, *, provider: str | None = None, operation: str | None = None, is_temporary: bool = False
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.operation = operation
        self.is_temporary = is_temporary
