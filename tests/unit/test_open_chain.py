"""Chains from texts: URLs in order, and the marks before them."""

import pytest

from secretstore import CacheConfig, ConfigurationError, ProviderClient, open_chain, opening
from secretstore.domain.providers import Ability
from secretstore.opening import open_provider
from tests.support.failing import FailingProvider

VALUE = "hunter2-of-the-test"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables for two providers of the environment."""
    monkeypatch.setenv("TOP_K", "of top")
    monkeypatch.setenv("LOW_K", "of low")
    monkeypatch.setenv("LOW_OTHER", "of low too")


@pytest.mark.parametrize(
    "urls",
    [
        "env://?prefix=TOP_ optional:env://?prefix=LOW_ write:memory:",
        "\n  env://?prefix=TOP_\n\toptional:env://?prefix=LOW_\n\n  write:memory:\n",
        ["env://?prefix=TOP_", "optional:env://?prefix=LOW_", "write:memory:"],
        (url for url in ("env://?prefix=TOP_", "optional:env://?prefix=LOW_", "write:memory:")),
    ],
    ids=["words", "lines", "list", "iterator"],
)
def test_urls_are_links_in_their_order(urls: str | list[str]) -> None:
    """White space stands between them, or they come as a list; each keeps its mark."""
    with open_chain(urls) as chain:
        assert chain.read_many(["k", "other"]).keys() == {"k", "other"}
        assert chain.list_sources() == {"k": "env://?prefix=TOP_", "other": "env://?prefix=LOW_"}
        assert chain.write("new", b"1").provider == "memory:"
        assert [(link.name, link.optional) for link in chain.statistics()] == [
            ("env://?prefix=TOP_", False),
            ("env://?prefix=LOW_", True),
            ("memory:", False),
        ]


@pytest.mark.parametrize("marks", ["optional:write:", "write:optional:"])
def test_marks_come_in_any_order(marks: str) -> None:
    """A link may have both."""
    with open_chain(f"{marks}memory:") as chain:
        assert chain.statistics()[0].optional
        assert Ability.WRITE in chain.abilities


def test_without_a_mark_nothing_is_written() -> None:
    """A chain reads, unless it says where to write."""
    with open_chain("memory:") as chain:
        assert Ability.WRITE not in chain.abilities


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ("", "at least one link"),
        ([], "at least one link"),
        ("memory: memory:", "different names"),
        ("write:memory: write:env://", "writes to one link, not to memory: and env://"),
        ("required:env://", "no provider takes URLs with required:"),
        (f"optional:{VALUE}", "a provider is named by a URL"),
        (f"env://?{VALUE}=1&x={VALUE}#{VALUE}", "this env URL cannot be read"),
        ("optional:", "a provider is named by a URL"),
    ],
)
def test_a_text_that_is_no_chain_is_refused(urls: str | list[str], said: str) -> None:
    """The error says what is wrong, and shows nothing that may be secret."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        open_chain(urls)

    assert VALUE not in str(caught.value)


def test_what_was_opened_is_closed_when_a_later_link_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider may have started something, such as a server."""
    opened = FailingProvider("first")
    monkeypatch.setattr(opening, "open_provider", lambda url: opened if url == "memory:" else open_provider(url))

    with pytest.raises(ConfigurationError):
        open_chain("memory: nowhere://")

    assert opened.closed == 1


def test_a_link_that_was_down_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that hangs is asked once, and not by every read."""
    down = FailingProvider("down")
    down.go_down()
    monkeypatch.setattr(opening, "open_provider", lambda url: down if url == "memory:" else open_provider(url))

    with open_chain("optional:memory: env://?prefix=TOP_") as chain:
        found = [chain.read("k") for _ in range(5)]

    assert [secret and secret.info.provider for secret in found] == ["env://?prefix=TOP_"] * 5
    assert (down.asked, chain.statistics()[0].failures) == ([("read", "k")], 5)


def test_what_a_link_said_is_kept_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each link's answer by itself, so that a link that goes down is not replaced by the next one while its is kept."""
    above, below = FailingProvider("above", k="of above"), FailingProvider("below", k="of below", other="of below")
    places = {"memory:": above, "env://": below}
    monkeypatch.setattr(opening, "open_provider", places.__getitem__)

    with open_chain("optional:memory: write:env://", cache=CacheConfig()) as chain:
        client = ProviderClient(chain)
        first = client.get_secret("k"), client.get_secret("other")
        above.go_down()
        again = client.get_secret("k"), client.get_secret("other")

        assert first == again == ("of above", "of below")
        reads = [key for place in (above, below) for call, key in place.asked if call == "read"]
        assert reads == ["k", "other", "other"]
        assert chain.statistics()[0].failures == 0


def test_what_is_written_through_a_chain_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept of the key is let go of."""
    place = FailingProvider("place", k="old")
    monkeypatch.setattr(opening, "open_provider", lambda _: place)

    with open_chain("write:memory:", cache=CacheConfig()) as chain:
        client = ProviderClient(chain)
        before = client.get_secret("k")
        client.set_secret("k", "new")

        assert (before, client.get_secret("k")) == ("old", "new")
