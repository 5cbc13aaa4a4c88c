"""What the library does, on a session that belongs to the caller."""

from secretstore.service.asynchronous import AsyncPastSecrets, AsyncSecretService
from secretstore.service.reading import PastSecrets
from secretstore.service.synchronous import SecretService

__all__ = ["AsyncPastSecrets", "AsyncSecretService", "PastSecrets", "SecretService"]
