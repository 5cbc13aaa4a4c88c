"""Fixtures of the tests on a real PostgreSQL."""

import os
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from secretstore import KeyRing, SecretClient
from secretstore.crypto.local import generate_master_key
from secretstore.testing import HttpRelay
from tests.support.aws import Aws, running_aws_here
from tests.support.caches import BY_HEARTBEAT, BY_NOTICE, opened
from tests.support.faces import KINDS, Face, open_face
from tests.support.key_servers import CREDENTIALS
from tests.support.server import Server


@pytest.fixture(params=KINDS)
def face(request: pytest.FixtureRequest, database_url: str, keyring: KeyRing) -> Iterator[Face]:
    """Each of the four faces in turn, on the default namespace."""
    with open_face(request.param, database_url, keyring) as opened:
        yield opened


@pytest.fixture(params=[kind for kind in KINDS if "service" in kind])
def service(request: pytest.FixtureRequest, database_url: str, keyring: KeyRing) -> Iterator[Face]:
    """Each of the two faces whose transaction is the caller's, on the default namespace."""
    with open_face(request.param, database_url, keyring) as opened:
        yield opened


@pytest.fixture
def wrong_keyring() -> KeyRing:
    """A key ring whose one key has the right id and the wrong bytes."""
    return KeyRing.from_text(generate_master_key("test"))


@pytest.fixture
def listen_url(server: Server, database: str) -> str:
    """A way to the database whose connections can be told from others."""
    return server.url(database, application_name="direct")


@pytest.fixture
def cached(engine: Engine, keyring: KeyRing, listen_url: str) -> Iterator[SecretClient]:
    """A client whose cache lets go by notices only."""
    client = opened(engine, keyring, BY_NOTICE, listen_url=listen_url)
    yield client
    client.close()


@pytest.fixture
def polled(engine: Engine, keyring: KeyRing) -> Iterator[SecretClient]:
    """A client whose cache asks the record of changes again and again."""
    client = opened(engine, keyring, BY_HEARTBEAT)
    yield client
    client.close()


@pytest.fixture(scope="session")
def running_cloud() -> Iterator[Aws]:
    """A server that answers as AWS does, for the whole run."""
    with running_aws_here() as running:
        yield running


@pytest.fixture
def cloud(running_cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """That server as if it were new, also afterwards, and credentials that lead nowhere else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    yield running_cloud
    running_cloud.reset()


@pytest.fixture(scope="session")
def running_network(running_cloud: Aws) -> Iterator[HttpRelay]:
    """A network before that server; what the server does once, which takes long, is done."""
    running_cloud.client("ssm").describe_parameters()
    with HttpRelay(running_cloud.port) as running:
        yield running


@pytest.fixture
def network(running_network: HttpRelay, cloud: Aws) -> Iterator[HttpRelay]:
    """That network, which is well at first and at last."""
    yield running_network
    running_network.heal()
