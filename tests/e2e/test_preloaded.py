"""That a command in a fork of the loaded program does what it does in a process of its own."""

import json
from pathlib import Path

import pytest

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine
from tests.support.preloaded import PreloadedProgram


@pytest.mark.parametrize("arguments", [["get", "k"], ["get", "nobody"], ["gett"], ["set", "--help"]])
def test_a_fork_ends_as_a_process_of_its_own(cli: CommandLine, store: SecretClient, arguments: list[str]) -> None:
    """Exit code and both streams are the same, to the last byte."""
    store.set_secret("k", "ß")

    assert cli(*arguments) == cli.afresh(*arguments)


def test_a_fork_is_in_the_callers_folder_and_environment(
    cli: CommandLine, store: SecretClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command sees the folder and the variables of its own call, and nothing of the one before."""
    (tmp_path / "here.json").write_text('{"k": 1}')
    monkeypatch.chdir(tmp_path)

    imported = cli.with_(SECRETSTORE_NAMESPACE="other")("import", "here.json")

    assert imported.code == 0
    assert [one["key"] for one in json.loads(cli("list", "-n", "other").out)] == ["k"]
    assert json.loads(cli("list").out) == []


def test_more_than_a_pipe_holds_goes_in_and_out(cli: CommandLine) -> None:
    """A long value is neither cut nor waited for without end, and one that is not read is no error."""
    text = "x" * 500_000

    assert cli("set", "k", "-", stdin=text.encode()).code == 0
    assert cli("get", "k", "--plain", stdin=text.encode()).out == f"{text}\n"


def test_what_python_reads_at_its_start_cannot_be_another(cli: CommandLine) -> None:
    """A variable that would have no effect in a fork is refused."""
    with pytest.raises(ValueError, match="afresh"):
        cli.with_(PYTHONIOENCODING="ascii")("list")


def test_a_command_without_an_end_is_broken_off(cli: CommandLine, preloaded: PreloadedProgram) -> None:
    """Whoever waits too long is told so, nothing goes on, and the next command is answered."""
    with pytest.raises(TimeoutError):
        preloaded.run(("watch",), cli.environment, timeout=1)

    assert cli("--version").code == 0
