"""The tree of errors."""

import inspect
import pickle
import re

import pytest

from secretstore import errors
from secretstore.errors import (
    GrantError,
    RecordTamperedError,
    SecretNotFoundError,
    SecretStoreError,
    VersionConflictError,
    VersionGoneError,
)

CLASSES: list[type[SecretStoreError]] = [getattr(errors, name) for name in errors.__all__]
WITH_PARTS: list[SecretStoreError] = [
    SecretNotFoundError("prod", "a.b"),
    SecretNotFoundError("prod", "a.b", 3),
    VersionConflictError("prod", "a.b", 0, 2),
    VersionConflictError("prod", "a.b", 4, 0),
    VersionGoneError("prod", "a.b", 3),
]
OF_RECORDS: list[SecretStoreError] = [
    RecordTamperedError("prod", "change", "edited", seq=3),
    RecordTamperedError("prod", "access", "cut", checkpoint=2),
    RecordTamperedError("prod", "change", "key gone"),
]
WITH_MESSAGE = [
    kind("what happened") for kind in CLASSES if kind not in {type(error) for error in WITH_PARTS + OF_RECORDS}
]


def test_every_error_comes_from_one_root() -> None:
    """Whoever catches `SecretStoreError` catches all errors of the library, and no other class hides behind it."""
    assert {kind.__base__ for kind in CLASSES} == {SecretStoreError, SecretNotFoundError, GrantError, Exception}
    assert [kind for kind in CLASSES if kind.__base__ is Exception] == [SecretStoreError]


def test_the_module_lists_every_error_that_it_defines() -> None:
    """`errors.__all__` is sorted and complete."""
    defined = [
        name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, SecretStoreError)
    ]
    assert errors.__all__ == sorted(defined)


def test_the_tree_that_is_drawn_is_the_tree_of_classes() -> None:
    """The picture at the top of the module names the root and each class below it, and no other."""
    drawn = re.findall(r"^[│ ]*[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)

    assert sorted([*drawn, "SecretStoreError"]) == errors.__all__
    assert re.search(r"^SecretStoreError$", errors.__doc__ or "", re.MULTILINE)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_what_it_is(kind: type[SecretStoreError]) -> None:
    """Each class has words of its own."""
    assert kind.__doc__
    assert [other for other in CLASSES if other.__doc__ == kind.__doc__] == [kind]


@pytest.mark.parametrize("error", WITH_PARTS + OF_RECORDS + WITH_MESSAGE, ids=repr)
def test_an_error_survives_pickling(error: SecretStoreError) -> None:
    """An error crosses to another process with class, text and parts intact."""
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("error", WITH_PARTS, ids=repr)
def test_an_error_of_one_secret_names_namespace_and_key(error: SecretStoreError) -> None:
    """The message says where, so that it helps without a traceback."""
    assert "'a.b'" in str(error)
    assert "namespace 'prod'" in str(error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SecretNotFoundError("n", "k"), "there is no secret 'k' in namespace 'n'"),
        (SecretNotFoundError("n", "k", 3), "there is no secret 'k' in version 3 in namespace 'n'"),
        (
            VersionConflictError("n", "k", 0, 2),
            "expected no secret at 'k' in namespace 'n', found version 2; read it again and decide anew",
        ),
        (
            VersionConflictError("n", "k", 4, 0),
            "expected version 4 at 'k' in namespace 'n', found none; read it again and decide anew",
        ),
    ],
)
def test_the_words_of_an_error(error: SecretStoreError, text: str) -> None:
    """A version is named where one was asked for, and 0 reads as no secret."""
    assert str(error) == text


def test_the_parts_of_an_error_can_be_read() -> None:
    """A program need not take the message apart."""
    conflict = VersionConflictError("n", "k", 4, 6)
    missing = SecretNotFoundError("n", "k", 3)

    assert (conflict.namespace, conflict.key, conflict.expected, conflict.found) == ("n", "k", 4, 6)
    assert (missing.namespace, missing.key, missing.version) == ("n", "k", 3)
