"""`secretstore get` and `list` over several providers, and who answers."""

import json
from collections.abc import Callable

import pytest

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine

VALUE = "hunter2-of-the-test"
ABOVE = "hunter3-of-the-test"
ENVIRONMENT = "env://?prefix=APP_"
NOBODY = "postgresql://127.0.0.1:1/x?password=hunter4-of-the-test"


@pytest.fixture
def chained(
    cli: CommandLine, database_url: str, store: SecretClient, written: Callable[[str, bytes], str]
) -> CommandLine:
    """The command line with a chain of the environment, a file and the database, and a secret that two of them have."""
    store.set_secrets({"db.password": VALUE, "other": {"port": 5432}})
    dotenv = f"dotenv://{written('.env', b'of_file=1')}"
    return cli.with_(SECRETSTORE_CHAIN=f"{ENVIRONMENT} {dotenv} write:{database_url}", APP_DB_PASSWORD=ABOVE)


def test_the_first_that_has_it_is_printed(chained: CommandLine) -> None:
    """A value comes from the first link that has it, raw or beside the link's name."""
    first, second = chained("get", "db.password", "--plain"), chained("get", "other", "--field", "port")
    table = chained("get", "db.password", "--format", "table")

    assert [(done.code, done.out, done.err) for done in (first, second)] == [(0, f"{ABOVE}\n", ""), (0, "5432\n", "")]
    rows = dict(line.split(maxsplit=1) for line in table.out.splitlines() if " " in line)
    assert (rows["provider"], rows["value"]) == (ENVIRONMENT, "********")


def test_an_explanation_names_who_answers_and_shows_no_value(chained: CommandLine) -> None:
    """As JSON and as a table: the link that answers, and the others that hold the key."""
    as_json, table = (chained("get", "db.password", "--explain", "--format", form) for form in ("json", "table"))

    found = json.loads(as_json.out)
    assert (as_json.code, found["answered_by"], found["problem"]) == (0, ENVIRONMENT, None)
    assert [(link["state"], link["version"]) for link in found["links"]] == [
        ("answers", None),
        ("has none", None),
        ("holds it too", 1),
    ]
    assert table.out.split()[:5] == ["provider", "state", "version", "updated_at", "problem"]
    assert [line.split()[1] for line in table.out.splitlines()[1:]] == ["answers", "has", "holds"]
    shown = as_json.out + as_json.err + table.out + table.err
    assert VALUE not in shown
    assert ABOVE not in shown


def test_a_list_says_where_each_key_is_from(chained: CommandLine) -> None:
    """The union of the keys in one order; the chain may come by an option too."""
    done = chained.with_(SECRETSTORE_CHAIN=None, APP_ZEBRA="1")(
        "list", "--chain", chained.environment["SECRETSTORE_CHAIN"], "--after", "db.password"
    )

    records = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert [record["key"] for record in records] == ["db_password", "of_file", "other", "zebra"]
    assert [record["provider"].split(":")[0] for record in records] == ["env", "dotenv", "postgresql", "env"]


def test_without_a_chain_the_database_is_explained(cli: CommandLine, store: SecretClient) -> None:
    """It is the one place that is asked; where there is no secret the command ends with 3."""
    store.set_secret("k", VALUE)

    done, missing = cli("get", "k", "--explain"), cli("get", "other", "--explain", "--format", "json")

    found = json.loads(done.out)
    assert (done.code, [link["state"] for link in found["links"]]) == (0, ["answers"])
    assert found["answered_by"].startswith("postgresql")
    assert VALUE not in done.out
    assert (missing.code, json.loads(missing.out)["answered_by"]) == (3, None)


@pytest.mark.parametrize("optional", [False, True])
def test_a_link_that_is_down_is_seen(chained: CommandLine, optional: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """It fails the command or is warned of; an explanation says so, and nothing shows the URL's password."""
    chain = f"{'optional:' * optional}{NOBODY} {chained.environment['SECRETSTORE_CHAIN']}"
    down = chained.with_(SECRETSTORE_CHAIN=chain, SECRETSTORE_RETRY_SECONDS="0")

    read, explained = down("get", "db.password", "--plain"), down("get", "db.password", "--explain")

    assert (read.code, read.out) == ((0, f"{ABOVE}\n") if optional else (read.code, ""))
    assert (read.code == 0, explained.code == 0) == (optional, optional)
    assert "nothing listens there" in read.err
    states = [link["state"] for link in json.loads(explained.out)["links"]]
    assert states == ["is down", "answers" if optional else "holds it too", "has none", "holds it too"]
    assert "hunter4" not in read.err + explained.err + explained.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "k", "--at", "2026-08-01T12:00Z"], "--at cannot be used with a chain"),
        (["get", "k", "--explain", "--reveal", "--plain"], "--reveal and --plain cannot be used with --explain"),
        (["list", "--deleted", "--label", "a=b"], "--label and --deleted cannot be used with a chain"),
    ],
)
def test_what_means_nothing_there_is_refused(bare_cli: CommandLine, arguments: list[str], said: str) -> None:
    """An option that a chain would pass over is a wrong call."""
    done = bare_cli.with_(SECRETSTORE_CHAIN="env://")(*arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err


def test_a_database_that_is_named_wins_over_the_environment(chained: CommandLine, database_url: str) -> None:
    """An argument counts before a variable."""
    assert chained("get", "db.password", "--plain", "--database-url", database_url).out == f"{VALUE}\n"
