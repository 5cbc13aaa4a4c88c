"""The stand-alone client: each call is a transaction of its own."""

from collections.abc import Callable
from copy import copy
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar, cast

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore.client.keys import Keys
from secretstore.client.methods import SecretMethods
from secretstore.client.options import ClientOptions
from secretstore.crypto.keyring import KeyRing
from secretstore.orm.translate import translated
from secretstore.service import SecretService
from secretstore.service.data_keys import KeyServerCall
from secretstore.service.flows import Flow, Outside
from secretstore.service.synchronous import Notify
from secretstore.service.typed import MAX_VALUE_BYTES

T = TypeVar("T")
P = ParamSpec("P")


class SecretClient(SecretMethods):
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
        notify: Notify = "transaction",
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.engine = engine
        self._options = ClientOptions(keyring, namespace, actor, max_value_bytes, notify)
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
