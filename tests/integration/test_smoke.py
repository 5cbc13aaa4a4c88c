"""The whole way once."""

from secretstore import SecretClient


def test_a_value_comes_back(store: SecretClient) -> None:
    """A stored value is read again."""
    store.set_secret("a", 1)

    assert store.get_secret("a") == 1
