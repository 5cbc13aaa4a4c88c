"""How secrets stand in a KV engine of version 2.

A key is a path below the provider's folder; its slashes divide folders.  Within a part of it

    ""  "."  ".."               stand as  "%"  "%2E"  "%2E%2E"
    "%", a space at either end, and every character but printable ASCII and the letters and digits of Unicode 3.2
                                stand as the bytes of their UTF-8, each as "%" and two digits of 0-9A-F

so that one path belongs to one key, whatever the version of Python; a path that no key leads to is passed over.

A value stands as the members of an entry, in one of three ways, told apart by names:

    {"user": "app", …}          an object, as it is
    {"value": 5}                every other value, under the only member `value`
    {"value_json": "1.0"}       as its JSON text: what the first two would change or confuse, that is numbers that would not
                                be spelled the same (1.0, 1e5, more than 15 digits), lone surrogates, more than 250 values or
                                member names, and objects whose only member has one of these two names

Labels are the custom metadata of the path.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from secretstore.domain.names import parse_key
from secretstore.errors import InvalidSecretKeyError, InvalidSecretValueError

# Storage within the servers takes entries of 1 MiB, with what they put around a value.
MAX_ENTRY_BYTES = 1024 * 1024 - 4096
MAX_LABELS = 64
MAX_LABEL_NAME_BYTES = 128
MAX_LABEL_TEXT_BYTES = 512

# OpenBao takes requests of up to 1000 strings, Vault up to a depth of 300.
_MOST_PARTS = 250
_DIGITS_IN_A_DOUBLE = 15
# Stands for a number that would be spelled otherwise when it comes back.
_CHANGES = object()
_EMPTY = "%"
_DOTS = {".": "%2E", "..": "%2E%2E"}


def path_of(key: str) -> str:
    """Return the path of a key."""
    return "/".join(_escaped(part) for part in key.split("/"))


def folder_of(beginning: str) -> str:
    """Return the path, with its slash, of the keys that begin so; the beginning is empty or ends with a slash."""
    return f"{path_of(beginning[:-1])}/" if beginning else ""


def part_of_key(name: str) -> str | None:
    """Return what the name of an entry of a folder is in keys; None where no key leads there."""
    part = "" if name == _EMPTY else _unescaped(name)
    return part if part is not None and _escaped(part) == name else None


def is_key(text: str) -> bool:
    """Return whether this is a key that callers may ask for."""
    try:
        parse_key(text)
    except InvalidSecretKeyError:
        return False
    return True


def entry_of(value_json: bytes, member: str, *, name: str) -> str:
    """Return a value as the JSON text of an entry; `name` is what errors call it.  Raises `InvalidSecretValueError`."""
    entry = _entry_of(value_json, member, name)
    if len(entry.encode()) > MAX_ENTRY_BYTES:
        raise InvalidSecretValueError(f"{name} is too large for an entry of {MAX_ENTRY_BYTES} bytes in a KV engine")
    return entry


def value_of(entry: Mapping[str, Any], member: str) -> bytes:
    """Return the value of an entry as JSON in UTF-8."""
    if set(entry) == {member}:
        return _dumped(entry[member])
    if set(entry) == {_text_member(member)}:
        text = entry[_text_member(member)]
        if isinstance(text, str) and _is_json(text):
            return text.encode()
    return _dumped(entry)


def check_labels(labels: Mapping[str, str], *, name: str) -> None:
    """Raise `InvalidSecretValueError` where custom metadata cannot hold these labels."""
    if len(labels) > MAX_LABELS:
        raise InvalidSecretValueError(f"{name} has more than {MAX_LABELS} labels")
    for label, text in labels.items():
        if not (_fits(label, MAX_LABEL_NAME_BYTES) and _fits(text, MAX_LABEL_TEXT_BYTES)):
            raise InvalidSecretValueError(
                f"label {label!r} of {name} does not fit into custom metadata: a name is 1 to {MAX_LABEL_NAME_BYTES} bytes "
                f"long, a text 1 to {MAX_LABEL_TEXT_BYTES}, and both are printable"
            )


def _escaped(part: str) -> str:
    if part in _DOTS or not part:
        return _DOTS.get(part, _EMPTY)
    last = len(part) - 1
    return "".join(
        character if _stays(character) and not (character == " " and index in (0, last)) else _percent(character)
        for index, character in enumerate(part)
    )


def _stays(character: str) -> bool:
    if character.isascii():
        return character.isprintable() and character != "%"
    # A database that stays the same: a newer Python must find what an older one wrote.
    return unicodedata.ucd_3_2_0.category(character)[0] in "LN"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _unescaped(name: str) -> str | None:
    first, *others = name.split("%")
    try:
        raw = first.encode() + b"".join(bytes.fromhex(other[:2]) + other[2:].encode() for other in others)
        return raw.decode()
    except ValueError:
        return None


def _entry_of(value_json: bytes, member: str, name: str) -> str:
    value = _parsed(value_json, name)
    text = value_json.decode()
    if not _is_kept(value) or (isinstance(value, dict) and set(value) in ({member}, {_text_member(member)})):
        return json.dumps({_text_member(member): text}, ensure_ascii=False)
    return text if isinstance(value, dict) else f"{{{json.dumps(member)}:{text}}}"


def _text_member(member: str) -> str:
    return f"{member}_json"


def _parsed(value_json: bytes, name: str) -> Any:
    try:
        return _loaded(value_json.decode())
    except (ValueError, RecursionError):
        pass
    raise InvalidSecretValueError(f"{name} is not JSON, or nests too deep")


def _is_json(text: str) -> bool:
    try:
        _loaded(text)
    except (ValueError, RecursionError):
        return False
    return True


def _loaded(text: str) -> Any:
    return json.loads(text, parse_float=_float, parse_int=_int, parse_constant=_refuse_constant)


def _float(text: str) -> object:
    number = float(text)
    return number if repr(number) == text and not number.is_integer() else _CHANGES


def _int(text: str) -> object:
    return int(text) if len(text) <= _DIGITS_IN_A_DOUBLE and text != "-0" else _CHANGES


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError


def _is_kept(value: Any) -> bool:
    """Return whether a server gives this back as it was; measured with OpenBao, where numbers go through doubles."""
    left, parts = [value], 0
    while left:
        part = left.pop()
        parts += 1
        if parts > _MOST_PARTS or not _is_kept_alone(part):
            return False
        left.extend(_inside(part))
    return True


def _inside(part: Any) -> Iterable[Any]:
    if isinstance(part, dict):
        return [*part, *part.values()]
    return part if isinstance(part, list) else ()


def _is_kept_alone(part: Any) -> bool:
    if isinstance(part, str) and not part.isascii():
        return not any("\ud800" <= character <= "\udfff" for character in part)
    return part is not _CHANGES


def _dumped(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # Lone surrogates; the error would hold the value.
        pass
    return json.dumps(value, separators=(",", ":")).encode()


def _fits(text: str, most: int) -> bool:
    return 0 < len(text.encode()) <= most and text.isprintable()
