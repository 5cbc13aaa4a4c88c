"""What the library does, on a session that belongs to the caller."""

from secretstore.service.asynchronous import AsyncSecretService
from secretstore.service.synchronous import SecretService

__all__ = ["AsyncSecretService", "SecretService"]
