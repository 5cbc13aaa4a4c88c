"""Master keys in AWS KMS (extra `aws`).

A data key is wrapped by `Encrypt`, whose answer stands in base64 in `data`; `alg` is "AWS-KMS".  The encryption context,
which KMS checks and writes into its log, says where the data key belongs:

    secretstore:namespace   the namespace
    secretstore:data-key    the id of the data key

KMS knows fewer characters than a namespace may have.  So a namespace that has others than letters of ASCII, digits and
`_./=+@:-`, or that begins with `utf8:`, is written as `utf8:` and the hexadecimal digits of its UTF-8.

Region and key come from the ARN; credentials, endpoints and proxies are the SDK's own settings.
"""

import re
import threading
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from secretstore.domain.protocols import DataKeyPlace
from secretstore.domain.unlogged import AWS_LOGGERS, unlogged
from secretstore.errors import DecryptionError, MasterKeyError
from secretstore.keyrings.served import as_stored, checked_data_key, parse_stored

ALGORITHM = "AWS-KMS"
TIMEOUT_SECONDS = 5.0

_ATTEMPTS = 2
_TOO_MANY, _SERVER_ERROR = 429, 500
_KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):\d{12}:key/(?P<key>[A-Za-z0-9-]+)")
_PLAIN = re.compile(r"(?!utf8:)[A-Za-z0-9_./=+@:-]+")
_EXTRA = "a master key in AWS KMS needs the extra `aws`: python -m pip install 'pg-secretstore[aws]'"

_CHANGED = {"InvalidCiphertextException", "IncorrectKeyException", "ValidationException"}
_TEMPORARY = {
    "DependencyTimeoutException",
    "KMSInternalException",
    "KeyUnavailableException",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TooManyRequestsException",
}
_HINTS = {
    "AccessDeniedException": "the credentials may not use it; allow kms:Encrypt and kms:Decrypt",
    "DisabledException": "it is disabled; enable it",
    "ExpiredTokenException": "the credentials have expired",
    "InvalidKeyUsageException": "it is not a key that encrypts; use a symmetric one",
    "KMSInvalidStateException": "it is being deleted, or not usable yet; cancel its deletion",
    "NotFoundException": "there is no such key; correct the ARN",
    "UnrecognizedClientException": "the credentials are not known",
}


class AwsKmsMasterKey:
    """A symmetric key in AWS KMS, named by its ARN; connects at first use."""

    def __init__(self, arn: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        found = _KEY_ARN.fullmatch(arn)
        if found is None:
            raise MasterKeyError(
                "a master key in AWS KMS is named by the ARN of the key, arn:aws:kms:region:account:key/id; an alias can be "
                "pointed at another key, and so it is not taken"
            )
        self.id = arn
        self.fingerprint = found["key"]
        self._region = found["region"]
        self._timeout = timeout
        self._lock = threading.Lock()
        self._made: Any = None  # boto3 has no types
        _sdk()

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap a data key."""
        answer = self._call(
            lambda kms: kms.encrypt(KeyId=self.id, Plaintext=data_key, EncryptionContext=_context(place)), place
        )
        return as_stored(ALGORITHM, self.id, b64encode(answer["CiphertextBlob"]).decode())

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Return a data key."""
        blob = _decoded(parse_stored(wrapped, ALGORITHM, self.id, place), place)
        answer = self._call(
            lambda kms: kms.decrypt(KeyId=self.id, CiphertextBlob=blob, EncryptionContext=_context(place)), place
        )
        return checked_data_key(answer["Plaintext"], place)

    def __repr__(self) -> str:
        return f"AwsKmsMasterKey({self.id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a master key cannot be pickled")

    def _call(self, call: Callable[[Any], Any], place: DataKeyPlace) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError  # noqa: A004, PLC0415

        try:
            with unlogged(*AWS_LOGGERS):
                return call(self._client())
        except ClientError as error:
            # What was sent and answered hangs on the error; only its code leaves this block.
            problem = self._refused(error.response, place)
        except (ConnectionError, HTTPClientError) as error:
            problem = MasterKeyError(
                f"AWS KMS in {self._region} does not answer ({type(error).__name__}), and is needed for {place}",
                is_temporary=True,
            )
        except BotoCoreError as error:
            problem = MasterKeyError(
                f"AWS KMS key {self.id} cannot be used ({type(error).__name__}); check the SDK's credentials and settings"
            )
        raise problem

    def _refused(self, response: Mapping[str, Any], place: DataKeyPlace) -> DecryptionError | MasterKeyError:
        code = str(response.get("Error", {}).get("Code"))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _CHANGED:
            return DecryptionError(f"{place} does not open with {self.id}: it was changed, or moved here ({code})")
        if code in _TEMPORARY or status == _TOO_MANY or status >= _SERVER_ERROR:
            return MasterKeyError(
                f"AWS KMS asks to try again later ({code}); it is needed for {place}", is_temporary=True
            )
        return MasterKeyError(f"AWS KMS key {self.id}: {_HINTS.get(code, 'the call was refused')} ({code})")

    def _client(self) -> Any:
        # Making a client is not safe in many threads, but using one is.
        with self._lock:
            if self._made is None:
                self._made = _make_client(self._region, self._timeout)
            return self._made


def _make_client(region: str, timeout: float) -> Any:
    from botocore.config import Config  # noqa: PLC0415 - an extra

    retries = {"total_max_attempts": _ATTEMPTS, "mode": "standard"}
    config = Config(connect_timeout=timeout, read_timeout=timeout, retries=retries)
    return _sdk().session.Session(region_name=region).client("kms", config=config)


def _sdk() -> Any:
    try:
        import boto3  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return boto3


def _context(place: DataKeyPlace) -> dict[str, str]:
    namespace = place.namespace
    if not _PLAIN.fullmatch(namespace):
        namespace = f"utf8:{namespace.encode().hex()}"
    return {"secretstore:namespace": namespace, "secretstore:data-key": place.data_key_id}


def _decoded(data: str, place: DataKeyPlace) -> bytes:
    try:
        return b64decode(data, validate=True)
    except (Base64Error, ValueError):
        pass
    raise DecryptionError(f"{place} was changed: a part of it is not base64")
