"""Types, null, what is missing, limits and errors are the same whatever place a URL names."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from secretstore import (
    InvalidSecretKeyError,
    InvalidSecretValueError,
    ProviderClient,
    ProviderError,
    SecretClient,
    SecretNotFoundError,
    open_provider,
)
from secretstore.domain.providers import Ability, SecretProvider
from secretstore.providers.postgres import PostgresProvider
from tests.support.aws import Aws
from tests.support.errors import assert_tells_nothing

VALUE = "hunter2-of-the-test"
VALUES = {"login": {"user": "ada", "password": VALUE}, "nothing": None, "port": 5432, "ratio": 1.5, "text": VALUE}
PLACES = ("aws-secretsmanager", "aws-ssm", "dotenv", "env", "file", "memory", "postgresql", "vault")

Written = Callable[[], SecretProvider]


def written(provider: SecretProvider) -> SecretProvider:
    """Return a provider with the values in it."""
    for key, value in VALUES.items():
        provider.write(key, json.dumps(value).encode())
    return provider


@pytest.fixture
def read_only_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Written]:
    """How each place that cannot be written gets the values, and is opened."""

    def environment() -> SecretProvider:
        for key, value in VALUES.items():
            monkeypatch.setenv(f"SAME_{key.upper()}", json.dumps(value))
        return open_provider("env://?prefix=SAME_&format=json")

    def files() -> SecretProvider:
        for key, value in VALUES.items():
            (tmp_path / key).write_text(json.dumps(value))
        return open_provider(f"file://{tmp_path}?format=json")

    def dotenv() -> SecretProvider:
        lines = [f"{key}='{json.dumps(value)}'\n" for key, value in VALUES.items()]
        (tmp_path / ".env").write_text("".join(lines))
        return open_provider(f"dotenv://{tmp_path}/.env?format=json")

    return {"dotenv": dotenv, "env": environment, "file": files}


@pytest.fixture
def places(cloud: Aws, url: str, store: SecretClient, read_only_places: dict[str, Written]) -> dict[str, Written]:
    """The same of all places."""
    return read_only_places | {
        "aws-secretsmanager": lambda: written(open_provider(cloud.at("aws-secretsmanager://eu-west-1/app/prod/"))),
        "aws-ssm": lambda: written(open_provider(cloud.at("aws-ssm://eu-west-1/app/prod/"))),
        "memory": lambda: written(open_provider("memory:")),
        "postgresql": lambda: written(PostgresProvider(store)),
        "vault": lambda: written(open_provider(url)),
    }


@pytest.fixture(params=PLACES)
def client(request: pytest.FixtureRequest, places: dict[str, Written]) -> Iterator[ProviderClient]:
    """A client of each place in turn."""
    with ProviderClient(places[request.param](), max_value_bytes=100) as client:
        yield client


def test_a_client_is_the_same_on_every_place(client: ProviderClient) -> None:
    """What is read, what is missing, and what is refused by which error, before the place is asked and after."""
    assert client.get_secrets_by_prefix("") == VALUES
    assert (client.get_secret("port", int), client.get_secret("ratio", float)) == (5432, 1.5)
    assert client.get_secret("login", dict[str, str]) == VALUES["login"]
    assert client.get_secret("nothing", default="default") is client.get_secret_or_raise("nothing") is None
    assert client.get_secret("missing", default="default") == "default"
    assert (client.has_secret("nothing"), client.has_secret("missing")) == (True, False)

    _is_refused(client, SecretNotFoundError, lambda: client.get_secret_or_raise("missing"), "missing")
    _is_refused(client, InvalidSecretValueError, lambda: client.get_secret("text", int), "text")
    _is_refused(client, InvalidSecretValueError, lambda: client.get_secrets(["login"], list[int]), "login")
    _is_refused(client, InvalidSecretValueError, lambda: client.set_secret("large", VALUE * 10), "large")
    with pytest.raises(InvalidSecretKeyError):
        client.get_secret(" wrong ")
    if Ability.WRITE not in client.provider.abilities:
        _is_refused(client, ProviderError, lambda: client.set_secret("text", VALUE), "")
    assert client.get_secrets_by_prefix("") == VALUES


def _is_refused(client: ProviderClient, kind: type[Exception], call: Callable[[], object], key: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert client.provider.name in str(caught.value)
    assert key in str(caught.value)
    assert_tells_nothing(caught.value, VALUE)
