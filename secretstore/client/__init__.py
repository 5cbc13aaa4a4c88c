"""The stand-alone faces."""

from secretstore.client.asynchronous import AsyncSecretClient
from secretstore.client.synchronous import SecretClient

__all__ = ["AsyncSecretClient", "SecretClient"]
