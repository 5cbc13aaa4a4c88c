"""How keys stand in the names of AWS.

A name is a key as it is, but for what AWS does not take:

    a character that is not allowed      `-.` and the hexadecimal digits of its UTF-8 and `.`; neighbours stand together
    `-` before `.`                       the same, so that `-.` always begins such a part
    nothing, where the key has `//`      `-..`, and the same before a `/` that begins a key and behind one that ends it

    oauth.github        oauth.github
    mail password é     mail-.20.password-.20c3a9.
    a//b                a/-../b
    a-.b                a-.2d..b

Allowed are letters of ASCII, digits and `_.-`, and in some services more; `/` always parts folders.  Every key has one
name, no two keys have the same, and a name that no key has is none of ours.  Two keys that differ in case have names that
differ in case.
"""

import re

from secretstore.domain.names import parse_key
from secretstore.errors import InvalidSecretKeyError

_OPEN, _CLOSE = "-.", "."
_ESCAPED = re.compile(r"-\.([0-9a-f]*)\.")


def name_of(key: str, more: str = "") -> str:
    """Return the name of a key; `more` are characters that the service allows beside those of all."""
    kept = re.escape(more)
    refused = re.compile(rf"(?:[^A-Za-z0-9_.{kept}-]|-(?=\.))+")
    return "/".join(refused.sub(_escaped, part) if part else _OPEN + _CLOSE for part in key.split("/"))


def key_of(name: str, more: str = "") -> str | None:
    """Return the key that has a name, or None where none has."""
    try:
        key = parse_key(_ESCAPED.sub(_unescaped, name))
    except (InvalidSecretKeyError, ValueError):
        return None
    return key if name_of(key, more) == name else None


def _escaped(found: re.Match[str]) -> str:
    return _OPEN + found[0].encode().hex() + _CLOSE


def _unescaped(found: re.Match[str]) -> str:
    return bytes.fromhex(found[1]).decode()
