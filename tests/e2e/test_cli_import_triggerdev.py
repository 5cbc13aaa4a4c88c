"""`secretstore import triggerdev` as a person and as a program use it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from sqlalchemy.orm import Session

from secretstore import SecretClient
from secretstore.integrations.triggerdev import SHOWN_SKIPS
from tests.e2e.conftest import DEADLINE_SECONDS, PROGRAM, CommandLine
from tests.support import triggerdev as support
from tests.support.server import Server
from tests.support.threads import number, wait_until_blocked
from tests.support.triggerdev import ENCRYPTION_KEY, LATER, Source, sealed

MARKER = "hunter2-marker"
IMPORT = ("import", "triggerdev")


@pytest.fixture(scope="module")
def source_url(server: Server) -> Iterator[str]:
    """The URL of trigger.dev's own database."""
    with server.database() as name:
        yield server.url(name)


@pytest.fixture
def source(source_url: str) -> Iterator[Source]:
    """A new trigger.dev."""
    with support.triggerdev(source_url) as made:
        yield made


@pytest.fixture
def importer(cli: CommandLine, source: Source) -> CommandLine:
    """The command line with a trigger.dev in its environment."""
    return cli.with_(TRIGGERDEV_DATABASE_URL=f"{source.url}&schema=public", TRIGGERDEV_ENCRYPTION_KEY=ENCRYPTION_KEY)


def test_an_import_counts_what_it_did(importer: CommandLine, source: Source, store: SecretClient) -> None:
    """Counts go to stdout as JSON, nothing to stderr in a pipe, and running again is fine too."""
    source.put("a", {"token": MARKER})
    source.put("b", 1)
    first = importer(*IMPORT)
    source.put("b", 2, updated=LATER)
    second = importer(*IMPORT)

    assert (first.code, first.err, second.code, second.err) == (0, "", 0, "")
    assert json.loads(first.out) == {"imported": 2, "updated": 0, "unchanged": 0, "skipped": {}}
    assert json.loads(second.out) == {"imported": 0, "updated": 1, "unchanged": 1, "skipped": {}}
    assert store.get_secrets_by_prefix("") == {"a": {"token": MARKER}, "b": 2}


def test_options_and_formats(importer: CommandLine, source: Source, store: SecretClient) -> None:
    """--url, --prefix, --namespace, --allow-plaintext and --format do what they say."""
    source.put("a.1", 1)
    source.put_stored("a.2", "2", version="1")
    source.put("b", 3)
    options = ("--prefix", "a.", "--namespace", "prod", "--allow-plaintext", "--format", "yaml", "--url", source.url)

    done = importer.with_(TRIGGERDEV_DATABASE_URL="postgresql://127.0.0.1:1/none")(*IMPORT, *options)

    # The server of the tests may have a password, which is then warned of.
    assert (done.code, [line for line in done.err.splitlines() if not line.startswith("warning: ")]) == (0, [])
    assert yaml.safe_load(done.out) == {"imported": 2, "updated": 0, "unchanged": 0, "skipped": {}}
    assert store.namespace("prod").get_secrets_by_prefix("") == {"a.1": 1, "a.2": 2}
    assert store.list_secret_keys() == []


def test_skipped_rows_are_named_with_their_reason(importer: CommandLine, source: Source, store: SecretClient) -> None:
    """One line on stderr for each key, counts by reason on stdout, exit code 1, and no value anywhere."""
    source.put("good", MARKER)
    source.put_stored("plain", json.dumps(MARKER), version="1")
    source.put_stored("other", json.dumps(sealed(json.dumps(MARKER), "another-key-of-32-characters-xxx")))
    source.put("new\nline", MARKER)

    done = importer(*IMPORT)

    assert done.code == 1
    assert json.loads(done.out) == {
        "imported": 1,
        "updated": 0,
        "unchanged": 0,
        "skipped": {"breaks_a_limit": 1, "does_not_open": 1, "plaintext": 1},
    }
    lines = done.err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "skipped 'new\\nline'",
        "skipped 'other'",
        "skipped 'plain'",
        "add --allow-plaintext to import also what trigger.dev holds in plain text",
        "error",
    ]
    assert lines[-1] == "error: 3 of 4 rows were skipped"
    assert not [part for part in (MARKER, ENCRYPTION_KEY) if part in done.out + done.err]
    assert store.list_secret_keys() == ["good"]


def test_a_long_list_of_skipped_rows_is_cut(importer: CommandLine, source: Source) -> None:
    """After a few dozen keys the number of the others is told."""
    source.put_many(f"k{n:03}" for n in range(SHOWN_SKIPS + 7))
    source.raw.execute("""UPDATE "SecretStore" SET "version" = '9'""")

    done = importer(*IMPORT)

    assert json.loads(done.out)["skipped"] == {"unknown_version": SHOWN_SKIPS + 7}
    assert len(done.err.splitlines()) == SHOWN_SKIPS + 2
    assert "and 7 more" in done.err.splitlines()


def test_a_dry_run_says_what_would_happen(importer: CommandLine, source: Source, store: SecretClient) -> None:
    """The counts are those of an import, nothing is written, and that is said."""
    source.put("a", 1)

    done = importer(*IMPORT, "--dry-run")

    assert (done.code, json.loads(done.out)["imported"]) == (0, 1)
    assert done.err == "dry run: nothing was written\n"
    assert store.list_secret_keys() == []


def test_the_key_comes_from_a_file_that_others_may_not_read(
    importer: CommandLine, source: Source, written: Callable[[str, bytes], str]
) -> None:
    """TRIGGERDEV_ENCRYPTION_KEY_FILE is read like a file of master keys."""
    source.put("a", 1)
    path = Path(written("key", f"{ENCRYPTION_KEY}\n".encode()))
    with_file = importer.with_(TRIGGERDEV_ENCRYPTION_KEY=None, TRIGGERDEV_ENCRYPTION_KEY_FILE=str(path))

    path.chmod(0o644)
    refused = with_file(*IMPORT)
    path.chmod(0o600)

    assert (refused.code, "chmod 600" in refused.err) == (5, True)
    assert with_file(*IMPORT).code == 0


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"TRIGGERDEV_DATABASE_URL": None}, 2, "give --url or set TRIGGERDEV_DATABASE_URL"),
        ({"TRIGGERDEV_ENCRYPTION_KEY": None}, 5, "set TRIGGERDEV_ENCRYPTION_KEY, or TRIGGERDEV_ENCRYPTION_KEY_FILE"),
        ({"TRIGGERDEV_ENCRYPTION_KEY": MARKER}, 5, "has 32 bytes, and the one that is given has 14"),
        ({"TRIGGERDEV_DATABASE_URL": f"mysql://app:{MARKER}@db/app"}, 2, "does not begin with postgresql://"),
        ({"TRIGGERDEV_DATABASE_URL": f"postgresql://app:{MARKER}@127.0.0.1:1/x"}, 7, "nothing listens there"),
    ],
    ids=["no url", "no key", "short key", "wrong url", "unreachable"],
)
def test_what_is_missing_or_wrong_is_told_in_one_line(
    importer: CommandLine, changes: dict[str, str | None], code: int, said: str
) -> None:
    """The exit code is that of the problem, and neither key nor password is repeated."""
    done = importer.with_(**changes)(*IMPORT)

    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert said in done.err
    assert MARKER not in done.err


def test_a_database_without_the_table_is_told_as_such(importer: CommandLine, database_url: str) -> None:
    """A wrong URL is a wrong call, and nothing to upgrade."""
    done = importer.with_(TRIGGERDEV_DATABASE_URL=database_url)(*IMPORT)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert 'has no trigger.dev table "public"."SecretStore"' in done.err


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app:{MARKER}@127.0.0.1:1/x",
        f"postgresql://127.0.0.1:1/x?user=app&password={MARKER}",
    ],
)
def test_a_password_among_the_arguments_is_warned_of(importer: CommandLine, url: str) -> None:
    """The list of processes shows it to everyone, and so the variable is named; without a password there is no word."""
    done = importer(*IMPORT, "--url", url)
    quiet = importer(*IMPORT, "--url", "postgresql://app@127.0.0.1:1/x?schema=public")

    assert done.err.startswith("warning: the password in --url shows in the list of processes")
    assert MARKER not in done.err
    assert "warning" not in quiet.err


def test_a_terminal_shows_a_progress_bar(importer: CommandLine, source: Source) -> None:
    """How far it is, out of how many, how fast it goes, and then the counts as a table."""
    source.put_many(f"k{n:03}" for n in range(700))

    done = importer.on_terminal(*IMPORT).finish()

    assert done.code == 0
    assert re.search(r"importing \S*━\S* 700/700 [\d,]+/s", done.out)
    assert re.search(r"imported +700", done.out)


def test_ctrl_c_keeps_what_was_imported(
    importer: CommandLine, source: Source, store: SecretClient, raw: psycopg.Connection
) -> None:
    """Broken off in its second chunk, an import leaves the first one whole, says so, and goes on when it is run again."""
    keys = [f"k{n:03}" for n in range(700)]
    source.put_many(keys)
    store.set_secret("other", "here")
    with Session(store.engine) as session:
        store.bind(session).set_secret(keys[450], "held")
        child = subprocess.Popen(
            [sys.executable, *PROGRAM, *IMPORT],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=importer.environment,
            text=True,
        )
        wait_until_blocked(raw)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=DEADLINE_SECONDS)
        session.rollback()

    assert (child.returncode, out) == (130, "")
    assert err == "broken off; what was imported so far stays, and running it again goes on\n"
    assert number(raw, "SELECT count(*) FROM secretstore.secret_store") == 300 + 1
    again = importer(*IMPORT)
    assert json.loads(again.out) == {"imported": 400, "updated": 0, "unchanged": 300, "skipped": {}}
