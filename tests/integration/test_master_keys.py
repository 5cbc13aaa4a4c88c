"""Master keys of every kind keep the same promises: local ones, in AWS KMS, and in the transit engine of OpenBao.

What stands for AWS here is moto's server over HTTP; it checks the encryption context as KMS does.
"""

import uuid
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.domain.protocols import DataKeyPlace, MasterKey
from secretstore.errors import DecryptionError, MasterKeyError
from secretstore.keyrings import AwsKmsMasterKey, VaultMasterKey
from secretstore.testing import MasterKeyContract
from tests.support.key_servers import (
    CREDENTIALS,
    REGION,
    Bao,
    free_port,
    running_aws,
    running_bao,
    silent_server,
)

PLACE = DataKeyPlace("prod", "data-key")
DATA_KEY = b"d" * 32
NOBODY = f"arn:aws:kms:{REGION}:123456789012:key/{uuid.UUID(int=1)}"
SHORT = 0.3


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """The URL of a server that answers as AWS does."""
    with running_aws() as url:
        yield url


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, aws: str) -> None:
    """The SDK's own settings."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_KMS": aws}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def kms(credentials: None) -> Iterator[Any]:
    """A client of the SDK."""
    import boto3

    client = boto3.session.Session(region_name=REGION).client("kms")
    yield client
    client.close()


def new_kms_key(kms: Any) -> str:
    """Make a key and return its ARN."""
    return str(kms.create_key()["KeyMetadata"]["Arn"])


@pytest.fixture(scope="module")
def bao() -> Iterator[Bao]:
    """A running OpenBao."""
    with running_bao() as running:
        yield running


@pytest.fixture
def vault(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the SDK, with the token in the environment."""
    for name in (
        "VAULT_ADDR",
        "VAULT_NAMESPACE",
        "VAULT_CACERT",
        "VAULT_TOKEN_FILE",
        "VAULT_ROLE_ID",
        "VAULT_SECRET_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAULT_TOKEN", bao.token)
    client = bao.client()
    yield client
    client.adapter.close()


def new_vault_key(vault: Any, bao: Bao, **options: Any) -> VaultMasterKey:
    """Make a key of the transit engine."""
    name = f"key-{uuid.uuid4()}"
    vault.secrets.transit.create_key(name, **options)
    return VaultMasterKey.parse(f"{bao.entry}/{name}")


class TestLocal(MasterKeyContract):
    """Keys in memory."""

    @pytest.fixture
    def master_key(self) -> MasterKey:
        """A new key."""
        return LocalMasterKey.parse(generate_master_key("one"))

    @pytest.fixture
    def other_master_key(self) -> MasterKey:
        """Another one."""
        return LocalMasterKey.parse(generate_master_key("two"))


class TestAwsKms(MasterKeyContract):
    """Keys in AWS KMS."""

    @pytest.fixture
    def master_key(self, kms: Any) -> MasterKey:
        """A new key."""
        return AwsKmsMasterKey(new_kms_key(kms))

    @pytest.fixture
    def other_master_key(self, kms: Any) -> MasterKey:
        """Another one."""
        return AwsKmsMasterKey(new_kms_key(kms))


class TestVault(MasterKeyContract):
    """Keys in the transit engine."""

    @pytest.fixture
    def master_key(self, vault: Any, bao: Bao) -> MasterKey:
        """A new key."""
        return new_vault_key(vault, bao)

    @pytest.fixture
    def other_master_key(self, vault: Any, bao: Bao) -> MasterKey:
        """Another one."""
        return new_vault_key(vault, bao)


class TestDerivedVault(TestVault):
    """Keys of which each place gets one of its own."""

    @pytest.fixture
    def master_key(self, vault: Any, bao: Bao) -> MasterKey:
        """A new derived key."""
        return new_vault_key(vault, bao, derived=True)


def problem_of(master_key: MasterKey) -> MasterKeyError:
    """Return why a data key cannot be wrapped; the error holds nothing of the data key, nor of the SDK's error."""
    with pytest.raises(MasterKeyError) as caught:
        master_key.wrap(DATA_KEY, PLACE)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert "ZGRk" not in str(caught.value)
    return caught.value


# AWS KMS


def test_kms_is_given_the_place(kms: Any) -> None:
    """The encryption context holds namespace and data key: KMS opens it with these, and with no others."""
    arn = new_kms_key(kms)
    stored = AwsKmsMasterKey(arn).wrap(DATA_KEY, PLACE)

    def decrypt(**context: str) -> Any:
        named = {f"secretstore:{name.replace('_', '-')}": value for name, value in context.items()}
        return kms.decrypt(KeyId=arn, CiphertextBlob=b64decode(str(stored["data"])), EncryptionContext=named)

    assert decrypt(namespace="prod", data_key="data-key")["Plaintext"] == DATA_KEY
    with pytest.raises(kms.exceptions.InvalidCiphertextException):
        decrypt(namespace="prod")


@pytest.mark.parametrize(
    ("namespace", "written"),
    [
        ("prod/eu-1.a_b=c+d@e:f", "prod/eu-1.a_b=c+d@e:f"),
        ("a b", "utf8:612062"),
        ("ü", "utf8:c3bc"),
        ("utf8:612062", "utf8:757466383a363132303632"),
    ],
)
def test_a_namespace_is_written_so_that_kms_takes_it(namespace: str, written: str) -> None:
    """Ordinary names stand in KMS's log as they are, all others as hexadecimal digits, and no two alike."""
    from secretstore.keyrings.aws import _context

    assert _context(DataKeyPlace(namespace, "k")) == {"secretstore:namespace": written, "secretstore:data-key": "k"}


@pytest.mark.parametrize("member", ["data", "key"])
def test_kms_ciphertext_of_another_key_is_refused(kms: Any, member: str) -> None:
    """A ciphertext of another key, also under this one's name, does not open."""
    one, two = AwsKmsMasterKey(new_kms_key(kms)), AwsKmsMasterKey(new_kms_key(kms))
    stored = {**one.wrap(DATA_KEY, PLACE), member: two.wrap(DATA_KEY, PLACE)[member]}

    with pytest.raises((DecryptionError, MasterKeyError)):
        one.unwrap(stored, PLACE)


def test_a_kms_key_that_is_not_there_says_so(credentials: None) -> None:
    """The ARN is named, and what to do."""
    problem = problem_of(AwsKmsMasterKey(NOBODY))

    assert not problem.is_temporary
    assert "there is no such key; correct the ARN (NotFoundException)" in str(problem)


@pytest.mark.parametrize(
    ("status", "code", "is_temporary"),
    [
        (400, "ThrottlingException", True),
        (400, "LimitExceededException", True),
        (500, "KMSInternalException", True),
        (503, "Whatever", True),
        (429, "Whatever", True),
        (400, "AccessDeniedException", False),
        (400, "DisabledException", False),
        (400, "KMSInvalidStateException", False),
        (400, "Unknown", False),
    ],
)
def test_what_kms_answers_decides_whether_to_try_again(status: int, code: str, *, is_temporary: bool) -> None:
    """Throttling and faults of the server pass; refusals do not.  The server of the tests gives none of these itself."""
    answer: Mapping[str, Any] = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    problem = AwsKmsMasterKey(NOBODY)._refused(answer, PLACE)

    assert isinstance(problem, MasterKeyError)
    assert (problem.is_temporary, code in str(problem)) == (is_temporary, True)


def test_kms_that_cannot_be_reached_is_temporary(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{free_port()}")

    problem = problem_of(AwsKmsMasterKey(NOBODY))
    assert problem.is_temporary
    assert "does not answer" in str(problem)


def test_kms_that_never_answers_is_given_up(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing is waited for only so long."""
    with silent_server() as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{port}")
        assert problem_of(AwsKmsMasterKey(NOBODY, timeout=SHORT)).is_temporary


def test_kms_without_credentials_is_a_setting(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is logged in, and trying again does not help."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    problem = problem_of(AwsKmsMasterKey(NOBODY))
    assert not problem.is_temporary
    assert "credentials" in str(problem)


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:kms:{REGION}:123456789012:alias/app",
        f"arn:aws:s3:{REGION}:123456789012:key/x",
        "arn:aws:kms::123456789012:key/x",
        f"arn:aws:kms:{REGION}:1:key/x",
        f"{NOBODY}\n",
    ],
)
def test_only_the_arn_of_a_key_names_a_kms_key(arn: str) -> None:
    """An alias can be pointed at another key, and what is no ARN names nothing."""
    with pytest.raises(MasterKeyError, match="named by the ARN of the key"):
        AwsKmsMasterKey(arn)


# Vault and OpenBao


def test_vault_is_given_the_place(vault: Any, bao: Bao) -> None:
    """The associated data hold namespace, data key and master key: the engine opens it with these, and without them not."""
    key = new_vault_key(vault, bao)
    fields = [b"secretstore data key 1", b"prod", b"data-key", key.id.encode()]
    binding = b64encode(b"".join(len(field).to_bytes(4, "big") + field for field in fields)).decode()
    ciphertext = key.wrap(DATA_KEY, PLACE)["data"]

    answer = vault.secrets.transit.decrypt_data(key.fingerprint, ciphertext=ciphertext, associated_data=binding)
    assert b64decode(answer["data"]["plaintext"]) == DATA_KEY
    with pytest.raises(Exception, match="message authentication failed"):
        vault.secrets.transit.decrypt_data(key.fingerprint, ciphertext=ciphertext)


def test_a_vault_key_that_was_rotated_inside_opens_old_and_new(vault: Any, bao: Bao) -> None:
    """The engine's own versions of a key open until its policy says otherwise, which then is said."""
    key = new_vault_key(vault, bao)
    before = key.wrap(DATA_KEY, PLACE)
    vault.secrets.transit.rotate_key(key.fingerprint)
    after = key.wrap(DATA_KEY, PLACE)
    assert [str(one["data"]).partition(":v")[2][0] for one in (before, after)] == ["1", "2"]
    assert key.unwrap(before, PLACE) == key.unwrap(after, PLACE) == DATA_KEY

    vault.secrets.transit.update_key_configuration(key.fingerprint, min_decryption_version=2)
    with pytest.raises(MasterKeyError, match="min_decryption_version") as caught:
        key.unwrap(before, PLACE)
    assert not caught.value.is_temporary


def test_a_key_without_associated_data_is_refused(vault: Any, bao: Bao) -> None:
    """A type of key that could not be bound to a place does not wrap."""
    problem = problem_of(new_vault_key(vault, bao, key_type="rsa-2048"))

    assert not problem.is_temporary
    assert "does its type know associated data" in str(problem)


def test_an_engine_that_is_not_there_says_so(vault: Any, bao: Bao) -> None:
    """A wrong mount is named in the id that the error shows."""
    problem = problem_of(VaultMasterKey.parse(f"{bao.entry.removesuffix('transit')}nowhere/key"))

    assert not problem.is_temporary
    assert "refuses vault:nowhere/key (InvalidPath)" in str(problem)


def test_a_token_that_is_refused_is_told(vault: Any, bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong token is an error to be mended by hand."""
    key = new_vault_key(vault, bao)
    monkeypatch.setenv("VAULT_TOKEN", "s.wrong")

    problem = problem_of(key)
    assert not problem.is_temporary
    assert "check the token" in str(problem)
    assert "s.wrong" not in str(problem)


def test_the_token_may_stand_in_a_file(vault: Any, bao: Bao, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is read as the variable is, and a file that cannot be read is told."""
    key = new_vault_key(vault, bao)
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(tmp_path / "token"))
    assert "cannot read the file that VAULT_TOKEN_FILE names" in str(problem_of(key))

    (tmp_path / "token").write_text(f"{bao.token}\n")
    monkeypatch.delenv("VAULT_TOKEN")
    assert key.unwrap(key.wrap(DATA_KEY, PLACE), PLACE) == DATA_KEY


def test_nobody_logged_in_is_told(vault: Any, bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without token and role the error names all ways to log in."""
    key = new_vault_key(vault, bao)
    monkeypatch.delenv("VAULT_TOKEN")

    assert "set VAULT_TOKEN, VAULT_TOKEN_FILE, or VAULT_ROLE_ID and VAULT_SECRET_ID" in str(problem_of(key))


def test_an_application_role_logs_in_and_logs_in_again(vault: Any, bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of a role is fetched once, and another one when it was revoked; least rights are enough."""
    key = new_vault_key(vault, bao)
    policy = "\n".join(
        f'path "transit/{verb}/{key.fingerprint}" {{ capabilities = ["update"] }}' for verb in ("encrypt", "decrypt")
    )
    vault.sys.create_or_update_policy("app", policy)
    if "approle/" not in vault.sys.list_auth_methods():
        vault.sys.enable_auth_method("approle")
    vault.auth.approle.create_or_update_approle("app", token_policies=["app"])
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE_ID", vault.auth.approle.read_role_id("app")["data"]["role_id"])
    monkeypatch.setenv("VAULT_SECRET_ID", vault.auth.approle.generate_secret_id("app")["data"]["secret_id"])

    stored = key.wrap(DATA_KEY, PLACE)
    first = key._token
    assert key.unwrap(stored, PLACE) == DATA_KEY
    assert key._token == first is not None
    vault.auth.token.revoke(first)
    assert key.unwrap(stored, PLACE) == DATA_KEY
    assert key._token not in {None, first}
    monkeypatch.setenv("VAULT_SECRET_ID", "wrong")
    vault.auth.token.revoke(key._token)
    assert not problem_of(key).is_temporary


def test_a_vault_that_cannot_be_reached_is_temporary(vault: Any) -> None:
    """Nothing listens there, or something that never answers."""
    assert problem_of(VaultMasterKey.parse(f"vault+http://127.0.0.1:{free_port()}/transit/key")).is_temporary
    with silent_server() as port:
        silent = VaultMasterKey(f"http://127.0.0.1:{port}", mount="transit", name="key", timeout=SHORT)
        assert "does not answer (ReadTimeout)" in str(problem_of(silent))


def test_a_login_that_is_lost_leaves_nothing_of_the_refusal(
    vault: Any, bao: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that was revoked, and no other one in its place: the error says how to log in, and is alone."""
    key = new_vault_key(vault, bao)
    monkeypatch.setenv("VAULT_TOKEN", vault.auth.token.create(policies=["root"])["auth"]["client_token"])
    key.wrap(DATA_KEY, PLACE)
    vault.auth.token.revoke(key._token)
    monkeypatch.delenv("VAULT_TOKEN")

    assert "nobody is logged in" in str(problem_of(key))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_a_proxy_answers_passes(vault: Any, status: int) -> None:
    """Whoever stands between and cannot answer now is tried again later."""

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Busy) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            problem = problem_of(VaultMasterKey.parse(f"vault+http://127.0.0.1:{proxy.server_port}/transit/key"))
        finally:
            proxy.shutdown()
            thread.join()
    assert problem.is_temporary


def test_a_sealed_vault_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has to unseal it, and then the same call succeeds."""
    with running_bao() as sealed:
        monkeypatch.setenv("VAULT_TOKEN", sealed.token)
        key = VaultMasterKey.parse(f"{sealed.entry}/app")
        stored = key.wrap(DATA_KEY, PLACE)
        client = sealed.client()
        client.sys.seal()
        client.adapter.close()
        problem = problem_of(key)
        with pytest.raises(MasterKeyError) as caught:
            key.unwrap(stored, PLACE)
    assert problem.is_temporary
    assert caught.value.is_temporary
    assert "is it sealed?" in str(problem)


@pytest.mark.parametrize(
    "entry",
    [
        "vault://host/key",
        "vault:///transit/key",
        "vault://user:hunter2@host/transit/key",
        "vault://host/transit/key?token=hunter2",
        "vault://host/transit/key#hunter2",
        "vault://host/tran sit/key",
        "vault://[::1/transit/hunter2",
        "vault:hunter2",
        "vault:aHVudGVyMg==",
    ],
)
def test_a_vault_entry_that_is_wrong_is_not_repeated(entry: str) -> None:
    """How to write one is said, and nothing of what was written."""
    with pytest.raises(MasterKeyError, match="is written vault://host:port/mount/key") as caught:
        VaultMasterKey.parse(entry)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "address", "key_id"),
    [
        ("vault://bao.example:8200/transit/app", "https://bao.example:8200", "vault:transit/app"),
        ("vault+http://[::1]:8200/teams/a/transit/app", "http://[::1]:8200", "vault:teams/a/transit/app"),
    ],
)
def test_a_vault_entry_names_server_mount_and_key(entry: str, address: str, key_id: str) -> None:
    """The id holds no host: a server may move."""
    key = VaultMasterKey.parse(entry)

    assert (key._address, key.id, key.fingerprint) == (address, key_id, "app")
