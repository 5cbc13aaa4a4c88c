"""How the command line prints, and how an error ends it."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import typer
import yaml

from secretstore import errors
from secretstore.cli import output
from secretstore.cli.app import run_guarded
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.output import Format

VALUE = "hunter2-of-the-test"
VALUES: list[object] = [
    None,
    True,
    0,
    1.5,
    "",
    "yes",
    "a: b",
    "ü\n",
    " x ",
    [],
    {},
    {"a": ["b", {"c": None}]},
    "long " * 100,
    "\x85",
    {"\u2028": "ü"},
]


def failing(error: BaseException) -> Callable[[], None]:
    """Return a command that raises."""

    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_json_and_yaml_are_read_back_as_the_value(value: object, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is printed as JSON or YAML is that value again, and ends with one line end."""
    for wanted, read in ((Format.JSON, json.loads), (Format.YAML, yaml.safe_load)):
        output.show_data(value, wanted)
        printed = capfd.readouterr().out
        assert read(printed) == value
        assert printed.endswith("\n")
        assert not printed.endswith("\n\n")


@pytest.mark.parametrize("records", [[], [{"a": 1, "é": ["x\ny", {}]}], [{"a": "\u2028"}, {"b": {"c": [1, None]}}, {}]])
def test_a_list_of_any_length_is_printed_as_if_it_were_known(
    records: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Record by record the same comes out as all at once, and the rest is what it is at the end."""
    for wanted, read in ((Format.JSON, json.loads), (Format.YAML, yaml.safe_load)):
        counts: dict[str, int] = {}
        output.show_list("list", counted(records, counts), {"counts": counts, "more": []}, wanted)
        printed = capfd.readouterr().out
        whole = {"list": records, "counts": {"n": len(records)}, "more": []}
        assert read(printed) == whole
        output.show_data(whole, Format.JSON)
        assert capfd.readouterr().out == printed or wanted is Format.YAML


def counted(records: list[dict[str, Any]], counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Give records, and count them."""
    counts["n"] = 0
    for record in records:
        counts["n"] += 1
        yield record


@pytest.mark.parametrize(
    ("value", "printed"), [("a\n", "a\n\n"), ("[b]", "[b]\n"), ({"ü": [None]}, '{"ü": [null]}\n'), (True, "true\n")]
)
def test_a_raw_value_is_followed_by_one_line_end(
    value: object, printed: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Text is printed as it is, anything else as JSON, and one line end is added to both."""
    output.show_raw(value)

    assert capfd.readouterr().out == printed


def test_a_table_in_a_pipe_is_plain_text(capfd: pytest.CaptureFixture[str]) -> None:
    """A piped table has no colours, no boxes, no cut cells, and no control characters of its contents."""
    record = {"key": "[red]k" * 50, "labels": {"a": "\x1b[2J"}, "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)}

    output.show_records([record], ("key", "labels", "at"), Format.TABLE)

    printed = capfd.readouterr().out
    assert printed.splitlines()[0].split() == ["key", "labels", "at"]
    assert printed.splitlines()[1].split("  ") == ["[red]k" * 50, "a=\\x1b[2J", "2026-01-02 03:04:05+00:00"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SecretStoreError("words"), 1),
        (errors.SchemaOutOfDateError("words"), 1),
        (errors.ProviderError("words"), 1),
        (errors.ConfigurationError("words"), 2),
        (errors.InvalidSecretKeyError("words"), 2),
        (errors.InvalidSecretValueError("words"), 2),
        (errors.SecretNotFoundError("words", "k"), 3),
        (errors.VersionConflictError("words", "k", 1, 2), 4),
        (errors.DecryptionError("words"), 5),
        (errors.MasterKeyError("words"), 5),
        (errors.PermissionDeniedError("words"), 6),
        (errors.StoreUnavailableError("words"), 7),
        (CommandError("words", ExitCode.CHECK_FAILED), 8),
        (typer.BadParameter("words"), 2),
        (ImportError("words"), 1),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, BaseException) else "",
)
def test_each_error_has_its_exit_code_and_one_line(
    error: BaseException, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every error of the library ends with the code of its kind, after one line on stderr."""
    assert run_guarded(failing(error)) == code

    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert "words" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ValueError(VALUE), OSError(13, VALUE), KeyError(VALUE)], ids=["value", "system", "key"]
)
def test_an_unexpected_error_is_told_by_its_type_alone(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    """The text of an error that nobody foresaw is not shown, because it may hold a value."""
    assert run_guarded(failing(error)) == 1

    printed = capfd.readouterr().err
    assert printed.startswith(f"error: unexpected {type(error).__name__}")
    assert "hunter2" not in printed
    assert printed.count("\n") == 1


def test_words_cannot_steer_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Control characters and line ends in words are shown as escapes, and markup is no markup."""
    sys.stdout.flush()

    output.complain("a\nb\x1b[31m\x9b[bold]ü")

    assert capfd.readouterr().err == "error: a\\nb\\x1b[31m\\x9b[bold]ü\n"


def test_progress_in_a_pipe_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """Only a terminal gets a bar."""
    with output.progress("importing") as report:
        report(2, 3)
        report(3, 3)

    assert capfd.readouterr() == ("", "")
