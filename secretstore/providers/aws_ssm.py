"""Secrets in AWS Systems Manager Parameter Store (extra `aws`): `aws-ssm://region/folder/`.

A secret is a parameter in the folder, written as a SecureString; `secretstore.providers.aws_names` says how its key stands in
its name.  A value is JSON, or what `format` says.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.errors import InvalidSecretKeyError, InvalidSecretValueError, VersionConflictError
from secretstore.providers.addresses import Address
from secretstore.providers.aws import OPTIONS, AwsPlace, AwsProvider, hide
from secretstore.providers.aws_names import key_of, name_of
from secretstore.providers.aws_tags import labels_of, tags_of
from secretstore.providers.formats import Format, decoded, encoded

MAX_LEVELS = 15
# AWS counts the ARN, 1011 characters at most, and before the name the longest has
# `arn:aws-us-gov:ssm:ap-northeast-1:123456789012:parameter`.
MAX_NAME_LENGTH = 1011 - 56

_READ, _LIST, _DESCRIBE = "read a secret", "list keys", "describe a secret"
_BATCH, _PAGE, _PAGE_OF_VERSIONS = 10, 10, 50
_FOLDER = re.compile(r"(?!/(?i:aws|ssm))(?:/[A-Za-z0-9_.-]+)+/?")
_NESTED = re.compile(r"\{\{.*\}\}", re.DOTALL)
_MISSING = ("ParameterNotFound", "ParameterVersionNotFound")


class Tier(StrEnum):
    """What a parameter costs and how much it holds."""

    STANDARD = "standard"
    ADVANCED = "advanced"
    INTELLIGENT_TIERING = "intelligent-tiering"

    @property
    def max_bytes(self) -> int:
        """How large a value may be."""
        return 4096 if self is Tier.STANDARD else 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class SsmSettings:
    """How secrets stand in parameters."""

    folder: str
    form: Format = Format.JSON
    tier: Tier = Tier.STANDARD
    key_id: str | None = None
    has_labels: bool = False


def open_aws_ssm(url: str) -> "AwsSsmProvider":
    """Return the provider of `aws-ssm://region/folder/?format=…&tier=…&key_id=…&labels=…&endpoint=…&timeout=…`."""
    address = Address.parse(url, options=OPTIONS | {"format", "key_id", "labels", "tier"})
    folder = address.path.rstrip("/")
    if not _FOLDER.fullmatch(address.path) or folder.count("/") >= MAX_LEVELS:
        address.refuse(
            "names a folder, for example aws-ssm://eu-west-1/app/prod/; it has letters, digits and _.- and does not begin "
            "with aws or ssm"
        )
    tier = address.options.get("tier", Tier.STANDARD)
    if tier not in set(Tier):
        address.refuse(f"takes tier={', '.join(Tier)}")
    settings = SsmSettings(
        folder=f"{folder}/",
        form=address.form(),
        tier=Tier(tier),
        key_id=address.options.get("key_id"),
        has_labels=address.flag("labels"),
    )
    return AwsSsmProvider(AwsPlace.of(address), settings)


class AwsSsmProvider(AwsProvider):
    """A folder of Parameter Store."""

    service = "ssm"
    hints = {  # noqa: RUF012 - nobody changes it
        "HierarchyTypeMismatchException": "it is there and no SecureString, and AWS changes no type; delete it first",
        "InvalidKeyId": "its KMS key is not there, is disabled, or may not be used; check key_id",
        "ParameterLimitExceeded": "the region holds no more parameters; delete some, or take tier=advanced",
        "ParameterMaxVersionLimitExceeded": "AWS drops no version that has a label, and the oldest one has; move the label",
        "ParameterPatternMismatchException": "the parameter takes only values of a pattern, and this is not one",
        "ValidationException": "AWS does not take it; check key_id, and take no lower tier than the parameter has",
    }

    def __init__(self, place: AwsPlace, settings: SsmSettings) -> None:
        super().__init__(f"aws-ssm://{place.region or ''}{settings.folder}", place)
        self._settings = settings
        can = {Ability.WRITE, Ability.CREATE, Ability.DELETE, Ability.VERSIONS, Ability.CACHE}
        self.abilities = frozenset(can | {Ability.LABELS} if settings.has_labels else can)

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret, in one call; it tells no labels."""
        name = self._found_name(key)
        if name is None or not (version is None or (isinstance(version, int) and version > 0)):
            return None
        selected = name if version is None else f"{name}:{version}"
        answer = self._call("GetParameter", _READ, key, none_for=_MISSING, Name=selected, WithDecryption=True)
        return None if answer is None else self._secret(key, self._part(answer, "Parameter", _READ))

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are, ten in each call."""
        names = {name: key for key in dict.fromkeys(keys) if (name := self._found_name(key)) is not None}
        asked, found = list(names), {}
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            answer = self._call("GetParameters", _READ, Names=batch, WithDecryption=True)
            for parameter in self._part(answer, "Parameters", _READ):
                key = names[parameter["Name"]]
                found[key] = self._secret(key, parameter)
        return found

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys; all keys of the folder that the prefix names are asked for, ten in each call."""
        folder, slash, _ = prefix.rpartition("/")
        path = self._settings.folder + (name_of(folder) if slash else "")
        if not _fits(path):
            return []
        keys = [key for key in self._keys_under(path.rstrip("/")) if key.startswith(prefix)]
        return sorted(key for key in keys if after is None or key > after)[:limit]

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret; its value is not decrypted."""
        name = self._found_name(key)
        found = None if name is None else self._metadata(name, key)
        if name is None or found is None:
            return None
        return self._info(key, found, self._labels(name, key))

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret, and then its labels, in calls of their own."""
        self.require_what_a_write_needs(expected_version, labels)
        name, text = self._new_name(key), self._text(key, value_json)
        tags = None if labels is None else tags_of(labels)
        answer = self._put(name, text, key, is_new=expected_version is not None)
        if tags is not None:
            self._tag(name, key, tags)
        return self._info(key, answer, self._labels(name, key) if labels is None else labels)

    def delete(self, key: str) -> bool:
        """Delete a secret with all its versions, for good."""
        name = self._found_name(key)
        if name is None:
            return False
        return self._call("DeleteParameter", Ability.DELETE, key, none_for=_MISSING, Name=name) is not None

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Return what is known of the last hundred versions, newest first."""
        name = self._found_name(key)
        if name is None:
            return []
        pages = self._pages(
            "GetParameterHistory", Ability.VERSIONS, key, none_for=_MISSING, Name=name, MaxResults=_PAGE_OF_VERSIONS
        )
        newest_first = sorted(pages, key=lambda each: each["Version"], reverse=True)
        return [self._version(key, each) for each in newest_first]

    def _hidden(self, answer: dict[str, Any]) -> dict[str, Any]:
        for parameter in (answer.get("Parameter", {}), *answer.get("Parameters", ())):
            hide(parameter, "Value")
        return answer

    def _keys_under(self, path: str) -> Iterator[str]:
        folder = self._settings.folder
        for parameter in self._pages("GetParametersByPath", _LIST, Path=path, Recursive=True, MaxResults=_PAGE):
            name = parameter["Name"]
            key = key_of(name.removeprefix(folder)) if name.startswith(folder) else None
            if key is not None and _fits(name):
                yield key

    def _pages(
        self, action: str, operation: str, key: str | None = None, **parameters: Any
    ) -> Iterator[Mapping[str, Any]]:
        more: dict[str, str] = {}
        while (answer := self._call(action, operation, key, **parameters, **more)) is not None:
            yield from self._part(answer, "Parameters", operation)
            if not answer.get("NextToken"):
                return
            more = {"NextToken": answer["NextToken"]}

    def _metadata(self, name: str, key: str) -> Mapping[str, Any] | None:
        answer = self._call("GetParameter", _DESCRIBE, key, none_for=_MISSING, Name=name, WithDecryption=False)
        return None if answer is None else self._part(answer, "Parameter", _DESCRIBE)

    def _put(self, name: str, text: str, key: str, *, is_new: bool) -> Mapping[str, Any]:
        """Write a parameter, or raise `VersionConflictError` where it is new and there is one."""
        settings = self._settings
        answer = self._call(
            "PutParameter",
            Ability.WRITE,
            key,
            none_for=("ParameterAlreadyExists",),
            Name=name,
            Value=text,
            Type="SecureString",
            Tier=settings.tier.title(),
            Overwrite=not is_new,
            **({} if settings.key_id is None else {"KeyId": settings.key_id}),
        )
        if answer is None:
            self._conflict(name, key)
        return {"Version": self._part(answer, "Version", Ability.WRITE)}

    def _conflict(self, name: str, key: str) -> NoReturn:
        found = self._metadata(name, key)
        raise VersionConflictError(self.name, key, 0, found["Version"] if found else 0)

    def _labels(self, name: str, key: str) -> dict[str, str]:
        if not self._settings.has_labels:
            return {}
        answer = self._call(
            "ListTagsForResource",
            _DESCRIBE,
            key,
            none_for=("InvalidResourceId",),
            ResourceType="Parameter",
            ResourceId=name,
        )
        return {} if answer is None else labels_of(self._part(answer, "TagList", _DESCRIBE))

    def _tag(self, name: str, key: str, tags: list[dict[str, str]]) -> None:
        """Make these the labels; new ones are there before old ones go."""
        resource = {"ResourceType": "Parameter", "ResourceId": name}
        gone = sorted(self._labels(name, key).keys() - {tag["Key"] for tag in tags})
        if tags:
            self._call("AddTagsToResource", Ability.LABELS, key, **resource, Tags=tags)
        if gone:
            self._call("RemoveTagsFromResource", Ability.LABELS, key, **resource, TagKeys=gone)

    def _text(self, key: str, value_json: bytes) -> str:
        """Return a value as it stands in a parameter; raises `InvalidSecretValueError`."""
        about, form, tier = f"{key!r} in {self.name}", self._settings.form, self._settings.tier
        text = encoded(value_json, form, name=about)
        if form is Format.JSON or value_json.lstrip().startswith(b"{"):
            # AWS would take {{…}} for a reference, and in JSON two braces meet only inside a string.
            text = text.replace("{{", "{\\u007b")
        elif not text or _NESTED.search(text):
            raise InvalidSecretValueError(
                f"{about} cannot be empty or hold {{{{…}}}}; open its provider with format=json"
            )
        if len(text.encode()) > tier.max_bytes:
            raise InvalidSecretValueError(
                f"{about} has {len(text.encode())} bytes, and tier={tier} takes {tier.max_bytes}"
            )
        return text

    def _secret(self, key: str, parameter: Mapping[str, Any]) -> ProvidedSecret:
        value_json = decoded(parameter["Value"], self._settings.form, name=f"{key!r} in {self.name}")
        return ProvidedSecret(value_json=value_json, info=self._info(key, parameter))

    def _info(self, key: str, told: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> ProvidedInfo:
        updated_at = told.get("LastModifiedDate")
        return ProvidedInfo(
            provider=self.name, key=key, version=told["Version"], labels=labels or {}, updated_at=updated_at
        )

    def _version(self, key: str, told: Mapping[str, Any]) -> ProvidedInfo:
        return ProvidedInfo(
            provider=self.name, key=key, version=told["Version"], created_at=told.get("LastModifiedDate")
        )

    def _found_name(self, key: str) -> str | None:
        """Return the name of a key, or None where it is too long for one, so that nothing can be there."""
        name = self._settings.folder + name_of(key)
        return name if _fits(name) else None

    def _new_name(self, key: str) -> str:
        name = self._found_name(key)
        if name is None:
            raise InvalidSecretKeyError(
                f"{key!r} cannot be a name in {self.name}: with its folder it has more than {MAX_LEVELS} levels, or more "
                f"than {MAX_NAME_LENGTH} characters as AWS writes it"
            )
        return name


def _fits(name: str) -> bool:
    return len(name) <= MAX_NAME_LENGTH and name.count("/") <= MAX_LEVELS
