"""`secretstore db`: the tables."""

import pytest

from secretstore import SecretClient, migrate
from secretstore.orm.engines import make_engine
from tests.e2e.conftest import CommandLine


def revision(url: str) -> str | None:
    """Return the revision of the tables of a database."""
    engine = make_engine(url)
    try:
        return migrate.current(engine)
    finally:
        engine.dispose()


def test_an_empty_database_is_told_and_brought_up_to_date(cli: CommandLine, empty_database_url: str) -> None:
    """Without tables `current` says none and `check` ends with 8; after `upgrade` both are content."""
    empty = cli.with_(SECRETSTORE_DATABASE_URL=empty_database_url, SECRETSTORE_KEYS=None)
    current, check = empty("db", "current"), empty("db", "check")
    assert (current.code, current.out, current.err) == (0, "none\n", "")
    assert (check.code, check.out, check.err.count("\n")) == (8, "", 1)

    upgraded = empty("db", "upgrade")

    assert (upgraded.code, upgraded.out) == (0, "")
    assert upgraded.err == f"the tables are at revision {migrate.head()}\n"
    assert empty("db", "check").code == 0
    assert empty("db", "current").out == f"{migrate.head()}\n"


def test_a_downgrade_without_a_person_needs_a_yes(cli: CommandLine, store: SecretClient, database_url: str) -> None:
    """In a pipe a downgrade is refused with 2 and keeps every secret; with --yes it drops the tables."""
    store.set_secret("k", 1)

    refused = cli("db", "downgrade", "base", stdin=b"downgrade\n")
    assert (refused.code, refused.err) == (2, "error: a downgrade drops secrets; add --yes\n")
    assert store.get_secret("k") == 1

    assert cli("db", "downgrade", "base", "--yes").code == 0
    assert revision(database_url) is None


@pytest.mark.parametrize(("typed", "code"), [("yes", 1), ("downgrade", 0)])
def test_a_person_types_the_word(cli: CommandLine, database_url: str, typed: str, code: int) -> None:
    """On a terminal only the typed word downgrades."""
    terminal = cli.on_terminal("db", "downgrade", "base")
    terminal.wait_for("type downgrade to do it")
    terminal.child.sendline(typed)

    assert terminal.finish().code == code
    assert (revision(database_url) is None) == (code == 0)


def test_sql_is_printed_without_a_database(bare_cli: CommandLine) -> None:
    """`db sql` prints the statements of an upgrade alone, and starts no server for it."""
    done = bare_cli("db", "sql")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("BEGIN;")
    assert "CREATE TABLE secretstore.secret_store" in done.out


def test_an_unknown_revision_ends_with_2(cli: CommandLine) -> None:
    """A revision that is not there is a wrong call, told in one line."""
    done = cli("db", "upgrade", "9999")

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "9999" in done.err
