"""Your application's secrets in the PostgreSQL that you already run.

What is imported from here is loaded when it is first asked for: whoever only catches an error waits for no driver.
"""

import importlib
import sys
import typing

from secretstore.errors import (
    ConfigurationError,
    DecryptionError,
    GrantError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    KeyInUseError,
    MasterKeyError,
    PermissionDeniedError,
    ProviderError,
    RecordTamperedError,
    RoleNotFoundError,
    SchemaOutOfDateError,
    SecretNotFoundError,
    SecretStoreError,
    StoreUnavailableError,
    VersionConflictError,
    VersionGoneError,
)

if typing.TYPE_CHECKING:
    from secretstore.cache import CacheConfig, CacheStatistics
    from secretstore.client.asynchronous import AsyncSecretClient
    from secretstore.client.methods import PastSecretClient
    from secretstore.client.statistics import ClientStatistics
    from secretstore.client.synchronous import SecretClient
    from secretstore.connecting import connect, connect_async
    from secretstore.crypto.keyring import KeyRing
    from secretstore.domain.acting import acting_as
    from secretstore.domain.grants import Explanation, Grant
    from secretstore.domain.observing import Observer, Observers
    from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, SecretProvider
    from secretstore.domain.records import (
        Access,
        Change,
        ExportedSecret,
        Restoration,
        SecretDifference,
        SecretInfo,
        VersionInfo,
    )
    from secretstore.domain.sealing import AuditHead, Dropping, RecordHead, Sealing, Verification
    from secretstore.moving.comparing import ProviderDifference, compare_providers
    from secretstore.moving.copying import CopiedSecret, CopyReport, copy_secrets
    from secretstore.opening import open_chain, open_provider
    from secretstore.orm.models import SecretStore
    from secretstore.orm.repository import SecretRepository
    from secretstore.providers.asynchronous import AsyncProviderClient
    from secretstore.providers.clients import ProviderClient
    from secretstore.service.asynchronous import AsyncPastSecrets, AsyncSecretService
    from secretstore.service.reading import PastSecrets
    from secretstore.service.synchronous import SecretService

__all__ = [
    "Ability",
    "Access",
    "AsyncPastSecrets",
    "AsyncProviderClient",
    "AsyncSecretClient",
    "AsyncSecretService",
    "AuditHead",
    "CacheConfig",
    "CacheStatistics",
    "Change",
    "ClientStatistics",
    "ConfigurationError",
    "CopiedSecret",
    "CopyReport",
    "DecryptionError",
    "Dropping",
    "Explanation",
    "ExportedSecret",
    "Grant",
    "GrantError",
    "InvalidSecretKeyError",
    "InvalidSecretValueError",
    "KeyInUseError",
    "KeyRing",
    "MasterKeyError",
    "Observer",
    "Observers",
    "PastSecretClient",
    "PastSecrets",
    "PermissionDeniedError",
    "ProvidedInfo",
    "ProvidedSecret",
    "ProviderClient",
    "ProviderDifference",
    "ProviderError",
    "RecordHead",
    "RecordTamperedError",
    "Restoration",
    "RoleNotFoundError",
    "SchemaOutOfDateError",
    "Sealing",
    "SecretClient",
    "SecretDifference",
    "SecretInfo",
    "SecretNotFoundError",
    "SecretProvider",
    "SecretRepository",
    "SecretService",
    "SecretStore",
    "SecretStoreError",
    "StoreUnavailableError",
    "Verification",
    "VersionConflictError",
    "VersionGoneError",
    "VersionInfo",
    "acting_as",
    "compare_providers",
    "connect",
    "connect_async",
    "copy_secrets",
    "open_chain",
    "open_provider",
]

_PLACES = {
    "Ability": "secretstore.domain.providers",
    "AsyncPastSecrets": "secretstore.service.asynchronous",
    "AsyncProviderClient": "secretstore.providers.asynchronous",
    "AsyncSecretClient": "secretstore.client.asynchronous",
    "AsyncSecretService": "secretstore.service.asynchronous",
    "AuditHead": "secretstore.domain.sealing",
    "Dropping": "secretstore.domain.sealing",
    "CacheConfig": "secretstore.cache.config",
    "CacheStatistics": "secretstore.cache.config",
    "Access": "secretstore.domain.records",
    "Change": "secretstore.domain.records",
    "ClientStatistics": "secretstore.client.statistics",
    "CopiedSecret": "secretstore.moving.copying",
    "CopyReport": "secretstore.moving.copying",
    "Explanation": "secretstore.domain.grants",
    "ExportedSecret": "secretstore.domain.records",
    "Grant": "secretstore.domain.grants",
    "KeyRing": "secretstore.crypto.keyring",
    "Observer": "secretstore.domain.observing",
    "Observers": "secretstore.domain.observing",
    "PastSecretClient": "secretstore.client.methods",
    "PastSecrets": "secretstore.service.reading",
    "ProvidedInfo": "secretstore.domain.providers",
    "ProvidedSecret": "secretstore.domain.providers",
    "ProviderClient": "secretstore.providers.clients",
    "ProviderDifference": "secretstore.moving.comparing",
    "RecordHead": "secretstore.domain.sealing",
    "Restoration": "secretstore.domain.records",
    "Sealing": "secretstore.domain.sealing",
    "SecretClient": "secretstore.client.synchronous",
    "SecretDifference": "secretstore.domain.records",
    "SecretInfo": "secretstore.domain.records",
    "SecretProvider": "secretstore.domain.providers",
    "SecretRepository": "secretstore.orm.repository",
    "SecretService": "secretstore.service.synchronous",
    "SecretStore": "secretstore.orm.models",
    "Verification": "secretstore.domain.sealing",
    "VersionInfo": "secretstore.domain.records",
    "acting_as": "secretstore.domain.acting",
    "compare_providers": "secretstore.moving.comparing",
    "connect": "secretstore.connecting",
    "connect_async": "secretstore.connecting",
    "copy_secrets": "secretstore.moving.copying",
    "open_chain": "secretstore.opening",
    "open_provider": "secretstore.opening",
}

# Tracebacks and documentation then show the address that people import from, not the file; what is loaded later says so itself.
for _name in __all__:
    if _name not in _PLACES:
        globals()[_name].__module__ = __name__
del _name

# Type checkers would take any name for one of ours.
if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        found = globals()[name] = getattr(importlib.import_module(_PLACES[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
