"""Master keys in the transit engine of Vault or OpenBao (extra `vault`).

A data key is wrapped by `encrypt`, whose answer ("vault:v1:…") stands in `data`; `alg` is "VAULT-TRANSIT".  Where it
belongs is given as `associated_data`, and again as `context` for keys that are derived: these fields one after another, each
as a length of 4 bytes (big-endian) and then its UTF-8

    "secretstore data key 1"  namespace  data key id  master key id

Keys that know no associated data, such as RSA, are refused by the server.

The address comes from the entry; the token from VAULT_TOKEN, the file that VAULT_TOKEN_FILE names, or a login with
VAULT_ROLE_ID and VAULT_SECRET_ID.  VAULT_NAMESPACE and VAULT_CACERT are those of Vault's own programs.
"""

import os
import re
import threading
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import SplitResult, urlsplit

from secretstore.crypto.envelope import data_key_context
from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError, MasterKeyError
from secretstore.keyrings.served import as_stored, checked_data_key, parse_stored

ALGORITHM = "VAULT-TRANSIT"
TIMEOUT_SECONDS = 5.0

_SCHEMES = {"vault": "https", "vault+http": "http"}
_PATH = re.compile(r"/(?P<mount>[\w./-]+)/(?P<name>[\w.-]+)", re.ASCII)
_HOW_TO_WRITE = "a master key in Vault is written vault://host:port/mount/key, without user, query and fragment"
_HOW_TO_LOG_IN = "set VAULT_TOKEN, VAULT_TOKEN_FILE, or VAULT_ROLE_ID and VAULT_SECRET_ID"
_EXTRA = "a master key in Vault needs the extra `vault`: python -m pip install 'pg-secretstore[vault]'"
# What the server says of a ciphertext that was changed or moved; it has no code for it.
_CHANGED = re.compile(r"message authentication failed|invalid ciphertext|base64", re.IGNORECASE)
_TOO_OLD = "disallowed by policy (too old)"


class VaultMasterKey:
    """A key of the transit engine; connects at each use, which is rare."""

    def __init__(self, address: str, *, mount: str, name: str, timeout: float = TIMEOUT_SECONDS) -> None:
        self.id = f"vault:{mount}/{name}"
        self.fingerprint = name
        self._address = address
        self._mount = mount
        self._name = name
        self._timeout = timeout
        self._token: str | None = None
        self._lock = threading.Lock()
        _sdk()

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Read `vault://host:port/mount/key`, or `vault+http://…` for a server without TLS; raises `MasterKeyError`."""
        parts = _split(entry)
        path = _PATH.fullmatch(parts.path) if parts else None
        if parts is None or path is None or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise MasterKeyError(_HOW_TO_WRITE)
        address = f"{_SCHEMES[parts.scheme]}://{parts.netloc}"
        return cls(address, mount=path["mount"], name=path["name"])

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap a data key."""
        answer = self._call(lambda transit: self._encrypt(transit, data_key, place), place)
        return as_stored(ALGORITHM, self.id, answer["data"]["ciphertext"])

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Return a data key."""
        ciphertext = parse_stored(wrapped, ALGORITHM, self.id, place)
        answer = self._call(lambda transit: self._decrypt(transit, ciphertext, place), place)
        return checked_data_key(_decoded(answer["data"]["plaintext"]), place)

    def __repr__(self) -> str:
        return f"VaultMasterKey({self.id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a master key cannot be pickled")

    def _encrypt(self, transit: Any, data_key: bytes, place: DataKeyPlace) -> Any:
        return transit.encrypt_data(
            self._name, plaintext=b64encode(data_key).decode(), mount_point=self._mount, **self._binding(place)
        )

    def _decrypt(self, transit: Any, ciphertext: str, place: DataKeyPlace) -> Any:
        return transit.decrypt_data(self._name, ciphertext=ciphertext, mount_point=self._mount, **self._binding(place))

    def _binding(self, place: DataKeyPlace) -> dict[str, str]:
        encoded = b64encode(data_key_context(place, self.id)).decode()
        return {"associated_data": encoded, "context": encoded}

    def _call(self, call: Callable[[Any], Any], place: DataKeyPlace) -> Any:
        """Call the engine, and where the token is refused once more with a new one."""
        from hvac.exceptions import Forbidden, VaultError  # noqa: PLC0415 - an extra
        from requests.exceptions import RequestException  # noqa: PLC0415 - hvac brings it

        problem: DecryptionError | MasterKeyError | None = None
        for find_token in (self._known_token, self._new_token):
            try:
                return self._call_with(find_token(), call)
            except VaultError as error:
                # What was sent and answered hangs on the error; only words of ours leave this block.
                problem, may_log_in = self._refused(error, place), isinstance(error, Forbidden)
            except RequestException as error:
                problem, may_log_in = self._unanswered(error, place), False
            if not may_log_in:
                break
        assert problem is not None  # noqa: S101 - for the type checker: the loop has at least one turn
        raise problem

    def _unanswered(self, error: Exception, place: DataKeyPlace) -> MasterKeyError:
        return MasterKeyError(
            f"Vault at {self._address} does not answer ({type(error).__name__}), and is needed for {place}",
            is_temporary=True,
        )

    def _call_with(self, token: str, call: Callable[[Any], Any]) -> Any:
        # A client for each call: its session is not made for many threads.
        with closing(self._client(token)) as client:
            return call(client.secrets.transit)

    def _client(self, token: str | None = None) -> Any:
        client = _sdk().Client(
            self._address,
            token=token,
            namespace=os.environ.get("VAULT_NAMESPACE"),
            verify=os.environ.get("VAULT_CACERT") or True,
            timeout=self._timeout,
        )
        client.close = client.adapter.close
        return client

    def _known_token(self) -> str:
        with self._lock:
            known = self._token
        return known or self._new_token()

    def _new_token(self) -> str:
        token = _given_token() or self._log_in()
        with self._lock:
            self._token = token
        return token

    def _log_in(self) -> str:
        role, secret = os.environ.get("VAULT_ROLE_ID"), os.environ.get("VAULT_SECRET_ID")
        if not role or not secret:
            raise MasterKeyError(f"nobody is logged in at Vault at {self._address}; {_HOW_TO_LOG_IN}")
        with closing(self._client()) as client:
            answer = client.auth.approle.login(role_id=role, secret_id=secret, use_token=False)
        return str(answer["auth"]["client_token"])

    def _refused(self, error: Any, place: DataKeyPlace) -> DecryptionError | MasterKeyError:
        from hvac import exceptions  # noqa: PLC0415 - an extra

        said = str(error)
        temporary = (
            exceptions.BadGateway,
            exceptions.InternalServerError,
            exceptions.RateLimitExceeded,
            # Of a proxy in between, such as 504.
            exceptions.UnexpectedError,
            exceptions.VaultDown,
            exceptions.VaultNotInitialized,
        )
        if isinstance(error, temporary):
            return MasterKeyError(
                f"Vault at {self._address} cannot answer now ({type(error).__name__}); is it sealed? It is needed for {place}",
                is_temporary=True,
            )
        if _TOO_OLD in said:
            return MasterKeyError(f"{self.id} does not open {place} any more; lower its min_decryption_version")
        if _CHANGED.search(said):
            return DecryptionError(f"{place} does not open with {self.id}: it was changed, or moved here")
        if isinstance(error, (exceptions.Forbidden, exceptions.Unauthorized)):
            return MasterKeyError(
                f"Vault at {self._address} refuses the use of {self.id}; allow update on {self._mount}/encrypt/{self._name} "
                f"and {self._mount}/decrypt/{self._name}, and check the token"
            )
        return MasterKeyError(
            f"Vault at {self._address} refuses {self.id} ({type(error).__name__}): is there such a mount and such a key, and "
            "does its type know associated data?"
        )


def _split(entry: str) -> SplitResult | None:
    try:
        return urlsplit(entry)
    except ValueError:
        return None


def _given_token() -> str | None:
    file = os.environ.get("VAULT_TOKEN_FILE")
    if not file:
        return os.environ.get("VAULT_TOKEN")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        pass
    raise MasterKeyError(f"cannot read the file that VAULT_TOKEN_FILE names, {file}")


def _decoded(plaintext: str) -> bytes:
    try:
        return b64decode(plaintext, validate=True)
    except (Base64Error, ValueError):
        return b""


def _sdk() -> Any:
    try:
        import hvac  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return hvac
