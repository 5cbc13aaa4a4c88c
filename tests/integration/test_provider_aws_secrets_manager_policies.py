"""The policies of the page on AWS Secrets Manager: each right in them is needed, and no other."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from secretstore.domain.providers import SecretProvider
from secretstore.errors import PermissionDeniedError
from secretstore.opening import open_provider
from tests.support.aws import Aws, Call, actions_of, assert_each_is_missed, policies, reads_by
from tests.support.project import ROOT

PLACE = "aws-secretsmanager://eu-west-1/app/prod/"
VALUE = b'"value"'
PAGE = ROOT / "docs/providers/aws-secrets-manager.md"

# A call for each right, which fails without it.
READS = reads_by(
    read="secretsmanager:GetSecretValue",
    read_many="secretsmanager:BatchGetSecretValue",
    list_keys="secretsmanager:ListSecrets",
    list_versions="secretsmanager:ListSecretVersionIds",
    describe="secretsmanager:DescribeSecret",
)
WRITES: dict[str, Call] = {
    "secretsmanager:PutSecretValue": lambda provider: provider.write("a", VALUE),
    "secretsmanager:TagResource": lambda provider: provider.write(
        "a", VALUE, labels={"team": "search", "stage": "prod"}
    ),
    "secretsmanager:UntagResource": lambda provider: provider.write("a", VALUE, labels={}),
    "secretsmanager:DeleteSecret": lambda provider: provider.delete("a"),
    "secretsmanager:RestoreSecret": lambda provider: provider.undelete("deleted"),
    "secretsmanager:CreateSecret": lambda provider: provider.write("new", VALUE),
}


@pytest.fixture
def limited(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretProvider]:
    """A provider whose user may do what a test says, on a folder with a labelled secret and one that is deleted."""
    secrets = cloud.client("secretsmanager")
    for name in ("a", "deleted"):
        tags = [{"Key": "team", "Value": "search"}]
        secrets.create_secret(Name=f"app/prod/{name}", SecretString=VALUE.decode(), Tags=tags)
    secrets.delete_secret(SecretId="app/prod/deleted")
    for name, value in cloud.user().items():
        monkeypatch.setenv(name, value)
    limited = open_provider(cloud.at(PLACE))
    yield limited
    limited.close()


def of_the_page() -> list[list[dict[str, Any]]]:
    """Return the statements of the policies of the page, for a reader and a writer, that are not on KMS."""
    return [[each for each in policy if "kms:" not in str(each["Action"])] for policy in policies(PAGE)]


def test_the_policies_of_the_page_are_enough(cloud: Aws, limited: SecretProvider) -> None:
    """Who reads can read and nothing else, and who writes can do everything."""
    reader, writer = of_the_page()
    cloud.allow(actions_of(reader))
    for call in READS.values():
        call(limited)
    for action in WRITES.keys() - {"secretsmanager:TagResource", "secretsmanager:UntagResource"}:
        with pytest.raises(PermissionDeniedError, match=action):
            WRITES[action](limited)
    cloud.allow(actions_of(reader) | actions_of(writer))
    for call in READS.values():
        call(limited)
    cloud.allow(actions_of(writer) | {"secretsmanager:DescribeSecret"})
    for call in WRITES.values():
        call(limited)


def test_the_policies_of_the_page_allow_nothing_idle(cloud: Aws, limited: SecretProvider) -> None:
    """Each right that is taken away is missed by a call, and the error names it."""
    allowed = {action for policy in of_the_page() for action in actions_of(policy)}
    assert allowed == READS.keys() | WRITES.keys()
    assert_each_is_missed(cloud, limited, READS | WRITES)


def test_the_policies_of_the_page_are_for_its_folder() -> None:
    """What reads or changes a secret reaches those of the folder and none beside it."""
    names = {"app/prod/a": True, "app/prod/a/b": True, "app/production": False, "app": False, "x/app/prod/a": False}
    for statement in (each for policy in of_the_page() for each in policy):
        if statement["Resource"] == "*":
            assert actions_of([statement]) == {"secretsmanager:BatchGetSecretValue", "secretsmanager:ListSecrets"}
            continue
        secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret"
        reached = {name: fnmatchcase(f"{secret}:{name}-AbCdEf", statement["Resource"]) for name in names}
        assert reached == names
