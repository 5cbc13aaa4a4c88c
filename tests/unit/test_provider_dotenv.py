"""The lines of a `.env` file keep what providers promise of reading."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from secretstore.domain.names import parse_key
from secretstore.domain.providers import SecretProvider
from secretstore.errors import ConfigurationError, InvalidSecretKeyError, PermissionDeniedError, ProviderError
from secretstore.opening import open_provider
from secretstore.providers.formats import Format, encoded
from secretstore.testing import SecretProviderContract
from secretstore.testing.providers import Seed
from tests.support.nobody import nobody, reachable_folder

WITHOUT_THE_EXTRA = """
import sys
sys.modules["dotenv"] = None
from secretstore import open_provider
try:
    open_provider(sys.argv[1])
except ImportError as error:
    print(error)
"""


class DotenvContract(SecretProviderContract):
    """What there is to promise for every format."""

    form = Format.AUTO
    holds_every_key = False
    holds_every_value = False

    @pytest.fixture
    def provider(self, tmp_path: Path) -> SecretProvider:
        """An empty file."""
        (tmp_path / ".env").write_text("# nothing yet\nOTHERS=none of ours\n")
        return open_provider(f"dotenv://{tmp_path}/.env?prefix=APP_&format={self.form}")

    @pytest.fixture
    def seed(self, provider: SecretProvider, tmp_path: Path) -> Seed:
        """Write a line as `secretstore export` does."""
        pytest.importorskip("typer")
        from secretstore.cli.env_text import to_env
        from secretstore.cli.exit_codes import CommandError

        def append(key: str, value_json: bytes) -> None:
            problem, text = None, encoded(value_json, self.form, name=key)
            try:
                line = to_env([(parse_key(f"APP_{key}"), text)])
            except CommandError:
                problem = InvalidSecretKeyError(key)
            if problem:
                raise problem
            with (tmp_path / ".env").open("a", encoding="utf-8", newline="") as file:
                file.write(line)

        return append


class TestDotenv(DotenvContract):
    """Objects and strings."""


class TestDotenvOfText(DotenvContract):
    """Strings."""

    form = Format.TEXT


class TestDotenvOfJson(DotenvContract):
    """Everything is JSON."""

    form = Format.JSON
    holds_every_value = True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file as people write it."""
    path = tmp_path / ".env"
    path.write_text(
        "\ufeff# of the application\nexport DB_URL = 'postgresql://app:s3cret@db/app'  # main\n"
        'TOKEN="line\\nline"\nPLAIN=${HOME} $(id) # words\nEMPTY=\n',
        encoding="utf-8",
    )
    return path


def refusal(path: Path, query: str = "") -> ProviderError:
    """Return how a read is refused."""
    with pytest.raises(ProviderError) as caught:
        open_provider(f"dotenv://{path}{query}").read("TOKEN")
    shown = f"{caught.value}{caught.value.__context__}"
    assert "s3cret" not in shown
    assert str(path) in shown
    return caught.value


def test_a_file_as_people_write_it(file: Path) -> None:
    """Quotes, comments and `export` are those of python-dotenv; no variable is put in the place of its name."""
    provider = open_provider(f"dotenv://{file}")

    assert provider.list_keys() == ["DB_URL", "EMPTY", "PLAIN", "TOKEN"]
    assert {key: secret.value_json for key, secret in provider.read_many(provider.list_keys()).items()} == {
        "DB_URL": b'"postgresql://app:s3cret@db/app"',
        "EMPTY": b'""',
        "PLAIN": b'"${HOME} $(id)"',
        "TOKEN": b'"line\\nline"',
    }


def test_it_is_read_anew_each_time(file: Path) -> None:
    """What was changed meanwhile is there."""
    provider = open_provider(f"dotenv://{file}?prefix=TO")
    assert provider.list_keys() == ["KEN"]
    file.write_text("TO=nameless\nTOP=first\n")
    os.utime(file, (0, 1_000_000_000))

    assert provider.list_keys() == ["P"]
    info = provider.describe("P")
    assert info is not None
    assert info.updated_at is not None
    assert info.updated_at.isoformat() == "2001-09-09T01:46:40+00:00"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("export s3cret", "line 6 has no ="),
        ("A='s3cret", "line 6 is not NAME=value"),
        ("EMPTY=s3cret", "line 6 has a name that an earlier line has too"),
        ("' s3cret'=a", "line 6 of the file: its name"),
    ],
)
def test_a_line_that_is_none_is_refused(file: Path, line: str, words: str) -> None:
    """Nothing is passed over; the error names the line, and nothing of it."""
    with file.open("a") as opened:
        opened.write(f"{line}\n")

    assert words in str(refusal(file))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there, a folder, and a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "pipe")

    assert "there is no such file" in str(refusal(tmp_path / "missing"))
    assert "it is no file" in str(refusal(tmp_path))
    assert "it is no file" in str(refusal(tmp_path / "pipe"))


def test_a_file_is_read_up_to_its_limit(file: Path) -> None:
    """A larger one is refused, and so is one that is no text."""
    size = file.stat().st_size
    assert open_provider(f"dotenv://{file}?max_bytes={size}").list_keys()
    assert f"max_bytes={size - 1}" in str(refusal(file, f"?max_bytes={size - 1}"))

    file.write_bytes(b"TOKEN=s3cret\xff")
    assert "it is not UTF-8" in str(refusal(file))


@pytest.mark.parametrize(
    "url", ["dotenv:.env", "dotenv://.env", "dotenv://", "dotenv:///a?max_bytes=0", "dotenv:///a?b=c"]
)
def test_urls_that_say_something_else_are_refused(url: str) -> None:
    """Nothing is passed over."""
    with pytest.raises(ConfigurationError, match="dotenv URL"):
        open_provider(url)


def test_a_file_that_may_not_be_read_is_denied() -> None:
    """The error says whose fault it is."""
    with reachable_folder() as folder:
        (folder / ".env").write_text("TOKEN=s3cret\n")
        (folder / ".env").chmod(0)
        with nobody(), pytest.raises(PermissionDeniedError, match=r"may not be read by this process"):
            open_provider(f"dotenv://{folder}/.env").list_keys()


def test_without_the_extra_the_error_names_it(file: Path) -> None:
    """Whoever has not installed it reads how to, before the file is read."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT_THE_EXTRA, f"dotenv://{file}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert "pg-secretstore[dotenv]" in ran.stdout
