"""Fixtures of the tests on a real PostgreSQL."""

from collections.abc import Iterator

import pytest

from secretstore import KeyRing
from secretstore.crypto.local import generate_master_key
from tests.support.faces import KINDS, Face, open_face


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
