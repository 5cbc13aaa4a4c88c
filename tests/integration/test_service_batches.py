"""Many secrets in one call, through each of the four faces."""

import psycopg
import pytest

from secretstore import InvalidSecretKeyError, InvalidSecretValueError
from tests.support.faces import Face
from tests.support.threads import number


def test_many_are_read_in_the_order_asked(face: Face) -> None:
    """Values come in the order of the keys asked for, each once, and missing ones are left out."""
    face.set_secrets({"a": 1, "b": None, "c": 3})

    found = face.get_secrets(["c", "missing", "b", "c", "a", "b"])
    assert list(found.items()) == [("c", 3), ("b", None), ("a", 1)]
    assert face.get_secrets(iter(["a"]), int) == {"a": 1}
    assert face.get_secrets([]) == {}


def test_many_are_read_in_one_statement(face: Face, sent_statements: list[str]) -> None:
    """Once the data key is open, any number of secrets is one statement."""
    face.set_secrets({f"k{n}": n for n in range(50)})
    sent_statements.clear()

    assert len(face.get_secrets([f"k{n}" for n in range(50)])) == 50
    assert len(sent_statements) == 1
    assert len(face.get_secrets_by_prefix("k")) == 50
    assert len(sent_statements) == 2


def test_a_text_is_not_taken_for_keys(face: Face) -> None:
    """One text in place of a collection of keys is refused, and not read letter by letter."""
    for call in (face.get_secrets, face.delete_secrets):
        with pytest.raises(InvalidSecretKeyError, match=r"write \[key\]"):
            call("abc")


def test_many_are_written_in_a_constant_number_of_statements(face: Face, sent_statements: list[str]) -> None:
    """A thousand new or existing secrets take as many statements as one."""
    face.set_secret("first", 1)
    sent_statements.clear()
    face.set_secret("one", 1)
    for_one = len(sent_statements)

    for version in (1, 2):
        sent_statements.clear()
        infos = face.set_secrets({f"k{n}": [n, version] for n in range(1000)})
        assert len(sent_statements) == for_one == 3
        assert {info.version for info in infos.values()} == {version}
    assert face.get_secrets(["k0", "k999"]) == {"k0": [0, 2], "k999": [999, 2]}


def test_the_answers_are_in_the_order_given(face: Face) -> None:
    """`set_secrets` answers with each key's own record, in the order of the values, new and old mixed."""
    face.set_secret("b", 1)

    infos = face.set_secrets({"c": 1, "a": 1, "b": 2})
    assert [(key, info.key, info.version) for key, info in infos.items()] == [
        ("c", "c", 1),
        ("a", "a", 1),
        ("b", "b", 2),
    ]
    assert face.set_secrets({}) == {}


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"a": "new", "b": float("nan")}, InvalidSecretValueError),
        ({"a": "new", "b": "x" * 1024 * 1024}, InvalidSecretValueError),
        ({"a": "new", " ": 1}, InvalidSecretKeyError),
    ],
    ids=["not JSON", "too large", "illegal key"],
)
def test_one_bad_value_writes_nothing(face: Face, values: dict[str, object], error: type[Exception]) -> None:
    """Where one of many cannot be stored, none is."""
    face.set_secret("a", "old")

    with pytest.raises(error):
        face.set_secrets(values)
    assert face.get_secrets_by_prefix("") == {"a": "old"}


def test_many_are_deleted_and_counted(face: Face, raw: psycopg.Connection, sent_statements: list[str]) -> None:
    """`delete_secrets` answers how many there were, each counted once, with one event for each.

    It takes a lock, a statement and a notice; and for what was not found, whether this role would have found it.
    """
    face.set_secrets({"a": 1, "b": 2, "c": 3})
    sent_statements.clear()

    assert face.delete_secrets(["a", "missing", "c", "a"]) == 2
    assert len(sent_statements) == 4
    assert face.delete_secrets(["a", "c"]) == face.delete_secrets([]) == 0
    assert face.list_secret_keys() == ["b"]
    face.commit()
    assert number(raw, "SELECT count(*) FROM secretstore.change_event WHERE action = 'delete'") == 2
