"""Which provider takes which URL."""

import contextlib
import importlib
from pathlib import Path

import pytest

import secretstore
from secretstore import ConfigurationError, SecretProvider, connecting
from secretstore.opening import _OURS, open_provider
from secretstore.providers.memory import MemoryProvider
from tests.support.project import ROOT, run_python

# What another package brings: a function from a URL to a provider.
MODULE = """
from secretstore.providers.memory import MemoryProvider

def open_theirs(url):
    return MemoryProvider(name=f"theirs of {url}")
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs_of_a_test.py").write_text(MODULE)
    return tmp_path


def install(packages: Path, name: str, scheme: str, value: str = "theirs_of_a_test:open_theirs") -> None:
    """Leave what an installer leaves of a package."""
    folder = packages / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[secretstore.providers]\n{scheme} = {value}\n")
    importlib.invalidate_caches()


@pytest.mark.parametrize("url", ["memory:", "MEMORY:", "Env://?prefix=A_", "file:///run/secrets", "dotenv:///.env"])
def test_a_url_is_opened(url: str) -> None:
    """The scheme decides, in whatever letters; nothing is looked for before the first call."""
    provider: SecretProvider = secretstore.open_provider(url)

    assert provider.name.startswith(url.partition(":")[0].lower())


# One for each provider, as they stand in the index of the pages, with the names that they get.
URLS = {
    "postgresql://app@db/app": "postgresql://db/app?namespace=default",
    "aws-ssm://eu-west-1/app/prod/": "aws-ssm://eu-west-1/app/prod/",
    "aws-secretsmanager://eu-west-1/app/prod/": "aws-secretsmanager://eu-west-1/app/prod/",
    "vault://host:8200/secret/app": "vault://host:8200/secret/app",
    "env://?prefix=APP_": "env://?prefix=APP_",
    "file:///run/secrets": "file:///run/secrets",
    "dotenv:///path/.env": "dotenv:///path/.env",
    "memory:": "memory:",
}


@pytest.mark.parametrize(("url", "name"), URLS.items())
def test_each_provider_has_one_url(url: str, name: str, master_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening it connects to nothing, and its name is the place."""
    monkeypatch.setenv("SECRETSTORE_KEYS", master_key)

    with contextlib.closing(open_provider(url)) as provider:
        assert provider.name == name


@pytest.mark.parametrize(
    ("scheme", "sdk", "extra"),
    [
        ("aws-ssm", "boto3", "aws"),
        ("aws-secretsmanager", "boto3", "aws"),
        ("vault", "hvac", "vault"),
    ],
)
def test_a_missing_sdk_names_its_extra(scheme: str, sdk: str, extra: str) -> None:
    """Where the extra is not installed, whoever opens such a URL is told what to install, at once."""
    (url,) = (url for url in URLS if url.startswith(f"{scheme}:"))
    program = (
        f"import sys; sys.modules[{sdk!r}] = None\nfrom secretstore import open_provider\n"
        f"try: open_provider({url!r})\nexcept ImportError as error: print(error)"
    )
    ran = run_python("-W", "error", "-c", program, folder=ROOT)

    assert f"pip install 'pg-secretstore[{extra}]'" in ran.stdout, ran.stderr


def test_the_embedded_server_is_called_as_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a database URL for a client is one for a provider, so that a program can hand its own on."""
    monkeypatch.setattr(connecting, "open_postgres", lambda url: MemoryProvider(name=f"opened {url}"))

    assert open_provider("embedded").name == "opened embedded"
    assert open_provider("embedded:").name == "opened embedded:"


def test_others_providers_are_opened(packages: Path) -> None:
    """They get the URL as it is."""
    install(packages, "theirs", "theirs")

    assert open_provider("Theirs://host/%2F?a=b#c").name == "theirs of Theirs://host/%2F?a=b#c"


def test_a_scheme_that_nobody_takes_is_refused(packages: Path) -> None:
    """The error names those that there are, others' too, and shows nothing else of the URL."""
    install(packages, "theirs", "theirs")
    with pytest.raises(ConfigurationError) as caught:
        open_provider("nobody://app:s3cret@host/s3cret")

    assert "nobody:" in str(caught.value)
    assert {"memory,", "theirs,", "vault"} <= set(str(caught.value).split())
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "s3cret", "//host/s3cret", "1s3cret://host", "s3 cret://host"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """It may be a secret in the wrong place, and is not shown."""
    with pytest.raises(ConfigurationError, match="named by a URL") as caught:
        open_provider(url)
    assert "cret" not in str(caught.value).replace("secret/app", "")


def test_one_of_ours_is_never_taken_by_others(packages: Path) -> None:
    """Whatever else is installed, `memory:` and the others stay what they are."""
    for scheme in _OURS:
        install(packages, f"taker-of-{scheme.partition('+')[0]}-{len(scheme)}", scheme)

    assert open_provider("memory:").name == "memory:"
    assert open_provider("env://").name == "env://"


def test_two_packages_that_take_the_same_scheme_are_refused(packages: Path) -> None:
    """Nobody knows which is meant; the error names both."""
    install(packages, "first-package", "theirs")
    install(packages, "second-package", "theirs")

    with pytest.raises(ConfigurationError, match=r"first-package and second-package .* theirs:"):
        open_provider("theirs://s3cret")


def test_an_entry_point_that_names_nothing_is_refused(packages: Path) -> None:
    """The error names the package and what it lacks."""
    install(packages, "broken-package", "theirs", "theirs_of_a_test:missing")

    with pytest.raises(ConfigurationError, match=r"broken-package has no theirs_of_a_test:missing"):
        open_provider("theirs://s3cret")


def test_a_package_that_lacks_another_one_says_so(packages: Path) -> None:
    """It is an `ImportError`, as it is for our extras."""
    install(packages, "broken-package", "theirs", "missing_module_of_a_test:open")

    with pytest.raises(ImportError, match="missing_module_of_a_test"):
        open_provider("theirs://s3cret")
