"""Reading, writing and deleting one secret, through each of the four faces."""

from datetime import UTC, datetime, timedelta
from itertools import product

import psycopg
import pytest
from pydantic import BaseModel, SecretStr

from secretstore import (
    InvalidSecretKeyError,
    InvalidSecretValueError,
    SecretNotFoundError,
    VersionConflictError,
)
from tests.support.faces import Face
from tests.support.threads import number

NOT_MISSING = [None, "", 0, False, [], {}, 0.5, "text", [None], {"": None}, {"é": ["中", {"😀": -1}]}, 2**60]
ILLEGAL_KEYS = ("", " a", "a ", "a\n", "a\0", "x" * 513, "\ud800", 7, None)
LEGAL_KEYS = ("x" * 512, "😀" * 512, "a/b:c.d", "%_\\'\"", "--;", "{}$1%(a)s")


class Login(BaseModel):
    """A value with a secret field."""

    user: str
    password: SecretStr


def test_a_secret_that_was_never_written_is_missing(face: Face) -> None:
    """A key without a value reads as None or the default, and `or_raise` names namespace and key."""
    assert face.get_secret("a") is None
    assert face.get_secret("a", default=7) == 7
    with pytest.raises(SecretNotFoundError, match=r"no secret 'a' in namespace 'default'"):
        face.get_secret_or_raise("a")


def test_every_json_value_is_a_value(face: Face) -> None:
    """Null and empty values are stored and read as themselves, and never taken for a missing secret."""
    for version, value in enumerate(NOT_MISSING, start=1):
        assert face.set_secret("a", value).version == version

        found = face.get_secret("a", default="missing")
        assert (found, type(found)) == (value, type(value))
        assert face.get_secret_or_raise("a") == value
        assert face.get_secrets(["a"]) == face.get_secrets_by_prefix("a") == {"a": value}
    assert face.get_secret_count() == 1


def test_a_typed_value_comes_back_as_its_type(face: Face) -> None:
    """A model with a secret field is stored revealed and comes back wrapped."""
    face.set_secret("login", Login(user="ann", password=SecretStr("tr0ub4dor")))

    assert face.get_secret("login") == {"user": "ann", "password": "tr0ub4dor"}
    login = face.get_secret_or_raise("login", Login)
    assert login.password.get_secret_value() == "tr0ub4dor"


def test_a_value_that_does_not_fit_its_type_is_refused(face: Face) -> None:
    """Reading as a type that the value does not fit is an error that names the place, and the next call works."""
    face.set_secret("a", "text")

    with pytest.raises(InvalidSecretValueError, match=r"version 1 of 'a' in namespace 'default' does not fit int"):
        face.get_secret("a", int)
    assert face.get_secret("a") == "text"


def test_versions_count_from_one(face: Face) -> None:
    """Each write is the next version, and every version can still be read by its number."""
    assert [face.set_secret("a", value).version for value in ("x", "y", "z")] == [1, 2, 3]

    assert [face.get_secret("a", version=version) for version in (1, 2, 3)] == ["x", "y", "z"]
    assert face.get_secret("a") == "z"
    assert face.get_secret("a", version=4, default="none") == "none"
    with pytest.raises(SecretNotFoundError, match="version 4"):
        face.get_secret_or_raise("a", version=4)


def test_the_answer_of_a_write_describes_it(face: Face) -> None:
    """`set_secret` answers with what `describe_secret` then says."""
    info = face.with_options(actor="ann").set_secret("a", 1, labels={"team": "web"})

    assert (info.namespace, info.key, info.version, info.labels) == ("default", "a", 1, {"team": "web"})
    assert (info.created_by, info.expires_at, info.deleted_at) == ("ann", None, None)
    assert info.created_at == info.updated_at
    assert info.created_at.tzinfo is not None
    assert face.describe_secret("a") == info


def test_the_right_expected_version_writes(face: Face) -> None:
    """A write over the version that is stored succeeds, also from nothing with 0."""
    assert face.set_secret("a", "x", expected_version=0).version == 1
    assert face.set_secret("a", "y", expected_version=1).version == 2
    assert face.get_secret("a") == "y"


def test_a_wrong_expected_version_writes_nothing(face: Face, raw: psycopg.Connection) -> None:
    """A write over another version is a conflict that names both, and leaves everything as it is."""
    face.set_secret("a", "x")
    face.set_secret("a", "y")

    for expected in (0, 1, 3):
        with pytest.raises(VersionConflictError) as caught:
            face.set_secret("a", "z", expected_version=expected)
        assert (caught.value.expected, caught.value.found, caught.value.key) == (expected, 2, "a")
    assert face.get_secret("a") == "y"
    face.commit()
    assert number(raw, "SELECT count(*) FROM secretstore.change_event") == 2


def test_an_expected_version_of_a_missing_secret_conflicts(face: Face) -> None:
    """A version is expected, there is no secret: a conflict with version 0."""
    with pytest.raises(VersionConflictError, match=r"expected version 1 at 'a'.*found none"):
        face.set_secret("a", "x", expected_version=1)
    assert face.get_secret_count() == 0


def test_a_deleted_secret_counts_as_none(face: Face) -> None:
    """After a delete the old version conflicts, and 0 writes on with the next number."""
    face.set_secret("a", "x")
    assert face.delete_secret("a") is True

    with pytest.raises(VersionConflictError) as caught:
        face.set_secret("a", "y", expected_version=1)
    assert caught.value.found == 0
    assert face.set_secret("a", "y", expected_version=0).version == 2


def test_an_expired_secret_counts_as_none(face: Face) -> None:
    """After its time the old version conflicts, and 0 writes on with the next number."""
    face.set_secret("a", "x", expires_at=datetime.now(UTC) - timedelta(hours=1))

    with pytest.raises(VersionConflictError):
        face.set_secret("a", "y", expected_version=1)
    assert face.set_secret("a", "y", expected_version=0).version == 2


def test_a_deleted_secret_is_gone_everywhere(face: Face) -> None:
    """A deleted secret is neither read, counted, listed nor described, in no version."""
    face.set_secret("a", 1)
    assert face.delete_secret("a") is True

    assert (face.get_secret("a"), face.get_secret("a", version=1), face.describe_secret("a")) == (None, None, None)
    assert (face.get_secrets(["a"]), face.get_secrets_by_prefix("")) == ({}, {})
    assert (face.list_secret_keys(), face.list_secrets(), face.get_secret_count()) == ([], [], 0)


def test_delete_says_whether_there_was_one(face: Face) -> None:
    """Deleting what is not there, or is deleted already, answers False."""
    assert face.delete_secret("a") is False
    face.set_secret("a", 1)
    assert [face.delete_secret("a"), face.delete_secret("a")] == [True, False]


def test_a_deleted_key_continues_its_numbers(face: Face) -> None:
    """A key written again after its delete has the next version, and its old versions can be read again."""
    face.set_secret("a", "x")
    face.delete_secret("a")

    assert face.set_secret("a", "y").version == 2
    assert (face.get_secret("a"), face.get_secret("a", version=1)) == ("y", "x")
    assert face.describe_secret("a").deleted_at is None


def test_an_illegal_key_is_refused_before_anything_is_sent(face: Face, sent_statements: list[str]) -> None:
    """A key that breaks a rule is an error of ours, and PostgreSQL is not asked."""
    calls = (face.get_secret, face.delete_secret, face.describe_secret, lambda key: face.set_secret(key, 1))
    for call, key in product(calls, ILLEGAL_KEYS):
        with pytest.raises(InvalidSecretKeyError):
            call(key)
    assert sent_statements == []


def test_every_legal_key_is_one_key(face: Face) -> None:
    """The longest keys and those with special characters are written, listed, read and deleted as they are."""
    for key in LEGAL_KEYS:
        face.set_secret(key, key)

        assert face.get_secret(key) == key
        assert face.list_secret_keys(key) == [key]
        assert face.delete_secret(key) is True


def test_what_is_not_json_is_refused_before_anything_is_sent(face: Face, sent_statements: list[str]) -> None:
    """A value that JSON cannot hold is an error that names the place, and PostgreSQL is not asked."""
    for value in (float("nan"), [float("inf")], object(), "\ud800", b"\xff\xfe"):
        with pytest.raises(InvalidSecretValueError, match="the value of 'a' in namespace 'default' cannot be stored"):
            face.set_secret("a", value)
    assert sent_statements == []


def test_the_largest_value_is_stored_and_one_byte_more_is_not(face: Face) -> None:
    """1 MiB of JSON is stored; one byte more is refused with both sizes."""
    largest = "x" * (1024 * 1024 - 2)
    face.set_secret("a", largest)

    assert face.get_secret("a") == largest
    with pytest.raises(InvalidSecretValueError, match="1048577 bytes of JSON are more than 1048576"):
        face.set_secret("a", largest + "x")
    with pytest.raises(InvalidSecretValueError, match="12 bytes of JSON are more than 10"):
        face.with_options(max_value_bytes=10).set_secret("a", "x" * 10)


def test_namespaces_are_apart(face: Face) -> None:
    """The same key in two namespaces is two secrets, each with its own numbers."""
    other = face.with_options(namespace="other")
    face.set_secret("a", "here")
    face.set_secret("a", "here 2")
    assert other.get_secret("a") is None
    assert other.set_secret("a", "there").version == 1

    assert (face.get_secret("a"), other.get_secret("a")) == ("here 2", "there")
    assert other.delete_secrets(["a"]) == 1
    assert (face.get_secret_count(), other.get_secret_count()) == (1, 0)


@pytest.mark.parametrize("version", [-1, 2**63, True, "1", 1.0])
def test_what_is_no_version_is_refused(face: Face, version: object) -> None:
    """A version that cannot be one is an error before anything is sent, and nothing is written."""
    with pytest.raises(ValueError, match="a version is a number"):
        face.get_secret("a", version=version)
    with pytest.raises(ValueError, match="a version is a number"):
        face.set_secret("a", 1, expected_version=version)

    assert face.list_secret_keys() == []
