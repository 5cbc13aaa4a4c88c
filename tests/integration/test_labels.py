"""Labels: their limits, how they stay and change, and selection by them on the server."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event

from secretstore import InvalidSecretKeyError, SecretClient, SecretNotFoundError, VersionConflictError
from tests.support.faces import Face
from tests.support.stored import EVENTS, LABEL_CHANGES, VERSIONS, now, rows

LARGEST = {f"{n:0128}": "é" * 512 for n in range(64)}
TOO_LARGE = {
    "entries": {str(n): "" for n in range(65)},
    "name": {"a" * 129: ""},
    "text": {"a": "b" * 513},
    "no name": {"": "b"},
}


def test_the_largest_labels_are_labels(face: Face) -> None:
    """64 entries with names of 128 and texts of 512 characters are kept, found and listed."""
    assert face.set_secret("a", 1, labels=LARGEST).labels == LARGEST
    face.set_secret("b", 1)
    assert face.set_labels("b", LARGEST).labels == LARGEST

    assert [info.key for info in face.list_secrets(labels=LARGEST)] == ["a", "b"]
    assert face.list_versions("b")[0].labels == LARGEST


@pytest.mark.parametrize("breach", TOO_LARGE)
def test_labels_beyond_a_limit_are_refused(face: Face, sent_statements: list[str], breach: str) -> None:
    """One entry or one character too many is an error in every method, and PostgreSQL is not asked."""
    labels = TOO_LARGE[breach]
    calls: list[Callable[[], object]] = [
        lambda: face.set_secret("a", 1, labels=labels),
        lambda: face.set_secrets({"a": 1}, labels=labels),
        lambda: face.set_labels("a", labels),
        lambda: face.list_secrets(labels=labels),
        lambda: face.as_of(datetime.now(UTC)).list_secrets(labels=labels),
    ]
    for call in calls:
        with pytest.raises(InvalidSecretKeyError):
            call()
    assert sent_statements == []


def test_labels_go_with_the_value(face: Face) -> None:
    """They are set with a value, kept by whatever writes one without, and replaced as a whole with the next ones."""
    face.set_secret("k", {"n": 1}, labels={"a": "1", "b": "1"})
    writes: list[Callable[[], Any]] = [
        lambda: face.set_secret("k", {"n": 2}),
        lambda: face.set_secrets({"k": {"n": 3}})["k"],
        lambda: face.patch_secret("k", {"n": 4}),
        lambda: face.rollback_secret("k", 1),
    ]
    for write in writes:
        assert write().labels == {"a": "1", "b": "1"}
    face.delete_secret("k")
    assert face.set_secret("k", 6).labels == {"a": "1", "b": "1"}
    assert face.set_secret("k", 7, labels={"b": "2"}).labels == {"b": "2"}
    assert face.set_secret("k", 8, labels={}).labels == {}

    assert [version.labels for version in face.list_versions("k")] == [{}, {"b": "2"}, *[{"a": "1", "b": "1"}] * 6]


def test_other_labels_are_no_new_version(face: Face, raw: psycopg.Connection) -> None:
    """Value, version, expiry and creation stay; labels are replaced as a whole, and the change has its time."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    before = face.set_secret("k", "v", labels={"a": "1", "b": "1"}, expires_at=soon)
    start = now(raw)
    info = face.set_labels("k", {"b": "2"})

    assert (info.version, info.labels, info.expires_at, info.created_at) == (1, {"b": "2"}, soon, before.created_at)
    assert before.updated_at < start < info.updated_at
    assert face.describe_secret("k") == info
    assert (face.get_secret("k"), [version.labels for version in face.list_versions("k")]) == ("v", [{"b": "2"}])
    assert face.set_labels("k", {}).labels == {}
    assert [info.labels for info in face.list_secrets()] == [{}]
    face.commit()
    assert [row["labels"] for row in rows(raw, VERSIONS)] == [{"a": "1", "b": "1"}]
    assert [row["labels"] for row in rows(raw, LABEL_CHANGES)] == [{"b": "2"}, {}]


def test_labels_change_only_over_the_expected_version(face: Face, raw: psycopg.Connection) -> None:
    """Over another version it is a conflict that says where, what was expected and what is there; nothing changes."""
    face.set_secret("k", 1, labels={"a": "1"})
    face.set_secret("k", 2)
    face.commit()
    before = rows(raw, EVENTS)

    for expected in (0, 1, 3):
        with pytest.raises(VersionConflictError) as caught:
            face.set_labels("k", {"a": "2"}, expected_version=expected)
        error = caught.value
        assert (error.namespace, error.key, error.expected, error.found) == ("default", "k", expected, 2)
    face.commit()
    assert (face.describe_secret("k").labels, rows(raw, EVENTS)) == ({"a": "1"}, before)
    assert face.set_labels("k", {"a": "2"}, expected_version=2).labels == {"a": "2"}


def test_what_is_missing_gets_no_labels(face: Face, raw: psycopg.Connection) -> None:
    """An unknown, deleted, expired or purged secret cannot be labelled, and the deleted one comes back unchanged."""
    for key in ("deleted", "purged"):
        face.set_secret(key, 1, labels={"a": "1"})
    face.delete_secret("deleted")
    face.purge_secret("purged")
    face.set_secret("expired", 1, expires_at=datetime.now(UTC) - timedelta(hours=1))

    for key in ("unknown", "deleted", "expired", "purged"):
        with pytest.raises(SecretNotFoundError, match=key):
            face.set_labels(key, {"a": "2"})
    face.commit()
    assert rows(raw, LABEL_CHANGES) == []
    assert face.undelete_secret("deleted").labels == {"a": "1"}


def test_several_labels_have_to_match_all(face: Face) -> None:
    """Of several labels each has to be there with its very text, and not one of a similar name or text."""
    stored = {
        "both": {"team": "web", "tier": "1"},
        "first": {"team": "web"},
        "second": {"tier": "1"},
        "other text": {"team": "web", "tier": "10"},
        "crossed": {"team": "1", "tier": "web"},
        "more": {"team": "web", "tier": "1", "x": ""},
        "case": {"Team": "web", "tier": "1"},
        "none": {},
    }
    for key, labels in stored.items():
        face.set_secret(key, 1, labels=labels)

    def listed(**labels: str) -> list[str]:
        return [info.key for info in face.list_secrets(labels=labels)]

    assert listed(team="web", tier="1") == ["both", "more"]
    assert listed(team="web") == ["both", "first", "more", "other text"]
    assert listed(x="") == ["more"]
    assert listed(team="web", tier="1", y="") == []
    face.set_labels("both", {})
    assert listed(team="web", tier="1") == ["more"]


def test_the_server_selects(face: Face, sent_statements: list[str]) -> None:
    """A selection by labels is one statement with a condition in it, so pages are full."""
    for n in range(6):
        face.set_secret(f"k{n}", n, labels={"even": str(n % 2 == 0)})
    sent_statements.clear()
    page = face.list_secrets(labels={"even": "True"}, after="k0", limit=2)

    assert [info.key for info in page] == ["k2", "k4"]
    (statement,) = sent_statements
    assert "labels @>" in statement


FILL = """
    INSERT INTO secretstore.secret_store (namespace, key, value, version, labels, created_by, updated_by)
    SELECT 'default', 'n' || n, jsonb_build_object('key', (SELECT id FROM secretstore.data_key)), 1,
        jsonb_build_object('of', (n % 2000)::text, 'all', 'same'), 'raw', 'raw'
    FROM generate_series(1, 20000) AS n
"""


def test_a_selection_by_labels_uses_their_index(store: SecretClient, engine: Engine, raw: psycopg.Connection) -> None:
    """Among 20,000 secrets, those with a rare label are found through the index on labels."""
    store.set_secret("first", 1)
    raw.execute(FILL.encode())
    raw.execute("VACUUM ANALYZE secretstore.secret_store")
    wanted = {"of": "7", "all": "same"}
    sent: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *call: sent.append(call[2:4]))

    assert len(store.list_secrets(labels=wanted)) == 10
    ((statement, parameters),) = sent
    plan = raw.execute(f"EXPLAIN {statement}".encode(), parameters).fetchall()
    assert "Bitmap Index Scan on ix_secret_store_labels" in str(plan)
