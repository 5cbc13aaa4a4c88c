"""How keys and values stand in a KV engine, and which URLs name one."""

import json
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretstore.domain.names import parse_key
from secretstore.errors import ConfigurationError, InvalidSecretKeyError
from secretstore.providers import vault_mapping as mapping
from secretstore.providers.vault import open_vault

# Parts that are near to what is escaped come up often.
PARTS = st.one_of(st.sampled_from(["", ".", "..", "%", "%2E", " ", "a ", "%25", "\u00a0"]), st.text())
KEYS = st.lists(PARTS, min_size=1).map("/".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: (
        st.lists(inside) | st.dictionaries(st.text() | st.sampled_from(["value", "value_json"]), inside, max_size=3)
    ),
)


def key_of(path: str) -> str | None:
    """Return the key that is listed for a path."""
    parts = [mapping.part_of_key(name) for name in path.split("/")]
    return None if None in parts else "/".join(str(part) for part in parts)


@given(KEYS)
def test_a_path_belongs_to_one_key(key: str) -> None:
    """It is found again in a list, and no part of it is empty, a dot, or ends in a space."""
    try:
        path = mapping.path_of(parse_key(key))
    except InvalidSecretKeyError:
        return

    assert key_of(path) == key
    assert not {"", ".", ".."} & set(path.split("/"))
    assert all(part == part.strip() for part in path.split("/"))


@given(st.text(st.sampled_from("%2Ee5./ \u00e9"), max_size=6))
def test_a_listed_key_leads_to_where_it_was_found(path: str) -> None:
    """What others have made is listed only where a read finds it."""
    key = key_of(path)

    assert key is None or mapping.path_of(key) == path


def test_what_stands_as_it_is_is_printable() -> None:
    """Servers take nothing else in a path, and every Python has to agree: what stays was printable in Unicode 3.2."""
    characters = (chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000)
    staying = {character for character in characters if mapping.path_of(character) == character}

    assert set("aZ09-_:@\u00e9\u6771") < staying
    assert all(character.isprintable() for character in staying)
    assert all(unicodedata.ucd_3_2_0.category(character) != "Cn" for character in staying)


@given(JSON)
def test_a_value_is_found_in_its_entry(value: object) -> None:
    """With every digit, by a server that turns numbers into doubles and `1.0` into `1`; an entry is an object always."""
    text = json.dumps(value)
    entry = json.loads(
        mapping.entry_of(text.encode(), "value", name="a"), parse_int=as_a_double, parse_float=as_a_double
    )

    assert isinstance(entry, dict)
    found = json.loads(mapping.value_of(entry, "value"))
    assert json.dumps(found, sort_keys=True) == json.dumps(value, sort_keys=True)


def as_a_double(text: str) -> float:
    """Return a number as Go does."""
    number = float(text)
    return int(number) if number.is_integer() else number


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("vault://", "is written vault://host:port/mount/folder"),
        ("vault://host", "names a mount"),
        ("vault:///secret/app", "is written"),
        ("vault://user:pass-word@host/secret", "without a user"),
        ("vault://host/secret/../app", "without empty parts"),
        ("vault://host/secret//app", "without empty parts"),
        ("vault://host/secret/app?mount=secre", "begins with it"),
        ("vault://host/secret?auth=password", "takes auth=token or auth=approle"),
        ("vault://host/secret?timeout=0", "takes timeout="),
        ("vault://host/secret?tls=maybe", "takes tls="),
        ("vault://host/secret?ca=/not/there", "are not there: /not/there"),
        ("vault://host/secret?token=abc", "not token"),
    ],
)
def test_a_url_that_names_nothing_is_refused(url: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how it is written, and shows no password."""
    monkeypatch.delenv("VAULT_CACERT", raising=False)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        open_vault(url)
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("vault://host/secret", "vault://host:8200/secret"),
        ("vault://host:1/secret/a/b/", "vault://host:1/secret/a/b"),
        ("vault://[::1]/secret/a", "vault://[::1]:8200/secret/a"),
        ("vault://host/a/b/c?mount=a/b&namespace=n", "vault://host:8200/a/b/c?namespace=n"),
        ("vault://host/a/b?mount=a/b", "vault://host:8200/a/b"),
    ],
)
def test_a_provider_is_named_by_its_place(url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its port and its namespace; nothing connects."""
    for setting in ("VAULT_NAMESPACE", "VAULT_CACERT"):
        monkeypatch.delenv(setting, raising=False)
    with open_vault(url) as provider:
        assert provider.name == name


def test_certificates_may_be_named_by_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that is not there is told at once."""
    monkeypatch.setenv("VAULT_CACERT", str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigurationError, match="VAULT_CACERT"):
        open_vault("vault://host/secret")
    (tmp_path / "ca.pem").touch()
    open_vault("vault://host/secret").close()


def test_without_its_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "hvac", None)
    with pytest.raises(ImportError, match=r"pip install 'pg-secretstore\[vault\]'"):
        open_vault("vault://host/secret")
