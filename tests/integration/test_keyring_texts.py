"""A key ring from settings: keys of several kinds together, and files and folders of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from secretstore import ConfigurationError, MasterKeyError, connect
from secretstore.crypto.local import generate_master_key
from secretstore.keyrings import open_keyring
from secretstore.settings import load_settings

ARN = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
VAULT = "vault://bao.example:8200/transit/app"


def test_a_ring_holds_keys_of_all_kinds() -> None:
    """They stand in their order, each under its id, and nothing connects."""
    ring = open_keyring(f"# prod\n{ARN}\n{VAULT}, {generate_master_key('local')}")

    assert repr(ring) == f"KeyRing({ARN}, vault:transit/app, local)"
    assert [key.fingerprint for key in ring.master_keys[:2]] == ["1234abcd-12ab-34cd-56ef-1234567890ab", "app"]


@pytest.mark.parametrize("entry", [f"arn:{'A' * 43}=", f"vault:{'A' * 43}="])
def test_ids_of_servers_are_no_ids_of_local_keys(entry: str) -> None:
    """A local key cannot be called like a kind of server; its bytes are not repeated."""
    with pytest.raises(MasterKeyError) as caught:
        open_keyring(entry)
    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize(("module", "entry", "extra"), [("boto3", ARN, "aws"), ("hvac", VAULT, "vault")])
def test_a_missing_sdk_names_its_extra(module: str, entry: str, extra: str) -> None:
    """Where the extra is not installed, whoever names such a key is told what to install, at once."""
    program = (
        f"import sys; sys.modules['{module}'] = None\n"
        "from secretstore.keyrings import open_keyring\n"
        f"try: open_keyring('{entry}')\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert f"pip install 'pg-secretstore[{extra}]'" in done.stdout


def test_the_settings_open_any_kind(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client takes them from the environment, and a local key works beside keys of servers."""
    local = generate_master_key("local")
    monkeypatch.setenv("SECRETSTORE_KEYS", f"{local},{ARN},{VAULT}")
    with connect(database_url) as store:
        store.set_secret("a", 1)
        assert store.get_secret("a") == 1
        assert [info.state for info in store.keys.list_master_keys()] == ["wraps", "unwraps", "unwraps"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two key files, named by date, and what a container platform puts beside them."""
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("2025-06", "2026-01"):
        (keys / name).write_text(generate_master_key(f"k{name}") + "\n")
        (keys / name).chmod(0o600)
    (keys / "..data").mkdir()
    (keys / ".hidden").write_text("nonsense")
    return keys


def ring_of_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read the key ring that the settings name, and return its repr."""
    monkeypatch.setenv("SECRETSTORE_KEYS_FILE", str(path))
    keys = load_settings().keys
    assert keys is not None
    return repr(open_keyring(keys.get_secret_value()))


def test_the_last_file_of_a_folder_encrypts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of files that are named by date comes first; hidden ones are passed over."""
    assert ring_of_file(folder, monkeypatch) == "KeyRing(k2026-01, k2025-06)"
    assert ring_of_file(folder / "2025-06", monkeypatch) == "KeyRing(k2025-06)"


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666, 0o620])
def test_a_file_that_others_may_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    """One such file of a folder is enough, and the error says which and what to do."""
    (folder / "2025-06").chmod(mode)

    for path in (folder, folder / "2025-06"):
        with pytest.raises(MasterKeyError, match=r"others may read the key file .*2025-06; run `chmod 600"):
            ring_of_file(path, monkeypatch)


def test_a_group_may_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a container platform can hand a file to the group of its user."""
    (folder / "2025-06").chmod(0o640)

    assert ring_of_file(folder, monkeypatch) == "KeyRing(k2026-01, k2025-06)"


def test_a_file_that_is_no_text_is_a_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not UTF-8, and what is not there, is told with the variable's name."""
    (folder / "2026-01").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"SECRETSTORE_KEYS_FILE names, .*: it is not UTF-8"):
        ring_of_file(folder, monkeypatch)
    with pytest.raises(ConfigurationError, match=r"SECRETSTORE_KEYS_FILE names, .*: No such file"):
        ring_of_file(folder / "missing", monkeypatch)


def test_an_empty_folder_is_an_empty_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no store without a key."""
    with pytest.raises(MasterKeyError, match="the key ring is empty"):
        ring_of_file(tmp_path, monkeypatch)
