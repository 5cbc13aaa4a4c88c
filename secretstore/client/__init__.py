"""The stand-alone faces."""

from secretstore.client.asynchronous import AsyncSecretClient
from secretstore.client.methods import PastSecretClient
from secretstore.client.synchronous import SecretClient

__all__ = ["AsyncSecretClient", "PastSecretClient", "SecretClient"]
