"""Neither a token, nor what is logged in with, nor a value that is read shows, and none of them is sent elsewhere."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from secretstore.errors import ConfigurationError, PermissionDeniedError, ProviderError, SecretStoreError
from secretstore.providers.vault import VaultProvider, open_vault
from secretstore.testing import Answer, HttpRelay
from tests.support.errors import assert_tells_nothing
from tests.support.frames import shown_by_frames
from tests.support.key_servers import Bao

MARKER = "Zq7-marker-Xw9"
VALUE = f'"{MARKER}"'.encode()
ROLE_ID, SECRET_ID = "the-role-id-of-a-test", "the-secret-id-of-a-test"
ENDED = "s.ended-token-of-a-test"

READS: dict[str, Callable[[VaultProvider], object]] = {
    "read": lambda provider: provider.read("a"),
    "read_many": lambda provider: provider.read_many(["a", "b"]),
    "list_keys": lambda provider: provider.list_keys(),
    "describe": lambda provider: provider.describe("a"),
    "delete": lambda provider: provider.delete("a"),
}


@pytest.fixture
def weak_token(admin: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token in the environment that may do nothing."""
    token = str(admin.auth.token.create(policies=["default"])["auth"]["client_token"])
    monkeypatch.setenv("VAULT_TOKEN", token)
    return token


def assert_hidden(call: Callable[[], object], *secrets: str) -> SecretStoreError:
    """The call raises an error that shows none of these, nor do its frames."""
    with pytest.raises(SecretStoreError) as caught:
        call()
    assert_tells_nothing(caught.value, *secrets)
    shown = "".join(shown_by_frames(caught.value))
    assert not [secret for secret in secrets if secret in shown]
    return caught.value


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_no_token_shows_where_a_read_is_refused_or_not_answered(
    read: Callable[[VaultProvider], object], relay: HttpRelay, url_of_relay: str, weak_token: str
) -> None:
    """Nor in the frames of the error."""
    with open_vault(url_of_relay) as provider:
        assert isinstance(assert_hidden(lambda: read(provider), weak_token), PermissionDeniedError)
        relay.refuse()
        assert isinstance(assert_hidden(lambda: read(provider), weak_token), ProviderError)


def test_no_token_shows_where_it_has_ended(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wherever it comes from."""
    file = tmp_path / "token"
    file.write_text(ENDED)
    with open_vault(url) as provider:
        monkeypatch.setenv("VAULT_TOKEN", ENDED)
        assert_hidden(lambda: provider.read("a"), ENDED)
        monkeypatch.setenv("VAULT_TOKEN_FILE", str(file))
        assert_hidden(lambda: provider.read("a"), ENDED)


@pytest.mark.parametrize("trouble", ["refused", "unreachable", "no token"])
def test_no_login_shows(relay: HttpRelay, url_of_relay: str, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is refused, not answered, or answered by something else, neither id is shown."""
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE_ID", ROLE_ID)
    monkeypatch.setenv("VAULT_SECRET_ID", SECRET_ID)
    if trouble == "unreachable":
        relay.refuse()
    elif trouble == "no token":
        relay.answer(Answer(status=200, body=b'{"data": {}, "auth": null}'))
    with open_vault(url_of_relay) as provider:
        assert_hidden(lambda: provider.read("a"), ROLE_ID, SECRET_ID)


def test_nothing_is_logged(
    bao: Bao, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the lowest level, of the SDK and all beneath it, neither the token, nor a value, nor an id of a login."""
    caplog.set_level(logging.DEBUG)
    with open_vault(url) as provider:
        provider.write("a", VALUE, labels={"team": "web"})
        assert (found := provider.read("a")) is not None
        assert found.value_json == VALUE
        provider.list_keys()
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE_ID", ROLE_ID)
    monkeypatch.setenv("VAULT_SECRET_ID", SECRET_ID)
    with open_vault(url) as other, pytest.raises(PermissionDeniedError):
        other.read("a")

    logged = "".join(f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records)
    assert "/v1/secret/data/" in logged
    assert not [secret for secret in (bao.token, MARKER, ROLE_ID, SECRET_ID) if secret in logged]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_takes_the_token_along(bao: Bao, relay: HttpRelay, url_of_relay: str, status: int) -> None:
    """Another server that the first one names is not asked, whatever kind of redirect it is."""
    with HttpRelay(urlsplit(bao.address).port or 0) as other, open_vault(url_of_relay) as provider:
        provider.read("a")
        other.answer(Answer(status=200, body=b'{"data": {"data": {"value": 1}}}'))
        relay.answer(Answer(status=status, headers={"Location": f"{other.url}/v1/secret/data/a"}))
        for call in (lambda: provider.read("a"), lambda: provider.write("a", VALUE)):
            with pytest.raises(ProviderError, match=f"{status}"):
                call()
        assert other.requests == 0


@pytest.mark.parametrize(
    "body",
    [
        f'{{"data": {{"data": {{"value": "{MARKER}"}}}}}}',
        f'{{"data": {{"data": {{"value": "{MARKER}"}}, "metadata": null}}}}',
        f'{{"data": {{"data": {{"value": "{MARKER}"}}, "metadata": {{}}}}}}',
        f'{{"data": {{"data": {{"value": "{MARKER}"}}, "metadata": {"[" * 100_000}',
    ],
    ids=["no metadata", "null", "no version", "too deep"],
)
def test_no_answer_that_is_none_of_vault_shows(relay: HttpRelay, url_of_relay: str, body: str) -> None:
    """It is an error of ours, without what was answered."""
    with open_vault(url_of_relay) as provider:
        provider.read("a")
        relay.answer(Answer(status=200, body=body.encode()))
        assert isinstance(assert_hidden(lambda: provider.read("a"), MARKER), ProviderError)


def test_an_answer_with_lone_surrogates_is_read(relay: HttpRelay, url_of_relay: str) -> None:
    """What is no UTF-8 is the escape that it was."""
    told = b'{"version": 1, "created_time": "2026-01-01T00:00:00Z", "deletion_time": "", "destroyed": false}'
    with open_vault(url_of_relay) as provider:
        provider.read("a")
        relay.answer(Answer(status=200, body=b'{"data": {"data": {"value": "\\ud800"}, "metadata": %s}}' % told))
        assert (found := provider.read("a")) is not None
        assert found.value_json == b'"\\ud800"'


@pytest.mark.parametrize(
    "url",
    [
        "vault://good.example%40evil.example/secret/app",
        "vault://good.example%2Fx%3F/secret/app",
        "vault://good.example%23/secret/app",
        "vault://good.example%5Cevil/secret/app",
        "vault://good.example%0D%0Ax/secret/app",
        "vault://good.example/secret/..%2F..%2Fsys/seal",
        "vault://good.example/secret/app?role_mount=../sys",
        "vault://good.example/secret/app?mount=..",
    ],
)
def test_no_url_leads_elsewhere_than_it_seems(url: str) -> None:
    """What is percent-encoded in a host, and folders above, are refused."""
    with pytest.raises(ConfigurationError, match="a vault URL"):
        open_vault(url)
