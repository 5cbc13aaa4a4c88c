"""What README.md says of methods, settings, rooms and exit codes is so."""

import inspect
import re
from pathlib import Path

import pytest

import secretstore
from secretstore import SecretService
from secretstore.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.source


@pytest.fixture(scope="module")
def readme() -> str:
    """The text of README.md."""
    return (ROOT / "README.md").read_text(encoding="utf-8")


def section(readme: str, title: str) -> str:
    """Return the text under a title."""
    return readme.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_method_table_shows_every_method_with_its_parameters(readme: str) -> None:
    """The table of methods is the list of the service's public methods and their signatures."""
    shown = dict(re.findall(r"^\| `(\w+)(\(.*?\))` \|", section(readme, "Methods"), re.MULTILINE))

    methods = inspect.getmembers(SecretService, inspect.isfunction)
    expected = {name: signature(method) for name, method in methods if not name.startswith("_")}
    assert shown == expected


def signature(method: object) -> str:
    """Return parameters as a person writes them: without annotations and without self."""
    assert callable(method)
    parameters = list(inspect.signature(method).parameters.values())[1:]
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(plain)).replace("=''", '=""')


def test_the_settings_table_shows_every_setting(readme: str) -> None:
    """The table of settings names each variable once."""
    shown = re.findall(r"^\| `(SECRETSTORE_\w+)` \|", section(readme, "Settings"), re.MULTILINE)

    assert shown == [PREFIX + name.upper() for name in Settings.model_fields]


def test_the_rooms_are_those_of_the_package(readme: str) -> None:
    """The drawing of the rooms names every module and package at the top of the library."""
    drawing = section(readme, "How it is built").split("```")[1]
    shown = {name for line in drawing.strip().splitlines() for name in re.split(r"\s{2,}", line)[0].split(" · ")}

    package = Path(secretstore.__file__).parent
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert shown == rooms - {"__init__", "__main__"}


def test_the_links_of_every_page_lead_somewhere() -> None:
    """Each relative link of README.md and docs/ names a file that is there."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert broken == []
