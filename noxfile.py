"""What can be run on this project: `nox -l` lists it, `nox -s tests` runs the tests."""

import os
import shutil
import zipfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYTHONS = ("3.11", "3.12", "3.13")
PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
PROJECT = nox.project.load_toml("pyproject.toml")
# The commit of the release before this one.
PREVIOUS = "b89e5d6b069d9cbfa510e0dafe0698d0b88bc520"
# What it knows of reading, writing and changing keys; its other tests are about the text of its own revisions, or touch no
# table.  Left out is test_keys_stateful.py, which empties the tables between its runs by a list of those that it knows.
TESTS_OF_PREVIOUS = (
    "tests/integration/test_service.py",
    "tests/integration/test_service_batches.py",
    "tests/integration/test_service_lists.py",
    "tests/integration/test_service_records.py",
    "tests/integration/test_transactions.py",
    "tests/integration/test_async.py",
    "tests/integration/test_concurrency.py",
    "tests/integration/test_rotation.py",
    "tests/integration/test_shredding.py",
    "tests/integration/test_tampering.py",
    "tests/integration/test_triggerdev.py",
    "tests/e2e/test_client.py",
)

# What a wheel can fail alone.  Its files are compared with those of the checkout, byte for byte, and so a test of what a
# function or a statement does cannot differ on it.  What can: whether everything imports and what is public, the entry
# point and the commands as such, what the extras bring, and where the revisions and other files are looked for.
TESTS_OF_WHEEL = (
    *(f"tests/unit/test_{name}.py" for name in ("imports", "public_surface", "server_choice", "settings")),
    *(
        f"tests/e2e/test_{name}.py"
        for name in ("cli_database", "cli_doctor", "cli_embedded", "cli_get", "cli_program", "client", "demo")
    ),
    *(
        f"tests/integration/test_{name}.py"
        for name in ("alembic_command", "embedded", "host_alembic", "migration_races")
    ),
    *(
        f"tests/integration/test_{name}.py"
        for name in ("migrations", "migrations_async", "release_before", "triggerdev")
    ),
)

# What never goes through the pooler: servers that the tests start themselves, and how the tests start commands.
TESTS_PAST_POOLER = tuple(f"tests/e2e/test_{name}.py" for name in ("cli_embedded", "demo", "preloaded"))

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests"]
# Where uv is there, installing takes seconds instead of a minute for each session.
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return nox.project.dependency_groups(PROJECT, name)


def interpreter(python: str) -> str:
    """Return pyenv's interpreter of a version, which is seldom on the path, or else leave the search to nox."""
    installed = sorted(PYENV.glob(f"{python}.*/bin/python{python}"))
    return str(installed[-1]) if installed else python


def in_processes() -> list[str]:
    """Return how pytest divides its tests: in two processes, each with a server of its own, unless one server is given.

    Those of a group share what they have made, in one of the two.
    """
    return [] if os.environ.get("SECRETSTORE_TEST_DATABASE_URL") else ["--numprocesses", "2", "--dist", "loadgroup"]


def run_tests(session: nox.Session, *arguments: str) -> None:
    """Run tests; a run of everything is measured, and has to reach the bar for branches."""
    if arguments or session.posargs:
        # A part has no bar.  Measuring makes each process of the command line start half as fast again.
        session.run("pytest", *in_processes(), *arguments, *session.posargs)
        return
    session.env["COVERAGE_FILE"] = str(Path(session.create_tmp()) / ".coverage")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *in_processes())
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests on the default Python."""
    session.install("-e", ".[all]", *group("test"))
    run_tests(session)


def add_tests_of(python: str) -> None:
    """Add the session of one Python, for each SQLAlchemy."""

    @nox.session(name=f"tests-{python}", python=interpreter(python))
    @nox.parametrize("sqlalchemy", ["2.0", "2.1"])
    def tests_of(session: nox.Session, sqlalchemy: str) -> None:
        """Run all tests on one Python with one SQLAlchemy."""
        session.install("-e", ".[all]", *group("test"), f"sqlalchemy[asyncio]=={sqlalchemy}.*")
        run_tests(session)


for version in PYTHONS:
    add_tests_of(version)


@nox.session(python=interpreter(PYTHONS[0]))
def lowest(session: nox.Session) -> None:
    """Run all tests with the lowest dependencies that are allowed."""
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(one for name, extra in extras.items() if name != "all" for one in extra),
    ]
    session.install(*group("test"))
    session.install("-e", ".", *(requirement.replace(">=", "==") for requirement in wanted))
    run_tests(session)


@nox.session
def unit(session: nox.Session) -> None:
    """Run the tests that need no database."""
    session.install("-e", ".[all]", *group("test"))
    run_tests(session, "tests/unit")


@nox.session
def integration(session: nox.Session) -> None:
    """Run the tests of repository, service, migrations, locks and races on a real PostgreSQL."""
    session.install("-e", ".[all]", *group("test"))
    run_tests(session, "tests/integration")


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the tests of the client and the command line as a person uses them."""
    session.install("-e", ".[all]", *group("test"))
    run_tests(session, "tests/e2e")


@nox.session
def pooler(session: nox.Session) -> None:
    """Run the tests of the client and the command line through a real PgBouncer in transaction mode."""
    session.install("-e", ".[all]", *group("test"))
    session.env["SECRETSTORE_TEST_POOLER"] = "pgbouncer"
    run_tests(session, "tests/e2e", *(f"--ignore={path}" for path in TESTS_PAST_POOLER))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, rooms and the SQL of the revisions; report everything that is wrong."""
    session.install("-e", ".", *group("lint"))
    revisions = Path(session.create_tmp()) / "revisions.sql"
    printed = session.run("python", "-c", "from secretstore import migrate; print(migrate.sql())", silent=True)
    revisions.write_text(str(printed), encoding="utf-8")
    commands = (
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("lint-imports",),
        ("squawk", "--config", str(ROOT / ".squawk.toml"), str(revisions)),
    )
    failed = [command[0] for command in commands if not succeeds(session, command)]
    if failed:
        session.error(f"failed: {', '.join(failed)}")


def succeeds(session: nox.Session, command: tuple[str, ...]) -> bool:
    """Run a command and tell whether it found nothing wrong."""
    try:
        session.run(*command)
    except nox.command.CommandFailed:
        return False
    return True


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly, of the package, the tests and the benchmarks."""
    session.install("-e", ".[all]", *group("test"), *group("docs"), *group("types"))
    session.run("mypy")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it elsewhere, and run tests without the source on the path.

    Those that a wheel can fail alone: of what it carries, its revisions, and the program; unless others are named.
    """
    session.install("build", *group("test"))
    elsewhere = Path(session.create_tmp()) / "elsewhere"
    shutil.rmtree(elsewhere, ignore_errors=True)
    elsewhere.mkdir()
    session.run("python", "-m", "build", "--outdir", str(elsewhere / "dist"), str(ROOT))
    (built,) = (elsewhere / "dist").glob("*.whl")
    differing = sorted(differing_files(built))
    if differing:
        session.error(f"the wheel and the checkout differ in {', '.join(differing)}")
    session.install("--force-reinstall", "--no-deps", str(built))
    session.install(f"{built}[all]")
    for folder in ("tests", "benchmarks"):
        shutil.copytree(ROOT / folder, elsewhere / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", elsewhere)
    session.chdir(elsewhere)
    session.run("pytest", *in_processes(), "-m", "not source", *(session.posargs or TESTS_OF_WHEEL))


def differing_files(wheel: Path) -> set[str]:
    """Return the files that only one of wheel and checkout has, or that are not the same in both."""
    folders = {"secretstore": "secretstore", "alembic": "secretstore/migrations"}
    ours = {
        f"{there}/{path.relative_to(ROOT / here).as_posix()}": path.read_bytes()
        for here, there in folders.items()
        for path in (ROOT / here).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        carried = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    return {name for name in ours | carried if ours.get(name) != carried.get(name)}


@nox.session
def previous(session: nox.Session) -> None:
    """Run the release before this one on the tables of this one: it goes on until its last process is replaced."""
    tree = Path(session.create_tmp()) / "previous"
    shutil.rmtree(tree, ignore_errors=True)
    archive = tree.with_suffix(".tar")
    session.run("git", "archive", "--output", str(archive), PREVIOUS, external=True)
    shutil.unpack_archive(archive, tree)
    for revision in (ROOT / "alembic" / "versions").glob("*.py"):
        shutil.copy(revision, tree / "alembic" / "versions")
    needed = nox.project.dependency_groups(nox.project.load_toml(str(tree / "pyproject.toml")), "test")
    session.chdir(tree)
    session.install("-e", ".[all]", *needed)
    session.run("python", "-m", "pytest", *in_processes(), *(session.posargs or TESTS_OF_PREVIOUS))


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job as a newcomer does."""
    session.install(".[cli,embedded]")
    session.run("secretstore", "demo", env={name: None for name in os.environ if name.startswith("SECRETSTORE_")})


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed beside raw psycopg and others: `-- --quick` in about a minute; `-- --write-docs` for docs/ and README."""
    session.install("-e", ".[all]", *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the examples of README and docs."""
    session.install("-e", ".[all]", *group("test"), *group("docs"))
    session.run(
        "python",
        "-m",
        "pytest",
        "-p",
        "tests.support.examples",
        "-p",
        "no:randomly",
        "README.md",
        "docs",
        *session.posargs,
    )
