"""The stand-alone client: each call is a transaction of its own."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from datetime import datetime
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast, overload

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore.client.keys import Keys
from secretstore.client.options import ClientOptions
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.records import SecretInfo
from secretstore.orm.translate import translated
from secretstore.service import SecretService
from secretstore.service.data_keys import KeyServerCall
from secretstore.service.flows import Flow, Outside
from secretstore.service.typed import MAX_VALUE_BYTES

T = TypeVar("T")
D = TypeVar("D")
P = ParamSpec("P")


class SecretClient:
    """Secrets of one namespace; each call is a transaction of its own.  Safe to use from many threads.

    `secretstore.connect` makes one.  The methods are those of `SecretService`.
    """

    def __init__(
        self,
        engine: Engine,
        keyring: KeyRing,
        *,
        namespace: str = "default",
        actor: str | None = None,
        max_value_bytes: int = MAX_VALUE_BYTES,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.engine = engine
        self._options = ClientOptions(keyring, namespace, actor, max_value_bytes)
        self._on_close = on_close

    def bind(self, session: Session) -> SecretService:
        """Return a service on your session: it takes part in your transaction and never ends it."""
        return self._options.service(session)

    def namespace(self, namespace: str) -> "SecretClient":
        """Return a client on another namespace that shares engine and key ring, and lives as long as this one."""
        sibling = copy(self)
        sibling._options = self._options.on(namespace)  # noqa: SLF001 - it is one of us
        sibling._on_close = None  # noqa: SLF001 - ditto
        return sibling

    @property
    def keys(self) -> Keys:
        """The keys of the store, to be listed, checked and changed."""
        return Keys(self._options.keyring, self._options.parsed_namespace, self._drive)

    def close(self) -> None:
        """Close what `connect` opened; an engine that was given stays as it is."""
        if self._on_close is not None:
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SecretClient(namespace={self._options.namespace!r})"

    @overload
    def get_secret(
        self, key: str, as_type: type[T], *, version: int | None = None, default: None = None
    ) -> T | None: ...
    @overload
    def get_secret(self, key: str, as_type: type[T], *, version: int | None = None, default: D) -> T | D: ...
    @overload
    def get_secret(self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None) -> Any: ...
    def get_secret(self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None) -> Any:
        """See `SecretService.get_secret`."""
        return self._run(SecretService.get_secret, key, as_type, version=version, default=default)

    @overload
    def get_secret_or_raise(self, key: str, as_type: type[T], *, version: int | None = None) -> T: ...
    @overload
    def get_secret_or_raise(self, key: str, as_type: Any = None, *, version: int | None = None) -> Any: ...
    def get_secret_or_raise(self, key: str, as_type: Any = None, *, version: int | None = None) -> Any:
        """See `SecretService.get_secret_or_raise`."""
        return self._run(SecretService.get_secret_or_raise, key, as_type, version=version)

    def set_secret(
        self,
        key: str,
        value: object,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
        expires_at: datetime | None = None,
    ) -> SecretInfo:
        """See `SecretService.set_secret`."""
        return self._run(
            SecretService.set_secret,
            key,
            value,
            expected_version=expected_version,
            labels=labels,
            expires_at=expires_at,
        )

    def set_secrets(
        self, values: Mapping[str, object], *, labels: Mapping[str, str] | None = None
    ) -> dict[str, SecretInfo]:
        """See `SecretService.set_secrets`."""
        return self._run(SecretService.set_secrets, values, labels=labels)

    def delete_secret(self, key: str) -> bool:
        """See `SecretService.delete_secret`."""
        return self._run(SecretService.delete_secret, key)

    def delete_secrets(self, keys: Iterable[str]) -> int:
        """See `SecretService.delete_secrets`."""
        return self._run(SecretService.delete_secrets, keys)

    def list_secret_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """See `SecretService.list_secret_keys`."""
        return self._run(SecretService.list_secret_keys, prefix, after=after, limit=limit)

    def get_secret_count(self, prefix: str = "") -> int:
        """See `SecretService.get_secret_count`."""
        return self._run(SecretService.get_secret_count, prefix)

    @overload
    def get_secrets(self, keys: Iterable[str], as_type: type[T]) -> dict[str, T]: ...
    @overload
    def get_secrets(self, keys: Iterable[str], as_type: Any = None) -> dict[str, Any]: ...
    def get_secrets(self, keys: Iterable[str], as_type: Any = None) -> dict[str, Any]:
        """See `SecretService.get_secrets`."""
        return self._run(SecretService.get_secrets, keys, as_type)

    @overload
    def get_secrets_by_prefix(
        self, prefix: str, as_type: type[T], *, after: str | None = None, limit: int | None = None
    ) -> dict[str, T]: ...
    @overload
    def get_secrets_by_prefix(
        self, prefix: str, as_type: Any = None, *, after: str | None = None, limit: int | None = None
    ) -> dict[str, Any]: ...
    def get_secrets_by_prefix(
        self, prefix: str, as_type: Any = None, *, after: str | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """See `SecretService.get_secrets_by_prefix`."""
        return self._run(SecretService.get_secrets_by_prefix, prefix, as_type, after=after, limit=limit)

    def describe_secret(self, key: str) -> SecretInfo | None:
        """See `SecretService.describe_secret`."""
        return self._run(SecretService.describe_secret, key)

    def list_secrets(
        self,
        prefix: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SecretInfo]:
        """See `SecretService.list_secrets`."""
        return self._run(SecretService.list_secrets, prefix, labels=labels, after=after, limit=limit)

    def _run(self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return self._in_transaction(lambda lent: method(self._options.patient_service(lent), *args, **kwargs))
            except KeyServerCall as needed:
                make = needed.make
            self._check_ring()
            make()

    def _check_ring(self) -> None:
        if not self._options.ring_check.passed:
            self.keys.check_complete()
            self._options.ring_check.passed = True

    def _in_transaction(self, do: Callable[[Session], T]) -> T:
        with translated(), Session(self.engine) as session, session.begin():
            return do(session)

    def _drive(self, flow: Flow[T]) -> T:
        answer = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                return cast("T", end.value)
            answer = step.do() if isinstance(step, Outside) else self._in_transaction(step.do)
