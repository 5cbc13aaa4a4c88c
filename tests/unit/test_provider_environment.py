"""Variables of the environment keep what providers promise of reading."""

import os

import pytest

from secretstore.domain.providers import SecretProvider
from secretstore.domain.variables import key_of_variable, variable_name
from secretstore.errors import ConfigurationError, InvalidSecretKeyError, InvalidSecretValueError, ProviderError
from secretstore.opening import open_provider
from secretstore.providers.environment import EnvironmentProvider
from secretstore.providers.formats import Format, encoded
from secretstore.testing import SecretProviderContract
from secretstore.testing.providers import Seed


class EnvironmentContract(SecretProviderContract):
    """What there is to promise for either format."""

    form = Format.AUTO
    holds_every_key = False
    holds_every_value = False

    @pytest.fixture
    def variables(self) -> dict[str, str]:
        """What stands for the environment of a process; others' variables are no concern of the provider."""
        return {"HOME": "/root", "APP_lower": "unreachable", "APP_": "nameless"}

    @pytest.fixture
    def provider(self, variables: dict[str, str]) -> SecretProvider:
        """The variables of an application."""
        return EnvironmentProvider(prefix="APP_", form=self.form, environment=variables)

    @pytest.fixture
    def seed(self, variables: dict[str, str]) -> Seed:
        """Set a variable, for keys that are listed as they are."""

        def set_variable(key: str, value_json: bytes) -> None:
            if key_of_variable(variable_name(key)) != key:
                raise InvalidSecretKeyError(key)
            variables[f"APP_{variable_name(key)}"] = encoded(value_json, self.form, name=key)

        return set_variable


class TestEnvironment(EnvironmentContract):
    """Objects and strings."""


class TestEnvironmentOfJson(EnvironmentContract):
    """Everything is JSON."""

    form = Format.JSON
    holds_every_value = True


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("db.password", "DB_PASSWORD"),
        ("oauth/github:Token", "OAUTH_GITHUB_TOKEN"),
        ("a__b", "A__B"),
        ("9 lives", "9_LIVES"),
        ("straße", "STRA_E"),
        ("ıß\u00b5", "___"),
    ],
)
def test_a_key_has_a_variable(key: str, name: str) -> None:
    """One character for each, whatever other languages make of capitals."""
    assert variable_name(key) == name


def test_keys_of_the_same_variable_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each spelling finds it; the list knows one of them."""
    monkeypatch.setenv("APP_DB_PASSWORD", "one")
    provider = open_provider("env://?prefix=APP_DB")

    found = provider.read_many([".password", "/PASSWORD", "_password"])
    assert {key: secret.value_json for key, secret in found.items()} == dict.fromkeys(found, b'"one"')
    assert len(found) == len([".password", "/PASSWORD", "_password"])
    assert provider.list_keys() == ["_password"]


def test_the_process_is_asked_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set after the provider was opened is there, and one that is gone is missing."""
    provider = open_provider("env://?prefix=APP_&format=text")
    monkeypatch.setenv("APP_LATE", '{"a": 1}')
    secret = provider.read("late")
    assert secret is not None
    assert secret.value_json == b'"{\\"a\\": 1}"'

    monkeypatch.delenv("APP_LATE")
    assert provider.read("late") is None


def test_an_empty_variable_is_an_empty_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not missing."""
    monkeypatch.setenv("APP_EMPTY", "")
    secret = open_provider("env://?prefix=APP_").read("empty")

    assert secret is not None
    assert secret.value_json == b'""'


def test_what_is_no_text_is_refused_without_being_shown() -> None:
    """Bytes that are not UTF-8, and a text where JSON was promised, name the variable and nothing else."""
    variables = {"A": os.fsdecode(b"secret-\xff"), "B": "secret-text"}
    for form, key in ((Format.TEXT, "a"), (Format.JSON, "b")):
        with pytest.raises(InvalidSecretValueError) as caught:
            EnvironmentProvider(form=form, environment=variables).read(key)
        assert f"the variable {key.upper()} " in str(caught.value)
        assert "secret-" not in str(caught.value)
        assert caught.value.__context__ is None


def test_it_is_for_reading_alone() -> None:
    """A write is refused by name."""
    with pytest.raises(ProviderError, match=r"env://\?prefix=APP_ cannot write a secret"):
        open_provider("env://?prefix=APP_").write("a", b"1")


@pytest.mark.parametrize(
    "url", ["env://host", "env:APP_", "env://?prefix=A&prefix=B", "env://?format=yaml", "env://?a=b"]
)
def test_urls_that_say_something_else_are_refused(url: str) -> None:
    """Nothing is passed over."""
    with pytest.raises(ConfigurationError, match="env URL"):
        open_provider(url)
