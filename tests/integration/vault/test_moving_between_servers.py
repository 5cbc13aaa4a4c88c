"""From a server that answers as AWS does to a real OpenBao, and from there to PostgreSQL."""

import json

from secretstore import SecretClient, compare_providers, copy_secrets
from secretstore.opening import open_provider
from secretstore.providers.aws_ssm import AwsSsmProvider
from secretstore.providers.postgres import PostgresProvider
from secretstore.providers.vault import VaultProvider
from tests.support.aws import Aws

SECRETS = {"db/password": b'"hunter2"', "db/user": b'"app"', "oauth": b'{"id": 1.10, "scopes": ["a"]}', "é ß": b"null"}


def test_a_folder_of_parameter_store_goes_to_openbao_and_to_postgresql(
    cloud: Aws, url: str, store: SecretClient
) -> None:
    """Values, labels and older versions arrive though the first server asks to wait, and a second run writes nothing."""
    source = open_provider(cloud.at("aws-ssm://eu-west-1/app/prod/", labels="true"))
    middle, end = open_provider(url), PostgresProvider(store)
    assert isinstance(source, AwsSsmProvider)
    assert isinstance(middle, VaultProvider)
    with source, middle:
        for key, value in SECRETS.items():
            source.write(key, value)
        source.write("db/user", b'"other"', labels={"team": "web"})
        cloud.refuse("ThrottlingException", times=7)

        waited: list[float] = []
        moved = copy_secrets(source, middle, verify=True, wait=waited.append)
        again = copy_secrets(source, middle, verify=True)
        copy_secrets(middle, end, prefix="db/", map_to="old/{key}", verify=True)

        info = middle.describe("db/user")
        assert info is not None
        assert (moved.outcomes, dict(info.labels)) == ({"written": len(SECRETS)}, {"team": "web"})
        assert waited
        assert again.outcomes == {"kept": len(SECRETS)}
        assert [one.kind for one in compare_providers(source, middle)] == ["same"] * len(SECRETS)
        found = middle.read_many(list(SECRETS))
        assert json.loads(found["oauth"].value_json) == json.loads(SECRETS["oauth"])
    assert store.get_secrets_by_prefix("") == {"old/db/password": "hunter2", "old/db/user": "other"}
    assert [one.version for one in store.list_versions("old/db/user")] == [2, 1]
    assert store.get_secret("old/db/user", version=1) == "app"
