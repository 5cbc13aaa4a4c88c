"""Secrets in AWS Secrets Manager, for which moto's server stands, over HTTP."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPException
from socketserver import BaseServer
from typing import Any, cast

import pytest

from secretstore.domain.providers import Ability
from secretstore.errors import (
    ConfigurationError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    PermissionDeniedError,
    ProviderError,
    SecretNotFoundError,
    SecretStoreError,
    VersionConflictError,
)
from secretstore.opening import open_provider
from secretstore.providers.aws_secrets_manager import AwsSecretsManagerProvider
from secretstore.testing import Answer, HttpRelay, RemoteSecretProviderContract, SecretProviderContract
from secretstore.testing.interruptions import _Request
from tests.support.aws import Aws
from tests.support.frames import shown_by_frames

REGION = "eu-west-1"
PLACE = f"aws-secretsmanager://{REGION}/app/prod/"
MARKER = "M4rker-0f-a-value"
VALUE = json.dumps(MARKER).encode()
JSON_OF_AWS = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": "told-by-a-test"}
Open = Callable[..., AwsSecretsManagerProvider]


@pytest.fixture(scope="module")
def providers() -> Iterator[dict[str, AwsSecretsManagerProvider]]:
    """What was opened, by its URL: to make a client of the SDK takes longer than most tests."""
    made: dict[str, AwsSecretsManagerProvider] = {}
    yield made
    for provider in made.values():
        provider.close()


@pytest.fixture
def opened(cloud: Aws, providers: dict[str, AwsSecretsManagerProvider]) -> Open:
    """What opens a provider on the server, or on another endpoint."""

    def open_one(place: str = PLACE, **options: str) -> AwsSecretsManagerProvider:
        url = cloud.at(place, **options)
        if url not in providers:
            provider = open_provider(url)
            assert isinstance(provider, AwsSecretsManagerProvider)
            providers[url] = provider
        return providers[url]

    return open_one


@pytest.fixture
def provider(opened: Open) -> AwsSecretsManagerProvider:
    """A provider of an empty folder."""
    return opened()


@pytest.fixture
def raw(cloud: Aws) -> Any:
    """A client of the SDK, as others use it."""
    return cloud.client("secretsmanager")


@pytest.fixture
def behind(opened: Open, network: HttpRelay) -> AwsSecretsManagerProvider:
    """A provider behind a network that can break."""
    return opened(endpoint=network.url, timeout="1")


class TestContract(SecretProviderContract):
    """What every provider promises."""

    holds_every_key = False
    largest = 65_536
    too_large = 65_537

    @pytest.fixture
    def provider(self, opened: Open) -> AwsSecretsManagerProvider:
        """All secrets of a region."""
        return opened(f"aws-secretsmanager://{REGION}")


class TestBrokenNetwork(RemoteSecretProviderContract):
    """What every provider promises whose network breaks."""

    throttling = Answer(status=400, body=b'{"__type":"ThrottlingException","message":"Rate exceeded"}')

    @pytest.fixture
    def network(self, network: HttpRelay, monkeypatch: pytest.MonkeyPatch) -> HttpRelay:
        """The way to the server; the SDK tries twice."""
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        return network

    @pytest.fixture
    def provider(self, network: HttpRelay, opened: Open) -> AwsSecretsManagerProvider:
        """An empty folder behind it."""
        return opened(endpoint=network.url, timeout="1", format="json")


class LosesAnswers(HttpRelay):
    """A network on which a request arrives, and where it is cut nothing of its answer comes back."""

    def _serve(self, client: socket.socket) -> None:
        with suppress(HTTPException):
            _Lost(client, ("", 0), cast("BaseServer", self))


class _Lost(_Request):
    def _send(self, answer: Answer, *, is_cut: bool) -> None:
        if is_cut:
            self.close_connection = True
        else:
            super()._send(answer, is_cut=False)


@pytest.mark.parametrize("is_new", [True, False], ids=["create", "overwrite"])
def test_a_write_whose_answer_is_lost_is_one_version(cloud: Aws, opened: Open, raw: Any, *, is_new: bool) -> None:
    """The SDK sends it again with the same token, and AWS knows it."""
    with LosesAnswers(cloud.port) as network:
        provider = opened(endpoint=network.url)
        if not is_new:
            provider.write("token", b'"old"')
        before = len(provider.list_versions("token"))
        cloud.actions.clear()
        network.cut(after=1, times=1)

        info = provider.write("token", VALUE)

    action = "CreateSecret" if is_new else "PutSecretValue"
    assert cloud.actions == ["DescribeSecret", action, action]
    versions = raw.list_secret_version_ids(SecretId="app/prod/token", IncludeDeprecated=True)["Versions"]
    assert len(versions) == before + 1
    assert raw.get_secret_value(SecretId="app/prod/token")["VersionId"] == info.version


def test_many_are_read_twenty_at_a_call(cloud: Aws, provider: AwsSecretsManagerProvider) -> None:
    """45 secrets take three calls, and one that is there twice is asked for once."""
    keys = [f"key{number}" for number in range(45)]
    for key in keys[::9]:
        provider.write(key, json.dumps(key).encode())
    cloud.actions.clear()

    found = provider.read_many([*keys, *keys])

    assert {key: secret.value_json for key, secret in found.items()} == {
        key: json.dumps(key).encode() for key in keys[::9]
    }
    assert cloud.actions == ["BatchGetSecretValue"] * 3


def answer(**parts: object) -> Answer:
    """Return what AWS answers."""
    return Answer(status=200, body=json.dumps(parts).encode(), headers=JSON_OF_AWS)


def test_one_that_is_refused_fails_a_batch(network: HttpRelay, behind: AwsSecretsManagerProvider) -> None:
    """What is missing or deleted is left out; every other error of one secret is an error that names it."""
    for key in ("kept", "deleted"):
        behind.write(key, VALUE)
    behind.delete("deleted")
    value = {"Name": "app/prod/kept", "VersionId": "0" * 32, "SecretString": VALUE.decode()}

    def read_both(code: str, key: str) -> list[str]:
        refusal = {"SecretId": f"app/prod/{key}", "ErrorCode": code, "Message": "is not authorized"}
        network.answer(answer(SecretValues=[value], Errors=[refusal]), times=1)
        return list(behind.read_many(["kept", key]))

    assert read_both("ResourceNotFoundException", "missing") == ["kept"]
    assert read_both("InvalidRequestException", "deleted") == ["kept"]
    with pytest.raises(PermissionDeniedError, match=r"'other'.* allow secretsmanager:GetSecretValue"):
        read_both("AccessDeniedException", "other")
    for code, is_temporary in (
        ("DecryptionFailure", False),
        ("InvalidRequestException", False),
        ("InternalServiceError", True),
    ):
        with pytest.raises(ProviderError, match=f"'kept'.*{code}") as caught:
            read_both(code, "kept")
        assert caught.value.is_temporary is is_temporary


def test_a_batch_may_be_answered_in_parts(network: HttpRelay, behind: AwsSecretsManagerProvider) -> None:
    """Where AWS gives a token for the rest, the rest is asked for."""
    behind.write("second", VALUE)
    first = {"Name": "app/prod/first", "VersionId": "0" * 32, "SecretString": VALUE.decode()}
    network.answer(answer(SecretValues=[first], NextToken="0"), times=1)

    assert sorted(behind.read_many(["first", "second"])) == ["first", "second"]


def test_a_deleted_secret_waits(raw: Any, opened: Open) -> None:
    """For so many days as were asked for it can be undeleted, by others too, and its versions with it."""
    provider = opened(recovery_days="7")
    written = [provider.write("token", f'"{number}"'.encode()).version for number in range(2)]
    assert provider.delete("token")

    waits = raw.describe_secret(SecretId="app/prod/token")["DeletedDate"] - datetime.now(UTC)
    assert waits.days in {6, 7}
    assert provider.read("token", version=written[0]) is None
    assert provider.list_versions("token") == []
    assert provider.undelete("token").version == written[1]
    assert provider.undelete("token").version == written[1]
    assert [info.version for info in provider.list_versions("token")] == written[::-1]


def test_without_days_to_recover_it_is_gone(raw: Any, opened: Open) -> None:
    """Nothing is left that could be undeleted, its name is free, and undelete is refused."""
    provider = opened(recovery_days="0")
    provider.write("token", VALUE)

    assert provider.delete("token") is True
    assert provider.delete("token") is False
    with pytest.raises(raw.exceptions.ResourceNotFoundException):
        raw.describe_secret(SecretId="app/prod/token")
    with pytest.raises(ProviderError, match=Ability.UNDELETE):
        provider.undelete("token")
    assert provider.write("token", VALUE, expected_version=0).version


def test_a_secret_that_others_deleted_is_written_again(raw: Any, opened: Open) -> None:
    """Also where what is deleted here is gone at once; it keeps its versions and labels."""
    provider = opened(recovery_days="0")
    old = provider.write("token", b'"old"', labels={"team": "payments"})
    raw.delete_secret(SecretId="app/prod/token")
    new = provider.write("token", VALUE)

    assert [info.version for info in provider.list_versions("token")] == [new.version, old.version]
    assert (info := provider.describe("token")) is not None
    assert info.labels == new.labels == {"team": "payments"}


def test_stages_move_as_aws_moves_them(raw: Any, provider: AwsSecretsManagerProvider) -> None:
    """The version written last is AWSCURRENT and the one before AWSPREVIOUS; what others move back is seen."""
    first, second, third = (provider.write("token", f'"{number}"'.encode()).version for number in range(3))
    stages = raw.describe_secret(SecretId="app/prod/token")["VersionIdsToStages"]
    assert {version: names for version, names in stages.items() if names} == {
        second: ["AWSPREVIOUS"],
        third: ["AWSCURRENT"],
    }
    assert first is not None
    assert (kept := provider.read("token", version=first)) is not None
    assert kept.value_json == b'"0"'

    raw.update_secret_version_stage(
        SecretId="app/prod/token", VersionStage="AWSCURRENT", RemoveFromVersionId=third, MoveToVersionId=second
    )
    assert (info := provider.describe("token")) is not None
    assert info.version == second


def test_versions_that_cannot_be_are_missing(cloud: Aws, provider: AwsSecretsManagerProvider) -> None:
    """A number, or a text that is no id, is not sent to AWS."""
    provider.write("token", VALUE)
    cloud.actions.clear()

    assert [provider.read("token", version=version) for version in (1, "AWSCURRENT", "0" * 65)] == [None] * 3
    assert cloud.actions == []


def test_what_is_binary_is_refused(raw: Any, provider: AwsSecretsManagerProvider) -> None:
    """The error says so, and shows none of it."""
    raw.create_secret(Name="app/prod/binary", SecretBinary=MARKER.encode())

    for read in (provider.read, lambda key: provider.read_many([key])):
        with pytest.raises(InvalidSecretValueError, match=r"'binary' in .* is binary") as caught:
            read("binary")
        assert_shows_nothing(caught.value)
        assert MARKER not in "".join(shown_by_frames(caught.value))
    assert provider.list_keys() == ["binary"]


def test_what_others_wrote_is_read(raw: Any, opened: Open) -> None:
    """Under the names that people give, also one that ends as an ARN does; a text that is no JSON needs its format."""
    for name in ("db-secret", "a=b", "mail@example.com", "c++"):
        raw.create_secret(Name=f"app/prod/{name}", SecretString=MARKER)

    assert opened().list_keys() == ["a=b", "c++", "db-secret", "mail@example.com"]
    for form in ("text", "auto"):
        assert (found := opened(format=form).read("db-secret")) is not None
        assert found.value_json == VALUE
    with pytest.raises(InvalidSecretValueError, match="format=text") as caught:
        opened().read("db-secret")
    assert_shows_nothing(caught.value)
    assert MARKER not in "".join(shown_by_frames(caught.value))
    with pytest.raises(InvalidSecretValueError, match="format=text") as caught:
        opened().read_many(["a=b", "c++"])
    assert MARKER not in "".join(shown_by_frames(caught.value))


def test_only_secrets_of_the_folder_are_seen(raw: Any, opened: Open) -> None:
    """With or without a slash behind it; a name that no key has and a secret without a value are not listed."""
    for name in ("app/prod/in", "app/production", "app/prod", "other", "app/prod/not-.ours"):
        raw.create_secret(Name=name, SecretString=VALUE.decode())
    raw.create_secret(Name="app/prod/empty")

    for place in (PLACE, PLACE.rstrip("/")):
        assert opened(place).list_keys() == ["in"]
    everywhere = opened(f"aws-secretsmanager://{REGION}/")
    assert everywhere.list_keys() == ["app/prod", "app/prod/in", "app/production", "other"]
    assert (opened().read("empty"), opened().describe("empty")) == (None, None)


def test_lists_have_pages(raw: Any, cloud: Aws, provider: AwsSecretsManagerProvider) -> None:
    """101 secrets take two calls."""
    for number in range(101):
        raw.create_secret(Name=f"app/prod/{number:03}", SecretString=VALUE.decode())
    cloud.actions.clear()

    assert provider.list_keys() == [f"{number:03}" for number in range(101)]
    assert cloud.actions == ["ListSecrets"] * 2


def test_the_kms_key_of_new_secrets(raw: Any, opened: Open) -> None:
    """It is the one of the URL."""
    opened(key_id="alias/app").write("token", VALUE)

    assert raw.describe_secret(SecretId="app/prod/token")["KmsKeyId"] == "alias/app"


def test_tags_of_aws_are_left_alone(raw: Any, provider: AwsSecretsManagerProvider) -> None:
    """They are no labels, and stay where labels go."""
    provider.write("token", VALUE, labels={"team": "payments"})
    raw.tag_resource(SecretId="app/prod/token", Tags=[{"Key": "aws:stack", "Value": "app"}])

    assert (info := provider.describe("token")) is not None
    assert info.labels == {"team": "payments"}
    provider.write("token", VALUE, labels={})
    assert raw.describe_secret(SecretId="app/prod/token")["Tags"] == [{"Key": "aws:stack", "Value": "app"}]


def test_labels_that_stay_cost_no_call(cloud: Aws, provider: AwsSecretsManagerProvider) -> None:
    """Only what is gone or new is sent, and labels before the value."""
    provider.write("token", VALUE, labels={"team": "payments", "stage": "prod"})
    cloud.actions.clear()
    provider.write("token", VALUE, labels={"stage": "prod", "team": "payments"})
    provider.write("token", VALUE, labels={"team": "search"})

    same = ["DescribeSecret", "PutSecretValue"]
    assert cloud.actions == [*same, "DescribeSecret", "UntagResource", "TagResource", "PutSecretValue"]


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (lambda provider: provider.write("a", VALUE, labels={"aws:team": "x"}), InvalidSecretKeyError),
        (lambda provider: provider.write("a", VALUE, labels={"team": "a,b"}), InvalidSecretKeyError),
        (lambda provider: provider.write("é" * 256, VALUE), InvalidSecretKeyError),
        (
            lambda provider: provider.write("a", json.dumps("é" * 32_769, ensure_ascii=False).encode()),
            InvalidSecretValueError,
        ),
        (lambda provider: provider.write("a", b'""'), InvalidSecretValueError),
        (lambda provider: provider.write("a", b"1"), InvalidSecretValueError),
    ],
    ids=["reserved label", "label", "key", "bytes", "empty", "number"],
)
def test_what_aws_cannot_hold_is_refused_before_a_call(
    cloud: Aws, opened: Open, write: Callable[[AwsSecretsManagerProvider], object], error: type[SecretStoreError]
) -> None:
    """Nothing was sent, and so nothing is half written."""
    provider = opened(format="text")
    with pytest.raises(error) as caught:
        write(provider)

    assert_shows_nothing(caught.value)
    assert cloud.actions == []


class Disturbed(AwsSecretsManagerProvider):
    """A provider that others come before, between its look at a secret and its change."""

    meanwhile: Iterator[Callable[[], object]] = iter(())

    def _find(self, operation: str, key: str) -> Any:
        found = super()._find(operation, key)
        next(self.meanwhile, lambda: None)()
        return found


@pytest.fixture
def disturbed(provider: AwsSecretsManagerProvider) -> Disturbed:
    """Such a provider."""
    return Disturbed(provider._place, provider._folder)


def test_others_create_and_delete_meanwhile(
    raw: Any, provider: AwsSecretsManagerProvider, disturbed: Disturbed
) -> None:
    """A write creates what has gone and overwrites what has come."""
    name = "app/prod/token"

    def create() -> None:
        raw.create_secret(Name=name, SecretString='"theirs"')

    def delete() -> None:
        raw.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)

    disturbed.meanwhile = iter([create])
    disturbed.write("token", VALUE)
    assert (found := provider.read("token")) is not None
    assert found.value_json == VALUE
    disturbed.meanwhile = iter([delete])
    disturbed.write("token", VALUE)
    assert (found := provider.read("token")) is not None
    assert found.value_json == VALUE
    disturbed.meanwhile = iter([delete, create, delete, create])
    with pytest.raises(ProviderError, match="at the same time") as caught:
        disturbed.write("token", VALUE)
    assert caught.value.is_temporary
    disturbed.close()


def test_one_of_two_creates_what_was_deleted(provider: AwsSecretsManagerProvider, disturbed: Disturbed) -> None:
    """Both find it deleted and restore it, and AWS takes the version of the first one only."""
    provider.write("token", b'"old"')
    provider.delete("token")
    disturbed.meanwhile = iter([lambda: provider.write("token", b'"theirs"', expected_version=0)])

    with pytest.raises(VersionConflictError) as caught:
        disturbed.write("token", VALUE, expected_version=0)

    assert (found := provider.read("token")) is not None
    assert found.value_json == b'"theirs"'
    assert caught.value.found == found.info.version
    disturbed.close()


def test_a_refusal_that_is_no_deletion_is_an_error(cloud: Aws, provider: AwsSecretsManagerProvider) -> None:
    """AWS has one code for what is deleted and for more; a secret that is there is not missing because of it."""
    provider.write("token", VALUE)
    cloud.refuse("InvalidRequestException")

    with pytest.raises(ProviderError, match="InvalidRequestException"):
        provider.read("token")


@pytest.mark.parametrize(
    "url",
    [
        f"{PLACE}?recovery_days=6",
        f"{PLACE}?recovery_days=31",
        f"{PLACE}?tier=standard",
        f"aws-secretsmanager://{REGION}/a%20b/",
        f"aws-secretsmanager://key:secret@{REGION}/",
    ],
)
def test_urls_that_are_wrong(url: str) -> None:
    """The error says what is right."""
    with pytest.raises(ConfigurationError, match="a aws-secretsmanager URL"):
        open_provider(url)


def test_no_value_is_logged(provider: AwsSecretsManagerProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Though the SDK logs what it sends and gets, where it logs everything."""
    caplog.set_level(logging.DEBUG)
    for _ in ("create", "overwrite"):
        provider.write("token", VALUE)
    assert provider.read("token") is not None
    assert len(provider.read_many(["token"])) == 1

    assert "PutSecretValue" in caplog.text
    assert MARKER not in caplog.text


def test_nothing_to_undelete(provider: AwsSecretsManagerProvider) -> None:
    """It is told by the name of the place and the key."""
    with pytest.raises(SecretNotFoundError, match=r"'missing' in namespace 'aws-secretsmanager://eu-west-1/app/prod/'"):
        provider.undelete("missing")


@pytest.mark.parametrize("days", ["0", "30"])
def test_nobody_is_told_a_lie_about_a_first_try(cloud: Aws, opened: Open, days: str) -> None:
    """A delete whose answer was lost finds the secret deleted when it is sent again: then nobody knows by whom."""
    with LosesAnswers(cloud.port) as network:
        provider = opened(endpoint=network.url, recovery_days=days)
        provider.write("token", VALUE)
        network.cut(after=1, times=1)
        if days == "0":
            # A delete for good of what is gone succeeds in AWS.
            assert provider.delete("token") is True
        else:
            with pytest.raises(ProviderError, match="nobody knows") as caught:
                provider.delete("token")
            assert caught.value.is_temporary
        assert provider.delete("token") is False


def test_others_delete_or_restore_meanwhile(
    raw: Any, provider: AwsSecretsManagerProvider, disturbed: Disturbed
) -> None:
    """Who comes second has deleted nothing; and nothing is undeleted that has gone for good."""
    provider.write("token", VALUE)
    disturbed.meanwhile = iter([lambda: provider.delete("token")])
    assert disturbed.delete("token") is False
    disturbed.meanwhile = iter([lambda: provider.undelete("token")])
    assert disturbed.undelete("token").key == "token"
    provider.delete("token")
    name = "app/prod/token"
    disturbed.meanwhile = iter([lambda: raw.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)])
    with pytest.raises(SecretNotFoundError):
        disturbed.undelete("token")
    disturbed.close()


def test_what_is_in_no_state_to_be_changed(cloud: Aws, network: HttpRelay, behind: AwsSecretsManagerProvider) -> None:
    """A secret that another service manages is neither deleted nor brought back, and that is an error."""
    refusal = Answer(status=400, body=b'{"__type":"InvalidRequestException"}', headers=JSON_OF_AWS)
    behind.write("token", VALUE)
    for change in (behind.delete, lambda key: behind.write(key, VALUE)):
        network.answer(refusal, after=1, times=1)
        with pytest.raises(ProviderError, match="another service may manage it") as caught:
            change("token")
        assert not caught.value.is_temporary
    behind.delete("token")
    network.answer(refusal, after=1, times=1)
    with pytest.raises(ProviderError, match="another service may manage it"):
        behind.undelete("token")


def assert_shows_nothing(error: BaseException | None) -> None:
    """Neither an error nor what it came from shows a value."""
    while error is not None:
        assert MARKER not in f"{error!r}{error}{error.args}"
        error = error.__cause__ or error.__context__
