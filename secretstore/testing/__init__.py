"""Suites of tests that show whether what others built keeps the promises of our protocols; they need pytest.

from secretstore.testing import MasterKeyContract, SecretProviderContract

class TestMyMasterKey(MasterKeyContract):
    @pytest.fixture
    def master_key(self):
        return MyMasterKey(…)

    @pytest.fixture
    def other_master_key(self):
        return MyMasterKey(…)       # with another id

class TestMyProvider(SecretProviderContract):
    @pytest.fixture
    def provider(self):
        return MyProvider(…)        # empty
"""

from secretstore.testing.interruptions import Answer, HttpRelay, Relay, TcpRelay
from secretstore.testing.master_keys import MasterKeyContract
from secretstore.testing.providers import SecretProviderContract
from secretstore.testing.remote_providers import RemoteSecretProviderContract

__all__ = [
    "Answer",
    "HttpRelay",
    "MasterKeyContract",
    "Relay",
    "RemoteSecretProviderContract",
    "SecretProviderContract",
    "TcpRelay",
]
