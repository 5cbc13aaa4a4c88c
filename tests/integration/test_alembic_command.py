"""`alembic` as it is typed at the project's root, and the revisions as the wheel carries them."""

import zipfile
from pathlib import Path

import psycopg
import pytest

from secretstore import migrate
from tests.support.catalogue import OUR_TABLES, VERSION_TABLE, catalogue, tables
from tests.support.project import alembic, build_wheel, copy_of_project, run_python, unpack

pytestmark = pytest.mark.source

AWKWARD_FOLDER = "a b%c"
UPGRADE = """
import sys
from secretstore import migrate
from secretstore.orm.engines import make_engine
migrate.upgrade(make_engine(sys.argv[1]))
print(migrate.versions_path())
"""
SECOND_REVISION = """
def upgrade() -> None:
    op.add_column("secret_store", sa.Column("extra", sa.Text()), schema="secretstore")


def downgrade() -> None:
    op.drop_column("secret_store", "extra", schema="secretstore")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.parametrize("how", ["environment", "argument"])
def test_upgrade_head_makes_the_tables(empty_database_url: str, raw: psycopg.Connection, how: str) -> None:
    """`alembic upgrade head` makes the tables in the database of the environment, or else of `-x url=`."""
    if how == "environment":
        ended = alembic("upgrade", "head", SECRETSTORE_DATABASE_URL=empty_database_url)
    else:
        wrong = "postgresql://nobody@/none?host=/nowhere"
        ended = alembic("-x", f"url={empty_database_url}", "upgrade", "head", SECRETSTORE_DATABASE_URL=wrong)

    assert ended.returncode == 0, ended.stderr
    with psycopg.connect(empty_database_url) as made:
        assert catalogue(made) == catalogue(raw)


def test_downgrade_base_leaves_only_the_version_table(database_url: str, raw: psycopg.Connection) -> None:
    """`alembic downgrade base` drops our tables."""
    ended = alembic("downgrade", "base", SECRETSTORE_DATABASE_URL=database_url)

    assert ended.returncode == 0, ended.stderr
    assert tables(raw) == VERSION_TABLE


def test_check_finds_no_difference_between_models_and_revisions(database_url: str) -> None:
    """`alembic check` on upgraded tables has nothing to add."""
    ended = alembic("check", SECRETSTORE_DATABASE_URL=database_url)

    assert (ended.returncode, ended.stdout) == (0, "No new upgrade operations detected.\n")


@pytest.mark.parametrize(("command", "revision"), [("upgrade", "head"), ("downgrade", "head:base")])
def test_sql_prints_what_the_library_prints(command: str, revision: str) -> None:
    """`alembic … --sql` needs no database and prints the same statements as `secretstore.migrate.sql`."""
    ended = alembic(command, revision, "--sql")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == migrate.sql(revision)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no database is named: set SECRETSTORE_DATABASE_URL, or add -x url=postgresql://"),
        (["-x", "url=mysql://nobody:hunter2@host/x"], "the database URL does not begin with postgresql://"),
        (["-x", "url=postgresql://nobody:hunter2@/none?host=/nowhere"], "cannot connect to PostgreSQL"),
    ],
)
def test_an_error_is_one_line_without_the_password(arguments: list[str], said: str) -> None:
    """What goes wrong is said in one line, which holds nothing of the password."""
    ended = alembic(*arguments, "upgrade", "head")

    assert ended.returncode != 0
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert said in line
    assert "hunter2" not in line


def test_the_template_gives_a_revision_that_goes_both_ways(
    database_url: str, raw: psycopg.Connection, tmp_path: Path
) -> None:
    """A revision made from the template comes after ours, upgrades, downgrades and prints."""
    folder, before = copy_of_project(tmp_path / "a b"), catalogue(raw)
    arguments = ("revision", "--rev-id", "secretstore_0006", "-m", "0006 extra column")

    made = alembic(*arguments, folder=folder, SECRETSTORE_DATABASE_URL=database_url)

    assert made.returncode == 0, made.stderr
    (file,) = (folder / "alembic" / "versions").glob("0006_extra_column.py")
    file.write_text(file.read_text().partition("def upgrade")[0].rstrip() + "\n\n" + SECOND_REVISION)
    up = alembic("upgrade", "head", folder=folder, SECRETSTORE_DATABASE_URL=database_url)
    assert (up.returncode, len(catalogue(raw) - before)) == (0, 1), up.stderr
    print_down = "from secretstore import migrate; print(migrate.sql('secretstore_0006:secretstore_0005'))"
    printed = run_python("-c", print_down, folder=folder)
    assert "ALTER TABLE secretstore.secret_store DROP COLUMN extra" in printed.stdout, printed.stderr
    raw.execute(printed.stdout.encode())
    assert catalogue(raw) == before


def test_the_wheel_carries_the_revisions_and_not_the_tests(wheel: Path) -> None:
    """The wheel holds the whole Alembic folder and the mark of a typed package, and nothing but the library."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    migrations = {name for name in names if name.startswith("secretstore/migrations/")}
    files = {
        "README",
        "env.py",
        "script.py.mako",
        "versions/0001_initial.py",
        "versions/0002_key_changes.py",
        "versions/0003_history.py",
        "versions/0004_actors.py",
        "versions/0005_sealing.py",
    }
    assert migrations == {f"secretstore/migrations/{file}" for file in files}
    assert "secretstore/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"secretstore", "pg_secretstore-0.1.0.dist-info"}
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.parametrize("place", ["checkout", "wheel"])
def test_the_revisions_are_found_wherever_the_library_is(
    empty_database_url: str, tmp_path: Path, wheel: Path, place: str
) -> None:
    """An upgrade finds its revisions in a checkout and in an unpacked wheel, also below a folder with an awkward name."""
    folder = tmp_path / AWKWARD_FOLDER
    if place == "checkout":
        copy_of_project(folder)
    else:
        unpack(wheel, folder)

    ended = run_python("-c", UPGRADE, empty_database_url, folder=folder)

    inside = "alembic" if place == "checkout" else "secretstore/migrations"
    assert (ended.stderr, ended.stdout) == ("", f"{folder / inside / 'versions'}\n")
    with psycopg.connect(empty_database_url) as made:
        assert tables(made) == OUR_TABLES | VERSION_TABLE
