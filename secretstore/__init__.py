"""Your application's secrets in the PostgreSQL that you already run."""

from secretstore.cache import CacheConfig, CacheStatistics
from secretstore.client import AsyncSecretClient, PastSecretClient, SecretClient
from secretstore.connect import connect, connect_async
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.records import Change, ExportedSecret, Restoration, SecretDifference, SecretInfo, VersionInfo
from secretstore.errors import (
    ConfigurationError,
    DecryptionError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    KeyInUseError,
    MasterKeyError,
    PermissionDeniedError,
    ProviderError,
    SchemaOutOfDateError,
    SecretNotFoundError,
    SecretStoreError,
    StoreUnavailableError,
    VersionConflictError,
    VersionGoneError,
)
from secretstore.orm.models import SecretStore
from secretstore.orm.repository import SecretRepository
from secretstore.service import AsyncPastSecrets, AsyncSecretService, PastSecrets, SecretService

__all__ = [
    "AsyncPastSecrets",
    "AsyncSecretClient",
    "AsyncSecretService",
    "CacheConfig",
    "CacheStatistics",
    "Change",
    "ConfigurationError",
    "DecryptionError",
    "ExportedSecret",
    "InvalidSecretKeyError",
    "InvalidSecretValueError",
    "KeyInUseError",
    "KeyRing",
    "MasterKeyError",
    "PastSecretClient",
    "PastSecrets",
    "PermissionDeniedError",
    "ProviderError",
    "Restoration",
    "SchemaOutOfDateError",
    "SecretClient",
    "SecretDifference",
    "SecretInfo",
    "SecretNotFoundError",
    "SecretRepository",
    "SecretService",
    "SecretStore",
    "SecretStoreError",
    "StoreUnavailableError",
    "VersionConflictError",
    "VersionGoneError",
    "VersionInfo",
    "connect",
    "connect_async",
]

# Tracebacks and documentation then show the address that people import from, not the file.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
