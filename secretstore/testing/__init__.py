"""Suites of tests that show whether what others built keeps the promises of our protocols; they need pytest.

from secretstore.testing import MasterKeyContract

class TestMyMasterKey(MasterKeyContract):
    @pytest.fixture
    def master_key(self):
        return MyMasterKey(…)

    @pytest.fixture
    def other_master_key(self):
        return MyMasterKey(…)       # with another id
"""

from secretstore.testing.master_keys import MasterKeyContract

__all__ = ["MasterKeyContract"]
