"""The past as it was: at every moment exactly what was there then, through each of the four faces."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pydantic import BaseModel, SecretStr

from secretstore import (
    InvalidSecretKeyError,
    InvalidSecretValueError,
    KeyRing,
    SecretInfo,
    SecretNotFoundError,
    VersionGoneError,
)
from tests.support.faces import Face, View
from tests.support.past_model import KEYS, LABELS, PastModel, Walk
from tests.support.stored import now, rows

TICK = timedelta(microseconds=1)
STEPS = 60


class Login(BaseModel):
    """A value with a secret field."""

    user: str
    password: SecretStr


@dataclass(frozen=True)
class Moment:
    """What was there at a time: by the model, and as the face described it then."""

    time: datetime
    model: PastModel
    infos: list[SecretInfo]


def seen(view: View, model: PastModel) -> dict[str, Any]:
    """Everything that can be read of a moment."""
    return {
        "each": {key: view.get_secret(key, default="none") for key in KEYS},
        "many": view.get_secrets(KEYS),
        "prefix": (view.get_secrets_by_prefix(""), view.get_secrets_by_prefix("a")),
        "keys": (view.list_secret_keys(), view.list_secret_keys("a")),
        "counts": (view.get_secret_count(), view.get_secret_count("a")),
        "labelled": [{info.key: info.labels for info in view.list_secrets(labels=labels)} for labels in LABELS],
        "versions": {
            key: [view.get_secret(key, version=version) for version in range(1, len(secret.values) + 2)]
            for key, secret in model.secrets.items()
        },
    }


def expected(model: PastModel) -> dict[str, Any]:
    """What the model says of it."""
    values, of_a = model.values(), model.values("a")
    return {
        "each": {key: values.get(key, "none") for key in KEYS},
        "many": values,
        "prefix": (values, of_a),
        "keys": (list(values), list(of_a)),
        "counts": (len(values), len(of_a)),
        "labelled": [model.labelled(labels) for labels in LABELS],
        "versions": {
            key: [*([None] * len(secret.values) if secret.is_deleted else secret.values), None]
            for key, secret in model.secrets.items()
        },
    }


def test_every_moment_of_a_random_walk_is_as_it_was(face: Face, raw: psycopg.Connection) -> None:
    """Whatever was done, at each moment in between the past shows the values, lists, counts and labels of then."""
    walk = Walk(face, seed=5)
    moments = [Moment(now(raw), PastModel(), [])]
    for _ in range(STEPS):
        model = walk.step()
        moments.append(Moment(now(raw), model, face.list_secrets()))

    for moment in moments:
        view = face.as_of(moment.time)
        assert seen(view, moment.model) == expected(moment.model)
        assert view.list_secrets() == moment.infos
        described = {info.key: info for info in moment.infos}
        assert [view.describe_secret(key) for key in KEYS] == [described.get(key) for key in KEYS]


def test_a_change_is_there_from_its_own_moment_on(face: Face) -> None:
    """At `updated_at` the change has happened, and a microsecond before it has not, whatever it was."""
    first = face.set_secret("k", {"n": 1}, labels={"a": "1"})
    second = face.set_secret("k", {"n": 2})
    labelled = face.set_labels("k", {"a": "2"})
    face.delete_secret("k")
    (deleted,) = face.list_secrets(include_deleted=True)
    undeleted = face.undelete_secret("k")
    patched = face.patch_secret("k", {"m": 3})

    def at(moment: datetime) -> tuple[Any, Any]:
        info = face.as_of(moment).describe_secret("k")
        return face.as_of(moment).get_secret("k"), info and (info.version, info.labels["a"])

    assert (at(first.updated_at - TICK), at(first.updated_at)) == ((None, None), ({"n": 1}, (1, "1")))
    assert (at(second.updated_at - TICK), at(second.updated_at)) == (({"n": 1}, (1, "1")), ({"n": 2}, (2, "1")))
    assert (at(labelled.updated_at - TICK), at(labelled.updated_at)) == (({"n": 2}, (2, "1")), ({"n": 2}, (2, "2")))
    assert (at(deleted.updated_at - TICK), at(deleted.updated_at)) == (({"n": 2}, (2, "2")), (None, None))
    assert (at(undeleted.updated_at - TICK), at(undeleted.updated_at)) == ((None, None), ({"n": 2}, (2, "2")))
    assert at(patched.updated_at) == ({"n": 2, "m": 3}, (3, "2"))
    assert face.as_of(patched.updated_at).describe_secret("k") == patched == face.describe_secret("k")


def test_before_the_first_write_there_was_nothing(face: Face, raw: psycopg.Connection) -> None:
    """No key, no count, no description, and an error where a value has to be there."""
    start = now(raw)
    face.set_secret("k", 1, labels={"a": "1"})
    for view in (face.as_of(start), face.as_of(datetime(1, 1, 1, tzinfo=UTC))):
        assert (view.get_secret("k", default="none"), view.get_secret("k", version=1)) == ("none", None)
        assert (view.get_secrets(["k"]), view.get_secrets_by_prefix("")) == ({}, {})
        assert (view.list_secret_keys(), view.get_secret_count(), view.describe_secret("k")) == ([], 0, None)
        assert view.list_secrets(labels={"a": "1"}) == []
        with pytest.raises(SecretNotFoundError, match="'k'") as caught:
            view.get_secret_or_raise("k")
        assert not isinstance(caught.value, VersionGoneError)


def test_the_future_is_as_now(face: Face) -> None:
    """At a moment to come there is what is there now."""
    info = face.set_secret("k", 1)

    view = face.as_of(datetime(9999, 1, 1, tzinfo=UTC))
    assert (view.get_secret("k"), view.describe_secret("k")) == (1, info)


def test_what_expired_is_missing_from_then_on(face: Face) -> None:
    """The expiry is that of the version of then: it is there until its time, in the past as well as in the future."""
    first = face.set_secret("k", 1, expires_at=datetime.now(UTC) + timedelta(hours=1))
    second = face.set_secret("k", 2)

    before, after = first.expires_at - TICK, first.expires_at
    assert face.as_of(first.updated_at).describe_secret("k") == first
    assert (face.as_of(before).get_secret("k"), face.as_of(after).get_secret("k")) == (2, 2)
    third = face.set_secret("k", 3, expires_at=second.updated_at + timedelta(hours=1))
    before, after = third.expires_at - TICK, third.expires_at
    assert (face.as_of(before).get_secret("k"), face.as_of(before).get_secret_count()) == (3, 1)
    assert (face.as_of(after).get_secret("k"), face.as_of(after).get_secret("k", version=1)) == (None, None)
    assert (face.as_of(after).list_secret_keys(), face.as_of(after).describe_secret("k")) == ([], None)


def destroy(face: Face) -> None:
    """Destroy version 2, which is not the current one."""
    face.destroy_versions("k", [2])


def destroy_all(face: Face) -> None:
    """Destroy versions 2 and 3, and with the current one the secret."""
    face.destroy_versions("k", [2, 3])


def delete_and_destroy(face: Face) -> None:
    """Delete the secret, and only then destroy versions 2 and 3."""
    face.delete_secret("k")
    face.destroy_versions("k", [2, 3])


def prune(face: Face) -> None:
    """Prune versions 1 and 2."""
    face.set_max_versions(2)
    face.set_secret("k", 4)


def purge(face: Face) -> None:
    """Purge the secret."""
    face.purge_secret("k")


def purge_and_write(face: Face) -> None:
    """Purge the secret, and write it again."""
    face.purge_secret("k")
    face.set_secret("k", 4)


@pytest.mark.parametrize("lose", [destroy, destroy_all, delete_and_destroy, prune, purge, purge_and_write])
def test_a_value_that_is_gone_is_an_error_of_its_own(face: Face, lose: Callable[[Face], None]) -> None:
    """What was there then and is gone for good is told apart from what was missing; lists and counts still have it."""
    face.set_secret("other", 0)
    face.set_secret("k", 1)
    second = face.set_secret("k", 2)
    face.set_secret("k", 3)
    lose(face)

    view = face.as_of(second.updated_at)
    calls: list[Callable[[], object]] = [
        lambda: view.get_secret("k", default="none"),
        lambda: view.get_secret_or_raise("k"),
        lambda: view.get_secrets(["other", "k"]),
        lambda: view.get_secrets_by_prefix(""),
    ]
    for call in calls:
        with pytest.raises(VersionGoneError) as caught:
            call()
        assert (caught.value.namespace, caught.value.key, caught.value.version) == ("default", "k", 2)
    assert (view.list_secret_keys(), view.get_secret_count("k")) == (["k", "other"], 1)
    assert [(info.key, info.version) for info in view.list_secrets()] == [("k", 2), ("other", 1)]
    info = view.describe_secret("k")
    assert (info.version, info.updated_at) == (2, second.updated_at)
    assert (view.get_secret("other"), view.get_secret("k", version=2)) == (0, None)


@pytest.mark.parametrize("lose", [purge, destroy_all, delete_and_destroy])
def test_what_was_lost_is_missing_after_that(face: Face, raw: psycopg.Connection, lose: Callable[[Face], None]) -> None:
    """From the moment of a purge, or of the loss of the current value, there is nothing until the next write."""
    for value in (1, 2, 3):
        face.set_secret("k", value)
    lose(face)
    after = now(raw)
    later = face.set_secret("k", 4)

    view = face.as_of(after)
    assert (view.get_secret("k"), view.list_secret_keys(), view.get_secret_count()) == (None, [], 0)
    assert face.as_of(later.updated_at).get_secrets_by_prefix("") == {"k": 4}


def test_an_older_version_is_read_as_of_then(face: Face) -> None:
    """With a version, one is read that was written by then, of a secret that was there; later ones are not."""
    infos = [face.set_secret("k", value) for value in ("one", "two", "three")]
    face.delete_secret("k")
    view = face.as_of(infos[1].updated_at)

    assert [view.get_secret("k", version=version) for version in (1, 2, 3)] == ["one", "two", None]
    with pytest.raises(SecretNotFoundError, match="version 3"):
        view.get_secret_or_raise("k", version=3)
    (deleted,) = face.list_secrets(include_deleted=True)
    assert face.as_of(deleted.deleted_at).get_secret("k", version=1) is None
    with pytest.raises(ValueError, match="a version is a number"):
        view.get_secret("k", version=-1)


def test_what_is_no_moment_or_page_is_refused(face: Face, sent_statements: list[str]) -> None:
    """A time without a zone, an illegal key and an illegal page are errors before anything is sent."""
    with pytest.raises(InvalidSecretValueError, match="the moment has no time zone"):
        face.as_of(datetime(2030, 1, 1))  # noqa: DTZ001 - what is tested
    view = face.as_of(datetime.now(UTC))
    for read in (view.get_secret, view.describe_secret, view.get_secret_or_raise):
        with pytest.raises(InvalidSecretKeyError):
            read(" ")
    for listed in (view.list_secret_keys, view.list_secrets, view.get_secrets_by_prefix):
        with pytest.raises(ValueError, match="a limit is 1 or more"):
            listed("", limit=0)
    assert sent_statements == []


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_pages_of_the_past_give_every_key_once(face: Face, raw: psycopg.Connection, limit: int) -> None:
    """Going on after the last key of each page gives what was there then, in the order of bytes, by prefix."""
    keys = ["p/B", "p/a", "p/b", "p/é", "p/中"]
    face.set_secrets({"other": 0, "p/gone": 0, **dict.fromkeys(reversed(keys), 1)})
    face.delete_secret("p/gone")
    then = now(raw)
    face.delete_secrets(keys[1:3])
    face.set_secret("p/c", 1)
    view, listed = face.as_of(then), list[str]()
    while page := view.list_secret_keys("p/", after=listed[-1] if listed else None, limit=limit):
        after = listed[-1] if listed else None
        assert [info.key for info in view.list_secrets("p/", after=after, limit=limit)] == page
        assert list(view.get_secrets_by_prefix("p/", after=after, limit=limit)) == page
        assert len(page) <= limit
        listed += page

    assert listed == keys
    assert view.get_secret_count("p/") == len(keys)


def test_the_pasts_of_namespaces_are_apart(face: Face, raw: psycopg.Connection) -> None:
    """What was there in one namespace was not there in another."""
    other = face.with_options(namespace="other")
    face.set_secret("k", "here", labels={"a": "here"})
    other.set_secret("k", "there", labels={"a": "there"})
    other.set_labels("k", {"a": "there 2"})
    then = now(raw)
    other.delete_secret("k")
    face.set_secret("l", 1)

    assert (face.as_of(then).get_secret("k"), other.as_of(then).get_secret("k")) == ("here", "there")
    assert [one.as_of(then).list_secrets()[0].labels["a"] for one in (face, other)] == ["here", "there 2"]
    assert (face.as_of(now(raw)).get_secret_count(), other.as_of(now(raw)).get_secret_count()) == (2, 0)


def test_past_values_have_types_and_references(face: Face, raw: psycopg.Connection) -> None:
    """Values of then are checked by type, and their references point at values of then."""
    face.set_secret("login", {"user": "ann", "password": "old"})
    face.set_secret("db", {"login": {"$ref": "login"}})
    then = now(raw)
    face.set_secret("login", {"user": "bob", "password": "new"})
    face.delete_secret("db")

    view = face.as_of(then)
    assert view.get_secret_or_raise("login", Login).password.get_secret_value() == "old"
    assert view.get_secrets(["login"], Login)["login"].user == "ann"
    assert view.get_secrets_by_prefix("login", Login)["login"].user == "ann"
    resolved = {"login": {"user": "ann", "password": "old"}}
    assert view.get_secret("db", resolve=True) == resolved
    assert view.get_secret_or_raise("db", dict[str, Login], resolve=True)["login"].user == "ann"
    assert view.get_secrets(["db"], resolve=True) == view.get_secrets_by_prefix("db", resolve=True) == {"db": resolved}
    with pytest.raises(InvalidSecretValueError, match="does not fit int"):
        view.get_secret("login", int)


def test_lists_of_the_past_never_decrypt(face: Face, raw: psycopg.Connection, wrong_keyring: KeyRing) -> None:
    """With a key ring that opens nothing, the past is listed, counted and described."""
    info = face.set_secret("k", 1, labels={"a": "1"})
    then = now(raw)
    face.delete_secret("k")

    view = face.with_keyring(wrong_keyring).as_of(then)
    assert (view.list_secrets(labels={"a": "1"}), view.describe_secret("k")) == ([info], info)
    assert (view.list_secret_keys(), view.get_secret_count()) == (["k"], 1)


_SHARED = """
    UPDATE secretstore.change_event SET occurred_at = %(moment)s WHERE namespace = 'default' AND key = %(key)s
"""
_EVENT = """
    INSERT INTO secretstore.change_event (namespace, id, key, version, action, actor, occurred_at)
    VALUES ('default', %s, 'k', %s, %s, 'before', %s)
"""


@pytest.mark.parametrize("actions", [("set", "delete"), ("delete", "set"), ("import", "delete"), ("delete", "import")])
def test_changes_of_one_transaction_by_the_release_before(
    face: Face, raw: psycopg.Connection, actions: tuple[str, str]
) -> None:
    """A write and its deletion that share a time, in whatever order their rows are, leave the secret deleted."""
    info = face.set_secret("k", 1)
    face.delete_secret("k")
    face.commit()
    raw.execute("DELETE FROM secretstore.change_event WHERE namespace = 'default'")
    for action in actions:
        raw.execute(_EVENT.encode(), [uuid4(), 1, action, info.updated_at])

    assert face.as_of(info.updated_at - TICK).list_secret_keys() == []
    view = face.as_of(info.updated_at)
    assert (view.list_secret_keys(), view.get_secret("k"), view.get_secret_count()) == ([], None, 0)


def test_writes_of_one_transaction_by_the_release_before(face: Face, raw: psycopg.Connection) -> None:
    """Two versions, a deletion between them, and all at the time of their transaction: the newest version is there."""
    first = face.set_secret("k", 1)
    face.delete_secret("k")
    second = face.set_secret("k", 2)
    face.commit()
    raw.execute(_SHARED.encode(), {"moment": first.updated_at, "key": "k"})

    view = face.as_of(first.updated_at)
    assert (view.get_secret("k"), view.get_secret("k", version=1)) == (2, 1)
    assert (view.describe_secret("k").version, view.get_secret_count()) == (second.version, 1)
    assert {event["occurred_at"] for event in rows(raw, "SELECT occurred_at FROM secretstore.change_event")} == {
        first.updated_at
    }


def test_the_past_takes_part_in_the_transaction(service: Face, raw: psycopg.Connection) -> None:
    """What the caller's transaction wrote is a part of the past at once, and is none of it after a rollback."""
    service.set_secret("k", "kept")
    service.commit()
    info = service.set_secret("k", "undone", labels={"a": "1"})
    service.set_secret("new", 1)
    then = now(raw)
    service.delete_secret("k")

    view = service.as_of(then)
    assert view.get_secrets_by_prefix("") == {"k": "undone", "new": 1}
    assert view.describe_secret("k") == info
    assert (view.list_secret_keys(), view.get_secret_count()) == (["k", "new"], 2)
    service.rollback()
    assert view.get_secrets_by_prefix("") == {"k": "kept"}
    assert view.list_secrets(labels={"a": "1"}) == []
