"""Fixtures of the tests on a real OpenBao: one server, and a folder of its own for each test."""

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from secretstore.providers.vault import VaultProvider, open_vault
from secretstore.testing import HttpRelay
from tests.support.key_servers import Bao, running_bao

_SETTINGS = (
    "ADDR",
    "NAMESPACE",
    "CACERT",
    "TOKEN",
    "TOKEN_FILE",
    "ROLE_ID",
    "ROLE_ID_FILE",
    "SECRET_ID",
    "SECRET_ID_FILE",
)


@pytest.fixture(scope="package")
def bao() -> Iterator[Bao]:
    """A running OpenBao, with a KV engine at secret/."""
    with running_bao() as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(bao: Bao, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A home without a token, and the token of all rights in the environment."""
    for name in _SETTINGS:
        monkeypatch.delenv(f"VAULT_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("VAULT_TOKEN", bao.token)


@pytest.fixture
def admin(bao: Bao) -> Iterator[Any]:
    """A client of the SDK with all rights."""
    client = bao.client()
    yield client
    client.adapter.close()


@pytest.fixture
def folder() -> str:
    """The name of a folder that nobody else has."""
    return f"app-{uuid.uuid4()}"


@pytest.fixture
def url(bao: Bao, folder: str) -> str:
    """The URL of a provider on that folder, still without options but one."""
    return f"{bao.address.replace('http', 'vault')}/secret/{folder}?tls=false"


@pytest.fixture
def relay(bao: Bao) -> Iterator[HttpRelay]:
    """A network before the server."""
    with HttpRelay(urlsplit(bao.address).port or 0) as opened:
        yield opened


@pytest.fixture
def url_of_relay(relay: HttpRelay, folder: str) -> str:
    """The URL of the folder behind it, still without options but one."""
    return f"vault://127.0.0.1:{relay.port}/secret/{folder}?tls=false"


@pytest.fixture
def provider(url: str) -> Iterator[VaultProvider]:
    """A provider with all rights."""
    with open_vault(url) as opened:
        yield opened
