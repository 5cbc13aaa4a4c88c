"""Commands that go on until they are ended, and the changes that they print."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.e2e.conftest import DEADLINE_SECONDS, PROGRAM, CommandLine
from tests.support.threads import wait_until

MEMBERS = [
    *("seq", "namespace", "key", "version", "action", "actor", "occurred_at"),
    *("outcome", "request_id", "application_name", "database_role"),
]
# Whoever listens knows the place where it begins.
LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"

Child = subprocess.Popen[bytes]


@contextmanager
def following(cli: CommandLine, raw: psycopg.Connection, *arguments: str, listens: bool = True) -> Iterator[Child]:
    """Start a command with pipes, and wait until it listens, if it does."""
    # A signal may come while psycopg or the pool has a connection in its hands that nobody else knows yet, and which nobody
    # closes then; Python says so only where it is asked to.
    command = [sys.executable, *PROGRAM[:2], "-W", "ignore::ResourceWarning", *PROGRAM[2:], *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=cli.environment) as child:
        # A line that never comes is a failure, and no test that never ends.
        deadline = threading.Timer(DEADLINE_SECONDS, child.kill)
        deadline.start()
        try:
            if listens:
                wait_until(raw, LISTENERS, 1)
            yield child
        finally:
            deadline.cancel()
            child.kill()


def next_change(child: Child) -> dict[str, Any]:
    """Wait for one line, and return what it says."""
    assert child.stdout is not None
    return dict(json.loads(child.stdout.readline()))


def end(child: Child, number_of_signal: signal.Signals) -> tuple[int, str, str]:
    """Send a signal, and return the exit code and what else was printed."""
    child.send_signal(number_of_signal)
    out, err = child.communicate(timeout=DEADLINE_SECONDS)
    return child.returncode, out.decode(), err.decode()
