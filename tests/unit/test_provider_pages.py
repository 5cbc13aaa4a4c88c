"""The pages of providers say the same things in the same order, and the index says what is so."""

import re
from pathlib import Path

import pytest

from secretstore.domain.providers import Ability
from secretstore.opening import _OURS, open_provider

DOCS = Path(__file__).parents[2] / "docs" / "providers"
OTHERS = {"README.md", "using.md", "your-own.md"}
TITLES = ["What maps to what", "What is lost", "Rights it needs", "Costs and limits", "When it fails"]
# Other words for the store in PostgreSQL.
SAME = {"postgres", "postgresql+psycopg"}

pytestmark = pytest.mark.source


@pytest.fixture(scope="module")
def index() -> str:
    """The text of the index."""
    return (DOCS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md") if path.name not in OTHERS))
def test_a_page_has_the_shape_of_all(index: str, page: str) -> None:
    """Whoever compares places finds each thing where it is on the page beside, and the index leads to it."""
    titles = re.findall(r"^## (.*)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)

    assert [title for title in titles if title in TITLES] == TITLES
    assert f"]({page})" in index


def test_the_index_names_every_scheme(index: str) -> None:
    """By a URL of each."""
    table = index.partition("| place | URL | needs |")[2].partition("\n\n")[0]
    schemes = {url.partition(":")[0] for urls in re.findall(r"\| `(.*?)` \|", table) for url in urls.split("`, `")}

    assert schemes == set(_OURS) - SAME


def test_the_index_tells_the_abilities(index: str) -> None:
    """A row for each ability, and what the providers say that need no server."""
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `([A-Z_]+)`.*?((?: \|[^|\n]*){6}) \|$", index, re.MULTILINE)}
    assert list(rows) == [ability.name for ability in Ability]

    cells = {name: [cell.strip() for cell in row[0].split("|")[1:]] for name, row in rows.items()}
    memory = {name for name, row in cells.items() if row[-1]}
    reading = {name for name, row in cells.items() if row[-2]}
    assert memory == {ability.name for ability in open_provider("memory:").abilities}
    for url in ("env://", "file:///run/secrets", "dotenv:///.env"):
        assert reading == {ability.name for ability in open_provider(url).abilities}
