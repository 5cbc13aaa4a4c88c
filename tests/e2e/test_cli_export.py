"""`secretstore export`: where values go, in which form, and where they never go."""

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine

VALUE = "hunter2-of-the-test"
ALL = {"app.db": {"port": 1, "hosts": ["a"]}, "app.é": None, "zz": VALUE}


@pytest.fixture
def filled(store: SecretClient) -> SecretClient:
    """A store of a few secrets."""
    store.set_secrets(ALL)
    return store


def test_a_pipe_gets_json(cli: CommandLine, filled: SecretClient) -> None:
    """Without options all secrets come as one JSON object in the order of their keys, and not a word beside it."""
    done = cli("export")

    assert (done.code, done.err) == (0, "")
    assert list(json.loads(done.out).items()) == list(ALL.items())
    assert done.out.endswith("}\n")
    assert json.loads(cli("export", "app.").out) == {key: ALL[key] for key in ("app.db", "app.é")}
    assert cli("export", "none").out == "{}\n"


def test_each_format(cli: CommandLine, filled: SecretClient) -> None:
    """YAML holds what JSON holds; .env texts only, and names the others."""
    assert yaml.safe_load(cli("export", "--format", "yaml").out) == ALL
    assert cli("export", "zz", "--format", "env").out == f"zz='{VALUE}'\n"
    assert cli("export", "none", "--format", "env").out == ""
    refused = cli("export", "--format", "env")

    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "'app.db', 'app.é'" in refused.err
    assert "hunter2" not in refused.err


def test_labels_and_expiry_come_along_where_asked_for(cli: CommandLine, store: SecretClient) -> None:
    """--with-labels writes them beside each value; .env has no room for them, which is told before anything is read."""
    soon = datetime(2099, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    store.set_secret("k", VALUE, labels={"team": "web"}, expires_at=soon)

    entry = json.loads(cli("export", "--with-labels").out)["secrets"]["k"]
    refused = cli.with_(SECRETSTORE_DATABASE_URL="postgresql://127.0.0.1:1/none")(
        "export", "--with-labels", "--format", "env"
    )

    assert entry == {"value": VALUE, "labels": {"team": "web"}, "expires_at": soon.isoformat()}
    assert (refused.code, refused.out) == (2, "")
    assert "no room for labels" in refused.err


def test_a_terminal_is_refused_unless_asked_for(cli: CommandLine, filled: SecretClient) -> None:
    """On a terminal nothing is shown but what to do instead; --reveal shows all."""
    refused = cli.on_terminal("export").finish()
    shown = cli.on_terminal("export", "--reveal").finish()

    assert refused.code == 2
    assert "this would show every value on the terminal" in refused.out
    assert "hunter2" not in refused.out
    assert shown.code == 0
    assert VALUE in shown.out


def test_a_file_is_for_its_owner_alone(cli: CommandLine, filled: SecretClient, short_path: Path) -> None:
    """--output makes a file of mode 0600 whose name says the format, also from a terminal, and shows no value."""
    path = short_path / "secrets.yaml"
    done = cli.on_terminal("export", "--output", str(path)).finish()

    assert done.code == 0
    assert f"wrote 3 secrets to {path}" in done.out
    assert "hunter2" not in done.out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert yaml.safe_load(path.read_text()) == ALL
    assert list(short_path.glob(".secretstore-*")) == []
    chosen = cli("export", "-o", str(short_path / "odd.yaml"), "--format", "json")
    assert (chosen.code, json.loads((short_path / "odd.yaml").read_text())) == (0, ALL)


def test_a_file_is_overwritten_only_by_force(
    cli: CommandLine, filled: SecretClient, written: Callable[[str, bytes], str]
) -> None:
    """What is there stays; --force replaces it, mode and all, or what a link leads to."""
    path = Path(written("there.json", b"mine"))
    path.chmod(0o644)
    link = path.with_name("link.json")
    link.symlink_to(path)

    for refused in (cli("export", "-o", str(path)), cli("export", "-o", str(link))):
        assert (refused.code, refused.out) == (2, "")
        assert "is there already; add --force" in refused.err
    assert path.read_bytes() == b"mine"
    assert cli("export", "-o", str(link), "--force").code == 0
    assert link.is_symlink()
    assert json.loads(path.read_text()) == ALL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("target", ["", "none/secrets.json"], ids=["a folder", "in no folder"])
def test_a_place_for_no_file_is_told(cli: CommandLine, filled: SecretClient, short_path: Path, target: str) -> None:
    """A path that cannot be written ends with 2 and one line, also with --force."""
    done = cli("export", "--force", "--output", str(short_path / target))

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("error: ")
    assert "hunter2" not in done.err


def test_the_past_is_exported(cli: CommandLine, filled: SecretClient) -> None:
    """--at gives values of then; one that is gone for good ends with 3, names its key, and prints nothing before it."""
    moment = filled.set_secret("zz", "then").updated_at.isoformat()
    filled.set_secret("zz", VALUE)
    filled.delete_secret("app.db")

    assert json.loads(cli("export", "--at", moment).out) == ALL | {"zz": "then"}
    filled.destroy_versions("zz", [2])
    gone = cli("export", "--at", moment)
    assert (gone.code, gone.out, gone.err.count("\n")) == (3, "", 1)
    assert "version 2 of 'zz'" in gone.err


def test_a_failed_export_leaves_no_file(cli: CommandLine, filled: SecretClient, short_path: Path) -> None:
    """A value that does not open ends with 3 or 5, and nothing is made, nor is what was there touched."""
    path = short_path / "secrets.json"
    path.write_text("mine")
    moment = filled.set_secret("zz", "then").updated_at
    filled.destroy_versions("zz", [2])

    new, old = (
        cli("export", "--at", moment.isoformat(), "--force", "-o", str(short_path / name)) for name in ("n", path.name)
    )

    assert (new.code, old.code) == (3, 3)
    assert sorted(one.name for one in short_path.iterdir() if one.is_file()) == ["secrets.json"]
    assert path.read_text() == "mine"


def test_a_time_to_come_is_now(cli: CommandLine, filled: SecretClient) -> None:
    """A time without an offset is a wrong call, and one that is not yet shows what is there."""
    assert cli("export", "--at", "2026-08-01T12:00").code == 2
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert json.loads(cli("export", "--at", later).out) == ALL
