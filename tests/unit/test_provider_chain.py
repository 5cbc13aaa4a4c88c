"""Providers that are asked in order: who answers, what is refused, and what a link that is down does."""

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretstore import (
    ConfigurationError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    PermissionDeniedError,
    ProvidedInfo,
    ProvidedSecret,
    ProviderClient,
    ProviderError,
    SecretStoreError,
    VersionConflictError,
)
from secretstore.domain.providers import Ability, SecretProvider, Version
from secretstore.providers.chain import ChainProvider, Link, LinkState
from secretstore.providers.memory import MemoryProvider
from secretstore.testing import SecretProviderContract
from tests.support.failing import FailingProvider
from tests.support.threads import run_together

VALUE = "hunter2-of-the-test"
NEW = b'"new"'

Change = Callable[[ChainProvider], object]

CHANGES: dict[str, Change] = {
    "write": lambda chain: chain.write("k", NEW),
    "labels": lambda chain: chain.write("k", NEW, labels={"team": "web"}),
    "delete": lambda chain: chain.delete("k"),
    "undelete": lambda chain: chain.undelete("k"),
    "destroy": lambda chain: chain.destroy_versions("k", [1]),
}
EACH_CHANGE = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
READS: dict[str, Change] = {
    "read": lambda chain: chain.read("k"),
    "version": lambda chain: chain.read("k", version=1),
    "many": lambda chain: chain.read_many(["k"]),
    "describe": lambda chain: chain.describe("k"),
    "versions": lambda chain: chain.list_versions("k"),
    "list": lambda chain: chain.list_keys(),
}
EACH_READ = pytest.mark.parametrize("read", READS.values(), ids=READS)
REFUSALS: dict[str, SecretStoreError] = {
    "denied": PermissionDeniedError("top does not let you in"),
    "broken": ProviderError("top is misconfigured", provider="top"),
    "unreadable": InvalidSecretValueError("'k' of top is not JSON"),
}


class TestAWriterBelow(SecretProviderContract):
    """A chain whose first link is empty is as good as the link that it writes to."""

    @pytest.fixture
    def provider(self) -> SecretProvider:
        """An empty link above the writer."""
        return ChainProvider([Link(FailingProvider("top")), Link(MemoryProvider())], write_to="memory:")


class TestAWriterAbove(SecretProviderContract):
    """So is one with others below it, one of them down."""

    @pytest.fixture
    def provider(self) -> SecretProvider:
        """A writer, and an empty link below it."""
        return ChainProvider([Link(MemoryProvider()), Link(FailingProvider("low"), optional=True)], write_to="memory:")


class TestAWriterOfLittle(SecretProviderContract):
    """What the link that it writes to is not able to, a chain refuses by its own name."""

    @pytest.fixture
    def provider(self) -> SecretProvider:
        """A writer that can only write, above a link that can do more."""
        writer = MemoryProvider()
        writer.abilities = frozenset({Ability.WRITE})
        low = FailingProvider("low")
        low.abilities -= {Ability.VERSIONS}
        return ChainProvider([Link(writer), Link(low)], write_to="memory:")


class TestNoWriter(SecretProviderContract):
    """One that writes to nothing refuses by its own name what would change something."""

    place: MemoryProvider

    @pytest.fixture
    def provider(self) -> SecretProvider:
        """Two links that keep no versions, of which one is written to past the chain."""
        top, self.place = FailingProvider("top"), MemoryProvider()
        top.abilities = self.place.abilities = frozenset()
        return ChainProvider([Link(top), Link(self.place)])

    @pytest.fixture
    def seed(self, provider: SecretProvider) -> Callable[[str, bytes], None]:
        """What writes past the chain."""

        def write(key: str, value_json: bytes) -> None:
            self.place.write(key, value_json)

        return write


def of(*providers: FailingProvider, optional: str = "", write_to: str | None = None) -> ChainProvider:
    """Return a chain; `optional` is the name of a link that may be down."""
    return ChainProvider([Link(one, optional=one.name == optional) for one in providers], write_to=write_to)


def text_of(secret: ProvidedSecret | None) -> tuple[str, str] | None:
    """Return a value and where it is from."""
    return None if secret is None else (secret.value_json.decode().strip('"'), secret.info.provider)


def test_the_first_that_has_a_key_answers() -> None:
    """Every read is answered by one link, which its record names; the key's other places do not count."""
    top, low = FailingProvider("top", a="1"), FailingProvider("low", a="2", b="3")
    low.write("a", b'"2 again"')
    chain = of(top, low)

    assert [text_of(chain.read(key)) for key in ("a", "b", "c")] == [("1", "top"), ("3", "low"), None]
    assert [info and (info.provider, info.version) for info in map(chain.describe, "abc")] == [
        ("top", 1),
        ("low", 1),
        None,
    ]
    assert [info.provider for info in chain.list_versions("a")] == ["top"]
    assert text_of(chain.read("a", version=1)) == ("1", "top")
    assert chain.read("a", version=2) is None
    assert text_of(chain.read("b", version=1)) == ("3", "low")


def test_null_is_an_answer() -> None:
    """A value that is null hides those below it."""
    top, low = FailingProvider("top"), FailingProvider("low", a="2")
    top.write("a", b"null")

    assert text_of(of(top, low).read("a")) == ("null", "top")


def test_a_batch_asks_each_link_only_for_what_is_left() -> None:
    """What a link has is not asked of the next one, and nobody is asked for nothing."""
    top, middle, low = FailingProvider("top", a="1"), FailingProvider("middle", b="2"), FailingProvider("low", b="3")

    found = of(top, middle, low).read_many(["b", "a", "a"])

    assert {key: text_of(secret) for key, secret in found.items()} == {"b": ("2", "middle"), "a": ("1", "top")}
    assert list(found) == ["b", "a"]
    assert top.asked[-1] == ("read_many", ["b", "a"])
    assert middle.asked == [("read_many", ["b"])]
    assert low.asked == []


KEYS = st.sets(st.text("aAbé/💥\uffff", min_size=1, max_size=3), max_size=8)


@given(places=st.lists(KEYS, min_size=1, max_size=4), prefix=st.text("ab", max_size=1), size=st.integers(1, 4))
def test_a_list_is_the_union_page_by_page(places: list[set[str]], prefix: str, size: int) -> None:
    """Walking a list gives each key of any link once, in the order of code points, with the first link that has it."""
    providers = [FailingProvider(f"p{number}", **dict.fromkeys(keys, "v")) for number, keys in enumerate(places)]
    chain = of(*providers)

    walked: dict[str, str] = {}
    while page := chain.list_sources(prefix, after=max(walked, default=None), limit=size):
        assert len(page) <= size
        assert not walked.keys() & page.keys()
        walked |= page

    union = sorted(key for key in set[str]().union(*places) if key.startswith(prefix))
    assert list(walked) == union == chain.list_keys(prefix)
    first = {key: next(name for name, keys in enumerate(places) if key in keys) for key in union}
    assert walked == {key: f"p{name}" for key, name in first.items()} == chain.list_sources(prefix)


def test_a_page_asks_for_no_more_than_a_page() -> None:
    """A limit reaches the links, so that no link is listed whole for a page."""
    top, low = FailingProvider("top"), FailingProvider("low")

    of(top, low).list_keys("a", limit=7)

    assert top.asked == low.asked == [("list_keys", 7)]


def test_a_key_that_a_link_cannot_hold_is_not_there() -> None:
    """A link that refuses the key on reads is passed over, and does not forbid a write below it."""
    top, low = FailingProvider("top"), FailingProvider("low", k="1")
    top.problem = InvalidSecretKeyError("top holds no such key")
    chain = of(top, low, write_to="low")

    assert text_of(chain.read("k")) == ("1", "low")
    assert chain.write("k", NEW).provider == "low"
    assert chain.explain("k").links[0].state is LinkState.HAS_NONE


@EACH_CHANGE
def test_a_change_that_a_higher_link_would_hide_is_refused(change: Change) -> None:
    """The error names both links and the key, and nothing is changed."""
    top, low = FailingProvider("top", k="1"), FailingProvider("low", k="2")
    chain = of(top, low, write_to="low")

    with pytest.raises(ProviderError, match=r"(?s)chain of top, low failed to .*: top holds 'k' as well") as caught:
        change(chain)

    assert (caught.value.provider, caught.value.is_temporary) == (chain.name, False)
    assert [(info.version, info.labels, info.destroyed_at) for info in low.list_versions("k")] == [(1, {}, None)]
    assert text_of(low.read("k")) == ("2", "low")


@EACH_CHANGE
@pytest.mark.parametrize("optional", ["", "top"])
def test_a_change_below_a_link_that_is_down_is_refused(change: Change, optional: str) -> None:
    """Nobody knows whether it would be hidden, also where that link is optional; later it may succeed."""
    top, low = FailingProvider("top"), FailingProvider("low", k="2")
    top.go_down()

    with pytest.raises(ProviderError, match=r"cannot be known whether top holds 'k'.*top does not answer") as caught:
        change(of(top, low, optional=optional, write_to="low"))

    assert caught.value.is_temporary
    assert caught.value.__context__ is None
    assert text_of(low.read("k")) == ("2", "low")


@pytest.mark.parametrize("name", ["delete", "destroy"])
def test_what_would_let_a_lower_link_answer_is_refused(name: str) -> None:
    """After a delete the key would silently have another value."""
    top, low = FailingProvider("top", k="1"), FailingProvider("low", k="2")
    chain = of(top, low, write_to="top")

    with pytest.raises(ProviderError, match="low holds 'k' as well"):
        CHANGES[name](chain)

    assert text_of(chain.read("k")) == ("1", "top")


def test_a_delete_of_what_only_a_lower_link_has_is_refused() -> None:
    """It does not say that there was none."""
    with pytest.raises(ProviderError, match="low holds 'k' as well"):
        of(FailingProvider("top"), FailingProvider("low", k="2"), write_to="top").delete("k")


def test_a_write_may_hide_a_lower_link() -> None:
    """To write above is to say what is read from now on; to create is refused, for there is one."""
    top, low = FailingProvider("top"), FailingProvider("low", k="2")
    chain = of(top, low, write_to="top")

    with pytest.raises(VersionConflictError) as caught:
        chain.write("k", NEW, expected_version=0)
    assert (caught.value.expected, caught.value.found) == (0, 1)
    assert top.read("k") is None

    assert chain.write("k", NEW).provider == "top"
    assert text_of(chain.read("k")) == ("new", "top")


@pytest.mark.parametrize(("version", "found"), [(3, 3), ("3f2a", "3f2a"), (None, 1)])
def test_a_conflict_names_the_version_of_a_lower_link(version: Version | None, found: Version) -> None:
    """By its number or by its name; where it has none, as the first."""

    class Place(FailingProvider):
        def describe(self, key: str) -> ProvidedInfo | None:
            return ProvidedInfo(provider=self.name, key=key, version=version)

    with pytest.raises(VersionConflictError) as caught:
        of(FailingProvider("top"), Place("low"), write_to="top").write("k", NEW, expected_version=0)
    assert caught.value.found == found


def test_what_changes_goes_to_one_link_only() -> None:
    """Write, labels, delete, undelete and destroy reach the link that is named, under the name that it has there."""
    place, low = MemoryProvider(), MemoryProvider()
    chain = ChainProvider([Link(low, name="low"), Link(place, name="main")], write_to="main")

    assert chain.write("k", NEW, labels={"team": "web"}).provider == "main"
    assert chain.write("k", b'"newer"').version == 2
    assert chain.delete("k")
    assert chain.read("k") is None
    assert [info.version for info in chain.list_versions("k")] == [2, 1]
    assert (chain.undelete("k").provider, chain.destroy_versions("k", [1])) == ("main", 1)
    assert (low.list_keys(), place.list_keys()) == ([], ["k"])
    assert (info := chain.describe("k")) is not None
    assert (info.provider, info.labels) == ("main", {"team": "web"})


@EACH_READ
@pytest.mark.parametrize("order", ["above", "below"])
def test_a_link_that_is_down_is_an_error(read: Change, order: str, caplog: pytest.LogCaptureFixture) -> None:
    """No other link stands in for it, and the error says so, not the log."""
    down, up = FailingProvider("down", k="1"), FailingProvider("up", other="2")
    down.go_down()

    with pytest.raises(ProviderError, match="down does not answer") as caught:
        read(of(*((down, up) if order == "above" else (up, down))))
    assert caught.value.is_temporary
    assert caplog.records == []


@EACH_READ
def test_the_chain_goes_on_without_an_optional_link(read: Change, caplog: pytest.LogCaptureFixture) -> None:
    """It answers as if the link were not there, and says so."""
    down, up = FailingProvider("down", k=VALUE), FailingProvider("up", k="2")
    down.go_down()

    assert read(of(down, up, optional="down")) == read(of(up))
    assert [(record.name, record.levelno) for record in caplog.records] == [("secretstore.providers", logging.WARNING)]
    assert "down is down, and the chain goes on without it: down does not answer" in caplog.text
    assert VALUE not in caplog.text


def test_each_outage_is_told_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A warning when it begins, a number for each failure, and another warning after the next one begins."""
    down = FailingProvider("down", k="1")
    chain = of(down, FailingProvider("up", k="2"), optional="down")

    def failures() -> tuple[int, bool, int]:
        statistics = chain.statistics()[0]
        return statistics.failures, statistics.is_down, len(caplog.records)

    assert failures() == (0, False, 0)
    down.go_down()
    for _ in range(3):
        assert text_of(chain.read("k")) == ("2", "up")
    assert failures() == (3, True, 1)
    down.problem = None
    assert text_of(chain.read("k")) == ("1", "down")
    assert failures() == (3, False, 1)
    down.go_down()
    chain.read("k")
    assert failures() == (4, True, 2)
    assert [(one.name, one.optional, one.failures) for one in chain.statistics()] == [
        ("down", True, 4),
        ("up", False, 0),
    ]


def test_threads_tell_of_an_outage_once(caplog: pytest.LogCaptureFixture) -> None:
    """Eight threads that meet the same outage warn once, count eight times, and each has its answer."""
    down = FailingProvider("down")
    down.go_down()
    chain = of(down, FailingProvider("up", k="2"), optional="down")

    found = run_together(*[lambda: text_of(chain.read("k"))] * 8)

    assert found == [("2", "up")] * 8
    assert (chain.statistics()[0].failures, len(caplog.records)) == (8, 1)


@pytest.mark.parametrize("problem", REFUSALS.values(), ids=REFUSALS)
def test_optional_forgives_nothing_else(problem: SecretStoreError) -> None:
    """What is denied, misconfigured or unreadable is an error also of an optional link: it is there, and was not asked."""
    top, low = FailingProvider("top"), FailingProvider("low", k="2")
    top.problem = problem
    chain = of(top, low, optional="top")

    for read in READS.values():
        with pytest.raises(type(problem)):
            read(chain)
    assert chain.statistics()[0].failures == 0


def test_an_outage_between_two_questions_is_no_missing_version() -> None:
    """A link that answers and is then down, is down: its version is not missing."""

    class LosesItsPlace(FailingProvider):
        def describe(self, key: str) -> ProvidedInfo | None:
            info = super().describe(key)
            self.go_down()
            return info

    with pytest.raises(ProviderError, match="top does not answer"):
        of(LosesItsPlace("top", k="1"), optional="top").read("k", version=1)


def states(chain: ChainProvider) -> list[str]:
    """Return what each link says of `k`."""
    return [str(answer.state) for answer in chain.explain("k").links]


def test_an_explanation_names_who_answers_and_who_else_holds_it() -> None:
    """With what is known of each, and without a value being read."""
    top, middle, low = FailingProvider("top"), FailingProvider("middle", k=VALUE), FailingProvider("low", k=VALUE)
    chain = of(top, middle, low)

    found = chain.explain("k")

    assert (found.key, found.answered_by, found.problem) == ("k", "middle", None)
    assert states(chain) == ["has none", "answers", "holds it too"]
    assert [answer.info and (answer.info.provider, answer.info.version) for answer in found.links] == [
        None,
        ("middle", 1),
        ("low", 1),
    ]
    assert {operation for one in (top, middle, low) for operation, _ in one.asked} == {"describe"}
    assert VALUE not in repr(found)
    assert chain.explain("missing").answered_by is None


@pytest.mark.parametrize("optional", ["", "top"])
def test_an_explanation_shows_what_is_down(optional: str) -> None:
    """It says what a read does: it is an error, or goes on where the link is optional."""
    top, low = FailingProvider("top", k="1"), FailingProvider("low", k="2")
    top.go_down()
    chain = of(top, low, optional=optional)

    found = chain.explain("k")

    assert states(chain) == ["is down", "answers" if optional else "holds it too"]
    assert found.links[0].problem == "top does not answer"
    assert (found.answered_by, found.problem) == (("low", None) if optional else (None, "top does not answer"))


@pytest.mark.parametrize(
    ("problem", "state"), [*zip(REFUSALS.values(), ("may not be asked", "fails", "fails"), strict=True)], ids=REFUSALS
)
def test_an_explanation_shows_what_is_refused(problem: SecretStoreError, state: str) -> None:
    """A link that ends the read does so whether or not it is optional; one below the answer does not."""
    top, low = FailingProvider("top", k="1"), FailingProvider("low", k="2")
    top.problem = problem

    above, below = of(top, low, optional="top"), of(low, top)

    assert (states(above), above.explain("k").problem) == ([state, "holds it too"], str(problem))
    assert (states(below), below.explain("k").answered_by) == (["answers", state], "low")


def test_the_abilities_are_those_of_the_writer() -> None:
    """Versions are those of any link, and the whole is not cached: it would keep another link's value after an outage."""
    everything, nothing = FailingProvider("all"), FailingProvider("none")
    nothing.abilities = frozenset()

    assert of(everything, nothing, write_to="all").abilities == frozenset(Ability) - {Ability.CACHE}
    assert of(everything, nothing, write_to="none").abilities == {Ability.VERSIONS}
    assert of(everything).abilities == {Ability.VERSIONS}
    assert of(nothing).abilities == frozenset()


@pytest.mark.parametrize(
    ("names", "write_to", "said"),
    [
        ([], None, "at least one link"),
        (["a", "b", "a"], None, "different names, not a, b, a"),
        (["a", "b"], "c", "a chain of a, b cannot write to c"),
    ],
)
def test_a_chain_that_makes_no_sense_is_refused(names: list[str], write_to: str | None, said: str) -> None:
    """Nobody has to guess which link is meant."""
    with pytest.raises(ConfigurationError, match=said):
        of(*map(FailingProvider, names), write_to=write_to)


def test_every_link_is_closed() -> None:
    """Also after one that fails to close."""

    class Stuck(FailingProvider):
        def close(self) -> None:
            raise OSError("stuck")

    top, low = FailingProvider("top"), FailingProvider("low")
    with pytest.raises(OSError, match="stuck"), of(top, Stuck("stuck"), low):
        pass
    assert (top.closed, low.closed) == (1, 1)


def test_no_record_shows_a_value() -> None:
    """A chain, its links and its answers can be printed."""
    chain = of(FailingProvider("top", k=VALUE))

    assert VALUE not in f"{chain!r}{chain.read('k')!r}{chain.statistics()!r}{Link(FailingProvider('top', k=VALUE))!r}"


def test_a_client_of_a_chain_leaves_no_link_alone_for_another() -> None:
    """After a read or a write that failed for one link, the keys of those above it are read as before."""
    top, low = FailingProvider("top", k=VALUE), FailingProvider("low")
    client = ProviderClient(of(top, low, write_to="top"))
    low.go_down()

    for call in (lambda: client.get_secret("other"), lambda: client.delete_secret("k")):
        with pytest.raises(ProviderError, match="low does not answer"):
            call()
        assert client.get_secret("k") == VALUE
