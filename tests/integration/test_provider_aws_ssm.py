"""Secrets in AWS Parameter Store."""

from collections.abc import Iterator

import pytest

from secretstore.opening import open_provider
from secretstore.providers.aws_ssm import AwsSsmProvider
from secretstore.testing import Answer, HttpRelay, RemoteSecretProviderContract, SecretProviderContract
from tests.support.aws import Aws

PLACE = "aws-ssm://eu-west-1/app/prod/"


def opened(cloud: Aws, **options: str) -> AwsSsmProvider:
    """Return a provider on the server."""
    provider = open_provider(cloud.at(PLACE, **options))
    assert isinstance(provider, AwsSsmProvider)
    return provider


class TestContract(SecretProviderContract):
    """What every provider promises."""

    holds_every_key = False
    holds_every_value = True
    largest = 4096
    too_large = 4097

    @pytest.fixture
    def provider(self, cloud: Aws) -> Iterator[AwsSsmProvider]:
        """An empty folder that keeps labels too."""
        with opened(cloud, labels="true") as provider:
            yield provider


class TestBrokenNetwork(RemoteSecretProviderContract):
    """What every provider promises whose network breaks."""

    throttling = Answer(status=400, body=b'{"__type":"ThrottlingException","message":"Rate exceeded"}')

    @pytest.fixture
    def network(self, cloud: Aws) -> Iterator[HttpRelay]:
        """The way to the server."""
        with HttpRelay(cloud.port) as relay:
            yield relay

    @pytest.fixture
    def provider(self, network: HttpRelay, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSsmProvider]:
        """An empty folder behind it."""
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        with open_provider(f"{PLACE}?endpoint={network.url}&timeout=1") as provider:
            yield provider
