"""Which environment variable stands for a key."""

import re

_NOT_OF_A_NAME = re.compile(r"[^A-Z0-9]")
_NAME = re.compile(r"[A-Z0-9_]+")


def variable_name(key: str) -> str:
    """Return the name of a variable for a key: in capitals, and `_` for each character but A-Z and 0-9.

    Several keys may have one name, such as `db.url`, `db/url` and `DB_URL`.
    """
    return _NOT_OF_A_NAME.sub("_", _in_capitals(key))


def key_of_variable(name: str) -> str | None:
    """Return the key that lists show for a variable, in small letters; None for a name that stands for no key."""
    return name.lower() if _NAME.fullmatch(name) else None


def _in_capitals(key: str) -> str:
    # Others than ASCII letters may have capitals of more characters, such as SS for ß.
    return "".join(character.upper() if character.isascii() else character for character in key)
