"""Files in a folder keep what providers promise of reading, and nothing leads out of the folder."""

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from secretstore.domain.providers import SecretProvider
from secretstore.errors import (
    ConfigurationError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    PermissionDeniedError,
    ProviderError,
    SecretStoreError,
)
from secretstore.opening import open_provider
from secretstore.providers.files import FilesProvider
from secretstore.providers.formats import Format, encoded
from secretstore.testing import SecretProviderContract
from secretstore.testing.providers import Seed
from tests.support.nobody import nobody, reachable_folder

VALUE = "s3cret"
JSON = b'"s3cret"'
DESCRIPTORS = Path("/proc/self/fd")


def put(folder: Path, key: str, text: str) -> None:
    """Write a file as an editor does, or refuse the key as no file can have that name."""
    names = key.split("/")
    if any(name in {"", "."} or name.startswith("..") for name in names):
        raise InvalidSecretKeyError(key)
    path = folder.joinpath(*names)
    problem = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8", newline="")
    except OSError:
        problem = InvalidSecretKeyError(key)
    if problem:
        raise problem


class FilesContract(SecretProviderContract):
    """What there is to promise for every format."""

    form = Format.AUTO
    holds_every_key = False
    holds_every_value = False

    @pytest.fixture
    def provider(self, tmp_path: Path) -> SecretProvider:
        """An empty folder."""
        return FilesProvider(str(tmp_path), form=self.form)

    @pytest.fixture
    def seed(self, tmp_path: Path) -> Seed:
        """Write a file."""
        return lambda key, value: put(tmp_path, key, encoded(value, self.form, name=key))


class TestFiles(FilesContract):
    """Objects and strings."""


class TestFilesOfText(FilesContract):
    """Strings."""

    form = Format.TEXT


class TestFilesOfJson(FilesContract):
    """Everything is JSON."""

    form = Format.JSON
    holds_every_value = True


class Mount:
    """A folder as Kubernetes mounts it: links to links to the files of one moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.moment = 0
        folder.mkdir()

    def swap(self, files: dict[str, str]) -> None:
        """Put other files in the place of those that are there, all at once."""
        old, self.moment = f"..2026_{self.moment}", self.moment + 1
        new = f"..2026_{self.moment}"
        (self.folder / new).mkdir()
        for key, text in files.items():
            put(self.folder / new, key, text)
            top = self.folder / key.partition("/")[0]
            if not top.is_symlink():
                top.symlink_to(f"..data/{top.name}")
        (self.folder / "..data_tmp").symlink_to(new)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        shutil.rmtree(self.folder / old, ignore_errors=True)


class TestMountOfKubernetes(FilesContract):
    """Links inside of the folder are followed."""

    @pytest.fixture
    def provider(self, tmp_path: Path) -> SecretProvider:
        """An empty mount."""
        Mount(tmp_path / "mount").swap({})
        return open_provider(f"file://{tmp_path}/mount")

    @pytest.fixture
    def seed(self, provider: SecretProvider, tmp_path: Path) -> Seed:
        """Write behind the links."""

        def write(key: str, value: bytes) -> None:
            put(tmp_path / "mount" / "..data", key, encoded(value, self.form, name=key))
            top = tmp_path / "mount" / key.partition("/")[0]
            if not top.is_symlink():
                top.symlink_to(f"..data/{top.name}")

        return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a secret beside another one that is none of its business."""
    put(tmp_path, "outside/password", VALUE)
    put(tmp_path, "mount/inside", VALUE)
    return tmp_path / "mount"


@pytest.fixture
def provider(folder: Path) -> SecretProvider:
    """The provider of that folder."""
    return open_provider(f"file://{folder}")


def refusal(provider: SecretProvider, key: str) -> SecretStoreError:
    """Return how a read is refused."""
    with pytest.raises(SecretStoreError) as caught:
        provider.read(key)
    assert VALUE not in f"{caught.value}{caught.value.__context__}"
    return caught.value


@pytest.mark.parametrize(
    "target",
    ["../outside/password", "../mount/../outside/password", "/etc/hostname", "deep/up/outside/password", "circle"],
)
def test_no_link_leads_out(folder: Path, provider: SecretProvider, target: str) -> None:
    """It is refused with the reason, and not listed."""
    (folder / "deep").mkdir()
    (folder / "deep" / "up").symlink_to("../..")
    (folder / "circle").symlink_to("circle")
    (folder / "link").symlink_to(target)

    error = refusal(provider, "link")
    assert isinstance(error, ProviderError)
    assert "'link'" in str(error)
    assert "out of the folder" in str(error)
    with pytest.raises(ProviderError):
        provider.describe("link")
    assert provider.list_keys() == ["inside"]


def test_no_link_of_a_folder_leads_out(folder: Path, provider: SecretProvider) -> None:
    """Neither is what is behind it read, nor listed."""
    (folder / "others").symlink_to("../outside")

    assert isinstance(refusal(provider, "others/password"), ProviderError)
    assert provider.list_keys() == ["inside"]


@pytest.mark.parametrize(
    "key", ["../outside/password", "a/../../outside/password", "..", ".", "/etc/hostname", "inside/"]
)
def test_no_key_leads_out(provider: SecretProvider, key: str) -> None:
    """There is no such secret."""
    assert provider.read(key) is None
    assert provider.describe(key) is None
    assert provider.read_many([key, "inside"]).keys() == {"inside"}


def test_links_inside_are_followed(folder: Path, provider: SecretProvider) -> None:
    """To files and to folders, up and down, also where they lead back to a folder on the way."""
    put(folder, "deep/down/file", VALUE)
    (folder / "short").symlink_to("deep/down/file")
    (folder / "deep" / "up").symlink_to("../inside")
    (folder / "deep" / "round").symlink_to("..")
    (folder / "dangling").symlink_to("nothing")
    (folder / "through").symlink_to("inside/nothing")

    keys = ["deep/down/file", "deep/up", "inside", "short"]
    assert provider.list_keys() == keys
    assert {key: secret.value_json for key, secret in provider.read_many([*keys, "deep/round/inside"]).items()} == {
        **dict.fromkeys(keys, JSON),
        "deep/round/inside": JSON,
    }
    assert provider.read("dangling") is provider.read("through") is provider.read("deep") is None


@pytest.fixture
def odd(folder: Path) -> Iterator[None]:
    """A pipe that nobody writes to, and a socket."""
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(folder)
        listening.bind("socket")
        os.chdir(here)
        yield


@pytest.mark.parametrize("key", ["pipe", "socket"])
def test_what_is_no_file_is_refused(odd: None, provider: SecretProvider, key: str) -> None:
    """Nobody waits for a pipe."""
    assert "no file" in str(refusal(provider, key))
    assert provider.list_keys() == ["inside"]


def test_a_pipe_that_takes_the_place_of_a_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Also where it was a file when it was looked at."""
    from secretstore.providers.regular_files import NotRegularError, read_regular

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotRegularError):
        read_regular(str(tmp_path / "pipe"), max_bytes=9)


def test_a_file_is_read_up_to_its_limit(folder: Path) -> None:
    """One byte more is refused, and none of it is shown."""
    exact = open_provider(f"file://{folder}?max_bytes={len(VALUE) + 1}").read("inside")
    assert exact is not None

    error = refusal(open_provider(f"file://{folder}?max_bytes={len(VALUE)}"), "inside")
    assert isinstance(error, InvalidSecretValueError)
    assert f"max_bytes={len(VALUE)}" in str(error)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"a\n", b'"a"'),
        (b"a\r\n", b'"a"'),
        (b"a\n\n", b'"a\\n"'),
        (b"a\r", b'"a\\r"'),
        (b" a", b'" a"'),
        (b"", b'""'),
        (b"\n", b'""'),
        (b'{"a": 1}\n', b'{"a": 1}'),
    ],
)
def test_one_line_end_is_no_part_of_a_text(folder: Path, provider: SecretProvider, data: bytes, value: bytes) -> None:
    """Editors add it; everything else stays."""
    (folder / "inside").write_bytes(data)

    secret = provider.read("inside")
    assert secret is not None
    assert secret.value_json == value


def test_bytes_that_are_no_text_are_refused(folder: Path, provider: SecretProvider) -> None:
    """The error names the file and shows nothing of it."""
    (folder / "inside").write_bytes(VALUE.encode() + b"\xff")

    error = refusal(provider, "inside")
    assert str(error) == f"'inside' in file://{folder} is not UTF-8"
    assert isinstance(error, InvalidSecretValueError)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that everybody may pass through."""
    with reachable_folder() as folder:
        yield folder


def test_what_may_not_be_read_is_denied(reachable: Path) -> None:
    """A file, and a folder that would make the list shorter than it is; the others are read."""
    for key in ("open", "shut", "closed/file"):
        put(reachable, key, VALUE)
    (reachable / "shut").chmod(0)
    provider = open_provider(f"file://{reachable}")
    with nobody():
        assert provider.list_keys() == ["closed/file", "open", "shut"]
        assert isinstance(refusal(provider, "shut"), PermissionDeniedError)
    (reachable / "closed").chmod(0)
    with nobody():
        with pytest.raises(PermissionDeniedError):
            provider.list_keys()
        assert isinstance(refusal(provider, "closed/file"), PermissionDeniedError)
        assert provider.list_keys("o") == ["open"]
        assert provider.read("open") is not None
    (reachable / "closed").chmod(0o755)


def test_a_folder_that_may_only_be_passed_through_is_read_by_key(reachable: Path) -> None:
    """To list it is denied."""
    put(reachable, "db/password", VALUE)
    (reachable / "db").chmod(0o111)
    reachable.chmod(0o111)
    provider = open_provider(f"file://{reachable}")
    with nobody():
        secret = provider.read("db/password")
        with pytest.raises(PermissionDeniedError):
            provider.list_keys()
    (reachable / "db").chmod(0o755)
    reachable.chmod(0o755)

    assert secret is not None
    assert secret.value_json == JSON


@pytest.mark.parametrize(("code", "is_temporary"), [(errno.EIO, True), (errno.ELOOP, True), (errno.EINVAL, False)])
def test_what_the_file_system_fails_with_is_told(folder: Path, code: int, is_temporary: bool) -> None:  # noqa: FBT001
    """In its words; some of it passes, such as a link that took the place of a file while it was opened."""

    def fail(_: int) -> None:
        raise OSError(code, "in a test")

    with pytest.raises(ProviderError, match="failed to read 'a'") as caught:
        FilesProvider(str(folder))._look("read 'a'", fail)
    assert os.strerror(code) in str(caught.value)
    assert caught.value.is_temporary is is_temporary


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It was not mounted, and nobody can tell what it would hold; it may come later."""
    provider = open_provider(f"file://{tmp_path}/later")
    for call in (provider.list_keys, lambda: provider.read("a"), lambda: provider.describe("a")):
        with pytest.raises(ProviderError, match="there is no such folder"):
            call()

    put(tmp_path / "later", "a", VALUE)
    assert provider.list_keys() == ["a"]


def test_names_that_are_no_keys_are_not_listed(folder: Path, provider: SecretProvider) -> None:
    """Those that break the rules of keys, and those of Kubernetes."""
    for name in (" space", "line\nend", "..hidden", os.fsdecode(b"\xff")):
        (folder / name).write_text(VALUE)

    assert provider.list_keys() == ["inside"]


def test_what_is_known_of_a_file(folder: Path, provider: SecretProvider) -> None:
    """It says when it was written last."""
    os.utime(folder / "inside", (0, 1_000_000_000))
    info = provider.describe("inside")

    assert info is not None
    assert info.updated_at is not None
    assert info.updated_at.isoformat() == "2001-09-09T01:46:40+00:00"


def test_what_kubernetes_swaps_meanwhile_is_looked_at_again(tmp_path: Path) -> None:
    """Whoever came in between finds nothing where something was all the time."""
    mount, looked = Mount(tmp_path / "mount"), 0
    mount.swap({"a": "old"})
    provider = FilesProvider(str(tmp_path / "mount"))

    def look(root: int) -> list[str]:
        nonlocal looked
        looked += 1
        folder = os.readlink("..data", dir_fd=root)
        if looked == 1:
            mount.swap({"a": "new"})
        return sorted(path.name for path in (tmp_path / "mount" / folder).glob("*"))

    assert provider._look("look", look) == ["a"]
    assert looked == len(["before", "after"])
    secret = provider.read("a")
    assert secret is not None
    assert secret.value_json == b'"new"'


def test_files_that_are_swapped_all_the_time_are_a_temporary_error(tmp_path: Path) -> None:
    """Nobody looks for ever."""
    mount = Mount(tmp_path / "mount")
    mount.swap({"a": "old"})

    with pytest.raises(ProviderError) as caught:
        FilesProvider(str(tmp_path / "mount"))._look("look", lambda _: mount.swap({"a": "new"}))
    assert caught.value.is_temporary


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="the system does not tell")
def test_no_descriptor_stays_open(folder: Path, provider: SecretProvider) -> None:
    """Neither after what was found, nor after what was refused."""
    (folder / "link").symlink_to("../outside/password")
    before = len(list(DESCRIPTORS.iterdir()))
    for _ in range(3):
        provider.read("inside")
        provider.list_keys()
        refusal(provider, "link")

    assert len(list(DESCRIPTORS.iterdir())) == before


@pytest.mark.parametrize(
    "query",
    ["//host/run", ":run/secrets", ":", "///run?max_bytes=0", "///run?max_bytes=x", "///run?format=xml", "///run?a=b"],
)
def test_urls_that_say_something_else_are_refused(query: str) -> None:
    """Nothing is passed over."""
    with pytest.raises(ConfigurationError, match="file URL"):
        open_provider(f"file{query if query.startswith(':') else ':' + query}")
