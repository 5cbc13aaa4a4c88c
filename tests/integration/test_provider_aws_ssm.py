"""Secrets in AWS Parameter Store."""

import json
import logging
import pickle
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from secretstore.domain.providers import Ability, SecretProvider
from secretstore.errors import (
    ConfigurationError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    PermissionDeniedError,
    ProviderError,
    VersionConflictError,
)
from secretstore.opening import open_provider
from secretstore.providers.aws_names import name_of
from secretstore.providers.aws_ssm import AwsSsmProvider
from secretstore.testing import Answer, HttpRelay, RemoteSecretProviderContract, SecretProviderContract
from tests.support.aws import Aws, Call, actions_of, assert_each_is_missed, policies, reads_by
from tests.support.errors import assert_tells_nothing
from tests.support.frames import shown_by_frames
from tests.support.project import ROOT

PLACE = "aws-ssm://eu-west-1/app/prod/"
PAGE = ROOT / "docs/providers/aws-ssm.md"

# A call for each right, which fails without it.
READS = reads_by(
    read="ssm:GetParameter",
    read_many="ssm:GetParameters",
    list_keys="ssm:GetParametersByPath",
    list_versions="ssm:GetParameterHistory",
    describe="ssm:ListTagsForResource",
)
WRITES: dict[str, Call] = {
    "ssm:PutParameter": lambda provider: provider.write("a", b"1"),
    "ssm:AddTagsToResource": lambda provider: provider.write("a", b"1", labels={"team": "pay"}),
    "ssm:RemoveTagsFromResource": lambda provider: provider.write("a", b"1", labels={}),
    "ssm:DeleteParameter": lambda provider: provider.delete("a"),
}


def opened(cloud: Aws, *, place: str = PLACE, **options: str) -> AwsSsmProvider:
    """Return a provider on the server."""
    provider = open_provider(cloud.at(place, **options))
    assert isinstance(provider, AwsSsmProvider)
    return provider


@pytest.fixture(scope="module")
def folder(running_cloud: Aws) -> Iterator[AwsSsmProvider]:
    """One provider for many tests, as making a client takes long."""
    with opened(running_cloud, labels="true") as provider:
        yield provider


@pytest.fixture(scope="module")
def behind(running_network: HttpRelay) -> Iterator[AwsSsmProvider]:
    """One provider behind a network that can break."""
    provider = open_provider(f"{PLACE}?endpoint={running_network.url}&timeout=1")
    assert isinstance(provider, AwsSsmProvider)
    with provider:
        yield provider


class TestContract(SecretProviderContract):
    """What every provider promises."""

    holds_every_key = False
    largest = 4096
    too_large = 4097

    @pytest.fixture
    def provider(self, cloud: Aws, folder: AwsSsmProvider) -> AwsSsmProvider:
        """An empty folder that keeps labels too."""
        return folder

    @pytest.fixture
    def spare(self, cloud: Aws) -> AwsSsmProvider:
        """Another one."""
        return opened(cloud)


class TestBrokenNetwork(RemoteSecretProviderContract):
    """What every provider promises whose network breaks."""

    throttling = Answer(status=400, body=b'{"__type":"ThrottlingException","message":"Rate exceeded"}')

    @pytest.fixture
    def network(self, network: HttpRelay, monkeypatch: pytest.MonkeyPatch) -> HttpRelay:
        """The way to the server, where it is well; the SDK tries twice."""
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        return network

    @pytest.fixture
    def provider(self, network: HttpRelay, behind: AwsSsmProvider) -> AwsSsmProvider:
        """An empty folder behind it."""
        return behind


def stored(cloud: Aws, name: str) -> dict[str, Any]:
    """Return a parameter as the SDK shows it, decrypted, with its tier and key."""
    ssm = cloud.client("ssm")
    value = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    wanted = [{"Key": "Name", "Values": [name]}]
    return {**value, **ssm.describe_parameters(ParameterFilters=wanted)["Parameters"][0]}


def test_a_secret_is_a_secure_string_in_the_folder(cloud: Aws, folder: AwsSsmProvider) -> None:
    """Others find it under the name that the page of names says, as JSON."""
    folder.write("mail/password é", b'{"user": "app"}')

    parameter = stored(cloud, "/app/prod/mail/password-.20c3a9.")
    assert (parameter["Type"], parameter["Tier"]) == ("SecureString", "Standard")
    assert parameter["Value"] == '{"user": "app"}'


@pytest.mark.parametrize("form", ["text", "auto"])
def test_what_others_wrote_is_read(cloud: Aws, form: str) -> None:
    """A plain parameter beside encrypted ones is a text, in its format; what is no key of ours is not listed."""
    ssm = cloud.client("ssm")
    ssm.put_parameter(Name="/app/prod/url", Value="https://db", Type="String")
    ssm.put_parameter(Name="/app/prod/no-.key", Value="x", Type="String")
    ssm.put_parameter(Name="/app/production/url", Value="x", Type="String")
    ssm.put_parameter(Name=f"/app/prod/{name_of('中' * 158)}", Value="x", Type="String")
    with opened(cloud, format=form) as provider:
        secret = provider.read("url")
        assert secret is not None
        assert secret.value_json == b'"https://db"'
        assert secret.info.updated_at is not None
        assert provider.list_keys() == ["url"]
    with opened(cloud) as provider, pytest.raises(InvalidSecretValueError, match="format=text"):
        provider.read("url")


@pytest.mark.parametrize(("tier", "largest"), [("standard", 4096), ("advanced", 8192), ("intelligent-tiering", 8192)])
def test_a_tier_says_how_much_fits(cloud: Aws, tier: str, largest: int) -> None:
    """Bytes are counted, and one more is refused before anything is sent."""
    with opened(cloud, tier=tier) as provider:
        provider.write("a", b'"%b"' % ("é" * ((largest - 2) // 2)).encode())
        assert stored(cloud, "/app/prod/a")["Tier"] == tier.title()
        cloud.actions.clear()
        with pytest.raises(InvalidSecretValueError, match=f"tier={tier} takes {largest}"):
            provider.write("a", b'"%b"' % ("é" * (largest // 2)).encode())
        assert cloud.actions == []


def test_a_kms_key_is_passed_on(cloud: Aws) -> None:
    """It is the key of the parameter."""
    with opened(cloud, key_id="alias/app") as provider:
        provider.write("a", b"1")
    assert stored(cloud, "/app/prod/a")["KeyId"] == "alias/app"


@pytest.mark.parametrize("value", [b'"{{ssm:other}}"', b'{"a": "{{{{x}}}}"}', rb'"\\{\\u007b}}"'])
def test_no_value_is_taken_for_a_reference(cloud: Aws, value: bytes) -> None:
    """Two braces never stand in a parameter, and the value is the same."""
    for form in ("json", "auto") if value.startswith(b"{") else ("json",):
        with opened(cloud, format=form) as provider:
            provider.write("a", value)
            secret = provider.read("a")
            assert secret is not None
            assert json.loads(secret.value_json) == json.loads(value)
            assert "{{" not in stored(cloud, "/app/prod/a")["Value"]


@pytest.mark.parametrize("value", [b'""', b'"{{ssm:other}}"'])
def test_a_text_that_aws_would_not_keep_is_refused(cloud: Aws, value: bytes) -> None:
    """The error says which format keeps it, and not the text."""
    with opened(cloud, format="text") as provider:
        cloud.actions.clear()
        with pytest.raises(InvalidSecretValueError, match="format=json") as caught:
            provider.write("a", value)
    assert "other" not in str(caught.value)
    assert cloud.actions == []


@pytest.mark.parametrize("key", ["/".join("abcdefghijklmn"), "中" * 160])
def test_a_key_that_does_not_fit_is_refused_and_not_there(cloud: Aws, folder: AwsSsmProvider, key: str) -> None:
    """One level or some characters less fit; nothing is sent for what does not."""
    shorter = key.rpartition("/")[0] or key[: len(key) - 8]
    folder.write(shorter, b"1")
    cloud.actions.clear()

    with pytest.raises(InvalidSecretKeyError, match="15 levels"):
        folder.write(key, b"1")
    assert (folder.read(key), folder.describe(key), folder.delete(key), folder.read_many([key])) == (
        None,
        None,
        False,
        {},
    )
    assert (folder.list_versions(key), folder.list_keys(f"{key}/x/")) == ([], [])
    assert cloud.actions == []


def test_many_secrets_are_few_calls(cloud: Aws, folder: AwsSsmProvider) -> None:
    """Ten are read or listed in a call, and a prefix that is a folder asks for that folder alone."""
    keys = [f"{name}/{number:02}" for name in ("a", "b") for number in range(21)]
    for key in keys:
        folder.write(key, b"1")
    cloud.actions.clear()

    assert sorted(folder.read_many([*keys, "missing"])) == keys
    assert cloud.actions == ["GetParameters"] * 5
    cloud.actions.clear()
    assert folder.list_keys() == keys
    assert cloud.actions == ["GetParametersByPath"] * 5
    cloud.actions.clear()
    assert folder.list_keys("b/1", after="b/10", limit=2) == ["b/11", "b/12"]
    assert cloud.actions == ["GetParametersByPath"] * 3


def test_versions_are_counted_from_one(folder: AwsSsmProvider, cloud: Aws) -> None:
    """All pages of them are told, and what AWS has dropped is not there."""
    for number in range(103):
        folder.write("a", b"%d" % number)

    listed = folder.list_versions("a")
    assert [info.version for info in listed] == list(range(103, 3, -1))
    assert all(info.created_at is not None for info in listed)
    secret = folder.read("a", version=4)
    assert secret is not None
    assert (secret.value_json, secret.info.version) == (b"3", 4)
    assert [folder.read("a", version=version) for version in (3, 0, -1, "4")] == [None] * 4


def test_labels_are_off_unless_asked_for(cloud: Aws) -> None:
    """Then no right to tags is needed, and no call is spent on them."""
    with opened(cloud) as provider:
        assert Ability.LABELS not in provider.abilities
        with pytest.raises(ProviderError, match="cannot keep labels"):
            provider.write("a", b"1", labels={"team": "pay"})
        provider.write("a", b"1")
        provider.describe("a")
    assert cloud.actions == ["PutParameter", "GetParameter"]


@pytest.mark.parametrize(
    "labels", [{"aws:team": "pay"}, {"team": "a;b"}, {"team": "x" * 257}, {str(number): "" for number in range(51)}]
)
def test_labels_that_are_no_tags_are_refused(cloud: Aws, folder: AwsSsmProvider, labels: dict[str, str]) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidSecretKeyError, match="AWS"):
        folder.write("a", b"1", labels=labels)
    assert cloud.actions == []


def test_tags_of_aws_are_no_labels(cloud: Aws, folder: AwsSsmProvider) -> None:
    """They are neither shown nor taken away."""
    folder.write("a", b"1")
    told = {"ResourceType": "Parameter", "ResourceId": "/app/prod/a"}
    ssm = cloud.client("ssm")
    ssm.add_tags_to_resource(**told, Tags=[{"Key": "aws:cloudformation:stack-name", "Value": "x"}])

    assert folder.write("a", b"1", labels={}).labels == {}
    assert len(ssm.list_tags_for_resource(**told)["TagList"]) == 1


@pytest.mark.parametrize(
    ("code", "status", "is_temporary", "told"),
    [
        ("ThrottlingException", 400, True, "later"),
        ("TooManyUpdates", 400, True, "later"),
        ("InternalServerError", 500, True, "later"),
        ("ExpiredTokenException", 400, False, "have expired"),
        ("UnrecognizedClientException", 400, False, "not known"),
        ("InvalidKeyId", 400, False, "KMS key"),
        ("HierarchyTypeMismatchException", 400, False, "no SecureString"),
        ("ParameterMaxVersionLimitExceeded", 400, False, "label"),
        ("SomethingNew", 400, False, "SomethingNew"),
    ],
)
def test_what_aws_says_is_told_with_what_to_do(
    cloud: Aws, code: str, status: int, told: str, *, is_temporary: bool
) -> None:
    """The error names provider and key, and what AWS wrote beside its code is nowhere in it."""
    with opened(cloud) as provider:
        cloud.refuse(code, status=status, times=3)
        with pytest.raises(ProviderError, match=told) as caught:
            provider.write("key-of-it", b'"hidden"')
    error = caught.value
    assert error.is_temporary is is_temporary
    assert (error.provider, error.__cause__, error.__context__) == (provider.name, None, None)
    assert "'key-of-it'" in str(error)
    assert not re.search("told by a test|hidden", str(error))


def test_a_refusal_names_what_to_allow(cloud: Aws, folder: AwsSsmProvider) -> None:
    """Where AWS does not say it, as with a KMS key, it is the action, and the key."""
    cloud.refuse("AccessDeniedException")
    with pytest.raises(PermissionDeniedError, match="allow ssm:GetParameter, and the use of its KMS key"):
        folder.read("a")


def test_nobody_is_told_a_lie_about_a_first_try(cloud: Aws, folder: AwsSsmProvider) -> None:
    """What is found at a second try may be the work of the first one: then it is no conflict, and nothing was missing."""
    folder.write("there", b"1")
    calls = (lambda: folder.write("there", b"2", expected_version=0), lambda: folder.delete("missing"))
    for call in calls:
        cloud.refuse("InternalServerError", status=500)
        with pytest.raises(ProviderError, match="nobody knows") as caught:
            call()
        assert caught.value.is_temporary
    with pytest.raises(VersionConflictError) as conflict:
        calls[0]()
    assert (conflict.value.found, calls[1]()) == (1, False)


def test_no_value_is_logged(cloud: Aws, folder: AwsSsmProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Not by the SDK either, at its lowest level, which shows what others send and get."""
    caplog.set_level(logging.DEBUG)
    folder.write("a", b'"hidden"')
    folder.read("a")
    folder.read_many(["a"])
    assert "GetParameter" in caplog.text
    assert "hidden" not in caplog.text

    stored(cloud, "/app/prod/a")
    assert "hidden" in caplog.text


def test_no_credentials_are_logged(
    cloud: Aws, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the key that signs, nor the token of a session, which the SDK shows at its lowest level."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key-of-a-test")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-of-a-test")
    caplog.set_level(logging.DEBUG)
    with opened(cloud) as provider:
        assert provider.read("a") is None
    assert "GetParameter" in caplog.text
    assert not [secret for secret in ("key-of-a-test", "session-of-a-test") if secret in caplog.text]


@pytest.mark.parametrize("read", [lambda p: p.read("a"), lambda p: p.read_many(["a", "b"])], ids=["one", "many"])
def test_a_value_that_does_not_fit_is_not_shown(
    cloud: Aws, folder: AwsSsmProvider, read: Callable[[SecretProvider], object]
) -> None:
    """Neither it nor those that were read beside it are in the error or its frames."""
    for name in ("a", "b"):
        cloud.client("ssm").put_parameter(Name=f"/app/prod/{name}", Value=f"Zq7-marker-{name}", Type="SecureString")
    with pytest.raises(InvalidSecretValueError, match="format=text") as caught:
        read(folder)

    assert_tells_nothing(caught.value, "Zq7-marker")
    assert "Zq7-marker" not in "".join(shown_by_frames(caught.value))


def test_a_page_of_a_proxy_is_no_success(network: HttpRelay, behind: AwsSsmProvider) -> None:
    """Also where AWS answers nothing but that it is done."""
    behind.write("a", b"1")
    network.answer(Answer(status=200, body=b"<html>Please log in</html>"))
    with pytest.raises(ProviderError, match="no whole answer of AWS"):
        behind.delete("a")
    network.heal()
    assert behind.delete("a")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("aws-ssm://eu-west-1", "names a folder"),
        ("aws-ssm://eu-west-1/", "names a folder"),
        ("aws-ssm://eu-west-1/Aws/x/", "names a folder"),
        ("aws-ssm://eu-west-1/ssm-x/", "names a folder"),
        ("aws-ssm://eu-west-1/a//b/", "names a folder"),
        ("aws-ssm://eu-west-1/a b/", "names a folder"),
        ("aws-ssm://eu-west-1/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/", "names a folder"),
        ("aws-ssm://europe/app/", "names a region"),
        ("aws-ssm://key:hidden@eu-west-1/app/", "no credentials"),
        ("aws-ssm://eu-west-1:443/app/", "no port"),
        ("aws-ssm://eu-west-1/app/?tier=free", "takes tier=standard"),
        ("aws-ssm://eu-west-1/app/?endpoint=hidden", "takes endpoint="),
        ("aws-ssm://eu-west-1/app/?timeout=0", "takes timeout="),
        ("aws-ssm://eu-west-1/app/?profile=x", "not profile"),
    ],
)
def test_a_url_that_says_nothing_sensible_is_refused(url: str, problem: str) -> None:
    """Its error says what belongs there, and shows nothing of it."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        open_provider(url)
    assert "hidden" not in str(caught.value)


def test_the_name_is_the_place() -> None:
    """Options are no part of it, and a folder ends in a slash; nothing connects, and nothing is pickled."""
    provider = open_provider("aws-ssm://eu-west-1/app/prod?timeout=1&key_id=alias/x")
    assert provider.name == "aws-ssm://eu-west-1/app/prod/"
    assert open_provider("aws-ssm:///app").name == "aws-ssm:///app/"
    with pytest.raises(TypeError):
        pickle.dumps(provider)


def test_without_a_region_the_sdk_knows_one(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the error says that there is none."""
    provider = opened(cloud, place="aws-ssm:///app/prod/")
    with pytest.raises(ProviderError, match="region"):
        provider.read("a")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert provider.read("a") is None
    provider.close()


@pytest.fixture
def limited(cloud: Aws, folder: AwsSsmProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSsmProvider]:
    """A provider whose user may do what a test says, on a folder with a labelled secret."""
    folder.write("a", b"1", labels={"team": "search"})
    for name, value in cloud.user().items():
        monkeypatch.setenv(name, value)
    with opened(cloud, labels="true") as provider:
        yield provider


def test_the_policies_of_the_page_are_enough(cloud: Aws, limited: AwsSsmProvider) -> None:
    """Who reads can read and nothing else, and who writes can do everything."""
    reader, writer = policies(PAGE)
    cloud.allow(actions_of(reader))
    for call in READS.values():
        call(limited)
    for action in ("ssm:PutParameter", "ssm:DeleteParameter"):
        with pytest.raises(PermissionDeniedError, match=action):
            WRITES[action](limited)
    cloud.allow(actions_of(reader) | actions_of(writer))
    for call in (*READS.values(), *WRITES.values()):
        call(limited)
    cloud.allow(actions_of(writer) | {"ssm:GetParameter"})
    for call in WRITES.values():
        call(limited)


def test_the_policies_of_the_page_allow_nothing_idle(cloud: Aws, limited: AwsSsmProvider) -> None:
    """Each right that is taken away is missed by a call, and the error names it."""
    reader, writer = policies(PAGE)
    allowed = {action for action in actions_of(reader) | actions_of(writer) if action.startswith("ssm:")}
    assert allowed == READS.keys() | WRITES.keys()
    assert_each_is_missed(cloud, limited, READS | WRITES)


def test_the_policies_of_the_page_are_for_its_folder() -> None:
    """They reach every parameter in it, and none beside it; only who lists needs the folder itself."""
    reader, writer = ([each for each in policy if "ssm:" in str(each["Action"])] for policy in policies(PAGE))
    inside, beside = (
        "arn:aws:ssm:eu-west-1:123456789012:parameter/app/prod",
        ["/app/production", "/app", "/x", "/app/prod-x/a"],
    )
    for (statement,), reaches_folder in ((reader, True), (writer, False)):
        patterns = [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
        names = [f"{inside}/a", f"{inside}/a/b", inside, *(inside.replace("/app/prod", other) for other in beside)]
        reached = [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]
        assert reached == [True, True, reaches_folder, *[False] * len(beside)]
