"""Whole secrets out, in and back from the past: all in one snapshot and one transaction, through both clients."""

import inspect
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from secretstore import (
    ExportedSecret,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    KeyRing,
    SecretClient,
    SecretDifference,
    SecretStoreError,
    VersionGoneError,
)
from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import ValuePlace, seal_value
from tests.support.faces import KINDS, Face, open_face
from tests.support.other_reader import read_data_key, read_value
from tests.support.stored import EVENTS, HEADS, LABEL_CHANGES, VERSIONS, now, rows, told
from tests.support.threads import in_thread, number, wait_until_blocked

HIDDEN = "hunter2-of-the-test"
HOUR = timedelta(hours=1)
SOON = datetime.now(UTC).replace(microsecond=123456) + HOUR
MORE_THAN_A_PAGE = 1003
ODD_VALUES = [
    None,
    True,
    1,
    1.5,
    -0.0,
    10**30,
    "",
    " ",
    "a\r\nb\n",
    "\0",
    "😀",
    [],
    {},
    [{"a": [None]}],
    {"": {"~/": 1}},
]


@pytest.fixture(params=[kind for kind in KINDS if "client" in kind])
def client(request: pytest.FixtureRequest, database_url: str, keyring: KeyRing) -> Iterator[Face]:
    """Each of the two clients, on the default namespace."""
    with open_face(request.param, database_url, keyring) as opened:
        yield opened


def secret(key: str, value: object, **more: Any) -> ExportedSecret:
    """A secret as a file has it."""
    return ExportedSecret(key=key, value=value, **more)


def steps(client: Face, *arguments: Any, **options: Any) -> Iterator[ExportedSecret]:
    """The steps of an export, one at a time."""
    secrets = client.make(client.keyring, **client.options).export_secrets(*arguments, **options)
    if not inspect.isasyncgen(secrets):
        yield from secrets
        return

    async def step() -> Any:
        return await anext(secrets, None)

    try:
        while (one := client.run(step())) is not None:
            yield one
    finally:
        client.run(secrets.aclose())


def exported(client: Face, *arguments: Any, **options: Any) -> list[ExportedSecret]:
    """All that an export gives."""
    return list(steps(client, *arguments, **options))


def kinds(found: list[SecretDifference]) -> dict[str, str]:
    """The kind of each difference by its key."""
    return {one.key: one.kind for one in found}


def everything(raw: psycopg.Connection) -> list[list[dict[str, Any]]]:
    """All rows that a write could touch."""
    return [rows(raw, statement) for statement in (HEADS, VERSIONS, LABEL_CHANGES, EVENTS)]


def test_an_import_makes_secrets_be_as_given(client: Face, raw: psycopg.Connection) -> None:
    """Each kind is told with its values in the order of keys; only what differs is written, and recorded."""
    client.set_secrets({"changed": 1, "same": {"a": 1, "b": 2}}, labels={"a": "1"})
    client.set_secret("labels", HIDDEN, labels={"a": "1"})
    before = len(told(raw))

    found = client.import_secrets(
        [
            secret("same", {"b": 2, "a": 1}),
            secret("labels", HIDDEN, labels={"b": "2"}),
            secret("changed", value=True),
            secret("added", [1], labels={"n": "w"}, expires_at=SOON),
        ]
    )

    assert [(one.key, one.kind, one.old, one.new) for one in found] == [
        ("added", "added", None, [1]),
        ("changed", "changed", 1, True),
        ("labels", "labels", HIDDEN, HIDDEN),
        ("same", "unchanged", {"a": 1, "b": 2}, {"a": 1, "b": 2}),
    ]
    assert sorted(change[:3] for change in told(raw)[before:]) == [
        ("added", 1, "import"),
        ("changed", 2, "import"),
        ("labels", 1, "labels"),
    ]
    infos = {info.key: (info.version, dict(info.labels), info.expires_at) for info in client.list_secrets()}
    assert infos == {
        "added": (1, {"n": "w"}, SOON),
        "changed": (2, {"a": "1"}, None),
        "labels": (1, {"b": "2"}, None),
        "same": (1, {"a": "1"}, None),
    }
    assert client.get_secret("changed") is True


def test_what_a_file_says_of_expiry_is_stored(client: Face) -> None:
    """Another expiry is a new version; a file without labels says nothing of it, so that an equal value keeps it."""
    client.set_secret("k", 1, labels={"a": "1"}, expires_at=SOON)

    assert kinds(client.import_secrets([secret("k", 1)])) == {"k": "unchanged"}
    assert client.describe_secret("k").expires_at == SOON
    assert kinds(client.import_secrets([secret("k", 1, labels={"a": "1"}, expires_at=SOON + HOUR)])) == {"k": "changed"}
    assert kinds(client.import_secrets([secret("k", 1, labels={"a": "1"})])) == {"k": "changed"}
    info = client.describe_secret("k")
    assert (info.version, info.labels, info.expires_at) == (3, {"a": "1"}, None)


def test_an_import_prunes_only_within_the_prefix(client: Face) -> None:
    """What is not given is left alone, or with `prune` deleted where its key begins like that; it can come back."""
    client.set_secrets({"a.1": 1, "a.2": 2, "b": 3})

    assert kinds(client.import_secrets([secret("a.1", 1)])) == {"a.1": "unchanged"}
    found = client.import_secrets([secret("a.1", 1)], prune="a.")
    assert [(one.key, one.kind, one.old) for one in found] == [("a.1", "unchanged", 1), ("a.2", "deleted", 2)]
    assert client.list_secret_keys() == ["a.1", "b"]
    assert kinds(client.import_secrets([], prune="")) == {"a.1": "deleted", "b": "deleted"}
    assert client.get_secret_count() == 0
    client.undelete_secret("a.2")
    assert client.get_secret("a.2") == 2


def test_a_dry_run_writes_nothing(client: Face, raw: psycopg.Connection) -> None:
    """It tells the same as the real one, and no row of any table differs after it, also in an empty store."""
    given = [secret("new", 1), secret("changed", 2), secret("labels", 1, labels={"b": "2"})]
    assert kinds(client.import_secrets(given, dry_run=True)) == dict.fromkeys(["changed", "labels", "new"], "added")
    assert rows(raw, "SELECT * FROM secretstore.data_key") == []
    client.set_secrets({"changed": 1, "labels": 1, "other": 1})
    moment = now(raw)
    client.delete_secret("other")
    before = everything(raw)

    planned = client.import_secrets(given, prune="", dry_run=True)
    restoring = client.restore(moment, prune=True, dry_run=True)

    assert everything(raw) == before
    assert client.import_secrets(given, prune="") == planned
    assert kinds(restoring.differences) == {"changed": "unchanged", "labels": "unchanged", "other": "added"}


@pytest.mark.parametrize(
    ("bad", "error", "named"),
    [
        (secret("bad", float("nan")), InvalidSecretValueError, "'bad'"),
        (secret("bad", HIDDEN * 100_000), InvalidSecretValueError, "'bad'"),
        (secret("bad ", HIDDEN), InvalidSecretKeyError, "white space"),
        (secret("good.0001", HIDDEN), InvalidSecretKeyError, "'good.0001' is given twice"),
        (secret("bad", HIDDEN, labels={"": "x"}), InvalidSecretKeyError, "label"),
        (secret("bad", HIDDEN, expires_at=datetime(2030, 1, 1)), InvalidSecretValueError, "'bad'"),  # noqa: DTZ001 - that is wrong
    ],
    ids=["not JSON", "too large", "key", "twice", "label", "time"],
)
def test_one_that_breaks_a_rule_stops_them_all(
    *, client: Face, raw: psycopg.Connection, bad: ExportedSecret, error: type[Exception], named: str
) -> None:
    """Nothing is written, and the error says what is wrong without a value."""
    before = everything(raw)

    with pytest.raises(error, match=named) as caught:
        client.import_secrets([*(secret(f"good.{place:04}", HIDDEN) for place in range(1500)), bad])

    assert everything(raw) == before
    assert "hunter2" not in f"{caught.value!r} {caught.value}"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_statement_that_fails_in_the_midst_rolls_all_back(client: Face, raw: psycopg.Connection) -> None:
    """A key of the second page that PostgreSQL refuses leaves nothing of the first, nor a change in the record."""
    client.set_secret("a.0000", "old")
    before = everything(raw)
    raw.execute("ALTER TABLE secretstore.secret_store ADD CONSTRAINT refused CHECK (key <> 'a.1001')")
    done: list[tuple[int, int]] = []

    with pytest.raises(SecretStoreError) as caught:
        client.import_secrets(
            [secret(f"a.{place:04}", HIDDEN) for place in range(MORE_THAN_A_PAGE)],
            on_progress=lambda *progress: done.append(progress),
        )

    assert done == [(1000, MORE_THAN_A_PAGE)]
    assert "hunter2" not in f"{caught.value!r} {caught.value}"
    assert everything(raw) == before


def test_a_restore_that_fails_in_the_midst_rolls_all_back(client: Face, raw: psycopg.Connection) -> None:
    """A key of the second page that PostgreSQL refuses leaves what the first one brought back as it was."""
    client.set_secrets({f"a.{place:04}": "old" for place in range(MORE_THAN_A_PAGE)})
    moment = now(raw)
    client.set_secrets({f"a.{place:04}": HIDDEN for place in range(MORE_THAN_A_PAGE)})
    before = everything(raw)
    raw.execute("ALTER TABLE secretstore.secret_store ADD CONSTRAINT refused CHECK (key <> 'a.1001') NOT VALID")
    done: list[tuple[int, int | None]] = []

    with pytest.raises(SecretStoreError):
        client.restore(moment, on_progress=lambda *progress: done.append(progress))

    assert [number for number, _ in done] == [1000]
    assert everything(raw) == before


def test_more_than_a_page_comes_in_and_goes_out(client: Face) -> None:
    """Thousands of secrets are written once each, exported in the order of keys, and pruned, with their progress."""
    given = [secret(f"a.{place:04}", place, labels={}) for place in range(MORE_THAN_A_PAGE)]
    done: list[tuple[int, int]] = []

    found = client.import_secrets(reversed(given), on_progress=lambda *progress: done.append(progress))

    assert [one.key for one in found] == [one.key for one in given]
    assert {one.kind for one in found} == {"added"}
    assert done == [(1000, MORE_THAN_A_PAGE), (MORE_THAN_A_PAGE, MORE_THAN_A_PAGE)]
    assert exported(client) == given
    assert exported(client, "a.09") == given[900:1000]
    again = client.import_secrets(given[:1], prune="a.")
    assert [one.kind for one in again] == ["unchanged"] + ["deleted"] * (MORE_THAN_A_PAGE - 1)
    assert exported(client) == given[:1]


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
def test_every_value_comes_back_as_it_was(client: Face, value: object) -> None:
    """An export imported elsewhere is the same store, and importing it once more finds nothing to write."""
    client.set_secret("k/é:'\"=#😀", value, labels={"ü": ""}, expires_at=SOON)
    copy = client.with_options(namespace="copy")
    given = exported(client)
    copy.import_secrets(given)

    assert repr(copy.get_secret("k/é:'\"=#😀")) == repr(value)
    assert exported(copy) == given == [secret("k/é:'\"=#😀", value, labels={"ü": ""}, expires_at=SOON)]
    assert kinds(copy.import_secrets(given)) == {"k/é:'\"=#😀": "unchanged"}


@pytest.mark.parametrize(("old", "new"), [(1, 1.0), (1, True), (0, False), (0.0, -0.0), ({"a": 1}, {"a": "1"})])
def test_values_that_python_takes_for_equal_differ(client: Face, old: object, new: object) -> None:
    """A number, a boolean and a text are never taken for one another."""
    client.set_secret("k", old)

    assert kinds(client.import_secrets([secret("k", new)])) == {"k": "changed"}
    assert repr(client.get_secret("k")) == repr(new)


def test_an_export_is_one_snapshot(client: Face, store: SecretClient) -> None:
    """What is written, deleted or added while an export is at its first secret is not in it, on no page."""
    store.set_secrets({f"a.{place:04}": "old" for place in range(600)})
    walking = steps(client)
    first = next(walking)
    store.set_secrets({"a.0001": "new", "a.0599": "new", "a.0600": "new"})
    store.delete_secret("a.0598")

    rest = list(walking)

    assert [one.key for one in (first, *rest)] == [f"a.{place:04}" for place in range(600)]
    assert {one.value for one in rest} == {"old"}
    assert len(exported(client)) == 600


def test_an_export_of_a_time_is_what_was_there_then(client: Face, raw: psycopg.Connection) -> None:
    """Values, labels and expiry are those of then, over several pages; what is gone for good is an error that names it."""
    given = [secret(f"a.{place:04}", place, labels={"n": str(place)}, expires_at=SOON) for place in range(600)]
    client.import_secrets(given)
    moment = now(raw)
    client.set_secrets({"a.0001": HIDDEN, "new": HIDDEN})
    client.set_labels("a.0002", {})
    client.delete_secret("a.0599")

    assert exported(client, at=moment) == given
    assert exported(client, "a.000", at=moment) == given[:10]
    client.destroy_versions("a.0550", [1])
    with pytest.raises(VersionGoneError, match=r"'a\.0550'") as caught:
        exported(client, at=moment)
    assert caught.value.key == "a.0550"
    with pytest.raises(InvalidSecretValueError, match="time zone"):
        exported(client, at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is wrong


def test_an_export_leaves_out_what_reads_as_missing(client: Face) -> None:
    """Deleted and expired secrets are in no export, nor are those of another namespace."""
    client.set_secrets({"there": 1, "deleted": 2})
    client.delete_secret("deleted")
    client.set_secret("expired", 3, expires_at=datetime.now(UTC) - HOUR)
    client.with_options(namespace="other").set_secret("other", 4)

    assert exported(client) == [secret("there", 1, labels={})]


def test_a_restore_brings_the_past_back_as_new_versions(client: Face, raw: psycopg.Connection) -> None:
    """Values, exact numbers, labels, expiry and what was deleted come back; what was not there then is only named."""
    exact, number = "exact", 123456789012345678901234567890
    client.set_secrets({exact: number, "same": 1, "deleted": 2, "labels": 3}, labels={"of": "then"})
    client.set_secret("expiring", 4, labels={}, expires_at=SOON)
    moment = now(raw)
    client.set_secrets({exact: 1.0, "expiring": 4, "later": 5})
    client.delete_secret("deleted")
    client.set_labels("labels", {"of": "now"})

    done = client.restore(moment)

    assert (done.gone, done.expired) == ((), ())
    assert kinds(done.differences) == {
        "deleted": "added",
        exact: "changed",
        "expiring": "changed",
        "labels": "labels",
        "later": "extra",
        "same": "unchanged",
    }
    infos = {info.key: (info.version, info.labels.get("of"), info.expires_at) for info in client.list_secrets()}
    assert infos == {
        "deleted": (2, "then", None),
        exact: (3, "then", None),
        "expiring": (3, None, SOON),
        "labels": (1, "then", None),
        "later": (1, None, None),
        "same": (1, "then", None),
    }
    assert client.get_secrets([exact, "deleted"]) == {exact: number, "deleted": 2}
    assert exported(client.with_options(), at=moment) == [one for one in exported(client) if one.key != "later"]


@pytest.mark.parametrize("text", ["1.10", "0.1000000000000000055511151231257827", '{ "b":1e2, "a" : "\\u00e9" }'])
def test_a_restore_writes_the_very_text(client: Face, raw: psycopg.Connection, master_key: str, text: str) -> None:
    """The JSON text of then is sealed again to the byte, also with digits that a float has no room for."""
    client.set_secret("k", "then")
    moment = now(raw)
    client.set_secret("k", "now")
    ((key_id, wrapped),) = raw.execute("SELECT id, wrapped::text FROM secretstore.data_key").fetchall()
    data_key = read_data_key(wrapped, b64decode(master_key.partition(":")[2]), ("default", key_id))
    sealed = seal_value(Aead(key_id, data_key), text.encode(), ValuePlace("default", "k", 1))
    raw.execute("UPDATE secretstore.secret_version SET value = %s WHERE version = 1", [Jsonb(sealed.as_object())])

    client.restore(moment)

    ((stored,),) = raw.execute("SELECT value::text FROM secretstore.secret_store").fetchall()
    assert read_value(stored, data_key, ("default", "k", 3)) == text.encode()


def test_a_restore_prunes_only_within_the_prefix(client: Face, raw: psycopg.Connection) -> None:
    """With `prune` what was not there then is deleted, and nothing beside the prefix is touched."""
    client.set_secrets({"a.1": 1, "b.1": 1})
    moment = now(raw)
    client.set_secrets({"a.1": 2, "a.2": 2, "b.1": 2, "b.2": 2})

    done = client.restore(moment, "a.", prune=True)

    assert [(one.key, one.kind, one.old, one.new) for one in done.differences] == [
        ("a.1", "changed", 2, 1),
        ("a.2", "deleted", 2, None),
    ]
    assert client.get_secrets_by_prefix("") == {"a.1": 1, "b.1": 2, "b.2": 2}


def test_a_restore_names_what_it_cannot_bring_back(client: Face, raw: psycopg.Connection) -> None:
    """Destroyed, pruned and purged values are gone, others have expired since; all stay as they are, also with `prune`."""
    client.set_secrets(dict.fromkeys(["destroyed", "fine", "pruned", "purged"], "then"))
    client.set_secret("expired", "then", expires_at=datetime.now(UTC) + timedelta(seconds=1))
    moment = now(raw)
    client.set_secrets(dict.fromkeys(["destroyed", "expired", "fine", "purged"], "now"))
    client.destroy_versions("destroyed", [1])
    client.purge_secret("purged")
    client.set_max_versions(1, key="pruned")
    client.set_secret("pruned", "now")
    raw.execute("SELECT pg_sleep(1)")

    done = client.restore(moment, prune=True)

    assert (done.gone, done.expired) == (("destroyed", "pruned", "purged"), ("expired",))
    assert kinds(done.differences) == {"fine": "changed"}
    assert client.get_secrets_by_prefix("") == {
        "destroyed": "now",
        "expired": "now",
        "fine": "then",
        "pruned": "now",
    }


def test_a_restore_to_before_the_first_write_finds_nothing(client: Face) -> None:
    """Before anything was written there was nothing, so that only others are there."""
    client.set_secret("k", 1)

    assert kinds(client.restore(datetime(2000, 1, 1, tzinfo=UTC)).differences) == {"k": "extra"}
    assert client.get_secret("k") == 1


def test_records_show_no_value(client: Face, raw: psycopg.Connection) -> None:
    """What an export, an import and a restore answer has values that no repr shows."""
    client.set_secret("k", HIDDEN)
    moment = now(raw)
    given = exported(client)
    found = client.import_secrets([secret("k", f"{HIDDEN}-2"), secret("new", HIDDEN)])
    restored = client.restore(moment, prune=True)

    assert (given[0].value, found[0].old, found[1].new) == (HIDDEN, HIDDEN, HIDDEN)
    assert restored.differences[0].new == HIDDEN
    assert "hunter2" not in repr((given, found, restored))


def test_an_import_locks_in_the_order_of_keys(client: Face, raw: psycopg.Connection, database_url: str) -> None:
    """Whatever is to be done with each, it waits for the first key before it holds a later one, so none wait in a ring."""
    client.set_secrets({"a": 1, "b": 1, "c": 1}, labels={})
    given = [secret("b", 1, labels={"x": "1"}), secret("c", 2)]
    lock = "SELECT FROM secretstore.secret_store WHERE key = %s FOR UPDATE NOWAIT"

    with psycopg.connect(database_url) as other:
        other.execute(lock, ["a"])
        with in_thread(lambda: client.import_secrets(given, prune="")) as importing:
            wait_until_blocked(raw)
            other.execute(lock, ["b"])
            other.execute(lock, ["c"])
            other.commit()
            found = importing.result(20)

    assert kinds(found) == {"a": "deleted", "b": "labels", "c": "changed"}
    assert client.get_secrets_by_prefix("") == {"b": 1, "c": 2}


def test_what_has_expired_by_then_is_not_written_again_and_again(client: Face, raw: psycopg.Connection) -> None:
    """A secret of the file that would read as missing, and does, is no difference; one that is there becomes missing."""
    client.set_secret("there", 1, labels={})
    over = [
        secret("gone", 1, labels={}, expires_at=SOON - 2 * HOUR),
        secret("there", 1, labels={}, expires_at=SOON - 2 * HOUR),
    ]

    assert kinds(client.import_secrets(over)) == {"gone": "unchanged", "there": "changed"}
    assert client.list_secret_keys() == []
    assert kinds(client.import_secrets(over)) == {"gone": "unchanged", "there": "unchanged"}
    assert number(raw, "SELECT count(*) FROM secretstore.secret_version") == 2
