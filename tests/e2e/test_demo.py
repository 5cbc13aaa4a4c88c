"""`secretstore demo`: shows the main job, and leaves nothing behind."""

import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from secretstore import demo
from tests.e2e.conftest import ANSI, DEADLINE_SECONDS, CommandLine
from tests.e2e.test_cli_embedded import servers_in

SECRETS = [
    secret.get_secret_value()
    for secret in (
        *(demo.GITHUB.client_secret, demo.NEW_GITHUB.client_secret, demo.DATABASE.password, demo.TOKEN),
        *demo.API_KEYS.values(),
    )
]

# The program, which sends a signal to itself after the third step: from outside the moment could not be chosen.
BROKEN_OFF = """
import os
from secretstore import demo
from secretstore.cli import main

whole = demo.steps

def steps(store):
    for done, step in enumerate(whole(store), start=1):
        yield step
        if done == 3:
            os.kill(os.getpid(), {number})

demo.steps = steps
main()
"""


def left_in(folder: Path) -> list[str]:
    """Return what is in a folder for temporary files, but for the lock that all embedded servers of a user share."""
    return [path.name for path in folder.iterdir() if path.name != ".lockfile"]


def test_the_demo_shows_the_main_job(bare_cli: CommandLine, short_path: Path) -> None:
    """Piped, the demo is plain text that shows each part of the main job, and no secret; nothing is left of it."""
    done = bare_cli.afresh("demo")

    assert done.code == 0
    assert [line[0] for line in done.out.splitlines() if line[0].isdigit()] == list("1234567")
    for shown in ("SecretStr('**********')", "VersionConflictError", "SecretNotFoundError", "A256GCM", "→ version 2"):
        assert shown in done.out
    assert "rows in demo_account: 0, secrets: 0" in done.out
    assert "rows in demo_account: 1, secrets: 1" in done.out
    assert "→ no\n" in done.out
    assert not ANSI.search(done.out)
    assert not [secret for secret in SECRETS if secret in done.out + done.err]
    assert left_in(short_path) == []
    assert servers_in(short_path) == []


def test_the_demo_fits_on_a_terminal(bare_cli: CommandLine, short_path: Path) -> None:
    """On a terminal of 80 columns the demo has colour, at most 80 lines, and no secret."""
    terminal = bare_cli.on_terminal("demo", columns=80)
    done = terminal.finish()

    # What the spinner shows takes itself away.
    lines = done.out.replace("\r\n", "\n").rpartition("\r")[2].splitlines()
    assert done.code == 0
    assert ANSI.search(terminal.shown)
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 80
    assert not [secret for secret in SECRETS if secret in done.out]
    assert left_in(short_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "kill"])
def test_a_demo_that_is_broken_off_leaves_nothing(
    bare_cli: CommandLine, short_path: Path, number: signal.Signals, code: int
) -> None:
    """A signal in the middle of the demo ends it with its own code and no word; server and folder are gone."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN_OFF.format(number=int(number)), "demo"],
        capture_output=True,
        env=bare_cli.environment,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert (done.returncode, done.stderr) == (code, b"")
    assert b"3. " in done.stdout
    assert b"4. " not in done.stdout
    assert left_in(short_path) == []
    assert servers_in(short_path) == []


def test_a_demo_can_be_kept(bare_cli: CommandLine, short_path: Path) -> None:
    """With --keep the server runs on at the printed URL, until the printed command ends it."""
    done = bare_cli.afresh("demo", "--keep")
    with psycopg.connect(done.out.splitlines()[-1]) as connection:
        accounts = connection.execute("SELECT name FROM demo_account").fetchall()
    folder = done.err.partition("embedded stop ")[2].split()[0]
    stopped = bare_cli.afresh("embedded", "stop", folder)

    assert (done.code, accounts) == (0, [("acme",)])
    assert Path(f"{folder}.keys").is_relative_to(short_path)
    assert Path(f"{folder}.keys").exists()
    assert stopped.err == "stopped\n"
    assert servers_in(short_path) == []
