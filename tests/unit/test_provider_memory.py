"""Secrets in memory keep what providers promise."""

import pytest

from secretstore.domain.providers import SecretProvider
from secretstore.errors import ConfigurationError
from secretstore.opening import open_provider
from secretstore.testing import SecretProviderContract


class TestMemory(SecretProviderContract):
    """All of it."""

    @pytest.fixture
    def provider(self) -> SecretProvider:
        """An empty place."""
        return open_provider("memory:")


def test_each_is_a_place_of_its_own() -> None:
    """Two that are opened share nothing."""
    one, other = open_provider("memory:"), open_provider("memory:")
    one.write("a", b"1")

    assert other.read("a") is None


@pytest.mark.parametrize("url", ["memory://host", "memory:/path", "memory:?a=b", "memory:#x"])
def test_its_url_says_nothing_else(url: str) -> None:
    """What would be passed over is refused."""
    with pytest.raises(ConfigurationError, match="memory URL"):
        open_provider(url)
