"""How a cache learns of changes, driven by hand: what each step brings is what the test says."""

import json
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from secretstore import Change, PermissionDeniedError, StoreUnavailableError
from secretstore.cache.config import CacheConfig
from secretstore.cache.entries import Entries
from secretstore.cache.following import Ask, Connect, Following, Hear, Pause, Probe, Step
from secretstore.crypto.envelope import ValuePlace
from secretstore.orm.listening import CannotListenError
from secretstore.service.keeping import Found
from secretstore.service.news import Mark, News, RecordClosedError
from tests.support.clock import Clock
from tests.unit.test_cache_entries import begin, put

S = TypeVar("S", bound=Step)


class Hand:
    """Drives the steps: each answer is given by the test, and the next step is what it looks at."""

    def __init__(self) -> None:
        self.clock = Clock()
        config = CacheConfig(ttl_seconds=1000.0, max_stale_seconds=30.0, heartbeat_seconds=5.0)
        self.cache = Entries(config, clock=self.clock, chance=lambda: 0.0)
        self.following = Following(self.cache, chance=lambda: 1.0)
        self.steps: Generator[Step, Any, None] = self.following.run()
        self.step: Step = next(self.steps)

    def send(self, answer: object = None) -> None:
        """Let the step bring something."""
        self.step = self.steps.send(answer)

    def throw(self, error: Exception) -> None:
        """Let the step fail."""
        self.step = self.steps.throw(error)

    def expect(self, kind: type[S]) -> S:
        """The step that is next, which has to be of a kind."""
        assert isinstance(self.step, kind), self.step
        return self.step

    def connect(self) -> None:
        """Connect, and let notices arrive."""
        assert self.expect(Connect).listens
        self.send()
        probe = self.expect(Probe).payload
        self.send()
        self.expect(Hear)
        self.send([probe])

    def answer(self, *keys: str, number: int = 1) -> None:
        """Let the record tell of changed keys."""
        self.expect(Ask)
        self.send(News(frozenset(keys), mark(number)))

    def hears(self, **payload: object) -> None:
        """Let a notice arrive."""
        self.expect(Hear)
        self.send([json.dumps(payload)])

    def holds(self, key: str = "k", namespace: str = "ns") -> bool:
        """Whether a key is served."""
        return self.cache.get(namespace, key) is not None


def mark(number: int = 1) -> Mark:
    """A place in the record."""
    change = Change(
        seq=number, namespace="ns", key="k", version=1, action="set", actor="me", occurred_at=datetime.now(UTC)
    )
    return Mark(number, change, frozenset({"key"}))


def marked() -> Hand:
    """A cache that listens, follows a namespace, and holds two of its keys."""
    hand = Hand()
    hand.connect()
    put(hand.cache, "first")
    hand.send([])
    hand.expect(Ask)
    hand.send(News(None, mark()))
    hand.expect(Hear)
    put(hand.cache, "a")
    put(hand.cache, "b")
    return hand


def test_it_listens_before_it_asks() -> None:
    """A change that is committed after the question is heard of; and what was loaded before the first mark goes."""
    hand = Hand()
    put(hand.cache)
    hand.connect()
    assert hand.cache.statistics().listening
    hand.expect(Ask)
    hand.send(News(None, mark()))
    assert not hand.holds()
    hand.expect(Hear)


def test_a_new_namespace_is_asked_for_at_once() -> None:
    """Woken by its first load, it takes a mark, and from then on nothing is missed; nothing else is asked for."""
    hand = marked()
    put(hand.cache, namespace="new")
    hand.send([])
    asked = hand.expect(Ask)
    assert asked.do.keywords == {"namespace": "new", "mark": None}  # type: ignore[attr-defined]  # a partial
    hand.send(News(None, mark()))
    assert not hand.holds(namespace="new")
    assert hand.holds("a")
    hand.expect(Hear)


@pytest.mark.parametrize(
    ("payload", "left"),
    [
        ({"namespace": "ns", "key": "a", "version": 2}, "b"),
        ({"namespace": "ns", "keys": ["a", "c"]}, "b"),
        ({"namespace": "ns", "keys": ["a", 1, "b"]}, ""),
        ({"namespace": "ns", "everything": True}, ""),
        ({"namespace": "other", "key": "a"}, "ab"),
        ({"namespace": "other", "everything": True}, "ab"),
        ({"probe": "of another process"}, "ab"),
    ],
)
def test_a_notice_lets_go_of_what_it_names(payload: dict[str, object], left: str) -> None:
    """Without any question."""
    hand = marked()
    hand.hears(**payload)
    assert "".join(key for key in "ab" if hand.holds(key)) == left
    hand.expect(Hear)


@pytest.mark.parametrize("payload", ["", "{", "[]", '"text"', "1", '{"namespace": 1}', "[" * 100_000])
def test_what_is_no_notice_of_ours_is_passed_over(payload: str) -> None:
    """The channel is open to everyone."""
    hand = marked()
    hand.send([payload])
    hand.expect(Hear)
    assert hand.holds("a")


def test_a_notice_without_a_key_asks_what_it_was() -> None:
    """The record is read from the mark on, once for many notices, and what it names goes."""
    hand = marked()
    hand.send([json.dumps({"namespace": "ns"})] * 3)
    space = hand.cache.space("ns")
    assert space is not None
    asked = hand.expect(Ask)
    assert asked.do.keywords["mark"] == space.mark  # type: ignore[attr-defined]  # a partial
    hand.answer("a", number=7)
    assert [hand.holds("a"), hand.holds("b")] == [False, True]
    assert isinstance(space.mark, Mark)
    assert space.mark.number == 7
    hand.expect(Hear)


def test_a_heartbeat_confirms_what_has_not_changed() -> None:
    """What was lost on the way is found, and the rest is served for longer."""
    hand = marked()
    for _ in range(8):
        hand.clock.now += 5
        hand.send([])
        hand.answer()
    assert hand.holds("b")
    hand.clock.now += 5
    hand.send([])
    hand.answer("a")
    assert [hand.holds("a"), hand.holds("b")] == [False, True]
    assert not hand.cache.statistics().stale


def test_only_the_time_of_the_question_is_confirmed() -> None:
    """An answer that takes long says nothing of what was committed meanwhile."""
    hand = marked()
    hand.clock.now += 5
    hand.send([])
    hand.expect(Ask)
    hand.clock.now += 25
    hand.answer()
    hand.clock.now += 4.9
    assert hand.holds("a")
    hand.clock.now += 0.1
    assert not hand.holds("a")


def test_a_lost_connection_is_made_anew() -> None:
    """With pauses that grow to a bound; meanwhile it does not listen, and after `max_stale` it is stale."""
    hand = marked()
    pauses = []
    hand.throw(StoreUnavailableError("away"))
    for _ in range(8):
        assert not hand.cache.statistics().listening
        pauses.append(hand.expect(Pause).seconds)
        hand.send()
        hand.expect(Connect)
        hand.throw(StoreUnavailableError("away"))
        assert not hand.expect(Connect).listens
        hand.throw(StoreUnavailableError("away"))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert hand.holds("a")
    hand.clock.now += 30
    assert not hand.holds("a")
    assert hand.cache.statistics().stale

    hand.send()
    hand.connect()
    hand.answer("a")
    assert [hand.holds("a"), hand.holds("b")] == [False, True]
    hand.throw(StoreUnavailableError("away"))
    assert hand.expect(Pause).seconds == 0.1


def test_rights_that_were_taken_away_clear_everything() -> None:
    """At the next heartbeat nothing is served any more, of any namespace."""
    hand = marked()
    put(hand.cache, namespace="other")
    hand.clock.now += 5
    hand.send([])
    hand.expect(Ask)
    hand.throw(PermissionDeniedError("denied"))
    assert not any([hand.holds("a"), hand.holds("b"), hand.holds(namespace="other")])
    hand.expect(Pause)


def test_where_notices_do_not_arrive_it_asks_every_second(caplog: pytest.LogCaptureFixture) -> None:
    """It says so once, and tries to listen again some day."""
    hand = Hand()
    put(hand.cache)
    for _ in range(2):
        hand.expect(Connect)
        hand.send()
        hand.expect(Probe)
        hand.send()
        hand.expect(Hear)
        hand.clock.now += 3
        hand.send([])
        assert not hand.expect(Connect).listens
        hand.send()
        asked = 0
        while isinstance(hand.step, Ask):
            hand.answer()
            assert hand.expect(Pause).seconds == 1.0
            assert not hand.cache.statistics().listening
            asked += 1
            hand.clock.now += 1
            hand.send()
        assert asked == 300
    assert [record.name for record in caplog.records] == ["secretstore.cache"]
    assert "SECRETSTORE_LISTEN_URL" in caplog.text


@pytest.mark.parametrize("error", [CannotListenError(), PermissionDeniedError("denied"), StoreUnavailableError("away")])
def test_a_listen_url_that_does_not_work_leaves_asking(error: Exception) -> None:
    """Whatever is wrong with it, the client's own connections may work."""
    hand = Hand()
    put(hand.cache)
    hand.throw(error)
    assert not hand.expect(Connect).listens
    hand.send()
    hand.answer()
    hand.expect(Pause)


def test_where_the_record_is_closed_nothing_is_confirmed(caplog: pytest.LogCaptureFixture) -> None:
    """Entries live for `max_stale` at most, and a notice without a key lets go of its namespace; it is said once."""
    hand = Hand()
    hand.connect()
    put(hand.cache, "a")
    for _ in range(5):
        hand.clock.now += 5
        hand.send([])
        while isinstance(hand.step, Ask):
            hand.throw(RecordClosedError())
    assert hand.holds("a")
    hand.hears(namespace="ns")
    hand.expect(Ask)
    hand.throw(RecordClosedError())
    assert not hand.holds("a")
    put(hand.cache, "b")
    hand.clock.now += 30
    assert not hand.holds("b")
    assert hand.cache.statistics().stale
    assert len(caplog.records) == 1
    assert "UPDATE on change_event" in caplog.text


def test_a_load_under_way_is_spoilt_by_what_the_record_tells() -> None:
    """As by a notice: it may have read what was there before."""
    hand = marked()
    hand.cache.drop("ns", ["a"])
    load = begin(hand.cache, "a")
    hand.hears(namespace="ns")
    hand.answer("a")
    hand.cache.finish(load, Found(ValuePlace("ns", "a", 1), b"old"))
    assert not hand.holds("a")


def test_the_end_is_seen() -> None:
    """Closed, it does not listen any more."""
    hand = marked()
    hand.steps.close()
    assert not hand.cache.statistics().listening
