"""A chain of a real OpenBao above a real PostgreSQL, while the way to the first breaks and heals."""

import logging

import pytest

from secretstore import PermissionDeniedError, ProviderError, SecretClient, open_provider
from secretstore.providers.chain import ChainProvider, Link, LinkState
from secretstore.providers.postgres import PostgresProvider
from secretstore.testing import HttpRelay

ABOVE = "hunter2-of-the-test"
BELOW = "hunter3-of-the-test"


@pytest.fixture
def chain(url_of_relay: str, store: SecretClient, request: pytest.FixtureRequest) -> ChainProvider:
    """OpenBao, optional or not, and a store that is written to; both hold the key `k`."""
    vault = open_provider(url_of_relay)
    vault.write("k", f'"{ABOVE}"'.encode())
    store.set_secrets({"k": BELOW, "other": BELOW})
    links = [Link(vault, name="vault", optional=request.param), Link(PostgresProvider(store), name="store")]
    return ChainProvider(links, write_to="store")


@pytest.mark.parametrize("chain", [False], indirect=True)
def test_a_server_that_goes_away_is_an_error(chain: ChainProvider, relay: HttpRelay) -> None:
    """No read is answered by the store while OpenBao is away, and all is as before once it is back."""
    assert (before := chain.read("k")) is not None
    assert before.info.provider == "vault"
    relay.refuse()

    for read in (chain.read, chain.describe, chain.list_versions, chain.list_keys, chain.delete):
        with pytest.raises(ProviderError) as caught:
            read("k")
        assert caught.value.is_temporary
    with pytest.raises(ProviderError, match="cannot be known whether vault holds 'new'"):
        chain.write("new", b"1")
    found = chain.explain("k")
    assert [link.state for link in found.links] == [LinkState.IS_DOWN, LinkState.HOLDS_IT_TOO]
    assert found.answered_by is None

    relay.heal()
    assert chain.read("k") == before
    assert chain.list_sources() == {"k": "vault", "other": "store"}
    assert chain.write("new", b"1").provider == "store"


@pytest.mark.parametrize("chain", [True], indirect=True)
def test_an_optional_server_that_goes_away_is_told(
    chain: ChainProvider, relay: HttpRelay, caplog: pytest.LogCaptureFixture
) -> None:
    """The store answers under its own name, with one warning, which holds no value; writes wait for OpenBao."""
    relay.refuse()

    found = chain.read_many(["k", "other"])

    assert {key: secret.info.provider for key, secret in found.items()} == {"k": "store", "other": "store"}
    assert found["k"].value_json == f'"{BELOW}"'.encode()
    assert chain.explain("k").answered_by == "store"
    with pytest.raises(ProviderError, match="cannot be known whether vault holds 'k'"):
        chain.write("k", b"1")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.startswith("vault is down, and the chain goes on without it") for message in warnings] == [True]
    assert chain.statistics()[0].failures == 1
    assert "hunter" not in caplog.text

    relay.heal()
    assert (after := chain.read("k")) is not None
    assert (after.value_json, after.info.provider) == (f'"{ABOVE}"'.encode(), "vault")
    assert not chain.statistics()[0].is_down


@pytest.mark.parametrize("chain", [True], indirect=True)
def test_an_optional_server_that_denies_is_an_error(
    chain: ChainProvider, url_of_relay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong token is no outage: OpenBao may hold the key, so nothing answers in its place."""
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    denied = open_provider(url_of_relay)

    with ChainProvider([Link(denied, name="denied", optional=True), Link(chain, name="below")]) as outer:
        with pytest.raises(PermissionDeniedError):
            outer.read("k")
        found = outer.explain("k")

    assert [link.state for link in found.links] == [LinkState.IS_DENIED, LinkState.HOLDS_IT_TOO]
    assert ABOVE not in repr(found)
