"""Values as JSON text, for whoever carries them between places: nothing is parsed on the way, so numbers keep their digits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic_core import from_json

from secretstore.domain.names import Key, parse_key, parse_labels
from secretstore.domain.records import SecretInfo, VersionInfo
from secretstore.errors import InvalidSecretValueError
from secretstore.orm.reads import SecretReads, StoredValue
from secretstore.service.checks import checked_version
from secretstore.service.reading import SecretReader
from secretstore.service.synchronous import NewValue, SecretService
from secretstore.service.typed import check_size, name_of_value


@dataclass(frozen=True, slots=True)
class SecretText:
    """A value as JSON text in UTF-8, and what is known of the secret, or of the version, that has it."""

    info: SecretInfo | VersionInfo
    text: bytes = field(repr=False)


def read_texts(reader: SecretReader, keys: Sequence[Key]) -> dict[Key, SecretText]:
    """Return those of the secrets that are there."""
    source = reader._source
    assert isinstance(source, SecretReads)  # noqa: S101 - only the past has another one
    infos: dict[Key, SecretInfo] = {}

    def find() -> list[StoredValue]:
        found = source.find_whole_secrets(keys)
        infos.update((whole.value.key, whole.info) for whole in found)
        return [whole.value for whole in found]

    opened = reader._open_all(find)
    return {key: SecretText(infos[key], value.text) for key, value in opened.items()}


def read_text_of_version(service: SecretService, key: Key, version: int) -> SecretText | None:
    """Return a version of a secret that is there, unless its value is gone."""
    infos = {info.version: info for info in service.list_versions(key)}
    opened = service._open_one(key, version) if version in infos else None
    return None if opened is None else SecretText(infos[version], opened.text)


def write_text(
    service: SecretService,
    key: str,
    text: bytes,
    *,
    expected_version: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> SecretInfo:
    """Write JSON text as it is; see `SecretService.set_secret`."""
    wanted = parse_key(key)
    new = NewValue(_checked(service, wanted, text), parse_labels(labels))
    return service._write({wanted: new}, expected_version=checked_version(expected_version))[key]


def _checked(service: SecretService, key: Key, text: bytes) -> bytes:
    name = name_of_value(service._namespace, key)
    check_size(text, name=name, max_bytes=service._max_value_bytes)
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError:
        pass
    else:
        return text
    raise InvalidSecretValueError(f"{name} cannot be stored: it is not JSON")
