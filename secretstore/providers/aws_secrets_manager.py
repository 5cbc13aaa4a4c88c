"""Secrets in AWS Secrets Manager (extra `aws`).

The name of a secret is the folder of the URL and the key, written as `secretstore.providers.aws_names` says.  It is sent as
a name, never as a part of an ARN, and so a key may end in a hyphen and six characters as ARNs do.

A version is one of AWS, by its id.  The id is chosen before the first call, and AWS takes it once: a write whose answer was
lost is sent again, and still makes one version.

Labels are tags.  Tags that begin with `aws:` are AWS's own; they are neither shown nor changed.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4, uuid5

from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.errors import (
    InvalidSecretKeyError,
    InvalidSecretValueError,
    PermissionDeniedError,
    ProviderError,
    SecretNotFoundError,
    VersionConflictError,
)
from secretstore.providers.addresses import Address
from secretstore.providers.aws import OPTIONS, AwsPlace, AwsProvider, hide
from secretstore.providers.aws_names import key_of, name_of
from secretstore.providers.aws_tags import labels_of, tags_of
from secretstore.providers.formats import Format, decoded, encoded

MAX_VALUE_BYTES = 65_536
DAYS_TO_RECOVER = 30

_MAX_NAME_LENGTH = 512
_VERSION_LENGTHS = range(32, 65)
_LEAST_DAYS = 7
_READ, _LIST, _DESCRIBE = "read a secret", "list keys", "describe a secret"
_BATCH, _PAGE = 20, 100
# How often a write begins anew because others create and delete the same secret meanwhile.
_ATTEMPTS = 3

# What names may hold beside what those of every service may.
_MORE = "+=@"
_FOLDER = re.compile(r"[A-Za-z0-9/_+=.@-]*")
# Where a name stops being the key as it is.
_WRITTEN_OTHERWISE = re.compile(r"^/|//|-\.|[^A-Za-z0-9/_+=.@-]")
_NOT_THERE = frozenset({"ResourceNotFoundException"})
_EXISTS = frozenset({"ResourceExistsException"})
# Among others, that of a secret that is deleted.
_WRONG_STATE = frozenset({"InvalidRequestException"})
_CURRENT = "AWSCURRENT"
_CREATED_AGAIN = UUID("5b0f3f0e-6d0a-4b3c-9c36-6f1c7d1c9d11")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    text: str = field(repr=False)
    token: str
    tags: list[dict[str, str]] | None


def open_aws_secrets_manager(url: str) -> "AwsSecretsManagerProvider":
    """Return the provider of a URL `aws-secretsmanager://region/folder/`."""
    address = Address.parse(url, options=OPTIONS | {"format", "key_id", "recovery_days"})
    days = address.number("recovery_days", default=DAYS_TO_RECOVER, least=0, most=DAYS_TO_RECOVER)
    if 0 < days < _LEAST_DAYS:
        address.refuse(f"takes recovery_days=0, or from {_LEAST_DAYS} to {DAYS_TO_RECOVER}")
    folder = address.path.removeprefix("/")
    if not _FOLDER.fullmatch(folder):
        address.refuse("names a folder in letters of ASCII, digits and /_+=.@-")
    return AwsSecretsManagerProvider(
        AwsPlace.of(address),
        folder,
        form=address.form(),
        key_id=address.options.get("key_id"),
        recovery_days=days,
    )


class AwsSecretsManagerProvider(AwsProvider):
    """The secrets of one region whose names begin with a folder; an empty one means all of them.

    `key_id` is the KMS key of secrets that it creates, AWS's own without.  With `recovery_days` 0 what it deletes is gone.
    """

    service = "secretsmanager"
    hints = {  # noqa: RUF012 - nobody changes it
        "DecryptionFailure": "its KMS key does not decrypt; enable it, and allow kms:Decrypt",
        "EncryptionFailure": "its KMS key does not encrypt; enable it, and allow kms:GenerateDataKey and kms:Decrypt",
        "InvalidParameterException": "AWS does not take it; check key_id, and whether it is the replica of another region",
        "InvalidRequestException": "it is in a state that does not allow it; another service may manage it",
    }
    abilities = frozenset(Ability) - {Ability.CHECK_AND_SET, Ability.DESTROY}

    def __init__(
        self,
        place: AwsPlace,
        folder: str = "",
        *,
        form: Format = Format.JSON,
        key_id: str | None = None,
        recovery_days: int = DAYS_TO_RECOVER,
    ) -> None:
        self._folder = folder if folder.endswith("/") or not folder else f"{folder}/"
        super().__init__(f"aws-secretsmanager://{place.region or ''}/{self._folder}", place)
        self._format = form
        self._key_id = key_id
        self._recovery_days = recovery_days
        if not recovery_days:
            self.abilities = self.abilities - {Ability.UNDELETE}

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret; its labels are told by `describe` alone."""
        if not (self._can_be(key) and _can_be_version(version)):
            return None
        wanted: dict[str, Any] = {} if version is None else {"VersionId": version}
        answer = self._ask("GetSecretValue", _READ, key, **wanted)
        return None if answer is None else self._secret(key, answer)

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are, 20 at a call."""
        names = {self._name(key): key for key in keys if self._can_be(key)}
        found = ((names[each["Name"]], each) for batch in _batches(list(names)) for each in self._batch(batch, names))
        return {key: self._secret(key, each) for key, each in found}

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their code points; AWS may tell of a change only after minutes."""
        begins = f"{self._folder}{_WRITTEN_OTHERWISE.split(prefix, maxsplit=1)[0]}"[:_MAX_NAME_LENGTH]
        wanted: dict[str, Any] = {"Filters": [{"Key": "name", "Values": [begins]}]} if begins else {}
        pages = self._pages("ListSecrets", _LIST, MaxResults=_PAGE, **wanted)
        found = {self._key(secret) for page in pages for secret in self._part(page, "SecretList", _LIST)}
        keys = (key for key in found if key is not None and key.startswith(prefix) and (after is None or key > after))
        return sorted(keys)[:limit]

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret."""
        found = self._find(_DESCRIBE, key)
        return None if found is None or _is_deleted(found) or _current(found) is None else self._info(key, found)

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret; a deleted one is brought back first, and labels change just before the value."""
        self.require_what_a_write_needs(expected_version, labels)
        self._check_key(key)
        text, tags = self._text(key, value_json), None if labels is None else tags_of(labels)
        token = uuid4()
        for _ in range(_ATTEMPTS):
            found = self._find(Ability.WRITE, key)
            if found is not None and expected_version is not None:
                token = self._token_to_create(key, found)
            change = _Change(text=text, token=str(token), tags=tags)
            if self._create(key, change) if found is None else self._replace(key, found, change):
                return self._written(key, change, found or {})
        problem = f"{key!r}: others create and delete it at the same time, or its name is still taken; try again"
        raise self.failed(Ability.WRITE, problem, is_temporary=True)

    def delete(self, key: str) -> bool:
        """Delete a secret; its name stays taken, and it can be undeleted, for the days to recover."""
        found = self._find(Ability.DELETE, key)
        if found is None or _is_deleted(found):
            return False
        days = self._recovery_days
        how = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
        answer = self._call(
            "DeleteSecret", Ability.DELETE, key, none_for=_NOT_THERE | _WRONG_STATE, SecretId=self._name(key), **how
        )
        if answer is None:
            self._check_deleted(Ability.DELETE, key, self._refused_in_its_state(Ability.DELETE, key))
        return answer is not None

    def undelete(self, key: str) -> ProvidedInfo:
        """Bring a deleted secret back, with all its versions."""
        self.require(Ability.UNDELETE)
        found = self._find(Ability.UNDELETE, key)
        if found is not None and _is_deleted(found):
            self._restore(Ability.UNDELETE, key)
            found = self._find(Ability.UNDELETE, key)
        if found is None:
            raise SecretNotFoundError(self.name, key)
        if _is_deleted(found):
            raise self._refused_in_its_state(Ability.UNDELETE, key)
        return self._info(key, found)

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Return what is known of the versions, newest first."""
        found = self._find(Ability.VERSIONS, key)
        if found is None or _is_deleted(found):
            return []
        wanted = {"SecretId": self._name(key), "IncludeDeprecated": True, "MaxResults": _PAGE}
        pages = self._pages("ListSecretVersionIds", Ability.VERSIONS, key, **wanted)
        versions = [each for page in pages for each in page.get("Versions", ())]
        # Of two of the same moment the later one stands later.
        versions.reverse()
        newest_first = sorted(versions, key=lambda version: version["CreatedDate"], reverse=True)
        return [self._told(key, each["VersionId"], created_at=each["CreatedDate"]) for each in newest_first]

    def _hidden(self, answer: dict[str, Any]) -> dict[str, Any]:
        for secret in (answer, *answer.get("SecretValues", ())):
            hide(secret, "SecretString", "SecretBinary")
        return answer

    def _batch(self, batch: list[str], names: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        for answer in self._pages("BatchGetSecretValue", _READ, SecretIdList=batch):
            refused = answer.get("Errors", ())
            for each in refused:
                self._check_missing(names[each["SecretId"]], each)
            yield from answer.get("SecretValues", ()) if refused else self._part(answer, "SecretValues", _READ)

    def _create(self, key: str, change: _Change) -> bool:
        wanted = {"KmsKeyId": self._key_id, "Tags": change.tags}
        given = {name: value for name, value in wanted.items() if value}
        answer = self._call(
            "CreateSecret",
            Ability.WRITE,
            key,
            none_for=_EXISTS | _WRONG_STATE,
            Name=self._name(key),
            SecretString=change.text,
            ClientRequestToken=change.token,
            **given,
        )
        return answer is not None

    def _replace(self, key: str, found: Mapping[str, Any], change: _Change) -> bool:
        if _is_deleted(found):
            self._restore(Ability.WRITE, key)
        if change.tags is not None:
            self._set_tags(key, found, change.tags)
        value = {"SecretString": change.text, "ClientRequestToken": change.token}
        return self._ask("PutSecretValue", Ability.WRITE, key, none_for=_NOT_THERE | _EXISTS, **value) is not None

    def _token_to_create(self, key: str, found: Mapping[str, Any]) -> UUID:
        """Return the id of the version that follows on a deleted one, the same for all who would create it.

        AWS takes an id for one value only, and so one of them succeeds.  Raises `VersionConflictError` where it is not deleted.
        """
        if not _is_deleted(found):
            raise VersionConflictError(self.name, key, 0, _current(found) or 0)
        return uuid5(_CREATED_AGAIN, f"{found['ARN']} {_current(found)} {found['DeletedDate'].timestamp()}")

    def _set_tags(self, key: str, found: Mapping[str, Any], tags: list[dict[str, str]]) -> None:
        has, wanted, name = _labels(found), {tag["Key"] for tag in tags}, self._name(key)
        gone = [label for label in has if label not in wanted]
        new = [tag for tag in tags if has.get(tag["Key"]) != tag["Value"]]
        if gone:
            self._call("UntagResource", Ability.WRITE, key, none_for=_NOT_THERE, SecretId=name, TagKeys=gone)
        if new:
            self._call("TagResource", Ability.WRITE, key, none_for=_NOT_THERE, SecretId=name, Tags=new)

    def _written(self, key: str, change: _Change, found: Mapping[str, Any]) -> ProvidedInfo:
        labels = _labels(found if change.tags is None else {"Tags": change.tags})
        return self._told(key, change.token, labels=labels, created_at=found.get("CreatedDate"))

    def _restore(self, operation: str, key: str) -> None:
        # Whether it was, or others did so before, is seen by what follows.
        none_for = _NOT_THERE | _WRONG_STATE
        self._call("RestoreSecret", operation, key, none_for=none_for, SecretId=self._name(key))

    def _refused_in_its_state(self, operation: str, key: str) -> ProviderError:
        (code,) = _WRONG_STATE
        return self.failed(operation, f"{key!r}: {self.hints[code]} ({code})")

    def _find(self, operation: str, key: str) -> Mapping[str, Any] | None:
        """Return what AWS knows of a secret, also of a deleted one."""
        if not self._can_be(key):
            return None
        found: Mapping[str, Any] | None
        found = self._call("DescribeSecret", operation, key, none_for=_NOT_THERE, SecretId=self._name(key))
        return found

    def _ask(
        self, action: str, operation: str, key: str, *, none_for: Collection[str] = _NOT_THERE, **parameters: Any
    ) -> Mapping[str, Any] | None:
        """Return the answer of AWS about a secret, or None where that is deleted, too."""
        answer, problem = None, None
        try:
            answer = self._call(action, operation, key, none_for=none_for, SecretId=self._name(key), **parameters)
        except ProviderError as error:
            problem = error
        del parameters  # as in `_call`
        if problem is not None:
            self._check_deleted(operation, key, problem)
        return answer

    def _check_deleted(self, operation: str, key: str, problem: ProviderError) -> None:
        """Raise the problem, unless it is that the secret is deleted: for that AWS has no code of its own."""
        found = None if problem.is_temporary else self._find(operation, key)
        if problem.is_temporary or (found is not None and not _is_deleted(found)):
            raise problem

    def _check_missing(self, key: str, refusal: Mapping[str, Any]) -> None:
        """Raise what kept a secret out of a batch, unless it is missing or deleted."""
        error = {"Code": refusal.get("ErrorCode"), "Message": refusal.get("Message")}
        if error["Code"] in _NOT_THERE:
            return
        problem = self._refused({"Error": error}, "GetSecretValue", _READ, f"{key!r}: ")
        if isinstance(problem, PermissionDeniedError):
            raise problem
        self._check_deleted(_READ, key, problem)

    def _pages(
        self, action: str, operation: str, key: str | None = None, **parameters: Any
    ) -> Iterator[Mapping[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            answer = self._call(action, operation, key, **parameters, **more)
            yield answer
            if not answer.get("NextToken"):
                return
            more = {"NextToken": answer["NextToken"]}

    def _name(self, key: str) -> str:
        return f"{self._folder}{name_of(key, _MORE)}"

    def _can_be(self, key: str) -> bool:
        return len(self._name(key)) <= _MAX_NAME_LENGTH

    def _check_key(self, key: str) -> None:
        length = len(self._name(key))
        if length > _MAX_NAME_LENGTH:
            raise InvalidSecretKeyError(
                f"{key!r} is a name of {length} characters in {self.name}, and AWS takes {_MAX_NAME_LENGTH}; "
                "characters other than letters of ASCII, digits and /_+=.@- take more than one"
            )

    def _key(self, found: Mapping[str, Any]) -> str | None:
        """Return the key of a secret that AWS lists, or None where it is none of ours or has no value."""
        name = str(found["Name"])
        if not name.startswith(self._folder) or _current(found) is None:
            return None
        return key_of(name.removeprefix(self._folder), _MORE)

    def _text(self, key: str, value_json: bytes) -> str:
        text = encoded(value_json, self._format, name=f"{key!r} in {self.name}")
        size = len(text.encode())
        if not size:
            raise InvalidSecretValueError(f"{key!r} in {self.name}: AWS holds no empty text; use format=json")
        if size > MAX_VALUE_BYTES:
            raise InvalidSecretValueError(f"{key!r} has {size} bytes, and {self.name} takes {MAX_VALUE_BYTES}")
        return text

    def _secret(self, key: str, answer: Mapping[str, Any]) -> ProvidedSecret:
        if "SecretBinary" in answer:
            raise InvalidSecretValueError(f"{key!r} in {self.name} is binary; only text is read")
        text = self._part(answer, "SecretString", _READ)
        return ProvidedSecret(
            value_json=decoded(text, self._format, name=f"{key!r} in {self.name}"),
            info=self._told(key, self._part(answer, "VersionId", _READ), updated_at=answer.get("CreatedDate")),
        )

    def _info(self, key: str, found: Mapping[str, Any]) -> ProvidedInfo:
        return self._told(
            key,
            _current(found),
            labels=_labels(found),
            created_at=found.get("CreatedDate"),
            updated_at=found.get("LastChangedDate"),
        )

    def _told(self, key: str, version: str | None, **known: Any) -> ProvidedInfo:
        return ProvidedInfo(provider=self.name, key=key, version=version, **known)


def _can_be_version(version: Version | None) -> bool:
    return version is None or (isinstance(version, str) and len(version) in _VERSION_LENGTHS)


def _batches(names: list[str]) -> Iterator[list[str]]:
    return (names[start : start + _BATCH] for start in range(0, len(names), _BATCH))


def _is_deleted(found: Mapping[str, Any]) -> bool:
    return found.get("DeletedDate") is not None


def _current(found: Mapping[str, Any]) -> str | None:
    # `DescribeSecret` and `ListSecrets` have two names for the same.
    stages = found.get("VersionIdsToStages") or found.get("SecretVersionsToStages") or {}
    return next((version for version, names in stages.items() if _CURRENT in names), None)


def _labels(found: Mapping[str, Any]) -> dict[str, str]:
    return labels_of(found.get("Tags", ()))
