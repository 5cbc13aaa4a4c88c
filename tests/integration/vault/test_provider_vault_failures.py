"""What a real OpenBao refuses, and what cannot be reached, is told by the error that says what to do next."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secretstore.domain.providers import ProvidedInfo
from secretstore.errors import InvalidSecretValueError, PermissionDeniedError, ProviderError
from secretstore.providers.vault import VaultProvider, open_vault
from secretstore.testing import Answer, HttpRelay
from tests.support.children import answer_of_child
from tests.support.key_servers import Bao, free_port, running_bao
from tests.support.project import ROOT

PAGE = ROOT / "docs/providers/vault.md"
MARKER = b'"s3cret-that-nobody-may-see"'

Call = Callable[[VaultProvider], object]

READS: dict[str, Call] = {
    "read": lambda provider: provider.read("a"),
    "read_many": lambda provider: provider.read_many(["a", "b"]),
    "read an older version": lambda provider: provider.read("a", version=1),
    "list_keys": lambda provider: provider.list_keys(),
    "list below a folder": lambda provider: provider.list_keys("folder/"),
    "describe": lambda provider: provider.describe("a"),
    "list_versions": lambda provider: provider.list_versions("a"),
}
WRITES: dict[str, Call] = {
    "write": lambda provider: provider.write("a", MARKER),
    "write a new one": lambda provider: provider.write("new", MARKER, expected_version=0),
    "delete": lambda provider: provider.delete("a"),
    "undelete": lambda provider: provider.undelete("deleted"),
    "destroy_versions": lambda provider: provider.destroy_versions("a", [1]),
    "write labels": lambda provider: provider.write("a", MARKER, labels={"x": "1"}),
}


@pytest.fixture
def as_page_says(provider: VaultProvider, admin: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what logs in with a policy of the page, on its folder `app`."""
    found = dict(re.findall(r"```hcl\n# (\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))

    def log_in(name: str) -> None:
        admin.sys.create_or_update_policy(name, found[name])
        token = admin.auth.token.create(policies=[name])["auth"]["client_token"]
        monkeypatch.setenv("VAULT_TOKEN", token)

    return log_in


@pytest.fixture
def folder() -> str:
    """The folder that the page's policies name."""
    return "app"


@pytest.fixture(autouse=True)
def _secrets(provider: VaultProvider, admin: Any) -> Iterator[None]:
    """Some secrets in the folder, which is emptied afterwards."""
    for key in ("a", "b", "folder/c", "deleted"):
        provider.write(key, b"1")
    provider.delete("deleted")
    yield
    for path in ("a", "b", "folder/c", "deleted", "new"):
        admin.secrets.kv.v2.delete_metadata_and_all_versions(f"app/{path}")


@pytest.mark.parametrize("who", ["reader", "writer"])
@pytest.mark.parametrize("call", READS.values(), ids=READS)
def test_both_of_the_page_may_read(as_page_says: Callable[[str], None], url: str, *, call: Call, who: str) -> None:
    """With its policies whatever reads is allowed, and says what a token of all rights would hear."""
    with open_vault(url) as provider:
        expected = call(provider)
    as_page_says(who)
    with open_vault(url) as allowed:
        assert call(allowed) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("write", (2, {})),
        ("write a new one", (1, {})),
        ("delete", True),
        ("undelete", (1, {})),
        ("destroy_versions", 1),
        ("write labels", (2, {"x": "1"})),
    ],
)
def test_the_writer_of_the_page_may_write(
    as_page_says: Callable[[str], None], url: str, *, name: str, expected: object
) -> None:
    """With its policy nothing is refused, and each change answers what is there now, or what was done."""
    as_page_says("writer")
    with open_vault(url) as writer:
        answer = WRITES[name](writer)
    assert ((answer.version, answer.labels) if isinstance(answer, ProvidedInfo) else answer) == expected


@pytest.mark.parametrize(
    ("name", "denied"),
    [
        ("write", "write; allow create and update on secret/data/app/a"),
        ("write a new one", "write; allow create and update on secret/data/app/new"),
        ("delete", "delete; allow delete on secret/data/app/a"),
        ("undelete", "undelete; allow update on secret/undelete/app/deleted"),
        ("destroy_versions", "destroy; allow update on secret/destroy/app/a"),
    ],
)
def test_the_reader_of_the_page_may_not_write(
    as_page_says: Callable[[str], None], url: str, *, name: str, denied: str
) -> None:
    """The error names the capability and the path, and nothing is changed."""
    as_page_says("reader")
    with open_vault(url) as reader:
        before = reader.list_versions("a")
        with pytest.raises(PermissionDeniedError) as caught:
            WRITES[name](reader)
        assert f"refuses to {denied} in a policy of the token" in str(caught.value)
        assert caught.value.__context__ is None
        assert reader.list_versions("a") == before
        assert reader.read("new") is None


@pytest.mark.parametrize("name", READS)
def test_nobody_else_may_read(bao: Bao, as_page_says: Callable[[str], None], name: str) -> None:
    """The page's policy ends at its folder: denied is not missing, neither for a secret nor for a list."""
    as_page_says("reader")
    with (
        open_vault(f"{bao.address.replace('http', 'vault')}/secret/other?tls=false") as elsewhere,
        pytest.raises(PermissionDeniedError, match=r"allow (read|list) on secret/(meta)?data/other/"),
    ):
        READS[name](elsewhere)


def test_labels_that_fail_leave_the_value(admin: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are a second request; the error tells that the labels are what was refused."""
    admin.sys.create_or_update_policy("values", 'path "secret/data/*" { capabilities = ["create", "read", "update"] }')
    monkeypatch.setenv("VAULT_TOKEN", admin.auth.token.create(policies=["values"])["auth"]["client_token"])
    with open_vault(url) as provider:
        with pytest.raises(PermissionDeniedError, match=r"refuses to write the labels.* on secret/metadata/app/a"):
            provider.write("a", b"2", labels={"x": "1"})
        found = provider.read("a")
        assert found is not None
        assert found.value_json == b"2"


def test_no_engine_is_not_an_empty_one(bao: Bao, admin: Any) -> None:
    """A mount that is not there, another engine, and an engine of version 1 are told, and nothing is written to them."""
    admin.sys.enable_secrets_engine("kv", "one", options={"version": "1"})
    server = bao.address.replace("http", "vault")
    for mount in ("nowhere", "transit", "one"):
        for call in (READS["read"], READS["list_keys"], WRITES["write"]):
            with (
                open_vault(f"{server}/{mount}/app?tls=false") as provider,
                pytest.raises(ProviderError, match=f"no KV engine of version 2 at {mount}/") as caught,
            ):
                call(provider)
            assert not caught.value.is_temporary
    with pytest.raises(Exception, match="None"):
        admin.secrets.kv.v1.list_secrets("", mount_point="one")
    admin.sys.disable_secrets_engine("one")


def test_an_engine_that_demands_versions_is_told(provider: VaultProvider, admin: Any) -> None:
    """It is not written to blindly."""
    admin.secrets.kv.v2.update_metadata("app/a", cas_required=True)

    with pytest.raises(ProviderError, match="with expected_version only") as caught:
        provider.write("a", MARKER)
    assert not caught.value.is_temporary
    assert provider.write("a", MARKER, expected_version=1).version == 2


def test_a_namespace_is_a_store_of_its_own(bao: Bao, admin: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the URL, or by the setting of Vault's own program; the provider's name tells it."""
    admin.adapter.post("/v1/sys/namespaces/team")
    admin.adapter.namespace = "team"
    admin.sys.enable_secrets_engine("kv", "secret", options={"version": "2"})
    with open_vault(f"{url}&namespace=team") as team, open_vault(url) as outside:
        team.write("a", b'"of the team"')
        monkeypatch.setenv("VAULT_NAMESPACE", "team")
        with open_vault(url) as inside:
            assert inside.name == team.name == f"{outside.name}?namespace=team"
            assert inside.read("a") == team.read("a") != outside.read("a")


def test_a_mount_may_have_slashes(bao: Bao, admin: Any) -> None:
    """Where the URL says how far it goes."""
    admin.sys.enable_secrets_engine("kv", "ours/kv", options={"version": "2"})
    with open_vault(f"{bao.address.replace('http', 'vault')}/ours/kv/app?tls=false&mount=ours/kv") as provider:
        provider.write("a", b"1")
        assert provider.list_keys() == ["a"]
    assert admin.secrets.kv.v2.list_secrets("app", mount_point="ours/kv")["data"]["keys"] == ["a"]


@pytest.mark.parametrize("status", [307, 412, 429, 500, 502, 503, 504])
def test_what_may_pass_is_temporary(relay: HttpRelay, url_of_relay: str, status: int) -> None:
    """Also a standby's redirect, which is not followed."""
    target = Answer(
        status=status, headers={"Location": f"http://127.0.0.1:{free_port()}/", "Content-Type": "text/html"}
    )
    relay.answer(target)
    with open_vault(url_of_relay) as provider, pytest.raises(ProviderError, match=f"{status}") as caught:
        provider.write("a", MARKER)
    assert caught.value.provider == provider.name
    assert caught.value.is_temporary


def test_what_a_server_calls_too_large_is_refused(relay: HttpRelay, url_of_relay: str) -> None:
    """Where its limits are lower than ours."""
    with open_vault(url_of_relay) as provider:
        provider.read("a")
        for answer in (
            Answer(status=413, body=b'{"errors":["http: request body too large"]}'),
            Answer(status=500, body=b'{"errors":["put failed due to value being too large; got 156 bytes"]}'),
            Answer(status=400, body=b'{"errors":["refused JSON input due to high complexity"]}'),
        ):
            relay.answer(answer, times=1)
            with pytest.raises(
                InvalidSecretValueError, match="takes no value of this size at secret/data/app/a"
            ) as caught:
                provider.write("a", MARKER)
            assert "s3cret" not in str(caught.value)


def test_what_is_not_reached_names_the_secret(relay: HttpRelay, url_of_relay: str) -> None:
    """And what was to be done with it."""
    with open_vault(url_of_relay) as provider:
        provider.read("a")
        relay.refuse()
        with pytest.raises(
            ProviderError, match=r"failed to describe: secret/metadata/app/a .* \(ConnectionError\)"
        ) as caught:
            provider.describe("a")
    assert (caught.value.operation, caught.value.is_temporary) == ("describe", True)
    assert caught.value.__context__ is None


def test_a_server_with_tls_is_trusted_by_name_and_may_be_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of nobody's is an error to be mended by hand, and a sealed server one that passes."""
    with running_bao(tls=tmp_path) as sealed:
        monkeypatch.setenv("VAULT_TOKEN", sealed.token)
        url = f"{sealed.address.replace('https', 'vault')}/secret/app"
        for wrong in (url, f"{url}?tls=false"):
            with open_vault(wrong) as provider, pytest.raises(ProviderError) as caught:
                provider.read("a")
            assert not caught.value.is_temporary
        with open_vault(f"{url}?ca={sealed.authority}") as trusting:
            trusting.write("a", MARKER)
            client = sealed.client()
            client.sys.seal()
            client.adapter.close()
            for call in (*READS.values(), WRITES["write"]):
                with pytest.raises(ProviderError, match="status 503, it is sealed") as caught:
                    call(trusting)
                assert caught.value.is_temporary


def test_a_fork_takes_no_connection_along(provider: VaultProvider) -> None:
    """Parent and child ask at the same time, and each hears what it asked for."""
    for key in ("a", "b"):
        # Long enough that both answers are on their way at once.
        provider.write(key, json.dumps(key * 500_000).encode())
    heard: list[str] = []
    found = [
        answer_of_child(lambda: first_of(provider, "b"), meanwhile=lambda: heard.append(first_of(provider, "a")))
        for _ in range(3)
    ]

    assert (found, heard) == (['"b'] * 3, ['"a'] * 3)


def first_of(provider: VaultProvider, key: str) -> str:
    """Return how a value begins, or fail."""
    found = provider.read(key)
    assert found is not None
    return found.value_json[:2].decode()
