"""The KV engine of a real OpenBao keeps what every provider promises, on a network that works and on one that breaks."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from secretstore.providers.vault import VaultProvider, open_vault
from secretstore.testing import RemoteSecretProviderContract, SecretProviderContract
from secretstore.testing.interruptions import Answer, HttpRelay
from tests.support.key_servers import Bao


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
    def network(self, bao: Bao) -> Iterator[HttpRelay]:
        """A relay before the server."""
        with HttpRelay(urlsplit(bao.address).port or 0) as relay:
            yield relay

    @pytest.fixture
    def provider(self, network: HttpRelay, folder: str) -> Iterator[VaultProvider]:
        """An empty folder behind the relay."""
        with open_vault(f"vault://127.0.0.1:{network.port}/secret/{folder}?tls=false&timeout=1") as opened:
            yield opened
