"""Requests to Vault or OpenBao, from many threads, under a token that is renewed and replaced in time (extra `vault`).

Tokens and what is sent are hidden: where a request fails, some tools show the locals of every frame.
"""

import copy
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Secret

from secretstore.errors import ConfigurationError, PermissionDeniedError, ProviderError, SecretStoreError

_EXTRA = "a provider in Vault needs the extra `vault`: python -m pip install 'pg-secretstore[vault]'"
_HOW_TO_LOG_IN = (
    "set VAULT_TOKEN or VAULT_TOKEN_FILE, log in with its own program, or set VAULT_ROLE_ID and VAULT_SECRET_ID"
)
# A token is renewed when this part of its time is over.
_RENEWED_AFTER = 2 / 3
# A standby that does not forward, one that lags behind, and too many requests; and all of 500 and above.
_TEMPORARY = {HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.TOO_MANY_REQUESTS}


class UnreachedError(ProviderError):
    """There is no answer; the message is the reason alone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    content: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """Return the object that it holds; an empty one where there is none."""
        try:
            found = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def data(self) -> dict[str, Any]:
        """The member of that name."""
        return self.json().get("data") or {}

    @property
    def said(self) -> str:
        """The errors it tells of; they may name paths, so that nothing of it goes into errors of ours."""
        return " ".join(str(error) for error in self.json().get("errors") or [])

    @property
    def is_success(self) -> bool:
        """Whether the server, and not some proxy on the way, says that the request was carried out."""
        return self.status == HTTPStatus.NO_CONTENT or (self.status == HTTPStatus.OK and "data" in self.json())

    @property
    def says_missing(self) -> bool:
        """Whether the engine says that there is no such thing, and not that there is no such engine."""
        found = self.json()
        return self.status == HTTPStatus.NOT_FOUND and (found.get("errors") == [] or "data" in found)

    @property
    def is_too_large(self) -> bool:
        """Whether what was sent is more than the server takes; its storage says so with status 500."""
        is_refused = "complexity" in self.said or "too large" in self.said
        return is_refused or self.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later."""
        is_upgrading = "Upgrading from non-versioned" in self.said
        return self.status in _TEMPORARY or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or is_upgrading


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server is, and how it is spoken to; `timeout` is in seconds, for connecting and for each wait."""

    name: str
    address: str
    namespace: str | None
    verify: bool | str
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How to log in: `auth` is "token", "approle", or None for whichever the environment has."""

    auth: str | None
    role_mount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    text: Secret[str]
    due: float
    ends: float
    lease: float
    can_be_renewed: bool


class VaultSession:
    """Sends requests under a token; `clock` gives seconds."""

    def __init__(self, place: Place, how: How, *, clock: Callable[[], float] = time.time) -> None:
        self._wire = _Wire(place)
        self._login = _Login(self._wire, how, clock)

    def ask(
        self, method: str, path: str, *, body: Secret[str] | None = None, query: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, once more with another token where the first has ended.

        Raises `UnreachedError` where there is no answer, and `PermissionDeniedError` where no login succeeds.
        """
        token = self._login.token()
        answer = self._wire.send(method, path, token=token, body=body, query=query)
        if answer.status == HTTPStatus.FORBIDDEN and self._login.has_ended(token):
            token = self._login.token(ended=token)
            answer = self._wire.send(method, path, token=token, body=body, query=query)
        return answer

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._wire.close()


class _Wire:
    """Connections, each used by one thread at a time, and never in a process that was forked from theirs."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._idle: deque[Any] = deque()
        self._process = os.getpid()
        _sdk()

    def send(
        self,
        method: str,
        path: str,
        *,
        token: Secret[str] | None = None,
        body: Secret[str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        from requests.exceptions import RequestException  # noqa: PLC0415 - hvac brings it

        adapter = self._taken()
        adapter.token = None if token is None else token.get_secret_value()
        try:
            answer = adapter.request(
                method,
                f"/v1/{path}",
                raise_exception=False,
                data=None if body is None else body.get_secret_value().encode(),
                params=query,
            )
            sent = Answer(answer.status_code, answer.content)
        except (RequestException, OSError) as error:
            # What was sent hangs on the error; only words of ours leave this block.
            problem = self._unanswered(error)
        else:
            self._idle.append(adapter)
            return sent
        adapter.close()
        raise problem

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _taken(self) -> Any:
        if self._process != os.getpid():
            self._idle, self._process = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._made()

    def _made(self) -> Any:
        # A redirect would carry the token and the value to wherever it points.
        return _sdk().adapters.RawAdapter(
            self.place.address,
            token="",
            namespace=self.place.namespace,
            verify=self.place.verify,
            timeout=self.place.timeout,
            allow_redirects=False,
        )

    def _unanswered(self, error: Exception) -> UnreachedError:
        from requests import exceptions  # noqa: PLC0415 - hvac brings it

        if isinstance(error, exceptions.SSLError):
            return self.failed("TLS fails; does it speak TLS, and is its authority trusted, by ca= or VAULT_CACERT?")
        is_temporary = isinstance(
            error, exceptions.ConnectionError | exceptions.Timeout | exceptions.ChunkedEncodingError
        )
        return self.failed(f"there is no answer ({type(error).__name__})", is_temporary=is_temporary)

    def failed(self, problem: str, *, is_temporary: bool = False) -> UnreachedError:
        return UnreachedError(problem, provider=self.place.name, is_temporary=is_temporary)


class _Login:
    """The token of a session: found, renewed and replaced by one thread, while those who need it wait."""

    def __init__(self, wire: _Wire, how: How, clock: Callable[[], float]) -> None:
        self._wire = wire
        self._how = how
        self._clock = clock
        self._lock = threading.Lock()
        self._known: _Token | None = None
        self._problem: SecretStoreError | None = None
        self._turns = 0

    def token(self, *, ended: Secret[str] | None = None) -> Secret[str]:
        """Return a token, another one than `ended`."""
        known, turns = self._known, self._turns
        if known is not None and known.text != ended and self._clock() < known.due:
            return known.text
        with self._lock:
            # Whoever has waited takes what the turn of another brought, or its error.
            if turns == self._turns:
                self._take_turn(ended)
            if self._known is not None:
                return self._known.text
            raise copy.copy(self._problem or self._nobody())

    def has_ended(self, token: Secret[str]) -> bool:
        """Return whether a token that was refused is good for nothing, rather than without the right."""
        return self._wire.send("GET", "auth/token/lookup-self", token=token).status == HTTPStatus.FORBIDDEN

    def _take_turn(self, ended: Secret[str] | None) -> None:
        try:
            self._known, self._problem = self._next(ended), None
        except SecretStoreError as error:
            self._known, self._problem = self._still_good(ended), error.with_traceback(None)
        self._turns += 1

    def _still_good(self, ended: Secret[str] | None) -> _Token | None:
        """Return the token of before, to be replaced a little later, where it has some time left."""
        known, now = self._known, self._clock()
        if known is None or known.text == ended or known.ends <= now:
            return None
        return replace(known, due=now + (known.ends - now) * (1 - _RENEWED_AFTER))

    def _next(self, ended: Secret[str] | None) -> _Token:
        known = self._known
        if known is not None and known.text != ended and known.can_be_renewed:
            # Where that is refused, at its last moment with status 500, another token is needed.
            answer = self._wire.send("POST", "auth/token/renew-self", token=known.text, body=Secret("{}"))
            if answer.is_success:
                return self._leased(answer, known)
        given = self._given()
        if given is None:
            return self._logged_in()
        if given == ended:
            raise PermissionDeniedError(
                f"{self._wire.place.name}: the token has ended or was revoked; {_HOW_TO_LOG_IN}"
            )
        return self._looked_up(given)

    def _given(self) -> Secret[str] | None:
        """Return the token that the environment has; what Vault's own program left behind comes last."""
        if self._how.auth == "approle":
            return None
        given = _setting("VAULT_TOKEN", self._wire.place.name)
        has_role = self._how.auth is None and _setting("VAULT_ROLE_ID", self._wire.place.name) is not None
        if given is not None or has_role:
            return given
        left = Path("~/.vault-token").expanduser()
        found = _text_of(left, self._wire.place.name) if left.is_file() else None
        if found is not None or self._how.auth is None:
            return found
        raise self._nobody()

    def _logged_in(self) -> _Token:
        name = self._wire.place.name
        role, secret = _setting("VAULT_ROLE_ID", name), _setting("VAULT_SECRET_ID", name)
        if role is None or secret is None:
            raise self._nobody()
        body = Secret(json.dumps({"role_id": role.get_secret_value(), "secret_id": secret.get_secret_value()}))
        answer = self._wire.send("POST", quote(f"auth/{self._how.role_mount}/login"), body=body)
        self._check_is_settled(answer)
        if answer.is_success:
            return self._leased(answer, None)
        raise PermissionDeniedError(
            f"{name}: the login with AppRole at auth/{self._how.role_mount} was refused; is VAULT_ROLE_ID right, and has "
            "VAULT_SECRET_ID ended or been used up?"
        )

    def _leased(self, answer: Answer, before: _Token | None) -> _Token:
        auth = answer.json().get("auth") or {}
        if "client_token" not in auth:
            raise self._wire.failed("it answers a login without a token; are its address and role_mount right?")
        lease = float(auth["lease_duration"])
        # A renewal that gives less time than the last one has met the longest time that a token may have.
        grows = before is None or lease >= before.lease
        return self._token_of(Secret(auth["client_token"]), lease, can_be_renewed=auth["renewable"] and grows)

    def _looked_up(self, given: Secret[str]) -> _Token:
        # A token without the policy `default` may not look at itself; then a refusal will tell that it has ended.
        answer = self._wire.send("GET", "auth/token/lookup-self", token=given)
        self._check_is_settled(answer)
        found = answer.data
        return self._token_of(given, float(found.get("ttl", 0)), can_be_renewed=found.get("renewable", False))

    def _token_of(self, text: Secret[str], lease: float, *, can_be_renewed: bool) -> _Token:
        now, length = self._clock(), lease or inf
        due, ends = now + length * _RENEWED_AFTER, now + length
        return _Token(text=text, due=due, ends=ends, lease=lease, can_be_renewed=can_be_renewed)

    def _check_is_settled(self, answer: Answer) -> None:
        if answer.is_temporary:
            raise self._wire.failed(f"nobody can log in now (status {answer.status})", is_temporary=True)

    def _nobody(self) -> ConfigurationError:
        return ConfigurationError(f"nobody is logged in at {self._wire.place.name}; {_HOW_TO_LOG_IN}")


def _setting(name: str, place: str) -> Secret[str] | None:
    file = os.environ.get(f"{name}_FILE")
    return _text_of(Path(file), place) if file else _unless_empty(os.environ.get(name, ""))


def _unless_empty(text: str) -> Secret[str] | None:
    return Secret(text) if text else None


def _text_of(file: Path, place: str) -> Secret[str] | None:
    try:
        return _unless_empty(file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        pass
    raise ConfigurationError(f"cannot read {file}, which is needed to log in at {place}")


def _sdk() -> Any:
    try:
        import hvac  # noqa: PLC0415 - an extra
        import hvac.adapters  # noqa: PLC0415 - ditto
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return hvac
