"""`secretstore doctor`: what is wrong, and where."""

import json

import psycopg
import pytest

from secretstore import KeyRing, SecretClient, health
from secretstore.crypto.local import generate_master_key
from secretstore.service.data_keys import MAX_SEALS
from secretstore.settings import load_settings
from tests.e2e.conftest import CommandLine

NOWHERE = "postgresql://127.0.0.1:1/x?password=hunter2"


def found(url: str, keys: str | None) -> list[health.Check]:
    """Run the checks in this process."""
    return health.examine(load_settings(database_url=url, keys=keys))


def test_a_healthy_store_passes_every_check(cli: CommandLine, store: SecretClient) -> None:
    """With tables, a key ring and data keys that open, every check is ok and the exit code is 0."""
    store.set_secret("k", 1)

    done = cli("doctor")

    records = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert [record["name"] for record in records] == list(health.CHECKS)
    assert {record["result"] for record in records} == {"ok"}


def test_a_sick_store_ends_with_8(cli: CommandLine, empty_database_url: str) -> None:
    """The first check that fails says why, the later ones are skipped, and the exit code is 8."""
    done = cli.with_(SECRETSTORE_DATABASE_URL=empty_database_url)("doctor", "--format", "table")

    results = [line.split()[0] for line in done.out.splitlines()[1:]]
    assert (done.code, done.err) == (8, "error: failed: tables\n")
    assert results == ["ok", "FAILED", *["skipped"] * 5]
    assert "secretstore db upgrade" in done.out


@pytest.mark.parametrize(
    ("url", "said"), [(NOWHERE, "nothing listens there"), ("mysql://hunter2", "postgresql://")], ids=["down", "wrong"]
)
def test_a_database_that_is_not_there_fails_the_first_check(url: str, said: str) -> None:
    """Without a database nothing else is looked at, and the URL's password is not repeated."""
    checks = found(url, None)

    assert [check.ok for check in checks] == [False, *[None] * 6]
    assert said in checks[0].detail
    assert "hunter2" not in repr(checks)


def test_a_missing_key_ring_fails_its_check(database_url: str) -> None:
    """Without master keys the tables are well, and the key ring is not."""
    assert [check.ok for check in found(database_url, None)] == [True, True, False, *[None] * 4]


def test_the_data_keys_of_every_namespace_are_opened(store: SecretClient, database_url: str, master_key: str) -> None:
    """A data key that does not open fails the check, which counts and names such namespaces and no other."""
    for namespace in ("a", "b"):
        store.namespace(namespace).set_secret("k", 1)
    assert found(database_url, master_key)[3] == health.Check("data keys", ok=True, detail="the key ring opens all 2")

    stranger = generate_master_key("stranger")
    with_stranger = SecretClient(store.engine, KeyRing.from_text(f"{stranger},{master_key}"), namespace="c")
    with_stranger.set_secret("k", 1)
    last = found(database_url, master_key)[3]

    assert last.ok is False
    assert last.detail.startswith("1 of 3 do not open, of namespace 'c': ")
    assert found(database_url, f"{master_key},{stranger}")[3].ok is True


def test_checks_change_nothing(store: SecretClient, database_url: str, master_key: str) -> None:
    """A store without any secret is healthy, and still without data keys after the checks."""
    assert [check.ok for check in found(database_url, master_key)] == [True] * 7

    assert found(database_url, master_key)[3].detail == "the key ring opens all 0"


def test_the_head_room_of_the_most_used_data_key_is_shown(
    store: SecretClient, database_url: str, master_key: str, raw: psycopg.Connection
) -> None:
    """How much is left is said in per cent, and a data key that is near the bound of AES-GCM fails the check."""
    store.set_secret("k", 1)
    use = "INSERT INTO secretstore.data_key_use SELECT namespace, id, gen_random_uuid(), %s FROM secretstore.data_key"
    raw.execute(use, [MAX_SEALS // 4])
    store.namespace("little").set_secret("k", 1)

    assert found(database_url, master_key)[-1] == health.Check(
        "head-room",
        ok=True,
        detail="75% of its 268,435,456 seals are left to the most used data key, before it is replaced by itself",
    )
    raw.execute(f"{use} WHERE namespace = 'default'".encode(), [8 * MAX_SEALS])
    assert found(database_url, master_key)[-1].ok is False
    assert "run `secretstore keys rotate`" in found(database_url, master_key)[-1].detail
