"""Settings from arguments, variables and files."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from secretstore.errors import ConfigurationError, MasterKeyError, SecretStoreError
from secretstore.settings import Settings, load_settings, load_triggerdev_settings

URL = "postgresql://app:hunter2@db/app"
GIVEN = {
    "DATABASE_URL": URL,
    "NAMESPACE": "prod",
    "KEYS": "a:aHVudGVyMg==",
    "ACTOR": "me",
    "FORMAT": "json",
    "CHAIN": "env://",
}
EACH = pytest.mark.parametrize(("name", "text"), GIVEN.items(), ids=GIVEN)


def plain(settings: Settings, name: str) -> object:
    """A setting by the name of its variable, revealed."""
    found = getattr(settings, name.lower())
    return found.get_secret_value() if isinstance(found, SecretStr) else found


def named_file(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    """A file with a setting in it."""
    path = folder / "setting"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_without_any_setting_the_defaults_hold() -> None:
    """Only the namespace has a default."""
    settings = load_settings()

    assert {name: plain(settings, name) for name in GIVEN} == {**dict.fromkeys(GIVEN), "NAMESPACE": "default"}


@EACH
def test_a_variable_is_read(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Each setting comes from `SECRETSTORE_…`."""
    monkeypatch.setenv(f"SECRETSTORE_{name}", text)

    assert plain(load_settings(), name) == text


@EACH
def test_a_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str) -> None:
    """Each setting comes from the file that `SECRETSTORE_…_FILE` names, without the white space around it."""
    monkeypatch.setenv(f"SECRETSTORE_{name}_FILE", str(named_file(tmp_path, f"\n{text} \r\n")))

    assert plain(load_settings(), name) == text


@EACH
def test_a_variable_beside_its_file_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str
) -> None:
    """Nobody has to guess which of the two holds."""
    monkeypatch.setenv(f"SECRETSTORE_{name}", text)
    monkeypatch.setenv(f"SECRETSTORE_{name}_FILE", str(named_file(tmp_path, text)))

    with pytest.raises(ConfigurationError, match=f"both SECRETSTORE_{name} and SECRETSTORE_{name}_FILE are set"):
        load_settings()


@EACH
def test_an_argument_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str) -> None:
    """What a caller gives comes before variables and files; None does not count."""
    monkeypatch.setenv(f"SECRETSTORE_{name}", "table")

    assert plain(load_settings(**{name.lower(): text}), name) == text
    assert plain(load_settings(**{name.lower(): None}), name) == "table"


def test_an_argument_wins_over_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file is the last place to look."""
    monkeypatch.setenv("SECRETSTORE_NAMESPACE_FILE", str(named_file(tmp_path, "filed")))

    assert load_settings(namespace="given").namespace == "given"


@pytest.mark.parametrize("name", GIVEN)
def test_a_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """The error names the variable and the path."""
    monkeypatch.setenv(f"SECRETSTORE_{name}_FILE", str(tmp_path / "none"))

    with pytest.raises(ConfigurationError, match=f"SECRETSTORE_{name}_FILE names, .*none: No such file") as caught:
        load_settings()
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_file_that_is_not_text_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are not shown, and neither is a folder taken for a file."""
    monkeypatch.setenv("SECRETSTORE_ACTOR_FILE", str(named_file(tmp_path, b"hunter2\xff")))
    with pytest.raises(ConfigurationError, match="it is not UTF-8") as caught:
        load_settings()
    assert "hunter2" not in repr(caught.value)

    monkeypatch.setenv("SECRETSTORE_ACTOR_FILE", str(tmp_path))
    with pytest.raises(ConfigurationError, match="directory"):
        load_settings()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666, 0o620, 0o610, 0o601, 0o602])
def test_a_key_file_that_others_may_use_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int) -> None:
    """Master keys that everyone reads, or that a group writes, are an error that says what to do."""
    path = named_file(tmp_path, GIVEN["KEYS"], mode)
    monkeypatch.setenv("SECRETSTORE_KEYS_FILE", str(path))

    with pytest.raises(MasterKeyError, match=f"run `chmod 600 {path}`"):
        load_settings()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_key_file_of_its_owner_and_group_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int) -> None:
    """A container platform may hand a file to the group of its user."""
    monkeypatch.setenv("SECRETSTORE_KEYS_FILE", str(named_file(tmp_path, GIVEN["KEYS"], mode)))

    assert plain(load_settings(), "KEYS") == GIVEN["KEYS"]


def test_other_files_may_be_read_by_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A namespace is no secret."""
    monkeypatch.setenv("SECRETSTORE_NAMESPACE_FILE", str(named_file(tmp_path, "prod", 0o644)))

    assert load_settings().namespace == "prod"


def test_no_repr_shows_keys_or_url() -> None:
    """Settings can be printed."""
    settings = load_settings(database_url=URL, keys=GIVEN["KEYS"], listen_url=URL)

    assert not any(part in f"{settings!r} {settings}" for part in ("hunter2", "aHVudGVyMg", "postgresql"))


@pytest.mark.parametrize(
    "name", ["FORMAT", "DATABASE_URL", "KEYS", "NAMESPACE", "ACTOR", "CACHE", "CACHE_MAX_BYTES", "LISTEN_URL"]
)
def test_a_wrong_value_is_an_error_that_does_not_repeat_it(name: str) -> None:
    """The error names the variable only, and keeps nothing of what validation said."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**{name.lower(): ["hunter2"]})

    assert str(caught.value) == f"SECRETSTORE_{name} has a value that is not allowed"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_an_unknown_format_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only table, json and yaml are formats."""
    monkeypatch.setenv("SECRETSTORE_FORMAT", "xml")

    with pytest.raises(ConfigurationError, match=r"^SECRETSTORE_FORMAT has a value that is not allowed$"):
        load_settings()


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to correct one to learn of the next."""
    with pytest.raises(SecretStoreError, match="SECRETSTORE_ACTOR, SECRETSTORE_FORMAT has a value"):
        load_settings(format="xml", actor=1)


def test_settings_do_not_change() -> None:
    """A setting cannot be set afterwards."""
    settings = load_settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.namespace = "other"  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize("name", ["namespace", "Secretstore_Namespace_Typo", "SECRETSTORE_TYPO"])
def test_other_variables_are_not_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Only the names of the settings count."""
    monkeypatch.setenv(name, "other")

    assert load_settings() == Settings()
    assert load_settings().namespace == "default"


def test_no_env_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `.env` in the working folder is somebody else's."""
    (tmp_path / ".env").write_text("SECRETSTORE_NAMESPACE=other\n")
    monkeypatch.chdir(tmp_path)

    assert load_settings().namespace == "default"


TRIGGERDEV = pytest.mark.parametrize(
    ("name", "field"), [("DATABASE_URL", "database_url"), ("ENCRYPTION_KEY", "encryption_key")]
)


@TRIGGERDEV
def test_what_is_set_of_trigger_dev_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, field: str
) -> None:
    """`TRIGGERDEV_…` and `TRIGGERDEV_…_FILE` are read like our own, not both, and only under that prefix."""
    monkeypatch.setenv(f"SECRETSTORE_{name}", "ours")
    assert getattr(load_triggerdev_settings(), field) is None
    monkeypatch.setenv(f"TRIGGERDEV_{name}_FILE", str(named_file(tmp_path, "hunter2\n")))
    read = load_triggerdev_settings()
    assert getattr(read, field).get_secret_value() == "hunter2"
    assert "hunter2" not in repr(read)
    assert getattr(load_triggerdev_settings(**{field: "given"}), field).get_secret_value() == "given"

    monkeypatch.setenv(f"TRIGGERDEV_{name}", "other")
    with pytest.raises(ConfigurationError, match=f"both TRIGGERDEV_{name} and TRIGGERDEV_{name}_FILE are set"):
        load_triggerdev_settings()


def test_a_wrong_setting_of_trigger_dev_is_named_by_its_variable() -> None:
    """The prefix in the error is that of the variable."""
    with pytest.raises(ConfigurationError, match=r"^TRIGGERDEV_DATABASE_URL has a value that is not allowed$"):
        load_triggerdev_settings(database_url=["hunter2"])


def test_trigger_devs_key_file_is_not_for_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It opens as much as a master key does."""
    monkeypatch.setenv("TRIGGERDEV_ENCRYPTION_KEY_FILE", str(named_file(tmp_path, "hunter2", 0o644)))

    with pytest.raises(MasterKeyError, match="run `chmod 600"):
        load_triggerdev_settings()
