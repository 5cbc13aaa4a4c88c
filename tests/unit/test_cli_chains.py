"""Which chain a command means, and which options it refuses there."""

import pytest

from secretstore.cli.chains import chain_named, refuse_options
from secretstore.cli.exit_codes import CommandError, ExitCode

OF_ENVIRONMENT = "env://?prefix=SET_"
GIVEN = "env://?prefix=GIVEN_"
DATABASE = "postgresql://db/app"


@pytest.mark.parametrize(
    ("options", "variable", "named"),
    [
        ((None, None), None, None),
        ((GIVEN, None), None, GIVEN),
        ((None, None), OF_ENVIRONMENT, OF_ENVIRONMENT),
        ((GIVEN, None), OF_ENVIRONMENT, GIVEN),
        ((None, DATABASE), OF_ENVIRONMENT, None),
        (("", None), OF_ENVIRONMENT, ""),
    ],
    ids=["none", "option", "variable", "both", "database", "empty option"],
)
def test_what_is_given_wins_over_what_is_set(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str | None, str | None], variable: str | None, named: str | None
) -> None:
    """The option of a chain or of a database counts before the variable, and an empty text is no leave to go elsewhere."""
    if variable is not None:
        monkeypatch.setenv("SECRETSTORE_CHAIN", variable)

    assert chain_named(*options, None) == named


@pytest.mark.parametrize(
    ("options", "said"),
    [((GIVEN, DATABASE, None), "either --chain or --database-url"), ((None, None, "prod"), "leave --namespace out")],
)
def test_two_places_at_once_are_a_wrong_call(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str | None, str | None, str | None], said: str
) -> None:
    """A command reads a chain or a database, and the namespace stands in the URLs of a chain."""
    monkeypatch.setenv("SECRETSTORE_CHAIN", OF_ENVIRONMENT)

    with pytest.raises(CommandError, match=said) as caught:
        chain_named(*options)
    assert caught.value.code is ExitCode.USAGE


def test_each_option_that_means_nothing_is_named() -> None:
    """All of them at once, as they are written; those that were not given do not count."""
    with pytest.raises(CommandError, match=r"^--label and --expiring-within cannot be used with a chain$") as caught:
        refuse_options("with a chain", label=["a=b"], deleted=False, expiring_within=1, unchanged_for=None)
    assert caught.value.code is ExitCode.USAGE

    refuse_options("with a chain", label=None, deleted=False)


def test_a_password_among_the_arguments_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever of the URLs holds it; it is not shown again, the variable is named, and without one there is no word."""
    chain_named(GIVEN, None, None)
    assert not capsys.readouterr().err

    chain_named(f"{GIVEN} optional:postgresql://app:hunter2@db/app", None, None)
    shown = capsys.readouterr().err
    assert "the password in --chain shows in the list of processes; set SECRETSTORE_CHAIN instead" in " ".join(
        shown.split()
    )
    assert "hunter2" not in shown
