"""The store of this library keeps what providers promise, also on a network that breaks."""

import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine

from secretstore import (
    ConfigurationError,
    InvalidSecretValueError,
    KeyRing,
    PermissionDeniedError,
    ProviderError,
    SecretClient,
    SecretNotFoundError,
    connecting,
    open_provider,
)
from secretstore.crypto.local import generate_master_key
from secretstore.orm.engines import make_engine
from secretstore.providers.postgres import PostgresProvider
from secretstore.service.typed import MAX_VALUE_BYTES
from secretstore.testing import RemoteSecretProviderContract, SecretProviderContract, TcpRelay
from tests.support.server import Server


@pytest.fixture
def provider(store: SecretClient) -> PostgresProvider:
    """A provider of an empty store."""
    return PostgresProvider(store)


class TestPostgres(SecretProviderContract):
    """All of it."""

    too_large = MAX_VALUE_BYTES + 1

    @pytest.fixture
    def provider(self, store: SecretClient) -> PostgresProvider:
        """Return the provider of an empty store."""
        return PostgresProvider(store)


class TestPostgresOnABadNetwork(RemoteSecretProviderContract):
    """What hangs is left to TCP; all else is told."""

    gives_up = False

    @pytest.fixture
    def network(self, server: Server) -> Iterator[TcpRelay]:
        """Give a network before the server."""
        with TcpRelay(_address(server)) as relay:
            yield relay

    @pytest.fixture
    def provider(
        self, server: Server, database: str, keyring: KeyRing, network: TcpRelay
    ) -> Iterator[PostgresProvider]:
        """Give a provider behind it, which does not try again."""
        url = server.direct_url(database, host="127.0.0.1", port=str(network.port), sslmode="disable")
        engine = make_engine(url)
        yield PostgresProvider(SecretClient(engine, keyring, retry_seconds=0))
        engine.dispose()


def test_numbers_keep_their_text_beside_a_client(provider: PostgresProvider, store: SecretClient) -> None:
    """What a provider writes is what clients read, and the other way round."""
    provider.write("a", b'{"price":1.10}', labels={"team": "x"})
    store.set_secret("b", ["written by a client"])

    assert store.get_secret("a") == {"price": 1.1}
    found = provider.read_many(["a", "b"])
    assert {key: secret.value_json for key, secret in found.items()} == {
        "a": b'{"price":1.10}',
        "b": b'["written by a client"]',
    }
    assert found["a"].info.labels == {"team": "x"}


@pytest.mark.parametrize("wrong", [b"", b"{", b"\xff", b'"\\ud800"', b"NaN", b"1 2"])
def test_what_is_no_json_is_refused(provider: PostgresProvider, wrong: bytes) -> None:
    """Nobody could read it."""
    with pytest.raises(InvalidSecretValueError, match="it is not JSON"):
        provider.write("a", wrong)
    assert provider.list_keys() == []


def test_what_has_expired_is_missing(provider: PostgresProvider, store: SecretClient) -> None:
    """And an expiry that is yet to come is told."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    store.set_secret("a", 1, expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    store.set_secret("b", 1, expires_at=soon)

    assert provider.read("a") is None
    assert provider.describe("a") is None
    assert provider.list_keys() == ["b"]
    assert (info := provider.describe("b")) is not None
    assert info.expires_at == soon


def test_versions_of_other_kinds_are_missing(provider: PostgresProvider) -> None:
    """Versions are numbers here."""
    provider.write("a", b"1")

    assert provider.read("a", version="abc") is None
    with pytest.raises(SecretNotFoundError, match="'a' in version abc in namespace 'postgresql:"):
        provider.destroy_versions("a", [1, "abc"])


def test_a_wrong_key_ring_is_an_error_that_names_the_provider(
    provider: PostgresProvider, engine: Engine, wrong_keyring: KeyRing
) -> None:
    """It is not temporary, and says which place failed."""
    provider.write("a", b'"s3cret"')
    other = PostgresProvider(SecretClient(engine, wrong_keyring))

    with pytest.raises(ProviderError, match=r"postgresql:\?namespace=default failed to read") as caught:
        other.read("a")
    assert not caught.value.is_temporary


PAGE = Path(__file__).parents[2] / "docs" / "providers" / "postgresql.md"
ROLE = "secretstore_test_provider"
READS: list[Callable[[PostgresProvider], object]] = [
    lambda provider: provider.read("a"),
    lambda provider: provider.read("a", version=1),
    lambda provider: provider.read_many(["a"]),
    lambda provider: provider.list_keys(),
    lambda provider: provider.describe("a"),
    lambda provider: provider.list_versions("a"),
]
WRITES: list[Callable[[PostgresProvider], object]] = [
    lambda provider: provider.write("a", b"3", labels={"team": "x"}),
    lambda provider: provider.delete("a"),
    lambda provider: provider.undelete("a"),
    lambda provider: provider.destroy_versions("a", [1]),
]


@pytest.fixture
def of_a_role(
    server: Server, database: str, *, raw: psycopg.Connection, keyring: KeyRing, provider: PostgresProvider
) -> Iterator[PostgresProvider]:
    """A provider whose role has no rights yet, of a store with two versions of a secret."""
    provider.write("a", b"1")
    provider.write("a", b"2")
    raw.execute(f"DROP ROLE IF EXISTS {ROLE}")
    raw.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'only-for-tests'")
    engine = make_engine(server.direct_url(database, user=ROLE, password="only-for-tests"))
    yield PostgresProvider(SecretClient(engine, keyring))
    engine.dispose()
    raw.execute(f"DROP OWNED BY {ROLE}")
    raw.execute(f"DROP ROLE {ROLE}")


def denied(provider: PostgresProvider, calls: list[Callable[[PostgresProvider], object]]) -> None:
    """Each call is refused for want of rights."""
    for call in calls:
        with pytest.raises(PermissionDeniedError, match="grant it USAGE"):
            call(provider)


@pytest.mark.source
def test_the_rights_of_the_page_are_enough_and_needed(of_a_role: PostgresProvider, raw: psycopg.Connection) -> None:
    """Without any nothing goes, with those to read all reads and no writes, with all of them everything."""
    to_read, to_write = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    denied(of_a_role, READS + WRITES)

    raw.execute(to_read.replace(" TO app", f" TO {ROLE}"))
    for call in READS:
        assert call(of_a_role)
    denied(of_a_role, WRITES)

    raw.execute(to_write.replace(" TO app", f" TO {ROLE}"))
    for call in WRITES:
        assert call(of_a_role)


def test_a_url_names_the_namespace(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`namespace` is taken out of the URL, and the rest is left as it was."""
    keys = tmp_path / "keys"
    keys.write_text(generate_master_key("test"))
    keys.chmod(0o600)
    monkeypatch.setenv("SECRETSTORE_KEYS_FILE", str(keys))
    with (
        open_provider(f"{database_url}&namespace=pr%C3%B6d") as prod,  # type: ignore[attr-defined]
        connecting.open_postgres(database_url) as default,
        connecting.connect(database_url, namespace="pröd") as client,
    ):
        prod.write("a", b"1")

        assert client.get_secret("a") == 1
        assert default.read("a") is None
        assert prod.name.startswith("postgresql://")
        assert prod.name.endswith("?namespace=pr%C3%B6d")


def test_a_name_shows_neither_role_nor_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where the place is."""
    monkeypatch.setenv("SECRETSTORE_KEYS", generate_master_key("test"))
    with connecting.open_postgres("postgresql://role:s3cret@db:5433/app?application_name=x&namespace=prod") as provider:
        assert provider.name == "postgresql://db:5433/app?namespace=prod"


def test_a_namespace_is_given_once() -> None:
    """Two of them are refused before anything is opened."""
    with pytest.raises(ConfigurationError, match="namespace twice"):
        connecting.open_postgres("postgresql://db/app?namespace=a&namespace=b")


def test_an_embedded_server_has_namespaces_too() -> None:
    """It is started at once, and its name is what opens it again."""
    with tempfile.TemporaryDirectory(prefix="secretstore-provider-", ignore_cleanup_errors=True) as folder:
        url = f"embedded://{folder}/postgresql?namespace=prod"
        with connecting.open_postgres(url) as provider:
            assert provider.write("a", b"1").key == "a"
            assert provider.list_keys() == ["a"]
            assert provider.name == url


def _address(server: Server) -> tuple[str, int] | str:
    parameters = conninfo_to_dict(server.admin_url)
    host, port = str(parameters.get("host", "127.0.0.1")), int(parameters.get("port") or 5432)
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
