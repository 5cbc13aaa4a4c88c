"""An application with an Alembic of its own, in the same database as the secret store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.config import main as alembic_main
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from secretstore import KeyRing, SecretClient, migrate
from secretstore.orm.engines import make_engine
from tests.support.catalogue import OUR_TABLES, tables
from tests.support.project import alembic, build_wheel, unpack

Run = Callable[..., None]

INI = """
[alembic]
script_location = %(here)s/migrations
path_separator = newline
version_path_separator = newline
version_locations =
    %(here)s/migrations/versions
"""
ENV = """
from alembic import context
from sqlalchemy import Column, MetaData, NullPool, Table, Text, create_engine
import secretstore.migrate

metadata = MetaData()
Table("account", metadata, Column("id", Text, primary_key=True))
arguments = context.get_x_argument(as_dictionary=True)
options = {"include_schemas": True} if "schemas" in arguments else {}
if "helper" in arguments:
    options["include_name"] = secretstore.migrate.include_name

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(arguments["url"], poolclass=NullPool).begin() as connection:
        context.configure(connection=connection, target_metadata=metadata, **options)
        with context.begin_transaction():
            context.run_migrations()
"""
TEMPLATE = """
from alembic import op
import sqlalchemy as sa

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}

def upgrade():
    ${upgrades}

def downgrade():
    ${downgrades}
"""
FIRST_REVISION = """
from alembic import op
import sqlalchemy as sa

revision = "0001"
down_revision = None

def upgrade():
    op.create_table("account", sa.Column("id", sa.Text(), primary_key=True))

def downgrade():
    op.drop_table("account")
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A project with models, revisions and an env.py of its own."""
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text(INI)
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    (tmp_path / "migrations" / "script.py.mako").write_text(TEMPLATE)
    (versions / "0001_account.py").write_text(FIRST_REVISION)
    return tmp_path


def runner(host: Path, url: str) -> Run:
    """Return what is typed as `alembic` in the host's project, on a database."""

    def run(*arguments: str, **options: str) -> None:
        given = {"url": _sqlalchemy_url(url), **options}
        extra = [word for name, value in given.items() for word in ("-x", f"{name}={value}")]
        alembic_main(["-c", str(host / "alembic.ini"), *extra, *arguments])

    return run


def _sqlalchemy_url(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg:", 1)


def list_revisions(host: Path, location: str) -> None:
    """Add our revisions to those of the host."""
    with (host / "alembic.ini").open("a") as file:
        file.write(f"    {location}\n")


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Engine]:
    """An engine on a database without our tables."""
    engine = make_engine(empty_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def run_with_ours(host: Path, empty_database_url: str) -> Run:
    """What is typed in the host's project, which lists our revisions beside its own, on a database without our tables."""
    list_revisions(host, str(migrate.versions_path()))
    return runner(host, empty_database_url)


@pytest.fixture
def onlooker(empty_database_url: str) -> Iterator[psycopg.Connection]:
    """A plain connection to that database."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize(
    ("options", "drops"),
    [
        ({}, False),
        ({"schemas": "yes", "helper": "yes"}, False),
        ({"schemas": "yes"}, True),
    ],
    ids=["default", "all schemas with our include_name", "all schemas without it"],
)
def test_autogenerate_leaves_our_tables_alone(
    host: Path, database_url: str, options: dict[str, str], *, drops: bool
) -> None:
    """The host's next revision has nothing of ours, unless it looks into all schemas without our `include_name`."""
    run = runner(host, database_url)
    run("upgrade", "head", **options)

    run("revision", "--autogenerate", "-m", "next", "--rev-id", "0002", **options)

    revision = (host / "migrations" / "versions" / "0002_next.py").read_text()
    assert ("op.drop_table('secret_store', schema='secretstore')" in revision) is drops
    assert ("secretstore" in revision) is drops


def test_the_helper_keeps_the_hosts_own_tables_in_sight(host: Path, database_url: str, raw: psycopg.Connection) -> None:
    """With our `include_name` the host's autogenerate still finds what changed in its own tables."""
    run = runner(host, database_url)
    run("upgrade", "head")
    raw.execute("DROP TABLE account; CREATE TABLE stray (id int)")

    run("revision", "--autogenerate", "-m", "next", "--rev-id", "0002", schemas="yes", helper="yes")

    revision = (host / "migrations" / "versions" / "0002_next.py").read_text()
    assert "create_table('account'" in revision
    assert "drop_table('stray'" in revision


def test_a_host_keeps_one_history_of_its_own_and_our_tables(
    run_with_ours: Run, empty: Engine, onlooker: psycopg.Connection, keyring: KeyRing
) -> None:
    """One `upgrade heads` makes the host's tables and ours, though both histories number from 0001."""
    run_with_ours("upgrade", "heads")

    assert tables(onlooker) == OUR_TABLES
    assert _public_tables(onlooker) == {"account", "alembic_version"}
    migrate.check(empty)
    assert migrate.current(empty) is None
    assert SecretClient(empty, keyring).set_secret("a", 1).version == 1


def test_a_host_takes_our_tables_away_by_our_branch(run_with_ours: Run, onlooker: psycopg.Connection) -> None:
    """The host downgrades our branch by its label and keeps its own tables."""
    run_with_ours("upgrade", "heads")

    run_with_ours("downgrade", "secretstore@base")

    assert tables(onlooker) == set()
    assert onlooker.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    assert _public_tables(onlooker) == {"account", "alembic_version"}


def test_a_host_upgrades_our_branch_alone(run_with_ours: Run, onlooker: psycopg.Connection) -> None:
    """Our branch goes up by its label without the host's own."""
    run_with_ours("upgrade", "secretstore@head")

    revision = ScriptDirectory.from_config(migrate.make_config()).get_revision("secretstore@head")
    assert revision.branch_labels == {"secretstore"}
    assert tables(onlooker) == OUR_TABLES
    assert _public_tables(onlooker) == {"alembic_version"}


def test_a_host_prints_our_tables_with_their_schema(
    run_with_ours: Run, onlooker: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the host prints with `--sql` makes our schema too, and runs on a database that has nothing."""
    run_with_ours("upgrade", "secretstore@head", "--sql")

    onlooker.execute(capsys.readouterr().out.encode())

    assert tables(onlooker) == OUR_TABLES


@pytest.mark.source
def test_a_host_names_the_revisions_of_the_installed_wheel(
    host: Path, onlooker: psycopg.Connection, empty_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From an installed wheel our revisions are `secretstore:migrations/versions`."""
    folder = tmp_path_factory.mktemp("wheel")
    unpack(build_wheel(folder), folder / "installed")
    list_revisions(host, "secretstore:migrations/versions")
    url = f"url={_sqlalchemy_url(empty_database_url)}"

    ended = alembic("-x", url, "upgrade", "heads", folder=host, PYTHONPATH=str(folder / "installed"))

    assert ended.returncode == 0, ended.stderr
    assert tables(onlooker) == OUR_TABLES


def _public_tables(raw: psycopg.Connection) -> set[str]:
    return {name for (name,) in raw.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
