"""Expiry: by the database's clock, the same for a whole transaction, and listed; looked at with raw SQL."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest

from secretstore import InvalidSecretValueError, SecretNotFoundError, VersionConflictError
from tests.support.faces import Face
from tests.support.stored import EVENTS, VERSIONS, now, rows
from tests.support.threads import wait_until

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_EXPIRED = "SELECT count(*) FROM secretstore.secret_store WHERE expires_at <= clock_timestamp()"


def expire(face: Face, raw: psycopg.Connection, *keys: str) -> None:
    """Let secrets have expired a minute ago, as if time had passed."""
    face.commit()
    for table in ("secret_store", "secret_version"):
        raw.execute(
            f"UPDATE secretstore.{table} SET expires_at = clock_timestamp() - interval '1 minute' "
            "WHERE namespace = 'default' AND key = ANY(%s)".encode(),
            [list(keys)],
        )


def age(face: Face, raw: psycopg.Connection, key: str, version: int = 1, *, by: timedelta) -> None:
    """Let a version have been written so long ago."""
    face.commit()
    raw.execute(
        "UPDATE secretstore.secret_version SET created_at = created_at - %s WHERE key = %s AND version = %s",
        [by, key, version],
    )


def test_a_ttl_counts_by_the_clock_of_the_database(face: Face, raw: psycopg.Connection) -> None:
    """The expiry is the moment of the write, as PostgreSQL has it, and the time to live after it."""
    before = now(raw)
    info = face.set_secret("k", 1, ttl=HOUR)

    assert info.expires_at == info.updated_at + HOUR
    assert before + HOUR < info.expires_at < now(raw) + HOUR
    assert (face.get_secret("k"), face.describe_secret("k"), face.list_versions("k")[0].expires_at) == (
        1,
        info,
        info.expires_at,
    )


def test_a_time_of_expiry_is_kept_to_the_microsecond(face: Face) -> None:
    """Whatever its time zone, it is the same moment in the answer, the description, and the version."""
    soon = datetime.now(timezone(timedelta(hours=5, minutes=45))) + HOUR
    info = face.set_secret("k", 1, expires_at=soon)

    assert info.expires_at == face.describe_secret("k").expires_at == face.list_versions("k")[0].expires_at == soon


def test_a_secret_that_expires_reads_as_missing_from_then_on(face: Face, raw: psycopg.Connection) -> None:
    """As soon as the database's clock has passed the time, a new transaction does not find it any more."""
    face.set_secret("k", 1, ttl=timedelta(milliseconds=1))
    face.commit()
    wait_until(raw, _EXPIRED, 1)

    assert face.get_secret("k") is None


def test_an_expired_secret_reads_as_missing_everywhere(face: Face, raw: psycopg.Connection) -> None:
    """No way to read, list, count, describe or change shows it, in no version; only `expired` lists it."""
    face.set_secret("k", 1)
    face.set_secret("k", 2, ttl=HOUR)
    face.set_secret("other", 0)
    expire(face, raw, "k")

    assert [face.get_secret("k", version=version, default="none") for version in (None, 1, 2)] == ["none"] * 3
    assert (face.get_secrets(["k", "other"]), face.get_secrets_by_prefix("")) == ({"other": 0}, {"other": 0})
    assert (face.list_secret_keys(), face.get_secret_count(), face.describe_secret("k")) == (["other"], 1, None)
    assert (face.list_secret_keys(include_deleted=True), face.get_secret_count(include_deleted=True)) == (["other"], 1)
    assert [info.key for info in face.list_secrets()] == ["other"]
    assert (face.delete_secret("k"), face.delete_secrets(["k"])) == (False, 0)
    calls: list[Callable[[], object]] = [
        lambda: face.get_secret_or_raise("k"),
        lambda: face.patch_secret("k", {}),
        lambda: face.rollback_secret("k", 1),
        lambda: face.set_labels("k", {}),
        lambda: face.undelete_secret("k"),
    ]
    for call in calls:
        with pytest.raises(SecretNotFoundError):
            call()
    assert [info.key for info in face.list_secrets(expired=True)] == ["k"]


def test_an_expired_secret_conflicts_as_a_missing_one(face: Face, raw: psycopg.Connection) -> None:
    """An expected version is a conflict that found none, in whatever is changed."""
    face.set_secret("k", 1, ttl=HOUR)
    expire(face, raw, "k")

    calls: list[Callable[[], object]] = [
        lambda: face.set_secret("k", 2, expected_version=1),
        lambda: face.patch_secret("k", {}, expected_version=1),
        lambda: face.set_labels("k", {}, expected_version=1),
    ]
    for call in calls:
        with pytest.raises(VersionConflictError) as caught:
            call()
        assert (caught.value.expected, caught.value.found) == (1, 0)


def test_there_is_one_now_in_a_transaction(service: Face, raw: psycopg.Connection) -> None:
    """A secret that expires while the caller's transaction is open stays there in every call until that ends."""
    service.set_secret("k", {"a": 1}, labels={"a": "1"}, ttl=HOUR)
    service.commit()
    assert service.get_secret_or_raise("k") == {"a": 1}
    # Later than the start of the caller's transaction, and in the past by the next statement.
    raw.execute("UPDATE secretstore.secret_store SET expires_at = clock_timestamp() WHERE namespace = 'default'")

    assert (service.get_secret("k"), service.get_secret("k", version=1)) == ({"a": 1}, {"a": 1})
    assert (service.get_secrets(["k"]), service.get_secrets_by_prefix("")) == ({"k": {"a": 1}}, {"k": {"a": 1}})
    assert (service.list_secret_keys(), service.get_secret_count()) == (["k"], 1)
    assert [info.key for info in service.list_secrets()] == ["k"]
    assert service.list_secrets(expired=True) == []
    assert service.set_labels("k", {"a": "2"}, expected_version=1).version == 1
    assert service.patch_secret("k", {"b": 2}, expected_version=1).version == 2
    assert service.get_secret("k") == {"a": 1, "b": 2}
    service.commit()
    assert (service.get_secret("k"), service.get_secret_count()) == (None, 0)
    assert [info.key for info in service.list_secrets(expired=True)] == ["k"]


@pytest.mark.parametrize("ttl", [timedelta(), -HOUR, timedelta(days=365_000), timedelta.max])
def test_a_ttl_that_makes_no_sense_is_refused(face: Face, sent_statements: list[str], ttl: timedelta) -> None:
    """A time to live of nothing, less than nothing, or a thousand years is an error before anything is sent."""
    with pytest.raises(ValueError, match="a ttl is longer than nothing and shorter than a thousand years"):
        face.set_secret("k", 1, ttl=ttl)
    assert sent_statements == []


def test_two_expiries_are_refused(face: Face, sent_statements: list[str]) -> None:
    """A time and a time to live contradict each other, and a time without a zone could be any hour."""
    with pytest.raises(ValueError, match="give expires_at or ttl, not both"):
        face.set_secret("k", 1, expires_at=datetime.now(UTC) + HOUR, ttl=HOUR)
    with pytest.raises(InvalidSecretValueError, match="expires_at has no time zone"):
        face.set_secret("k", 1, expires_at=datetime(2030, 1, 1))  # noqa: DTZ001 - what is tested
    assert sent_statements == []


@pytest.mark.parametrize("end", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_an_expiry_at_the_end_of_time_is_refused(face: Face, sent_statements: list[str], end: datetime) -> None:
    """In the time zone of another session it could be in a year that Python does not know: then no list could be read."""
    for zone in (UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))):
        with pytest.raises(InvalidSecretValueError, match="without it a secret does not expire"):
            face.set_secret("k", 1, expires_at=end.replace(tzinfo=zone))
    assert sent_statements == []


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_the_first_and_the_last_expiry_are_read_in_every_zone(
    face: Face, raw: psycopg.Connection, database: str, zone: str
) -> None:
    """Whatever the time zone of the session, they are listed as they were given."""
    first, last = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
    raw.execute(f"ALTER DATABASE {database} SET timezone = '{zone}'".encode())
    face.set_secret("first", 1, expires_at=first)
    face.set_secret("last", 1, expires_at=last)

    assert [info.expires_at for info in face.list_secrets(expired=True)] == [first]
    assert [info.expires_at for info in face.list_secrets()] == [last]


def test_the_longest_and_the_shortest_ttl_are_taken(face: Face) -> None:
    """A microsecond, and just under a thousand years, are times to live."""
    for ttl in (timedelta(microseconds=1), timedelta(days=364_999)):
        info = face.set_secret("k", 1, ttl=ttl)
        assert info.expires_at - info.updated_at == ttl


def test_expired_secrets_are_listed(face: Face, raw: psycopg.Connection) -> None:
    """They are listed with their times, by prefix, labels and page, and those that were deleted are not."""
    for key in ("a1", "a2", "b1", "deleted", "live"):
        face.set_secret(key, 1, labels={"first": key[0]}, ttl=HOUR)
    face.set_secret("never", 1)
    face.delete_secret("deleted")
    expire(face, raw, "a1", "a2", "b1", "deleted")

    def listed(prefix: str = "", **options: object) -> list[str]:
        return [info.key for info in face.list_secrets(prefix, expired=True, **options)]

    assert listed() == ["a1", "a2", "b1"]
    assert (listed("a"), listed(labels={"first": "b"}), listed(after="a1", limit=1)) == (["a1", "a2"], ["b1"], ["a2"])
    assert listed(unchanged_for=DAY) == []
    age(face, raw, "a2", by=2 * DAY)
    assert listed(unchanged_for=DAY) == ["a2"]
    assert all(info.expires_at < now(raw) for info in face.list_secrets(expired=True))


def test_secrets_that_expire_soon_are_listed(face: Face, raw: psycopg.Connection) -> None:
    """Those that expire within a time are listed; those that already have, or never will, are not."""
    for key, ttl in (("hour", HOUR), ("day", DAY), ("week", 7 * DAY), ("expired", HOUR)):
        face.set_secret(key, 1, labels={"of": key}, ttl=ttl)
    face.set_secret("never", 1)
    expire(face, raw, "expired")

    def listed(within: timedelta, **options: object) -> list[str]:
        return [info.key for info in face.list_secrets(expiring_within=within, **options)]

    assert listed(HOUR / 2) == []
    assert listed(2 * HOUR) == ["hour"]
    assert listed(2 * DAY) == ["day", "hour"]
    assert listed(8 * DAY) == ["day", "hour", "week"]
    assert listed(8 * DAY, labels={"of": "week"}) == ["week"]
    face.delete_secret("day")
    assert listed(2 * DAY) == ["hour"]
    assert listed(2 * DAY, include_deleted=True) == ["day", "hour"]


def test_secrets_whose_value_is_old_are_listed(face: Face, raw: psycopg.Connection) -> None:
    """The age of a value is that of its version: new labels do not reset it, and a new value does."""
    for key in ("labelled", "written", "rolled back", "undeleted", "young"):
        face.set_secret(key, 1)
        age(face, raw, key, by=10 * DAY)
    face.set_labels("labelled", {"a": "1"})
    face.set_secret("written", 1)
    face.rollback_secret("rolled back", 1)
    face.delete_secret("undeleted")
    face.undelete_secret("undeleted")
    face.set_secret("young", 2)
    age(face, raw, "young", 2, by=5 * DAY)

    def listed(unchanged_for: timedelta, **options: object) -> list[str]:
        return [info.key for info in face.list_secrets(unchanged_for=unchanged_for, **options)]

    assert listed(9 * DAY) == ["labelled", "undeleted"]
    assert listed(4 * DAY) == ["labelled", "undeleted", "young"]
    assert listed(11 * DAY) == []
    assert listed(9 * DAY, labels={"a": "1"}) == ["labelled"]
    assert listed(timedelta()) == sorted(["labelled", "written", "rolled back", "undeleted", "young"])


def test_lists_that_contradict_themselves_are_refused(face: Face, sent_statements: list[str]) -> None:
    """A list of what has expired cannot hold what is deleted or is still to expire."""
    for options in ({"include_deleted": True}, {"expiring_within": HOUR}):
        with pytest.raises(ValueError, match="either expired secrets or those that are there"):
            face.list_secrets(expired=True, **options)
    assert sent_statements == []


@pytest.mark.parametrize("name", ["expiring_within", "unchanged_for"])
def test_a_list_over_an_absurd_time_is_refused(face: Face, sent_statements: list[str], name: str) -> None:
    """A time below nothing, or one that no date is away by, is an error before anything is sent."""
    for span in (-timedelta(microseconds=1), timedelta(days=365_000), timedelta.max, timedelta.min):
        with pytest.raises(ValueError, match="by nothing or more, and by less than a thousand years"):
            face.list_secrets(**{name: span})
    assert sent_statements == []


def test_an_expiry_goes_with_its_value(face: Face) -> None:
    """Patch, rollback, new labels and undelete keep it; a write without one drops it, also in a batch."""
    soon = datetime.now(UTC) + HOUR
    face.set_secret("k", {"a": 1})
    face.set_secret("k", {"a": 2}, expires_at=soon)
    assert face.patch_secret("k", {"b": 1}).expires_at == soon
    assert face.rollback_secret("k", 1).expires_at == soon
    assert face.set_labels("k", {"a": "1"}).expires_at == soon
    face.delete_secret("k")
    assert face.undelete_secret("k").expires_at == soon
    assert face.set_secret("k", 1).expires_at is None
    face.set_secret("k", 1, ttl=HOUR)
    assert face.set_secrets({"k": 2})["k"].expires_at is None

    face.commit()
    assert [version.expires_at for version in reversed(face.list_versions("k"))][:5] == [None, soon, soon, soon, None]
    assert face.list_versions("k")[0].expires_at is None


def test_an_expired_secret_is_there_again_when_it_is_written(face: Face, raw: psycopg.Connection) -> None:
    """A new value without expiry is read for ever, and the versions from before are read again, too."""
    created = face.set_secret("k", 1, ttl=HOUR).created_at
    expire(face, raw, "k")
    info = face.set_secret("k", 2)

    assert (info.version, info.expires_at, info.created_at) == (2, None, created)
    assert (face.get_secret("k"), face.get_secret("k", version=1)) == (2, 1)


def test_expiry_is_no_change(face: Face, raw: psycopg.Connection) -> None:
    """That a secret expires is neither recorded nor does it take anything out of the tables."""
    face.set_secret("k", 1, ttl=HOUR)
    expire(face, raw, "k")
    assert face.get_secret("k") is None
    face.commit()

    assert len(rows(raw, EVENTS)) == 1
    assert [row["value"] is None for row in rows(raw, VERSIONS)] == [False]
