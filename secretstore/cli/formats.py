"""The files that `secretstore export` writes and `secretstore import` reads.

A plain file is what other tools read and write too: `.env`, or one object of keys and values in JSON or YAML.
A file with labels is JSON or YAML, and says of each secret what else is worth taking along:

    {"secretstore": 1, "secrets": {KEY: {"value": …, "labels": {…}, "expires_at": "2026-01-02T03:04:05+00:00" or null}}}

It is known by having just these two members at its top, the first of them a whole number from 1 on.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from itertools import chain, islice
from pathlib import PurePath
from typing import Any, Self

from secretstore.cli.env_text import to_env
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.json_text import JsonReader
from secretstore.cli.yaml_text import from_yaml, to_yaml
from secretstore.domain.names import parse_key, parse_labels
from secretstore.domain.records import ExportedSecret
from secretstore.errors import InvalidSecretKeyError, InvalidSecretValueError
from secretstore.providers.dotenv_text import parse_dotenv

_VERSION = 1
_TOP = frozenset({"secretstore", "secrets"})
_MEMBERS = frozenset({"value", "labels", "expires_at"})
_SHOWN_KEYS = 5
_NO_OBJECT = "the file is not one object of keys and values"
_NO_SECRETS = "'secrets' in the file is not one object of keys and secrets"


class FileFormat(StrEnum):
    """How secrets stand in a file."""

    ENV = "env"
    JSON = "json"
    YAML = "yaml"

    @classmethod
    def of_path(cls, path: PurePath) -> Self | None:
        """Return the format that the name of a file says, or None."""
        name = path.name.lower()
        if name.endswith(".json"):
            return cls("json")
        if name.endswith((".yaml", ".yml")):
            return cls("yaml")
        return cls("env") if name.endswith(".env") or name.startswith(".env.") else None


def dump(secrets: Iterable[ExportedSecret], wanted: FileFormat, *, with_labels: bool) -> str:
    """Return the text of a file, in the order given; `read_secrets` finds the same secrets in it.

    The text has to be written as UTF-8 without changing its line ends: some are parts of values.
    """
    if wanted is FileFormat.ENV:
        return _as_env(list(secrets), with_labels=with_labels)
    data = _with_labels(secrets) if with_labels else _plain(secrets)
    return f"{to_yaml(data) if wanted is FileFormat.YAML else json.dumps(data, ensure_ascii=False, indent=2)}\n"


def read_secrets(pieces: Iterable[str], given: FileFormat) -> Iterator[ExportedSecret]:
    """Give the secrets of a file in their order; no error shows a value or a part of one.

    JSON is read as it comes, so that an error can follow secrets that were given, and a key can come twice.
    """
    # Some editors begin a file with a mark, which is no part of it.
    parts = iter(pieces)
    marked = chain((piece.removeprefix("\ufeff") for piece in islice(parts, 1)), parts)
    if given is FileFormat.JSON:
        yield from _from_json(JsonReader(marked))
    elif given is FileFormat.ENV:
        yield from (_plain_secret(key, value) for key, value in parse_dotenv("".join(marked)))
    else:
        yield from _from_object(from_yaml("".join(marked)))


def _from_json(reader: JsonReader) -> Iterator[ExportedSecret]:
    # Just these two make a file with labels, and with any other they are secrets too.
    top: dict[str, Any] = {}
    is_long = is_plain = False
    for name in reader.members(_NO_OBJECT):
        if is_plain or name not in _TOP or name in top:
            yield from () if is_plain else _plain_secrets(top)
            is_plain = True
            yield _plain_secret(parse_key(name), reader.value())
        elif (value := reader.short_value()) is not reader.LONG:
            top[name] = value
        else:
            # No plain file has such a secret.
            is_long, top[name] = True, {}
            yield from _labelled_members(reader, top)
    reader.check_end()
    if is_long and (is_plain or not _says_labels(top)):
        raise InvalidSecretValueError("'secrets' in the file is longer than any value that can be stored")
    yield from () if is_plain else _from_object(top)


def _labelled_members(reader: JsonReader, top: Mapping[str, Any]) -> Iterator[ExportedSecret]:
    if _says_labels(top):
        _check_version(top)
    for name in reader.members(_NO_SECRETS):
        yield _labelled_secret(parse_key(name), reader.value())


def _from_object(data: Any) -> Iterator[ExportedSecret]:
    if not isinstance(data, dict):
        raise InvalidSecretValueError(_NO_OBJECT)
    return _labelled_secrets(data) if _says_labels(data) else _plain_secrets(data)


def _as_env(secrets: list[ExportedSecret], *, with_labels: bool) -> str:
    if with_labels:
        raise CommandError("a .env file has no room for labels: use JSON or YAML", ExitCode.USAGE)
    others = [repr(secret.key) for secret in secrets if not isinstance(secret.value, str)]
    if others:
        more = len(others) - _SHOWN_KEYS
        named = ", ".join(others[:_SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
        raise CommandError(f"a .env file holds texts only, unlike {named}: use JSON or YAML", ExitCode.USAGE)
    return to_env((secret.key, secret.value) for secret in secrets)


def _plain(secrets: Iterable[ExportedSecret]) -> dict[str, Any]:
    data = {secret.key: secret.value for secret in secrets}
    if _says_labels(data):
        raise CommandError(
            "a plain file of just the keys 'secretstore' and 'secrets' would be taken for one with labels: "
            "write it with labels",
            ExitCode.USAGE,
        )
    return data


def _with_labels(secrets: Iterable[ExportedSecret]) -> dict[str, Any]:
    return {"secretstore": _VERSION, "secrets": {secret.key: _entry(secret) for secret in secrets}}


def _entry(secret: ExportedSecret) -> dict[str, Any]:
    return {
        "value": secret.value,
        "labels": dict(secret.labels or {}),
        "expires_at": secret.expires_at and secret.expires_at.isoformat(),
    }


def _plain_secret(key: str, value: Any) -> ExportedSecret:
    return ExportedSecret(key=key, value=value, labels=None, expires_at=None)


def _plain_secrets(data: Mapping[str, Any]) -> Iterator[ExportedSecret]:
    return (_plain_secret(parse_key(key), value) for key, value in data.items())


def _says_labels(data: Mapping[str, Any]) -> bool:
    # True is 1 for Python, and a plain secret for a person.
    return data.keys() == _TOP and type(data["secretstore"]) is int and data["secretstore"] >= _VERSION


def _check_version(data: Mapping[str, Any]) -> None:
    if data["secretstore"] > _VERSION:
        # The number is not shown, because a plain file may have such a secret.
        raise InvalidSecretValueError(
            f"the file's format is newer than {_VERSION}, which is the newest that this release reads: upgrade secretstore"
        )


def _labelled_secrets(data: Mapping[str, Any]) -> Iterator[ExportedSecret]:
    _check_version(data)
    if not isinstance(data["secrets"], dict):
        raise InvalidSecretValueError(_NO_SECRETS)
    return (_labelled_secret(parse_key(key), entry) for key, entry in data["secrets"].items())


def _labelled_secret(key: str, entry: Any) -> ExportedSecret:
    if not isinstance(entry, dict) or entry.keys() != _MEMBERS:
        raise InvalidSecretValueError(
            f"secret {key!r} in the file is not an object of just 'value', 'labels' and 'expires_at'"
        )
    return ExportedSecret(
        key=key,
        value=entry["value"],
        labels=_labels_of(key, entry["labels"]),
        expires_at=_time_of(key, entry["expires_at"]),
    )


def _labels_of(key: str, labels: Any) -> dict[str, str] | None:
    problem = "they are not an object of texts"
    if isinstance(labels, dict):
        try:
            return parse_labels(labels)
        except InvalidSecretKeyError as error:
            problem = str(error)
    raise InvalidSecretKeyError(f"labels of secret {key!r} in the file: {problem}")


def _time_of(key: str, text: Any) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        time = None
    if time is None or time.tzinfo is None:
        raise InvalidSecretValueError(
            f"'expires_at' of secret {key!r} in the file is neither null nor a time like 2026-01-02T03:04:05+00:00"
        )
    return time
