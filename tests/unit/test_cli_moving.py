"""Calls of `copy` and `diff` that go wrong before anything is opened, and what is said of places in memory."""

import json
from collections.abc import Callable

import pytest
import yaml

from secretstore.cli import moving
from secretstore.cli.app import run_guarded
from secretstore.cli.output import Format

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        (moving.copy, 2, "no provider to copy or compare from is named: give --from or set SECRETSTORE_FROM_URL"),
        (lambda: moving.diff(from_url="memory:"), 2, "give --to or set SECRETSTORE_TO_URL"),
        (lambda: moving.diff("k", 1, 2, from_url="memory:"), 2, "give KEY and two versions of it, or --from and --to"),
        (lambda: moving.diff("k", 1), 2, "give KEY and two versions of it"),
        (lambda: moving.diff("k", 1, 2, prefix="a", map_to="b/{key}"), 2, "--prefix and --map cannot be used with KEY"),
        (
            lambda: moving.diff(from_url="memory:", to_url="memory:", reveal=True, namespace="prod"),
            2,
            "--reveal and --namespace cannot be used without KEY",
        ),
        (lambda: moving.diff(from_url="nowhere:", to_url="memory:"), 2, "no provider takes URLs with nowhere:"),
        (lambda: moving.copy(from_url="memory:", to_url="env://"), 1, "env:// cannot write a secret"),
        (lambda: moving.copy(from_url="memory:", to_url="memory:", map_to="old"), 2, "ends in {key}, or in {rest}"),
        (lambda: moving.copy(from_url="memory:", to_url="memory:", map_to="old/{key}"), 2, "that lie apart"),
    ],
)
def test_a_wrong_call_is_one_line(
    capsys: pytest.CaptureFixture[str], call: Callable[[], None], code: int, said: str
) -> None:
    """What is missing or wrong is said, and what to do; nothing is printed."""
    assert run_guarded(call) == code

    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert said in shown.err


@pytest.mark.parametrize("option", ["from", "to"])
def test_a_password_among_the_arguments_is_warned_of(capsys: pytest.CaptureFixture[str], option: str) -> None:
    """It is not shown again, and the variable is named."""
    urls = {"from": "memory:", "to": "memory:"} | {option: f"nowhere://me:{PASSWORD}@127.0.0.1/x"}
    run_guarded(lambda: moving.diff(from_url=urls["from"], to_url=urls["to"]))

    shown = capsys.readouterr().err
    assert f"the password in --{option} shows in the list of processes; set SECRETSTORE_{option.upper()}_URL" in shown
    assert PASSWORD not in shown


def test_urls_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are found there, without a warning, and every format says the same of them."""
    monkeypatch.setenv("SECRETSTORE_FROM_URL", "env://?prefix=MOVED_")
    monkeypatch.setenv("SECRETSTORE_TO_URL", "memory:")
    monkeypatch.setenv("MOVED_TOKEN", PASSWORD)

    shown = []
    for wanted in (Format.JSON, Format.YAML):
        moving.copy(output_format=wanted)
        shown.append(capsys.readouterr())
    moving.copy(output_format=Format.TABLE)
    table = capsys.readouterr()

    assert json.loads(shown[0].out) == yaml.safe_load(shown[1].out)
    assert json.loads(shown[0].out)["counts"]["added"] == 1
    assert table.err == "1 added\n"
    assert all(PASSWORD not in one.out + one.err for one in (*shown, table))
