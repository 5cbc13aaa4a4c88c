"""Secrets in a KV engine of version 2 of Vault or OpenBao (extra `vault`).

    vault://host:8200/secret/app        the mount `secret`, and below it the folder `app`

`vault_mapping` says how keys, values and labels stand there, `vault_session` how tokens are found and kept.
"""

import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Secret

from secretstore.domain.names import MAX_KEY_LENGTH
from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.errors import (
    InvalidSecretValueError,
    PermissionDeniedError,
    ProviderError,
    SecretNotFoundError,
    VersionConflictError,
)
from secretstore.providers import vault_mapping as mapping
from secretstore.providers.addresses import Address
from secretstore.providers.base import Provider
from secretstore.providers.vault_session import Answer, How, Place, UnreachedError, VaultSession

DEFAULT_PORT = 8200
DEFAULT_TIMEOUT_SECONDS = 5

_OPTIONS = frozenset({"auth", "ca", "member", "mount", "namespace", "role_mount", "timeout", "tls"})
# The engine answers for one secret at a time.
_AT_ONCE = 8
_PAGE = 64
_PARTS_OF_NO_PATH = {"", ".", ".."}
_HOST = re.compile(r"[^\s/?#@\\\[\]]+")
_LIST = {"list": "true"}
_CAPABILITIES = {"GET": "read", "POST": "create and update", "PUT": "update", "DELETE": "delete"}


def open_vault(url: str) -> "VaultProvider":
    """Return the provider of a URL `vault://host:port/mount/folder?option=value`."""
    address = Address.parse(url, options=_OPTIONS)
    mount, folder = _mount_and_folder(address)
    role_mount = address.options.get("role_mount", "approle").strip("/")
    if _PARTS_OF_NO_PATH & set(role_mount.split("/")):
        address.refuse("names with role_mount= where AppRole is mounted, without empty parts, . and ..")
    return VaultProvider(
        _place(address, "/".join(filter(None, [mount, folder]))),
        How(auth=_auth(address), role_mount=role_mount),
        mount=mount,
        folder=folder,
        member=address.options.get("member") or "value",
    )


class VaultProvider(Provider):
    """A folder of a KV engine; `clock` gives seconds since 1970."""

    abilities = frozenset(Ability)

    def __init__(
        self,
        place: Place,
        how: How,
        *,
        mount: str,
        folder: str = "",
        member: str = "value",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = place.name
        self._session = VaultSession(place, how, clock=clock)
        self._mount = mount
        self._folder = f"{folder}/" if folder else ""
        self._member = member
        self._clock = clock
        self._is_known = False

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret."""
        if version is not None and not _is_number(version):
            return None
        query = None if version is None else {"version": str(version)}
        found = self._ask("read", "GET", "data", mapping.path_of(key), query=query).data
        if found.get("data") is None:
            return None
        if "version" not in (found.get("metadata") or {}):
            del found
            raise self.failed("read", f"{key!r} is answered without its metadata, and not as Vault would")
        about = found["metadata"]
        info = self._info(key, about["version"], about, about.get("custom_metadata"))
        return ProvidedSecret(value_json=mapping.value_of(found["data"], self._member), info=info)

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are; each is a request of its own, some of them at once."""
        wanted = list(dict.fromkeys(keys))
        found = zip(wanted, self._at_once(self.read, wanted), strict=True)
        return {key: secret for key, secret in found if secret is not None}

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their code points; the metadata of each is read, to leave out deleted ones."""
        folder = prefix[: prefix.rfind("/") + 1]
        keys = self._walk(folder, prefix, after or "")
        size = _PAGE if limit is None else min(limit, _PAGE)
        pages = iter(lambda: list(islice(keys, size)), [])
        there = (
            key for page in pages for key, info in zip(page, self._at_once(self.describe, page), strict=True) if info
        )
        return list(islice(there, limit))

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret, without reading its value."""
        return self._described(key, self._about(key, "describe"))

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret, and then its labels: where those fail, the value has been written."""
        name = f"{key!r} in {self.name}"
        entry = mapping.entry_of(value_json, self._member, name=name)
        if labels is not None:
            mapping.check_labels(labels, name=name)
        written = self._write_entry(key, entry, expected_version)
        if labels is not None:
            self._write_labels(key, labels)
        return self._info(
            key, written["version"], written, written.get("custom_metadata") if labels is None else labels
        )

    def delete(self, key: str) -> bool:
        """Delete the newest version, in a way that can be undone; False where there was none."""
        if self._described(key, self._about(key, "delete")) is None:
            return False
        self._ask("delete", "DELETE", "data", mapping.path_of(key))
        return True

    def undelete(self, key: str) -> ProvidedInfo:
        """Bring a deleted secret back; one that is there stays as it is.

        Raises `SecretNotFoundError` where there is none, or its newest version was destroyed.
        """
        about = self._about(key, "undelete")
        number = about.get("current_version", 0)
        if not number or about["versions"][str(number)]["destroyed"]:
            raise SecretNotFoundError(self.name, key)
        if self._described(key, about) is None:
            self._ask("undelete", "PUT", "undelete", mapping.path_of(key), body=f'{{"versions":[{number}]}}')
            about = self._about(key, "undelete")
        info = self._described(key, about)
        if info is None:
            raise SecretNotFoundError(self.name, key)
        return info

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Return what is known of the versions, newest first, those of a deleted secret too.

        The engine does not say when a version was destroyed: `destroyed_at` is when it was deleted, or else written.
        """
        about = self._about(key, "list the versions")
        versions = sorted(((int(number), one) for number, one in about.get("versions", {}).items()), reverse=True)
        labels = about.get("custom_metadata")
        return [self._info(key, number, one, labels, created=one["created_time"]) for number, one in versions]

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Take the values of versions away for good, and return how many were still there.

        Raises `SecretNotFoundError` where there is no such version; then none is destroyed.
        """
        there = self._about(key, "destroy").get("versions", {})
        self.require_versions(key, versions, [int(number) for number in there])
        left = sorted({int(number) for number in versions if not there[str(number)]["destroyed"]})
        if left:
            self._ask("destroy", "PUT", "destroy", mapping.path_of(key), body=f'{{"versions":{left}}}')
        return len(left)

    def close(self) -> None:
        """Give connections back."""
        self._session.close()

    def _at_once(self, call: Callable[[str], Any], keys: Collection[str]) -> list[Any]:
        if len(keys) < 2:  # noqa: PLR2004 - what one thread does needs no others
            return [call(key) for key in keys]
        with ThreadPoolExecutor(min(len(keys), _AT_ONCE)) as pool:
            return list(pool.map(call, keys))

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[str]:
        """Give the keys of a folder, deleted ones too; `folder` is the beginning that they have, with its slash."""
        for name in sorted(self._names(folder)):
            found = folder + name
            if name.endswith("/"):
                if _may_hold(found, prefix, after):
                    yield from self._walk(found, prefix, after)
            elif found > after and found.startswith(prefix) and mapping.is_key(found):
                yield found

    def _names(self, folder: str) -> Iterator[str]:
        answer = self._ask("list", "GET", "metadata", mapping.folder_of(folder), query=_LIST)
        for name in answer.data.get("keys") or []:
            part = mapping.part_of_key(name.removesuffix("/"))
            if part is not None:
                yield f"{part}/" if name.endswith("/") else part

    def _about(self, key: str, operation: str) -> dict[str, Any]:
        """Return the metadata of a secret; nothing where there is none."""
        return self._ask(operation, "GET", "metadata", mapping.path_of(key)).data

    def _described(self, key: str, about: Mapping[str, Any]) -> ProvidedInfo | None:
        number = about.get("current_version")
        # Metadata may be there before the first version.
        current = about["versions"].get(str(number)) if number else None
        if current is None or self._is_over(current):
            return None
        return self._info(
            key, about["current_version"], current, about.get("custom_metadata"), created=about["created_time"]
        )

    def _info(
        self,
        key: str,
        number: int,
        one: Mapping[str, Any],
        labels: Mapping[str, str] | None,
        *,
        created: str | None = None,
    ) -> ProvidedInfo:
        ends = _moment(one["deletion_time"])
        written = _moment(one["created_time"])
        return ProvidedInfo(
            provider=self.name,
            key=key,
            version=number,
            labels=dict(labels or {}),
            created_at=_moment(created),
            updated_at=written,
            expires_at=None if ends is None or self._is_past(ends) else ends,
            destroyed_at=(ends or written) if one["destroyed"] else None,
        )

    def _is_over(self, one: Mapping[str, Any]) -> bool:
        ends = _moment(one["deletion_time"])
        return bool(one["destroyed"]) or (ends is not None and self._is_past(ends))

    def _is_past(self, moment: datetime) -> bool:
        return moment.timestamp() <= self._clock()

    def _number_to_replace(self, key: str, expected: int) -> int:
        """Return the number of the newest version, which counts on where a secret was deleted."""
        about = self._about(key, "write")
        found = _number_of(self._described(key, about))
        if expected != found:
            raise VersionConflictError(self.name, key, expected, found)
        return int(about.get("current_version", 0))

    def _write_entry(self, key: str, entry: str, expected: int | None) -> dict[str, Any]:
        options = "{}" if expected is None else f'{{"cas":{self._number_to_replace(key, expected)}}}'
        path = f"{self._mount}/data/{self._folder}{mapping.path_of(key)}"
        answer = self._send("write", "POST", path, body=f'{{"options":{options},"data":{entry}}}')
        if expected is not None and "check-and-set parameter did not match" in answer.said:
            raise VersionConflictError(self.name, key, expected, _number_of(self.describe(key)))
        self._check(answer, "write", path, _capability("POST", None))
        if "version" not in answer.data:
            raise self._no_engine("write")
        return answer.data

    def _write_labels(self, key: str, labels: Mapping[str, str]) -> None:
        body = json.dumps({"custom_metadata": dict(labels)})
        self._ask("write the labels", "POST", "metadata", mapping.path_of(key), body=body)

    def _ask(
        self,
        operation: str,
        method: str,
        kind: str,
        path: str,
        *,
        body: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; that there is nothing is an answer to a question, all others but success are raised."""
        where = f"{self._mount}/{kind}/{self._folder}{path}"
        answer = self._send(operation, method, where, body=body, query=query)
        if not (answer.says_missing and method == "GET"):
            self._check(answer, operation, where, _capability(method, query))
        return answer

    def _send(
        self, operation: str, method: str, path: str, *, body: str | None = None, query: Mapping[str, str] | None = None
    ) -> Answer:
        try:
            if not self._is_known:
                self._check_engine(operation)
            return self._session.ask(method, quote(path), body=None if body is None else Secret(body), query=query)
        except UnreachedError as error:
            problem = self.failed(operation, f"{path} is out of reach, {error}", is_temporary=error.is_temporary)
        raise problem

    def _check_engine(self, operation: str) -> None:
        """Look once whether this is an engine of version 2, as an older one would take and give something else."""
        answer = self._session.ask("GET", quote(f"sys/internal/ui/mounts/{self._mount}"))
        if answer.is_success and (answer.data.get("options") or {}).get("version") != "2":
            raise self._no_engine(operation)
        self._is_known = not answer.is_temporary

    def _check(self, answer: Answer, operation: str, path: str, capability: str) -> None:
        if answer.is_success:
            return
        if answer.status == HTTPStatus.FORBIDDEN:
            raise PermissionDeniedError(
                f"{self.name} refuses to {operation}; allow {capability} on {path} in a policy of the token"
            )
        if answer.is_too_large:
            raise InvalidSecretValueError(f"{self.name} takes no value of this size at {path}")
        if answer.is_temporary:
            raise self.failed(operation, f"{path} cannot be reached now ({_temporary(answer)})", is_temporary=True)
        if "check-and-set parameter required" in answer.said:
            raise self.failed(operation, f"{path} is written with expected_version only")
        if answer.status == HTTPStatus.NOT_FOUND:
            raise self._no_engine(operation)
        raise self.failed(operation, f"{path} is answered with status {answer.status}, and not as Vault would")

    def _no_engine(self, operation: str) -> ProviderError:
        return self.failed(operation, f"there is no KV engine of version 2 at {self._mount}/")


def _mount_and_folder(address: Address) -> tuple[str, str]:
    path = address.path.strip("/")
    mount = address.options.get("mount", path.partition("/")[0]).strip("/")
    is_below = f"{path}/".startswith(f"{mount}/")
    # What was percent-encoded in a name of a host would lead to another one.
    if not _HOST.fullmatch(address.host) or not is_below or (address.username, address.password) != (None, None):
        address.refuse("is written vault://host:port/mount/folder, without a user; with mount= the path begins with it")
    if _PARTS_OF_NO_PATH & set(path.split("/")):
        address.refuse("names a mount and a folder, without empty parts, . and ..")
    return mount, path.removeprefix(mount).strip("/")


def _place(address: Address, path: str) -> Place:
    host = f"[{address.host}]" if ":" in address.host else address.host
    server = f"{host}:{address.port or DEFAULT_PORT}"
    namespace = address.options.get("namespace") or os.environ.get("VAULT_NAMESPACE") or None
    return Place(
        name=f"vault://{server}/{path}" + (f"?namespace={namespace}" if namespace else ""),
        address=f"{'https' if address.flag('tls', default=True) else 'http'}://{server}",
        namespace=namespace,
        verify=_authorities(address),
        timeout=address.number("timeout", default=DEFAULT_TIMEOUT_SECONDS, most=600),
    )


def _authorities(address: Address) -> bool | str:
    given = address.options.get("ca") or os.environ.get("VAULT_CACERT")
    if given and not Path(given).exists():
        address.refuse(f"names certificates with ca= or VAULT_CACERT that are not there: {given}")
    return given or True


def _auth(address: Address) -> str | None:
    given = address.options.get("auth")
    if given not in {None, "token", "approle"}:
        address.refuse("takes auth=token or auth=approle")
    return given


def _is_number(version: Version) -> bool:
    # The engine takes 0 for the newest version.
    return isinstance(version, int) and version > 0


def _number_of(info: ProvidedInfo | None) -> int:
    return int(info.version or 0) if info else 0


def _may_hold(folder: str, prefix: str, after: str) -> bool:
    fits = folder.startswith(prefix) or prefix.startswith(folder)
    return fits and (folder > after or after.startswith(folder)) and len(folder) < MAX_KEY_LENGTH


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _capability(method: str, query: Mapping[str, str] | None) -> str:
    return "list" if query == _LIST else _CAPABILITIES[method]


def _temporary(answer: Answer) -> str:
    sealed = ", it is sealed" if "sealed" in answer.said else ""
    return f"status {answer.status}{sealed}"
