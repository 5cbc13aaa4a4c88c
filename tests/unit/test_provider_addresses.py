"""What a provider's URL says."""

import pytest

from secretstore.errors import ConfigurationError
from secretstore.providers.addresses import Address
from secretstore.providers.formats import Format

OPTIONS = frozenset({"format", "labels", "many", "text"})


def parsed(url: str) -> Address:
    """Take a URL with some options apart."""
    return Address.parse(url, options=OPTIONS)


def refusal(url: str) -> str:
    """Return how a URL is refused, without what may be secret in it."""
    with pytest.raises(ConfigurationError) as caught:
        parsed(url)
    assert "s3cret" not in f"{caught.value!r}{caught.value.__context__!r}"
    return str(caught.value)


def test_its_parts() -> None:
    """Each is decoded once, and `+` is a plus everywhere."""
    address = parsed("Place://us%40er:p%2540%3A+%2F@Host.Example:8200/a%2Fb/c+d?text=a+b%26%25&labels=")

    assert (address.scheme, address.host, address.port) == ("place", "host.example", 8200)
    assert (address.username, address.password) == ("us@er", "p%40:+/")
    assert address.path == "/a/b/c+d"
    assert address.options == {"text": "a+b&%", "labels": ""}


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("place://[2001:db8::1]:8200/", "2001:db8::1", 8200),
        ("place://[::1]", "::1", None),
        ("place://127.0.0.1:1", "127.0.0.1", 1),
        ("place:///path", "", None),
        ("place:", "", None),
    ],
)
def test_hosts(url: str, host: str, port: int | None) -> None:
    """Of both kinds of addresses, and none."""
    address = parsed(url)

    assert (address.host, address.port, address.username, address.password) == (host, port, None, None)


def test_it_does_not_show_what_may_be_secret() -> None:
    """Though a person prints it."""
    shown = repr(parsed("place://s3cret:s3cret@host/path?text=s3cret"))

    assert "s3cret" not in shown
    assert "host" in shown


@pytest.mark.parametrize(
    "url",
    [
        "place://u:s3cret@host:port/",
        "place://u:s3cret@host:99999/",
        "place://u:s3cret@[::1/",
        "place://u:s3cret@host/#s3cret",
        "place://u:s3cret@host/?s3cret",
        "place://host/?text=a&s3cret",
    ],
)
def test_what_cannot_be_read_is_refused(url: str) -> None:
    """The error says how it is written."""
    assert refusal(url) == "this place URL cannot be read; write it as scheme://host:port/path?option=value"


def test_options_that_there_are_not_are_refused() -> None:
    """They are named, because they may be slips; what they were to be is not."""
    assert refusal("place:?txt=s3cret") == "a place URL takes format, labels, many, text, not txt"
    with pytest.raises(ConfigurationError, match="takes no options, not text"):
        Address.parse("place:?text=a")


def test_an_option_that_is_given_twice_is_refused() -> None:
    """Nobody knows which is meant."""
    assert refusal("place:?text=s3cret&text=s3cret") == "a place URL gives an option twice"


def test_formats() -> None:
    """One of three, or what the provider has by itself."""
    assert parsed("place:?format=text").form() is Format.TEXT
    assert parsed("place:").form(Format.AUTO) is Format.AUTO
    assert parsed("place:").form() is Format.JSON
    for other in ("JSON", "", "s3cret"):
        with pytest.raises(ConfigurationError, match=r"^a place URL takes format=json, text, auto$"):
            parsed(f"place:?format={other}").form()


def test_flags() -> None:
    """True or false, in the words that people use."""
    assert [parsed(f"place:?labels={text}").flag("labels") for text in ("true", "1", "YES")] == [True, True, True]
    assert [parsed(f"place:?labels={text}").flag("labels") for text in ("False", "0", "no")] == [False, False, False]
    assert parsed("place:").flag("labels", default=True)
    with pytest.raises(ConfigurationError, match=r"^a place URL takes labels=true or labels=false$"):
        parsed("place:?labels=s3cret").flag("labels")


def test_numbers() -> None:
    """Whole numbers within bounds."""
    assert parsed("place:?many=10").number("many", default=5, most=10) == 10
    assert parsed("place:").number("many", default=5, most=10) == 5
    for text in ("0", "11", "-1", "1.5", "s3cret", "", "٣", "1" * 5000):
        with pytest.raises(ConfigurationError, match=r"^a place URL takes many= a whole number from 1 to 10$"):
            parsed(f"place:?many={text}").number("many", default=5, most=10)
