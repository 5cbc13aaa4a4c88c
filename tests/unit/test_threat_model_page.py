"""Each statement of docs/threat-model.md names tests that are there, or says why there is none."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
SHOWN_HERE = ROOT / "tests" / "integration" / "test_threat_model.py"

pytestmark = pytest.mark.source


@pytest.fixture(scope="module")
def page() -> str:
    """The text of the page."""
    return PAGE.read_text(encoding="utf-8")


def named_tests(text: str) -> list[tuple[str, str]]:
    """Return each test that a text links to, and its file."""
    return re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", text)


def names_in(file: Path) -> set[str]:
    """Return the names of a file's tests."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_test_that_the_page_names_is_there(page: str) -> None:
    """A link leads to a file, and the file has a test of that name."""
    named = named_tests(page)
    missing = [name for name, target in named if name not in names_in(PAGE.parent / target)]

    assert len(named) > 50
    assert missing == []
    assert page.count("`test_") == len(named)


def test_every_statement_says_what_shows_it(page: str) -> None:
    """The last cell of each row is a list of tests, or `none:` with a reason."""
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.endswith("| shown by |")]
    proofs = [row.strip("| ").rsplit(" | ", 1)[1] for row in rows]

    links = r"\[`test_\w+`\]\([^)]+\)"
    allowed = rf"{links}(, {links})*|none: .+"
    assert len(proofs) > 50
    assert [proof for proof in proofs if not re.fullmatch(allowed, proof)] == []


def test_the_page_names_every_test_that_was_written_for_it(page: str) -> None:
    """No test of tests/integration/test_threat_model.py is left out."""
    assert names_in(SHOWN_HERE) - {name for name, _ in named_tests(page)} == set()
