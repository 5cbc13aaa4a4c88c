"""Labels, expiry, history and the record of changes, through each of the four faces; looked at with raw SQL."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from secretstore import InvalidSecretKeyError, InvalidSecretValueError
from tests.support.faces import Face

_HOUR = timedelta(hours=1)


def _rows(raw: psycopg.Connection, statement: str) -> list[dict[str, Any]]:
    return raw.cursor(row_factory=dict_row).execute(statement.encode()).fetchall()


def _events(raw: psycopg.Connection) -> list[dict[str, Any]]:
    return _rows(raw, "SELECT * FROM secretstore.change_event ORDER BY occurred_at, key, version, action DESC")


def test_labels_stay_until_others_are_given(face: Face) -> None:
    """A write without labels keeps them, one with labels replaces all of them, and an empty object takes them away."""
    given: list[dict[str, str] | None] = [None, {"a": "1", "b": "ü"}, None, {"c": ""}, {}]
    stored = [face.set_secret("k", 1, labels=labels).labels for labels in given]

    assert stored == [{}, {"a": "1", "b": "ü"}, {"a": "1", "b": "ü"}, {"c": ""}, {}]
    assert face.describe_secret("k").labels == {}


def test_a_batch_gives_its_labels_to_each(face: Face) -> None:
    """Labels of a batch are those of every secret in it; without them each keeps its own."""
    face.set_secret("a", 1, labels={"own": "yes"})

    kept = face.set_secrets({"a": 2, "b": 2})
    assert {key: info.labels for key, info in kept.items()} == {"a": {"own": "yes"}, "b": {}}
    given = face.set_secrets({"a": 3, "b": 3}, labels={"batch": "yes"})
    assert {key: info.labels for key, info in given.items()} == {key: {"batch": "yes"} for key in "ab"}


def test_illegal_labels_are_refused(face: Face, sent_statements: list[str]) -> None:
    """Labels that are not short texts are errors, and PostgreSQL is not asked."""
    for labels in ({"a": 1}, {"": "x"}, {"a": "x" * 513}, {"a": "\0"}, {str(n): "" for n in range(65)}, ["a"]):
        with pytest.raises(InvalidSecretKeyError):
            face.set_secret("k", 1, labels=labels)
    assert sent_statements == []


def test_a_time_without_zone_is_refused(face: Face, sent_statements: list[str]) -> None:
    """An expiry without a time zone could mean any hour, so it is an error."""
    with pytest.raises(InvalidSecretValueError, match="expires_at has no time zone"):
        face.set_secret("k", 1, expires_at=datetime(2030, 1, 1))  # noqa: DTZ001 - what is tested
    assert sent_statements == []


def test_a_secret_is_there_until_it_expires(face: Face) -> None:
    """With an expiry to come it can be read; once that has passed it is missing, in every version."""
    soon = datetime.now(timezone(_HOUR)) + _HOUR
    face.set_secret("k", "v", expires_at=soon)
    assert (face.get_secret("k"), face.describe_secret("k").expires_at) == ("v", soon)

    face.set_secret("k", "w", expires_at=datetime.now(UTC) - _HOUR)
    assert (face.get_secret("k"), face.get_secret("k", version=1), face.describe_secret("k")) == (None, None, None)
    assert (face.get_secrets(["k"]), face.delete_secret("k")) == ({}, False)


def test_a_new_write_does_not_expire(face: Face) -> None:
    """The expiry belongs to the version: the next write without one can be read for ever."""
    face.set_secret("k", "v", expires_at=datetime.now(UTC) - _HOUR)

    assert face.set_secret("k", "w").expires_at is None
    assert face.get_secret("k") == "w"


def test_created_at_stays_and_updated_at_moves(face: Face) -> None:
    """The first write's time and actor stay with the secret; each later write, in a later transaction, has its own time."""
    first = face.with_options(actor="ann").set_secret("k", 1)
    face.commit()
    second = face.with_options(actor="bob").set_secret("k", 2)
    face.commit()
    face.delete_secret("k")
    face.commit()
    third = face.set_secret("k", 3)

    assert first.created_at == second.created_at == third.created_at == first.updated_at
    assert first.updated_at < second.updated_at < third.updated_at
    assert (first.created_by, second.created_by, third.created_by) == ("ann", "ann", "ann")


def test_every_version_is_kept_in_history(face: Face, raw: psycopg.Connection) -> None:
    """Each write leaves a row with its own envelope, labels, expiry, time and actor; the head equals the newest."""
    soon = datetime.now(UTC) + _HOUR
    face.with_options(actor="ann").set_secret("k", "v", labels={"a": "1"}, expires_at=soon)
    face.commit()
    info = face.with_options(actor="bob").set_secret("k", "w", labels={"a": "2"})
    face.commit()

    history = _rows(raw, "SELECT * FROM secretstore.secret_version ORDER BY version")
    assert [(row["version"], row["labels"], row["expires_at"], row["created_by"]) for row in history] == [
        (1, {"a": "1"}, soon, "ann"),
        (2, {"a": "2"}, None, "bob"),
    ]
    assert [row["created_at"] for row in history] == [info.created_at, info.updated_at]
    (head,) = _rows(raw, "SELECT * FROM secretstore.secret_store")
    assert head["value"] == history[1]["value"] != history[0]["value"]
    assert (head["created_by"], head["updated_by"]) == ("ann", "bob")


def test_every_change_is_recorded(face: Face, raw: psycopg.Connection) -> None:
    """Each change leaves one event with key, version, action, actor and a random id, not yet numbered."""
    ann = face.with_options(actor="ann")
    ann.set_secret("k", 1)
    face.commit()
    ann.set_secrets({"k": 2, "l": 1})
    face.commit()
    assert (ann.delete_secret("k"), ann.delete_secret("none")) == (True, False)
    face.commit()

    events = _events(raw)
    assert [(event["key"], event["version"], event["action"]) for event in events] == [
        ("k", 1, "set"),
        ("k", 2, "set"),
        ("l", 1, "set"),
        ("k", 2, "delete"),
    ]
    assert {(event["namespace"], event["actor"], event["seq"]) for event in events} == {("default", "ann", None)}
    assert {event["id"].version for event in events} == {4}
    assert len({event["id"] for event in events}) == 4


def test_without_an_actor_the_database_role_is_recorded(face: Face, raw: psycopg.Connection) -> None:
    """Who wrote is the role of the connection where the caller names nobody."""
    (role,) = _rows(raw, "SELECT current_user::text AS name")
    face.set_secret("k", 1)
    face.delete_secret("k")
    face.commit()

    assert [event["actor"] for event in _events(raw)] == [role["name"]] * 2
    (head,) = _rows(raw, "SELECT created_by, updated_by FROM secretstore.secret_store")
    assert set(head.values()) == {role["name"]}


def test_head_history_and_event_share_one_transaction(face: Face, raw: psycopg.Connection) -> None:
    """PostgreSQL's own transaction id is the same on all three rows of a change, and another for the next one."""
    face.set_secrets({"k": 1, "l": 1})
    face.commit()
    tables = ("secret_store", "secret_version", "change_event")
    first = {row["xmin"] for name in tables for row in _rows(raw, f"SELECT xmin::text FROM secretstore.{name}")}
    assert len(first) == 1

    face.delete_secrets(["k", "l"])
    face.commit()
    (head,) = _rows(raw, "SELECT DISTINCT xmin::text FROM secretstore.secret_store")
    (event,) = _rows(raw, "SELECT DISTINCT xmin::text FROM secretstore.change_event WHERE action = 'delete'")
    assert head["xmin"] == event["xmin"] not in first
