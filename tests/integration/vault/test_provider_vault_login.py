"""Tokens of a real OpenBao: where they are found, that they are renewed in time, and that an ended one is replaced once."""

import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from secretstore.errors import ConfigurationError, PermissionDeniedError, ProviderError
from secretstore.providers.vault import VaultProvider, open_vault
from secretstore.providers.vault_session import How, Place
from tests.support.clock import Clock
from tests.support.key_servers import Bao
from tests.support.threads import DEADLINE_SECONDS, run_together


@pytest.fixture
def clock() -> Clock:
    """A clock that begins now, as the server has one of its own."""
    return Clock(time.time())


@pytest.fixture
def timed(bao: Bao, folder: str, clock: Clock) -> Iterator[VaultProvider]:
    """A provider that lives by that clock."""
    place = Place(name="vault://timed", address=bao.address, namespace=None, verify=True, timeout=5)
    how = How(auth=None, role_mount="approle")
    with VaultProvider(place, how, mount="secret", folder=folder, clock=clock) as provider:
        yield provider


@dataclass(frozen=True)
class Role:
    """A role of AppRole with all rights on secret/, and what it has been logged in by."""

    admin: Any
    name: str

    def hand_out(self, monkeypatch: pytest.MonkeyPatch, *, uses: int = 0) -> None:
        """Put a new secret id into the environment, good for so many logins."""
        monkeypatch.delenv("VAULT_TOKEN", raising=False)
        approle = self.admin.auth.approle
        monkeypatch.setenv("VAULT_ROLE_ID", approle.read_role_id(self.name)["data"]["role_id"])
        made = self.admin.adapter.post(f"/v1/auth/approle/role/{self.name}/secret-id", json={"num_uses": uses})
        monkeypatch.setenv("VAULT_SECRET_ID", made["data"]["secret_id"])

    @property
    def tokens(self) -> dict[str, Any]:
        """What the server knows of the tokens of this role."""
        every = self.admin.adapter.list("/v1/auth/token/accessors")["data"]["keys"]
        found = [data_of(self.admin, accessor) for accessor in every]
        return {one["accessor"]: one for one in found if (one.get("meta") or {}).get("role_name") == self.name}

    def limit(self, *, seconds: int) -> None:
        """Let no token live any longer."""
        times = {"token_ttl": f"{seconds}s", "token_max_ttl": f"{seconds}s"}
        self.admin.adapter.post(f"/v1/auth/approle/role/{self.name}", json=times)

    def revoke(self) -> None:
        """Take all its tokens away."""
        for accessor in self.tokens:
            self.admin.auth.token.revoke_accessor(accessor)


def data_of(admin: Any, accessor: str) -> dict[str, Any]:
    """Return what the server knows of a token; nothing where it has ended meanwhile."""
    url = "/v1/auth/token/lookup-accessor"
    found = admin.adapter.post(url, json={"accessor": accessor}, raise_exception=False)
    return found["data"] if isinstance(found, dict) else {}


@pytest.fixture
def make_role(admin: Any) -> Callable[..., Role]:
    """Return what makes a role with these settings."""
    if "approle/" not in admin.sys.list_auth_methods():
        admin.sys.enable_auth_method("approle")
    admin.sys.create_or_update_policy("all", 'path "secret/*" { capabilities = ["create", "read", "update", "list"] }')

    def make(**settings: Any) -> Role:
        name = f"role-{uuid.uuid4()}"
        admin.auth.approle.create_or_update_approle(name, token_policies=["all"], **settings)
        return Role(admin, name)

    return make


def test_the_token_may_stand_in_a_file(url: str, bao: Bao, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is read as the variable is, before it, and anew where the token has ended; one that cannot be read is named."""
    file = tmp_path / "token"
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(file))
    with open_vault(url) as provider:
        with pytest.raises(ConfigurationError, match=f"cannot read {file}"):
            provider.read("a")
        file.write_text("s.ended\n")
        with pytest.raises(PermissionDeniedError, match="has ended or was revoked") as caught:
            provider.read("a")
        assert "s.ended" not in str(caught.value)
        file.write_text(f"{bao.token}\n")
        assert provider.write("a", b"1").version == 1


def test_the_token_of_its_own_program_comes_last(url: str, bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a login by hand has left behind is used where the environment has nothing."""
    monkeypatch.delenv("VAULT_TOKEN")
    with open_vault(url) as provider, pytest.raises(ConfigurationError, match="nobody is logged in"):
        provider.read("a")
    (Path.home() / ".vault-token").write_text(bao.token)
    for option in ("", "&auth=token"):
        with open_vault(url + option) as provider:
            assert provider.read("a") is None
    with open_vault(f"{url}&auth=approle") as provider, pytest.raises(ConfigurationError, match="VAULT_ROLE_ID"):
        provider.read("a")


def test_a_role_logs_in_once_for_all_threads(
    url: str, make_role: Callable[..., Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret id that is good for one login is enough for eight threads, and another one after the token was revoked."""
    role = make_role()
    role.hand_out(monkeypatch, uses=1)
    with open_vault(url) as provider:
        assert run_together(*[lambda: provider.read("a")] * 8) == [None] * 8
        first = role.tokens
        assert ["last_renewal" in token for token in first.values()] == [False]

        role.revoke()
        role.hand_out(monkeypatch, uses=1)
        assert run_together(*[lambda: provider.read("a")] * 8) == [None] * 8
        second = role.tokens
        assert ["last_renewal" in token for token in second.values()] == [False]
        assert second.keys() != first.keys()


def test_a_login_that_is_refused_is_told(
    url: str, make_role: Callable[..., Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who wait for it get the same error, which shows neither id."""
    role = make_role()
    role.hand_out(monkeypatch)
    monkeypatch.setenv("VAULT_SECRET_ID", "not-the-secret-id")
    with open_vault(url) as provider:
        for problem in run_together(*[lambda: problem_of(provider)] * 8):
            assert isinstance(problem, PermissionDeniedError)
            assert "the login with AppRole at auth/approle was refused" in str(problem)
            assert "not-the-secret-id" not in str(problem)
            assert problem.__context__ is None


def test_a_token_is_renewed_and_replaced_in_time(
    timed: VaultProvider, clock: Clock, make_role: Callable[..., Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is renewed after two thirds of its time, and at its longest time a new one is fetched, before it ends."""
    role = make_role(token_ttl="60s", token_max_ttl="600s")
    role.hand_out(monkeypatch)
    timed.read("a")
    (accessor,) = role.tokens
    clock.now += 39
    timed.read("a")
    assert "last_renewal" not in role.tokens[accessor]

    clock.now += 2
    for _ in range(3):
        timed.read("a")
    assert role.tokens.keys() == {accessor}
    assert role.tokens[accessor]["last_renewal"]

    # That a longest time is near shows by a renewal that gives less than the one before.
    role.limit(seconds=30)
    clock.now += 41
    timed.read("a")
    assert role.tokens.keys() == {accessor}
    clock.now += 21
    timed.read("a")
    assert len(role.tokens) == 2


def test_a_token_is_used_to_its_end_where_there_is_no_other(
    timed: VaultProvider, clock: Clock, make_role: Callable[..., Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that is refused meanwhile is an error only from then on, and forgotten when one succeeds."""
    role = make_role(token_ttl="60s", token_max_ttl="600s", token_type="batch")
    role.hand_out(monkeypatch)
    timed.read("a")
    monkeypatch.setenv("VAULT_SECRET_ID", "used-up")
    for _ in range(2):
        clock.now += 29
        timed.read("a")
    clock.now += 3
    with pytest.raises(PermissionDeniedError, match="the login with AppRole"):
        timed.read("a")
    role.hand_out(monkeypatch)
    assert timed.read("a") is None


def test_a_token_that_was_given_is_renewed(
    timed: VaultProvider, clock: Clock, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that comes from the environment, where it can be."""
    made = admin.auth.token.create(policies=["root"], ttl="60s", renewable=True)["auth"]
    monkeypatch.setenv("VAULT_TOKEN", made["client_token"])
    timed.read("a")
    clock.now += 41
    timed.read("a")

    assert admin.auth.token.lookup_accessor(made["accessor"])["data"]["last_renewal"]


def test_a_token_that_ends_is_replaced(
    provider: VaultProvider, make_role: Callable[..., Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tokens that live for a second and cannot be renewed, call after call succeeds."""
    role = make_role(token_ttl="1s", token_max_ttl="1s")
    role.hand_out(monkeypatch)
    provider.write("a", b"1")
    (first,) = role.tokens

    deadline = time.monotonic() + DEADLINE_SECONDS
    for count in itertools.count(2):
        assert provider.write("a", b"1").version == count
        if first not in role.tokens:
            break
        assert time.monotonic() < deadline
    assert provider.write("a", b"2").version == count + 1


def test_a_denial_costs_no_login(url: str, make_role: Callable[..., Role], monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that lives and has no right is not taken for one that has ended."""
    role = make_role()
    role.hand_out(monkeypatch)
    with open_vault(url) as provider:
        provider.write("a", b"1")
        for _ in range(3):
            with pytest.raises(PermissionDeniedError, match="allow delete on secret/data/"):
                provider.delete("a")
        assert len(role.tokens) == 1


def problem_of(provider: VaultProvider) -> Exception:
    """Return the error of a read."""
    with pytest.raises((PermissionDeniedError, ProviderError)) as caught:
        provider.read("a")
    return caught.value
