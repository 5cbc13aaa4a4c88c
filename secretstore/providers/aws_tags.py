"""Labels as the tags of AWS: at most 50, of letters, digits, spaces and `_.:/=+-@`; those of AWS itself are no labels."""

import unicodedata
from collections.abc import Iterable, Mapping

from secretstore.errors import InvalidSecretKeyError

_MAX_TAGS, _MAX_NAME, _MAX_VALUE = 50, 128, 256
_MARKS = "_.:/=+-@"
_OF_AWS = "aws:"


def tags_of(labels: Mapping[str, str]) -> list[dict[str, str]]:
    """Return labels as tags, or raise `InvalidSecretKeyError` where AWS cannot hold them."""
    if len(labels) > _MAX_TAGS:
        raise InvalidSecretKeyError(f"AWS holds at most {_MAX_TAGS} labels, and these are {len(labels)}")
    for name, text in labels.items():
        _check(name, text)
    return [{"Key": name, "Value": text} for name, text in labels.items()]


def labels_of(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the labels that stand in tags."""
    return {tag["Key"]: tag["Value"] for tag in tags if not tag["Key"].lower().startswith(_OF_AWS)}


def _check(name: str, text: str) -> None:
    if name.lower().startswith(_OF_AWS):
        raise InvalidSecretKeyError(f"label {name!r} begins with {_OF_AWS}, which AWS keeps for itself")
    if len(name) > _MAX_NAME or len(text) > _MAX_VALUE:
        raise InvalidSecretKeyError(
            f"label {name!r} is too long for AWS: a name has at most {_MAX_NAME} characters, and a value {_MAX_VALUE}"
        )
    if not all(character in _MARKS or unicodedata.category(character)[0] in "LNZ" for character in name + text):
        raise InvalidSecretKeyError(
            f"label {name!r} has characters that AWS does not take: only letters, digits, spaces, {_MARKS}"
        )
