"""One logger for each room, and fields for those who log JSON."""

import ast
from collections.abc import Iterator
from pathlib import Path

import secretstore

PACKAGE = Path(secretstore.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
FILES = {
    file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text())
    for file in PACKAGE.rglob("*.py")
    if "migrations" not in file.parts
}


def calls(tree: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    """Give the calls of methods with one of these names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
            yield node


def test_a_logger_is_called_like_its_room() -> None:
    """The folder, or the file where that is the room."""
    found = {
        (ast.literal_eval(call.args[0]), f"secretstore.{file.removesuffix('.py').split('/')[0]}")
        for file, tree in FILES.items()
        for call in calls(tree, {"getLogger"})
        if isinstance(call.args[0], ast.Constant)
    }

    assert len(found) >= 5
    assert {named for named, _ in found} == {room for _, room in found}
    assert all(named == room for named, room in found)


def test_each_line_has_fields() -> None:
    """Whoever collects lines need not take words apart."""
    lines = [
        (file, call)
        for file, tree in FILES.items()
        for call in calls(tree, LEVELS)
        if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "_LOGGER"
    ]

    assert len(lines) >= 8
    assert [file for file, call in lines if "extra" not in {keyword.arg for keyword in call.keywords}] == []
