"""The package of docs/providers/your-own.md, built and installed as its page says, is a provider."""

import re
from pathlib import Path

import pytest

from tests.support.project import ROOT, build_wheel, run_python, unpack

pytestmark = pytest.mark.source

OPEN = """
import secretstore, sys
provider = secretstore.open_provider(sys.argv[1])
provider.write("a", b"1.10")
print(provider.name, provider.list_keys(), provider.read("a").value_json)
"""


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """The files of the page by their names."""
    page = (ROOT / "docs" / "providers" / "your-own.md").read_text(encoding="utf-8")
    blocks = re.findall(r"`([\w.]+)`[^`]*:\n\n```\w+\n(.*?)```", page, re.DOTALL)
    return dict(blocks)


@pytest.fixture(scope="module")
def installed(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package and its tests."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    for name, text in files.items():
        (source / name).write_text(text, encoding="utf-8")
    target = unpack(build_wheel(folder, source=source), folder / "installed")
    (target / "test_secretstore_sqlite.py").write_text(files["test_secretstore_sqlite.py"], encoding="utf-8")
    return target


def test_its_url_is_opened(installed: Path) -> None:
    """Nothing but its entry point tells this library of it."""
    ran = run_python("-W", "error", "-c", OPEN, f"sqlite://{installed}/secrets.db", folder=installed)

    assert ran.stderr == ""
    assert ran.stdout == f"sqlite://{installed}/secrets.db ['a'] b'1.10'\n"


def test_it_keeps_what_providers_promise(installed: Path) -> None:
    """Its own tests, which are the suite of this library, pass."""
    ran = run_python("-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(installed), folder=installed)

    assert " passed" in ran.stdout, ran.stdout
    assert ran.returncode == 0, ran.stdout
