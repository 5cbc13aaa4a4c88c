"""The KV engine of a real OpenBao keeps what every provider promises, on a network that works and on one that breaks."""

from collections.abc import Iterator

import pytest

from secretstore.providers.vault import VaultProvider, open_vault
from secretstore.testing import RemoteSecretProviderContract, SecretProviderContract
from secretstore.testing.interruptions import Answer, HttpRelay


class TestVault(SecretProviderContract):
    """A folder of its own for each test."""

    largest = 512 * 1024
    too_large = 1024 * 1024

    @pytest.fixture
    def provider(self, provider: VaultProvider) -> VaultProvider:
        """An empty folder."""
        return provider


class TestVaultOnANetworkThatBreaks(RemoteSecretProviderContract):
    """The same behind a relay, with a time-out of a second."""

    throttling = Answer(status=429, body=b'{"errors":["request path quota exceeded"]}')

    @pytest.fixture
    def network(self, relay: HttpRelay) -> HttpRelay:
        """A relay before the server."""
        return relay

    @pytest.fixture
    def provider(self, url_of_relay: str) -> Iterator[VaultProvider]:
        """An empty folder behind the relay."""
        with open_vault(f"{url_of_relay}&timeout=1") as opened:
            yield opened
