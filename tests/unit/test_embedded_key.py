"""The key file of the embedded server, which needs no running server."""

import stat
from pathlib import Path

import pytest

from secretstore import MasterKeyError
from secretstore.domain.protocols import DataKeyPlace
from secretstore.embedded import EmbeddedFolder
from tests.support.threads import run_together

AT_ONCE = 8


@pytest.fixture
def folder(tmp_path: Path) -> EmbeddedFolder:
    """A data folder that is not there yet, in a folder that is not there either."""
    return EmbeddedFolder(tmp_path / "new" / "postgresql")


def test_the_first_call_makes_a_key_file_beside_the_data(folder: EmbeddedFolder) -> None:
    """The key file lies beside the data folder, for its owner only, and nothing else is made."""
    folder.keyring()

    assert list(folder.data.parent.iterdir()) == [folder.key_file]
    assert folder.key_file.name == "postgresql.keys"
    assert stat.S_IMODE(folder.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.key_file.parent.stat().st_mode) == 0o700


def test_the_next_call_uses_the_same_key(folder: EmbeddedFolder) -> None:
    """A later key ring opens what an earlier one wrapped."""
    made = folder.keyring().new_data_key("default")

    opened = EmbeddedFolder(folder.data).keyring().open(made.wrapped, DataKeyPlace("default", made.id))

    assert opened.id == made.id


def test_a_key_file_that_is_there_stays(folder: EmbeddedFolder, master_key: str) -> None:
    """A key file of the user's own is used as it is, to the byte."""
    folder.key_file.parent.mkdir()
    folder.key_file.write_text(f"# mine\n{master_key}\n")
    folder.key_file.chmod(0o600)

    ring = folder.keyring()

    assert repr(ring) == "KeyRing(test)"
    assert folder.key_file.read_text() == f"# mine\n{master_key}\n"


def test_first_calls_at_once_agree_on_one_key(folder: EmbeddedFolder) -> None:
    """Of many that make the key file at once one wins, and all the others use its key."""
    rings = run_together(*[folder.keyring] * AT_ONCE)

    made = [ring.new_data_key("default") for ring in rings]
    now = folder.keyring()
    assert [now.open(key.wrapped, DataKeyPlace("default", key.id)).id for key in made] == [key.id for key in made]
    assert list(folder.data.parent.iterdir()) == [folder.key_file]


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o644, 0o666])
def test_a_key_file_that_others_may_read_or_write_is_refused(folder: EmbeddedFolder, mode: int) -> None:
    """A key file that is open to others is a `MasterKeyError` that says what to type, and stays."""
    folder.keyring()
    folder.key_file.chmod(mode)

    with pytest.raises(MasterKeyError, match=rf"run `chmod 600 {folder.key_file}`"):
        folder.keyring()


def test_a_lost_key_file_is_a_missing_key_and_not_a_wrong_one(folder: EmbeddedFolder) -> None:
    """After the key file was lost, the error of an old value names the key that is missing."""
    made = folder.keyring().new_data_key("default")
    lost = folder.key_file.read_text().partition(":")[0]
    folder.key_file.unlink()

    with pytest.raises(MasterKeyError, match=rf"wrapped by master key '{lost}', which is not in the key ring"):
        folder.keyring().open(made.wrapped, DataKeyPlace("default", made.id))


def test_a_broken_key_file_is_an_error_and_stays(folder: EmbeddedFolder) -> None:
    """An empty key file is a `MasterKeyError`; it is not filled with a new key."""
    folder.key_file.parent.mkdir()
    folder.key_file.touch(mode=0o600)

    with pytest.raises(MasterKeyError, match="the key ring is empty"):
        folder.keyring()

    assert folder.key_file.read_text() == ""


def test_an_id_is_made_anew_for_each_key_file(tmp_path: Path) -> None:
    """Two embedded servers have keys of different names."""
    names = {repr(EmbeddedFolder(tmp_path / name).keyring()) for name in ("one", "two")}

    assert len(names) == 2
