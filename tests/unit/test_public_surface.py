"""What `import secretstore` gives."""

import inspect
import pickle
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import secretstore
from secretstore import errors

ROOT = Path(secretstore.__file__).parent


def test_the_public_names_are_sorted_and_there() -> None:
    """`__all__` is in order, without doubles, and each name is importable."""
    assert secretstore.__all__ == sorted(set(secretstore.__all__))
    assert [name for name in secretstore.__all__ if not hasattr(secretstore, name)] == []


def test_no_other_public_name_lies_about() -> None:
    """What is importable from the top is what is promised, beside the rooms themselves."""
    found = {name: getattr(secretstore, name) for name in dir(secretstore) if not name.startswith("_")}

    assert {name for name, thing in found.items() if not inspect.ismodule(thing)} == set(secretstore.__all__)


def test_all_names_can_be_imported_at_once() -> None:
    """The star brings what is promised, and nothing else."""
    found: dict[str, object] = {}
    exec("from secretstore import *", found)

    assert set(found) - {"__builtins__"} == set(secretstore.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """Names that are loaded late are refused as any module refuses them."""
    with pytest.raises(AttributeError, match="module 'secretstore' has no attribute 'secret'"):
        secretstore.secret  # type: ignore[attr-defined]  # noqa: B018 - asking for it is the point


@pytest.mark.parametrize("name", secretstore.__all__)
def test_a_public_name_says_where_people_import_it_from(name: str) -> None:
    """Tracebacks and documentation show `secretstore.X`, and not the file."""
    thing = getattr(secretstore, name)

    assert thing.__module__ == "secretstore"
    assert thing.__qualname__ == name


@pytest.mark.parametrize("name", secretstore.__all__)
def test_a_public_name_says_what_it_is(name: str) -> None:
    """Each has words of its own."""
    assert (getattr(secretstore, name).__doc__ or "").strip()


def test_what_the_ways_in_return_can_be_asked_at_run_time() -> None:
    """Whoever wires programs by annotations finds the clients, though they are loaded late."""
    assert get_type_hints(secretstore.connect)["return"] is secretstore.SecretClient
    assert get_type_hints(secretstore.connect_async)["return"] is secretstore.AsyncSecretClient


@pytest.mark.parametrize("name", secretstore.__all__)
def test_every_annotation_can_be_asked_at_run_time(name: str) -> None:
    """Whatever a function or a method takes and returns resolves for those who look when their program runs."""
    asked = {function: get_type_hints(function) for function in annotated(getattr(secretstore, name))}

    assert all(type(found) is not str for hints in asked.values() for found in hints.values())


def annotated(thing: Any) -> Iterator[Callable[..., Any]]:
    """What of a public name has annotations: itself and, of a class, its methods and those of our classes below it."""
    yield thing
    ours = [kind for kind in getattr(thing, "__mro__", ()) if kind.__module__.partition(".")[0] == "secretstore"]
    for member in (member for kind in ours for member in vars(kind).values()):
        function = getattr(member, "fget", None) or inspect.unwrap(getattr(member, "__func__", member))
        if inspect.isfunction(function):
            yield function


def test_every_error_is_public() -> None:
    """Whatever is raised can be caught by a name from the top."""
    assert set(errors.__all__) <= set(secretstore.__all__)


def test_every_public_method_says_what_it_does() -> None:
    """Classes, too, are documented method by method."""
    classes = [thing for name in secretstore.__all__ if inspect.isclass(thing := getattr(secretstore, name))]
    methods = [
        f"{kind.__name__}.{name}"
        for kind in classes
        for name, method in vars(kind).items()
        if inspect.isfunction(method) and not name.startswith("_") and not (method.__doc__ or "").strip()
    ]
    assert methods == []


def test_the_package_says_that_it_is_typed() -> None:
    """Type checkers of users read our annotations."""
    assert (ROOT / "py.typed").is_file()


@pytest.mark.source
def test_the_version_is_that_of_the_distribution() -> None:
    """The installed distribution and its source tell the same version."""
    project = ROOT.parent / "pyproject.toml"

    assert version("pg-secretstore") == tomllib.loads(project.read_text())["project"]["version"]


def test_secrets_of_the_top_are_picklable_by_their_public_address() -> None:
    """A class is found again under the address that it shows."""
    for name in secretstore.__all__:
        thing = getattr(secretstore, name)
        assert pickle.loads(pickle.dumps(thing)) is thing
