"""Data keys change while values are read and written, and nothing is lost or changed by it."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import AsyncSecretClient, DecryptionError, KeyInUseError, KeyRing, SecretClient
from secretstore.crypto.envelope import ValuePlace, seal_value
from secretstore.crypto.local import generate_master_key
from secretstore.domain.key_records import DataKeyInfo, Reencryption
from secretstore.domain.names import Namespace, parse_key
from secretstore.orm.key_repository import DataKeyRepository, SealedValue
from secretstore.service import rotation
from secretstore.service.typed import MAX_VALUE_BYTES
from tests.support.faces import async_engine
from tests.support.keys import drive, stored_rows
from tests.support.threads import answers, in_thread, number, run_together, wait_until_blocked

DEFAULT = Namespace("default")
_UNDER = """
    SELECT (SELECT count(*) FROM secretstore.secret_store WHERE data_key_id = '{0}')
         + (SELECT count(*) FROM secretstore.secret_version WHERE data_key_id = '{0}')
"""


@pytest.fixture
def filled(store: SecretClient) -> SecretClient:
    """A store with current, old, deleted and expired values, labels and two namespaces."""
    store.set_secrets({f"k{n:03}": {"n": n} for n in range(250)}, labels={"team": "web"})
    store.set_secret("k001", "second")
    store.set_secret("k001", None)
    store.delete_secret("k002")
    store.namespace("other").set_secret("k001", "elsewhere")
    return store


def keys_by_state(store: SecretClient) -> dict[str, list[DataKeyInfo]]:
    """The data keys of the namespace by state."""
    infos = store.keys.list_data_keys()
    return {state: [info for info in infos if info.state == state] for state in ("active", "retired", "shredded")}


def only(infos: list[DataKeyInfo]) -> DataKeyInfo:
    """The only one there is."""
    (info,) = infos
    return info


def assert_all_is_readable(store: SecretClient) -> None:
    """Every value of `filled` comes back, the old ones too."""
    assert store.get_secrets_by_prefix("k", after="k002") == {f"k{n:03}": {"n": n} for n in range(3, 250)}
    assert [store.get_secret("k001", version=n) for n in (1, 2, 3)] == [{"n": 1}, "second", None]
    assert store.get_secret("k002") is None
    assert store.namespace("other").get_secret("k001") == "elsewhere"


def test_a_rotation_changes_envelopes_and_nothing_else(filled: SecretClient, raw: psycopg.Connection) -> None:
    """Afterwards all values of the namespace are under the new data key, and rows, numbers, times and labels are as before."""
    old = only(keys_by_state(filled)["active"])
    rows = stored_rows(raw)

    done = filled.keys.rotate()

    states = keys_by_state(filled)
    new, retired = only(states["active"]), only(states["retired"])
    assert (retired.id, new.id) == (old.id, done.data_key_id)
    assert (old.values, retired.values, new.values) == (502, 0, 502)
    assert done == Reencryption(namespace="default", data_key_id=new.id, values=502, unreadable=0, examples=())
    assert retired.retired_at is not None
    assert stored_rows(raw) == rows
    assert_all_is_readable(filled)


def test_a_ring_of_other_bytes_makes_no_data_key(
    filled: SecretClient, master_key: str, raw: psycopg.Connection
) -> None:
    """With another key under the same id a rotation is refused before it begins, and others go on as before."""
    impostor = generate_master_key(master_key.partition(":")[0])
    stranger = SecretClient(filled.engine, KeyRing.from_text(impostor))

    with pytest.raises(DecryptionError, match="these are not the bytes that the key of this id had"):
        stranger.keys.rotate()

    assert number(raw, "SELECT count(*) FROM secretstore.data_key WHERE namespace = 'default'") == 1
    assert filled.set_secret("k003", "new").version == 2


def test_the_progress_of_a_rotation_ends_with_all(filled: SecretClient) -> None:
    """It is told of from nothing to everything, and never goes back."""
    seen: list[tuple[int, int]] = []
    filled.keys.rotate(on_progress=lambda done, total: seen.append((done, total)))

    assert seen[0] == (0, 502)
    assert seen[-1] == (502, 502)
    assert seen == sorted(seen)
    assert len(seen) > 3


def test_a_deleted_value_is_rotated_too(filled: SecretClient) -> None:
    """A deleted secret that is undeleted by hand after its old data key was destroyed opens."""
    old = only(keys_by_state(filled)["active"])
    filled.keys.rotate()
    filled.keys.destroy(old.id)

    with filled.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE secretstore.secret_store SET deleted_at = NULL WHERE namespace = 'default' AND key = 'k002'"
        )
    assert filled.get_secret("k002") == {"n": 2}


def test_another_process_goes_on_reading_and_writing(filled: SecretClient, master_key: str) -> None:
    """A client that had opened the old data key reads under the new one, and writes under it, without being told."""
    beside = SecretClient(filled.engine, KeyRing.from_text(master_key))
    assert beside.get_secret("k003") == {"n": 3}
    old = only(keys_by_state(filled)["active"])

    filled.keys.rotate()
    filled.keys.destroy(old.id)

    assert beside.get_secret("k003") == {"n": 3}
    assert beside.set_secret("k003", "new").version == 2
    assert filled.get_secret("k003") == "new"
    assert only(keys_by_state(filled)["active"]).values == 503


@pytest.mark.parametrize("moment", range(14))
def test_a_write_between_any_two_steps_is_kept(
    store: SecretClient, keyring: KeyRing, raw: psycopg.Connection, moment: int
) -> None:
    """Whenever others set, add and delete, what they wrote is what is read, and nothing stays under the old data key."""
    store.set_secrets({"a": "before", "b": "before", "c": "before"})
    old = only(keys_by_state(store)["active"])

    def interfere(step: int) -> None:
        if step == moment:
            store.set_secret("a", "between")
            store.set_secret("new", "between")
            store.delete_secret("b")

    done = drive(store, rotation.rotate(keyring, DEFAULT, lambda *_: None), interfere)
    interfere(moment)

    assert store.get_secrets_by_prefix("") == {"a": "between", "c": "before", "new": "between"}
    assert store.get_secret("a", version=1) == "before"
    assert number(raw, _UNDER.format(old.id)) == 0
    assert done.data_key_id == only(keys_by_state(store)["active"]).id


@pytest.mark.parametrize("moment", range(14))
def test_an_envelope_that_changes_without_a_new_version_is_kept(
    store: SecretClient, keyring: KeyRing, raw: psycopg.Connection, moment: int
) -> None:
    """What is put under the same version between reading and replacing, as a restore by hand does, is not overwritten."""
    store.set_secrets({"a": "before", "b": "before"})
    old = keyring.opened("default", only(keys_by_state(store)["active"]).id)
    assert old is not None
    restored = seal_value(old, b'"restored"', ValuePlace("default", "a", 1)).as_json()

    def interfere(step: int) -> None:
        if step == moment:
            for table in (b"secret_store", b"secret_version"):
                raw.execute(b"UPDATE secretstore." + table + b" SET value = %s::jsonb WHERE key = 'a'", [restored])

    drive(store, rotation.rotate(keyring, DEFAULT, lambda *_: None), interfere)

    assert store.get_secrets(["a", "b"]) == {"a": "restored", "b": "before"}
    assert store.get_secret("a", version=1) == "restored"


@pytest.mark.parametrize("moment", range(14))
def test_another_rotation_between_any_two_steps_does_no_harm(
    store: SecretClient, keyring: KeyRing, raw: psycopg.Connection, moment: int
) -> None:
    """A rotation that is overtaken by a whole other one, whose older keys are destroyed, goes on under the newest one."""
    store.set_secrets({"a": 1, "b": 2})
    store.set_secret("a", 3)

    def interfere(step: int) -> None:
        if step == moment:
            store.keys.rotate()
            for info in keys_by_state(store)["retired"]:
                store.keys.destroy(info.id)

    drive(store, rotation.rotate(keyring, DEFAULT, lambda *_: None), interfere)
    store.keys.reencrypt()

    for info in keys_by_state(store)["retired"]:
        store.keys.destroy(info.id)
    assert (store.get_secrets(["a", "b"]), store.get_secret("a", version=1)) == ({"a": 3, "b": 2}, 1)
    assert only(store.keys.list_data_keys()).values == number(
        raw, "SELECT 2 + count(*) FROM secretstore.secret_version"
    )


def test_four_rotations_at_once_end_with_everything_readable(filled: SecretClient, master_key: str) -> None:
    """From four threads with key rings of their own; what is left under older keys a last run takes along."""
    stores = [SecretClient(filled.engine, KeyRing.from_text(master_key)) for _ in range(4)]

    run_together(*(one.keys.rotate for one in stores))
    filled.keys.reencrypt()

    states = keys_by_state(filled)
    assert only(states["active"]).values == 502
    assert [info.values for info in states["retired"]] == [0] * len(states["retired"])
    assert_all_is_readable(filled)


def test_a_rotation_waits_for_a_writer_and_takes_its_value_along(
    engine: Engine, filled: SecretClient, raw: psycopg.Connection
) -> None:
    """A writer that began before, under the old key, and commits during the rotation, ends under the new key."""
    old = only(keys_by_state(filled)["active"])
    with Session(engine) as session:
        filled.bind(session).set_secret("k005", "slow")
        with in_thread(filled.keys.rotate) as rotated:
            wait_until_blocked(raw)
            assert filled.get_secret("k006") == {"n": 6}
            session.commit()
    assert rotated.result().unreadable == 0
    assert number(raw, _UNDER.format(old.id)) == 0
    assert (filled.get_secret("k005"), filled.get_secret("k005", version=1)) == ("slow", {"n": 5})


def test_a_slow_writer_keeps_the_old_data_key(engine: Engine, filled: SecretClient, raw: psycopg.Connection) -> None:
    """First order: sealed under the old key and not yet committed when that is to be destroyed: the key stays."""
    old = only(keys_by_state(filled)["active"])
    with Session(engine) as session:
        filled.bind(session).set_secret("slow", "sealed under the old key")
        filled.keys.rotate()
        with in_thread(lambda: filled.keys.destroy(old.id)) as destroyed:
            wait_until_blocked(raw)
            session.commit()
            with pytest.raises(KeyInUseError, match="values need it"):
                destroyed.result()

    assert filled.get_secret("slow") == "sealed under the old key"
    assert filled.keys.reencrypt().values == 2
    filled.keys.destroy(old.id)
    assert filled.get_secret("slow") == "sealed under the old key"


def test_a_batch_opens_each_value_with_its_own_data_key(engine: Engine, filled: SecretClient) -> None:
    """Values under the data key before and under the active one come back from one call."""
    with Session(engine) as session:
        filled.bind(session).set_secret("slow", "sealed under the old key")
        filled.keys.rotate()
        session.commit()

    assert filled.get_secrets(["k003", "slow", "k004"]) == {
        "k003": {"n": 3},
        "slow": "sealed under the old key",
        "k004": {"n": 4},
    }


def test_a_writer_that_only_looked_keeps_the_old_data_key_too(
    engine: Engine, filled: SecretClient, raw: psycopg.Connection
) -> None:
    """A writer that has chosen the old key and has not written yet holds it until its transaction ends."""
    old = only(keys_by_state(filled)["active"])
    with Session(engine) as session:
        chosen = DataKeyRepository(session, DEFAULT).lock_active(old.id)
        filled.keys.rotate()
        with in_thread(lambda: filled.keys.destroy(old.id)) as destroyed:
            wait_until_blocked(raw)
            session.commit()
            destroyed.result()
    assert chosen
    assert [info.id for info in filled.keys.list_data_keys()] != [old.id]


def test_a_writer_after_the_destruction_writes_under_the_new_data_key(
    engine: Engine, filled: SecretClient, raw: psycopg.Connection
) -> None:
    """Second order: the old key is being destroyed when a writer with that key in memory begins: it takes the new one."""
    old = only(keys_by_state(filled)["active"])
    filled.keys.rotate()
    with Session(engine) as session:
        assert DataKeyRepository(session, DEFAULT).destroy(old.id) is None
        assert filled.set_secret("k003", "late").version == 2
        session.commit()

    assert filled.get_secret("k003") == "late"
    assert only(filled.keys.list_data_keys()).values == 504 - 1


def test_postgresql_refuses_a_value_under_a_destroyed_data_key(filled: SecretClient, raw: psycopg.Connection) -> None:
    """Whatever a writer does, its value is refused where the data key is gone: the foreign key is the last fence."""
    old = only(keys_by_state(filled)["active"])
    envelope = raw.execute("SELECT value FROM secretstore.secret_store WHERE key = 'k003'").fetchone()
    filled.keys.rotate()
    filled.keys.destroy(old.id)

    assert envelope is not None
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        raw.execute(
            "UPDATE secretstore.secret_store SET value = %s WHERE namespace = 'default' AND key = 'k003'",
            [psycopg.types.json.Jsonb(envelope[0])],
        )


def test_readers_see_no_error_while_keys_change(filled: SecretClient, master_key: str) -> None:
    """Readers with empty key rings, single and in batches, read on through five rotations with destroyed keys."""
    ended = threading.Event()

    def read() -> int:
        reads = 0
        while not ended.is_set():
            own = SecretClient(filled.engine, KeyRing.from_text(master_key))
            assert own.get_secret("k003") == {"n": 3}
            assert own.get_secret("k001", version=2) == "second"
            assert len(own.get_secrets_by_prefix("k0")) == 99
            reads += 1
        return reads

    def change() -> int:
        try:
            for _ in range(5):
                filled.keys.rotate()
                for info in keys_by_state(filled)["retired"]:
                    filled.keys.destroy(info.id)
        finally:
            ended.set()
        return 1

    assert all(run_together(read, read, change))


@pytest.mark.parametrize("batch", [False, True], ids=["one value", "many values"])
def test_a_reader_finds_the_value_again_when_its_data_key_has_gone(
    engine: Engine, filled: SecretClient, master_key: str, *, batch: bool
) -> None:
    """A reader that has read the old envelope, and whose data key is destroyed before it is looked for, reads again."""
    beside = SecretClient(engine, KeyRing.from_text(master_key))
    old = only(keys_by_state(filled)["active"])
    with Session(engine) as session:
        service = beside.bind(session)
        find = DataKeyRepository.find_wrapped
        looked: list[str] = []

        def find_late(repository: DataKeyRepository, data_key_id: str) -> object:
            if not looked:
                filled.keys.rotate()
                filled.keys.destroy(old.id)
            looked.append(data_key_id)
            return find(repository, data_key_id)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DataKeyRepository, "find_wrapped", find_late)
            found = service.get_secrets(["k003"]) if batch else {"k003": service.get_secret("k003")}
    assert found == {"k003": {"n": 3}}
    assert looked == [old.id, only(filled.keys.list_data_keys()).id]


def test_a_restore_finds_the_values_again_when_their_data_key_has_gone(
    engine: Engine, filled: SecretClient, master_key: str
) -> None:
    """A restore that has read old envelopes, whose data key is destroyed before it is looked for, reads them again."""
    (old,), then = keys_by_state(filled)["active"], filled.list_versions("k001")[1].created_at
    beside = SecretClient(engine, KeyRing.from_text(master_key))
    find = DataKeyRepository.find_wrapped
    looked: list[str] = []

    def find_late(repository: DataKeyRepository, data_key_id: str) -> object:
        if not looked:
            filled.keys.rotate()
            filled.keys.destroy(old.id)
        looked.append(data_key_id)
        return find(repository, data_key_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataKeyRepository, "find_wrapped", find_late)
        restored = beside.restore(then, "k001")
    assert [(one.key, one.kind) for one in restored.differences] == [("k001", "changed")]
    assert looked[0] == old.id
    assert filled.get_secret("k001") == "second"


def test_a_value_that_does_not_open_stops_nothing(filled: SecretClient, raw: psycopg.Connection) -> None:
    """A changed value stays under its old data key, which therefore stays too, and is named; all others are re-encrypted."""
    old = only(keys_by_state(filled)["active"])
    raw.execute(
        "UPDATE secretstore.secret_store SET value = value || '{\"data\": \"AAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}' WHERE key = 'k007'"
    )

    done = filled.keys.rotate()

    assert (done.values, done.unreadable) == (501, 1)
    assert done.examples == ("version 1 of 'k007' in namespace 'default'",)
    with pytest.raises(KeyInUseError):
        filled.keys.destroy(old.id)
    with pytest.raises(DecryptionError):
        filled.get_secret("k007")
    assert filled.get_secret("k007", version=1) == {"n": 7}


def test_what_cannot_be_destroyed_stays(filled: SecretClient) -> None:
    """The active data key, one under which there are values, and one that is not there, each have their own words."""
    active = only(keys_by_state(filled)["active"])
    with pytest.raises(KeyInUseError, match="it is the active one"):
        filled.keys.destroy(active.id)
    with pytest.raises(KeyInUseError, match="there is none of this id"):
        filled.keys.destroy("nonsense")
    with pytest.raises(KeyInUseError, match="there is none of this id"):
        filled.namespace("other").keys.destroy(active.id)
    assert_all_is_readable(filled)


@pytest.mark.parametrize("table", ["secret_store", "secret_version"])
def test_a_data_key_stays_for_the_sake_of_one_value(filled: SecretClient, raw: psycopg.Connection, table: str) -> None:
    """One deleted value in the heads, or one old value in the history, is enough to keep a data key."""
    old = only(keys_by_state(filled)["active"])
    condition = "key = 'k002'" if table == "secret_store" else "key = 'k001' AND version = 1"
    kept = raw.execute(
        f"SELECT value::text FROM secretstore.{table} WHERE namespace = 'default' AND {condition}".encode()
    )
    envelope = kept.fetchone()
    assert envelope is not None
    filled.keys.rotate()
    raw.execute(
        f"UPDATE secretstore.{table} SET value = %s::jsonb WHERE namespace = 'default' AND {condition}".encode(),
        envelope,
    )

    with pytest.raises(KeyInUseError, match="values need it"):
        filled.keys.destroy(old.id)
    assert filled.keys.reencrypt().values == 1
    filled.keys.destroy(old.id)


def test_a_namespace_without_secrets_can_be_rotated(store: SecretClient) -> None:
    """It gets its first data key, and there is nothing to re-encrypt."""
    assert store.keys.reencrypt().values == 0
    assert store.keys.rotate().values == 0
    store.set_secret("a", 1)
    assert store.get_secret("a") == 1


def test_what_would_be_reencrypted_is_counted_and_left_alone(filled: SecretClient, raw: psycopg.Connection) -> None:
    """The numbers are those of the rotation that follows, and of one that has nothing left to do."""
    assert filled.keys.count_to_reencrypt(after_rotation=True) == 502
    assert filled.keys.count_to_reencrypt() == 0
    assert number(raw, "SELECT count(*) FROM secretstore.data_key") == 2
    assert filled.keys.rotate().values == 502
    assert filled.keys.count_to_reencrypt() == 0


def test_pages_of_large_values_are_small(store: SecretClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held at once is bounded, also where every value is as large as it may be."""
    store.set_secrets({f"k{n:02}": "x" * (MAX_VALUE_BYTES - 2) for n in range(24)})
    store.set_secrets({f"small{n:03}": n for n in range(300)})
    held: list[tuple[int, int]] = []
    find = DataKeyRepository.list_sealed

    def note(*args: Any, **options: Any) -> list[SealedValue]:
        page = find(*args, **options)
        held.append((len(page), sum(len(value.text) for value in page)))
        return page

    monkeypatch.setattr(DataKeyRepository, "list_sealed", note)
    assert store.keys.rotate().values == 648

    assert max(characters for _, characters in held) <= rotation.PAGE_CHARACTERS * 2
    assert max(rows for rows, _ in held) > 50
    assert store.get_secret("k23") == "x" * (MAX_VALUE_BYTES - 2)


_PROGRAM = """
import sys
from secretstore import KeyRing, connect

url, pages = sys.argv[1:]
seen = 0

def report(done, total):
    global seen
    seen += 1
    print(done, flush=True)
    if seen > int(pages):
        sys.stdin.readline()

with connect(url, keyring=KeyRing.from_text(sys.stdin.readline())) as store:
    store.keys.rotate(on_progress=report)
"""


@pytest.fixture
def victim(database_url: str, master_key: str) -> Iterator[Callable[[int], None]]:
    """A function that starts a rotation in another process, lets it do some pages, and kills it."""

    def kill_after(pages: int) -> None:
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _PROGRAM, database_url, str(pages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(master_key + "\n")
            process.stdin.flush()
            for _ in range(pages + 1):
                assert process.stdout.readline()
            process.kill()
            assert process.wait(60) == -9

    return kill_after  # type: ignore[return-value]


@pytest.mark.parametrize("pages", [0, 1, 2, 3])
def test_a_killed_rotation_goes_on(
    filled: SecretClient, raw: psycopg.Connection, victim: Callable[[int], None], pages: int
) -> None:
    """Killed with SIGKILL after some pages, everything is readable at once, and the next run ends it."""
    old = only(keys_by_state(filled)["active"])
    rows = stored_rows(raw)

    victim(pages)

    assert_all_is_readable(filled)
    left = number(raw, _UNDER.format(old.id))
    assert 0 < left < 502 if pages else left == 502
    with pytest.raises(KeyInUseError):
        filled.keys.destroy(old.id)
    assert filled.keys.count_to_reencrypt() == left == filled.keys.reencrypt().values
    filled.keys.destroy(old.id)
    assert stored_rows(raw) == rows
    assert only(filled.keys.list_data_keys()).values == 502
    assert_all_is_readable(filled)


def test_the_awaited_face_does_the_same(database_url: str, filled: SecretClient, keyring: KeyRing) -> None:
    """Rotation, listing and destruction on the async client end as on the other."""
    old = only(keys_by_state(filled)["active"])

    async def change() -> list[DataKeyInfo]:
        async with async_engine(database_url) as engine:
            store = AsyncSecretClient(engine, keyring)
            done = await store.keys.rotate()
            assert done.values == 502
            assert await store.keys.count_to_reencrypt() == (await store.keys.reencrypt()).values == 0
            with pytest.raises(KeyInUseError):
                await store.keys.destroy(done.data_key_id)
            await store.keys.destroy(old.id)
            assert await store.keys.list_namespaces() == ["default", "other"]
            return await store.namespace("default").keys.list_data_keys()

    assert only(asyncio.run(change())).values == 502
    assert_all_is_readable(filled)


def test_heads_are_found_again_when_the_data_key_changes_under_a_writer(
    engine: Engine, filled: SecretClient, raw: psycopg.Connection
) -> None:
    """A first writer of a key that waits for another one, while the data key is replaced, writes the version after it."""
    with Session(engine) as session:
        filled.bind(session).set_secret("fresh", 1)
        with in_thread(lambda: filled.set_secret("fresh", 2)) as second:
            wait_until_blocked(raw)
            with in_thread(filled.keys.rotate) as rotated:
                session.commit()
                assert answers([second])[0].version == 2
            rotated.result()
    filled.keys.reencrypt()
    assert [filled.get_secret("fresh", version=n) for n in (1, 2)] == [1, 2]
    assert [info.values for info in keys_by_state(filled)["retired"]] == [0]
    assert parse_key("fresh") in filled.list_secret_keys()
