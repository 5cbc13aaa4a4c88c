"""What the providers of AWS have in common: where they are, their client, and what its failures mean (extra `aws`).

Credentials, retries, proxies and certificates are the SDK's own settings, and so are region and endpoint where a URL gives
none.
"""

import re
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Self

from pydantic import Secret

from secretstore.domain.unlogged import AWS_LOGGERS, unlogged
from secretstore.errors import PermissionDeniedError, ProviderError
from secretstore.providers.addresses import Address
from secretstore.providers.base import Provider

# What every URL of AWS takes.
OPTIONS = frozenset({"endpoint", "timeout"})
TIMEOUT_SECONDS = 5
LONGEST_TIMEOUT_SECONDS = 300

_REFUSED, _TOO_MANY, _SERVER_ERROR = 300, 429, 500
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_ENDPOINT = re.compile(r"https?://[^/?#@\s]+/?")
_ACTION = re.compile(r"not authorized to perform: (?P<action>[a-z0-9-]+:[A-Za-z]+)")
_EXTRA = "a provider in AWS needs the extra `aws`: python -m pip install 'pg-secretstore[aws]'"

_READS = ("BatchGet", "Describe", "Get", "List")
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_TEMPORARY = {
    "InternalFailure",
    "InternalServerError",
    "InternalServiceError",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TooManyUpdates",
}
_EXPIRED = "the credentials have expired; get new ones"
_UNKNOWN = "the credentials are not known; correct them"
_HINTS = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "IncompleteSignature": _UNKNOWN,
    "InvalidClientTokenId": _UNKNOWN,
    "InvalidSignatureException": f"{_UNKNOWN}, or this machine's clock",
    "RequestExpired": "this machine's clock is wrong; correct it",
    "SignatureDoesNotMatch": _UNKNOWN,
    "UnrecognizedClientException": _UNKNOWN,
}


class _NotWholeError(Exception):
    """An answer was cut, or is not one of AWS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsPlace:
    """A region and how it is reached; what is None is the SDK's own setting."""

    region: str | None = None
    endpoint: str | None = None
    timeout: float = TIMEOUT_SECONDS

    @classmethod
    def of(cls, address: Address) -> Self:
        """Return what a URL says; raises `ConfigurationError`."""
        if address.username is not None or address.password is not None or address.port is not None:
            address.refuse("holds no credentials and no port; give credentials to the SDK, and a server as endpoint=")
        if address.host and not _REGION.fullmatch(address.host):
            address.refuse("names a region, for example eu-west-1, or none for the SDK's own")
        endpoint = address.options.get("endpoint")
        if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
            address.refuse("takes endpoint=https://host:port")
        timeout = address.number("timeout", default=TIMEOUT_SECONDS, most=LONGEST_TIMEOUT_SECONDS)
        return cls(region=address.host or None, endpoint=endpoint, timeout=timeout)


class AwsProvider(Provider):
    """A provider in one service of AWS; connects at first use, and may be used by many threads."""

    service: ClassVar[str]
    # What to do about an error of the service, by its code.
    hints: ClassVar[Mapping[str, str]] = {}

    def __init__(self, name: str, place: AwsPlace) -> None:
        self.name = name
        self._place = place
        self._lock = threading.Lock()
        self._made: Any = None  # boto3 has no types
        _sdk()

    def close(self) -> None:
        """Give connections back."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a provider cannot be pickled; open its URL where it is used")

    def _call(
        self,
        action: str,
        operation: str,
        key: str | None = None,
        *,
        none_for: Collection[str] = (),
        **parameters: object,
    ) -> Any:
        """Return the answer to an action, by the name that IAM knows, or None where its error is one of `none_for`."""
        from botocore import xform_name  # noqa: PLC0415 - an extra
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        about = "" if key is None else f"{key!r}: "
        try:
            with unlogged(*AWS_LOGGERS):
                return self._hidden(getattr(self._client(), xform_name(action))(**parameters))
        except ClientError as error:
            # What was sent and answered hangs on the error; only its code leaves this block.
            if _code(error.response) not in none_for:
                problem = self._refused(error.response, action, operation, about)
            elif not _may_be_of_a_first_try(action, error.response):
                return None
            else:
                problem = self._unclear(operation, about)
        except (BotoCoreError, ResponseParserError, _NotWholeError) as error:
            problem = self._failed_on_the_way(error, operation, about)
        del parameters  # a value is one of them, and whoever shows a traceback may show what its frames hold
        raise problem

    def _hidden(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return an answer with its values hidden: it stays in frames, whose locals some tools show."""
        return answer

    def _part(self, answer: Mapping[str, Any], name: str, operation: str) -> Any:
        """Return a part that an answer of AWS has."""
        if name not in answer:
            raise self.failed(operation, "what answers is not AWS; check the endpoint")
        return answer[name]

    def _refused(
        self, response: Mapping[str, Any], action: str, operation: str, about: str
    ) -> PermissionDeniedError | ProviderError:
        code, status = _code(response), response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _DENIED:
            found = _ACTION.search(str(response.get("Error", {}).get("Message")))
            needed = found["action"] if found else f"{self.service}:{action}, and the use of its KMS key"
            return PermissionDeniedError(f"{self.name} refused to {operation}: {about}allow {needed}")
        if code in _TEMPORARY or status == _TOO_MANY or status >= _SERVER_ERROR:
            return self.failed(operation, f"{about}AWS asks to try again later ({code})", is_temporary=True)
        hint = self.hints.get(code) or _HINTS.get(code, "AWS refused the call")
        return self.failed(operation, f"{about}{hint} ({code})")

    def _unclear(self, operation: str, about: str) -> ProviderError:
        told = f"{about}a first try had no answer, and nobody knows what it has done; look before trying again"
        return self.failed(operation, told, is_temporary=True)

    def _failed_on_the_way(self, error: Exception, operation: str, about: str) -> ProviderError:
        from botocore.exceptions import ConnectionError, HTTPClientError  # noqa: A004, PLC0415 - an extra

        kind = type(error).__name__
        if isinstance(error, _NotWholeError):
            told = f"{about}what came is no whole answer of AWS; check the endpoint and proxies on the way"
        elif isinstance(error, (ConnectionError, HTTPClientError)):
            told = f"{about}AWS does not answer ({kind}); check region, endpoint and network"
        else:
            return self.failed(
                operation, f"{about}AWS cannot be used ({kind}); check the SDK's credentials, region and settings"
            )
        return self.failed(operation, told, is_temporary=True)

    def _client(self) -> Any:
        # Making a client is not safe in many threads, but using one is.
        with self._lock:
            if self._made is None:
                self._made = _make_client(self.service, self._place)
            return self._made


def _make_client(service: str, place: AwsPlace) -> Any:
    from botocore.config import Config  # noqa: PLC0415 - an extra

    # The SDK calls three times, or as often as its own settings say.
    config = Config(connect_timeout=place.timeout, read_timeout=place.timeout, retries={"mode": "standard"})
    session = _sdk().session.Session(region_name=place.region)
    client = session.client(service, endpoint_url=place.endpoint, config=config)
    client.meta.events.register("before-parse", _check_whole)
    return client


def _check_whole(*, response_dict: Mapping[str, Any], **_: object) -> None:
    """Raise where an answer was cut or is of somebody else; the SDK would take both for an answer without content."""
    headers, body = response_dict["headers"], response_dict["body"]
    is_cut = int(headers.get("Content-Length", len(body))) != len(body)
    if is_cut or (response_dict["status_code"] < _REFUSED and "x-amzn-RequestId" not in headers):
        raise _NotWholeError


def hide(told: dict[str, Any], *names: str) -> None:
    """Make members of a part of an answer, where they are there, what shows only when it is asked for its value."""
    for name in told.keys() & names:
        told[name] = Secret(told[name])


def _sdk() -> Any:
    try:
        import boto3  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return boto3


def _may_be_of_a_first_try(action: str, response: Mapping[str, Any]) -> bool:
    """Whether what is found may be what a first try of the same call has left, whose answer was lost."""
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts")) and not action.startswith(_READS)


def _code(response: Mapping[str, Any]) -> str:
    return str(response.get("Error", {}).get("Code"))
