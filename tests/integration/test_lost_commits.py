"""The connection is cut at the moment of COMMIT: each call is carried out exactly once, and its answer is right."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from secretstore import KeyRing, SecretClient, StoreUnavailableError
from tests.support.faces import Face, open_face
from tests.support.proxy import Door, Fault, open_door
from tests.support.server import Server
from tests.support.threads import in_thread, number, wait_until_blocked

Call = Callable[[Face], object]

CALLS: dict[str, tuple[Call, object, list[tuple[str, int, str]]]] = {
    "set": (lambda face: face.set_secret("a", 9).version, 3, [("a", 3, "set")]),
    "set a new one": (lambda face: face.set_secret("n", 9, expected_version=0).version, 1, [("n", 1, "set")]),
    "set the expected version": (
        lambda face: face.set_secret("a", 9, expected_version=2).version,
        3,
        [("a", 3, "set")],
    ),
    "set many": (
        lambda face: {key: info.version for key, info in face.set_secrets({"n": 1, "a": 2}).items()},
        {"n": 1, "a": 3},
        [("a", 3, "set"), ("n", 1, "set")],
    ),
    "delete": (lambda face: face.delete_secret("a"), True, [("a", 2, "delete")]),
    "delete many": (
        lambda face: face.delete_secrets(key for key in ("a", "b")),
        2,
        [("a", 2, "delete"), ("b", 1, "delete")],
    ),
    "patch": (lambda face: face.patch_secret("b", {"y": 2}).version, 2, [("b", 2, "patch")]),
    "roll back": (lambda face: face.rollback_secret("a", 1).version, 3, [("a", 3, "rollback")]),
    "labels": (lambda face: dict(face.set_labels("a", {"team": "web"}).labels), {"team": "web"}, [("a", 2, "labels")]),
    "destroy": (lambda face: face.destroy_versions("a", iter([1])), 1, [("a", 1, "destroy")]),
    "purge": (lambda face: face.purge_secret("a"), True, [("a", 2, "purge")]),
}
FAULTS: tuple[Fault, ...] = ("before", "after")
EACH_FAULT = pytest.mark.parametrize("fault", FAULTS)


@pytest.fixture
def door(server: Server) -> Iterator[Door]:
    """A door in front of the server."""
    with open_door(server) as opened:
        yield opened


@pytest.fixture(params=["client", "async client"])
def face(request: pytest.FixtureRequest, door: Door, database: str, keyring: KeyRing) -> Iterator[Face]:
    """Each client in turn, on a store with two secrets behind the door."""
    with open_face(request.param, door.url(database), keyring) as opened:
        opened.set_secrets({"a": 1, "b": {"x": 1}})
        opened.set_secret("a", 2)
        yield opened


def events(raw: psycopg.Connection) -> list[tuple[str, int, str]]:
    """The changes that were committed after the first three."""
    found = raw.execute(
        "SELECT key, version, action FROM secretstore.change_event ORDER BY occurred_at, key"
    ).fetchall()
    return [tuple(row) for row in found[3:]]


@EACH_FAULT
@pytest.mark.parametrize("call", CALLS)
def test_a_change_is_made_once(  # noqa: PLR0917 - fixtures and parameters
    door: Door, face: Face, raw: psycopg.Connection, call: str, fault: Fault
) -> None:
    """Whether the COMMIT or its answer was lost: one change, and the answer that an undisturbed call gives."""
    act, answer, changes = CALLS[call]
    door.break_next_commit(fault)

    assert act(face) == answer
    assert door.has_broken
    assert events(raw) == changes


@EACH_FAULT
def test_what_is_only_read_is_read_again(door: Door, face: Face, fault: Fault) -> None:
    """Of a transaction that wrote nothing nobody has to know whether it was committed."""
    face.get_secret("a")
    door.break_next_commit(fault)

    assert face.list_secret_keys() == ["a", "b"]
    assert door.has_broken


def test_a_commit_that_is_still_under_way_is_waited_for(door: Door, face: Face, raw: psycopg.Connection) -> None:
    """The server gets the COMMIT long after the client lost its connection: the client waits, and writes nothing more."""
    door.break_next_commit("held")
    with in_thread(lambda: face.set_secret("a", 3).version) as written:
        wait_until_blocked(raw)
        door.release()
    assert written.result() == 3
    assert events(raw) == [("a", 3, "set")]


@EACH_FAULT
def test_a_client_that_never_retries_says_that_it_does_not_know(
    door: Door, face: Face, raw: psycopg.Connection, fault: Fault
) -> None:
    """Without time to ask, the error says to look before the change is repeated, and is not one to try again."""
    door.break_next_commit(fault)
    with pytest.raises(StoreUnavailableError, match="could not be found out whether the change was made") as caught:
        face.with_options(retry_seconds=0).set_secret("a", 3)
    assert (caught.value.is_transient, caught.value.was_lost) == (False, True)
    assert len(events(raw)) == (1 if fault == "after" else 0)


@EACH_FAULT
def test_a_step_in_doubt_is_not_repeated(door: Door, face: Face, keyring: KeyRing, fault: Fault) -> None:
    """A change of keys whose COMMIT is in doubt is an error, and goes on well when it is begun again."""
    keys = face._made().keys
    door.break_next_commit(fault)
    with pytest.raises(StoreUnavailableError, match="the connection to PostgreSQL broke"):
        face.run(keys.rotate())
    face.run(keys.rotate())
    assert (face.get_secret("a"), face.get_secret("b")) == (2, {"x": 1})


def test_nothing_is_left_of_asking(door: Door, face: Face, store: SecretClient, raw: psycopg.Connection) -> None:
    """To ask for a change leaves no change behind, and no number is wasted."""
    for fault in FAULTS:
        door.break_next_commit(fault)
        face.set_secret("a", fault)
    assert [change.seq for change in store.list_changes()] == list(range(1, 6))
    assert number(raw, "SELECT count(*) FROM secretstore.change_event WHERE version = 0") == 0
