"""Which PostgreSQL the tests run on, and that looking for it leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_LOOK = """
import gc
from tests.support.server import choose_server

print(choose_server())
gc.collect()
"""


def test_looking_for_a_container_engine_that_is_not_there_leaves_nothing_open(tmp_path: Path) -> None:
    """The embedded server is chosen, and no socket is left for the garbage collector to complain of in a later test."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SECRETSTORE_TEST_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOOK],
        cwd=Path(__file__).parents[2],
        env=kept | {"DOCKER_HOST": f"unix://{tmp_path / 'no-engine'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("embedded (no Docker engine answers)\n", "")


@pytest.mark.parametrize("kind", ["container", "embedded"])
def test_a_server_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whoever names a kind of server gets that one or a failure, and never another."""
    from tests.support.server import choose_server

    monkeypatch.delenv("SECRETSTORE_TEST_DATABASE_URL", raising=False)
    monkeypatch.setenv("SECRETSTORE_TEST_SERVER", kind)
    assert choose_server().kind == kind


def test_a_pooler_is_said_and_only_a_known_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's header names the pooler, and a word that means none is no run without one."""
    from tests.support.server import choose_server

    monkeypatch.delenv("SECRETSTORE_TEST_DATABASE_URL", raising=False)
    monkeypatch.setenv("SECRETSTORE_TEST_SERVER", "embedded")
    monkeypatch.setenv("SECRETSTORE_TEST_POOLER", "pgbouncer")
    assert str(choose_server()).endswith(", through PgBouncer in transaction mode")
    monkeypatch.setenv("SECRETSTORE_TEST_POOLER", "")
    assert "PgBouncer" not in str(choose_server())
    monkeypatch.setenv("SECRETSTORE_TEST_POOLER", "on")
    with pytest.raises(ValueError, match="pgbouncer"):
        choose_server()
