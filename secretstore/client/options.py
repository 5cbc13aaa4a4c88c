"""What a client and its siblings on other namespaces have in common."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from secretstore.client.retrying import Retrying, Trial, Written
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.acting import Actors
from secretstore.domain.names import Namespace, parse_namespace
from secretstore.domain.observing import Observer
from secretstore.errors import SecretStoreError, StoreUnavailableError
from secretstore.orm.lending import Lender
from secretstore.orm.reads import PooledReads
from secretstore.orm.repository import SecretRepository
from secretstore.service.committed import Changed, OnChange, after_commit
from secretstore.service.data_keys import DataKeyFinder, PatientKeyRing
from secretstore.service.reading import SecretReader
from secretstore.service.synchronous import Notify, SecretService

T = TypeVar("T")
P = ParamSpec("P")


class RingCheck:
    """Whether the store was found to need no master key that the ring lacks; asked once, by the first who opens a key."""

    def __init__(self) -> None:
        self.passed = False


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The same for every call of a client."""

    keyring: KeyRing
    namespace: str
    actors: Actors
    max_value_bytes: int
    notify: Notify
    retrying: Retrying
    # Is told of every change of this process once it is committed.
    tell: OnChange | None = None
    ring_check: RingCheck = field(default_factory=RingCheck)

    def __post_init__(self) -> None:
        parse_namespace(self.namespace)

    @property
    def parsed_namespace(self) -> Namespace:
        """The namespace, which was found to be legal."""
        return Namespace(self.namespace)

    def on(self, namespace: str) -> "ClientOptions":
        """Return the same for another namespace."""
        return replace(self, namespace=namespace)

    def observed_by(self, observer: Observer) -> "ClientOptions":
        """Return the same with a key ring whose calls of key servers are told."""
        return replace(self, keyring=self.keyring.observed_by(observer))

    def pooled_reader(self, lender: Lender) -> SecretReader:
        """Return a reader on connections of a pool, which never waits for a key server."""
        pool = PooledReads(lender, self.parsed_namespace)
        finder = DataKeyFinder(pool, self.parsed_namespace, PatientKeyRing(self.keyring))
        return SecretReader(pool, self.parsed_namespace, finder)

    def check_repeatable(self, error: SecretStoreError) -> None:
        """Raise the error of a read without a transaction, unless the transaction that takes its place may help."""
        if not (isinstance(error, StoreUnavailableError) and self.retrying.seconds and self.retrying.allows(error)):
            raise error

    def service(self, session: Session) -> SecretService:
        """Return a service in the caller's transaction, where a key server is waited for."""
        return self._service(self._repository(session), self.keyring, self.on_change(session))

    def on_change(self, session: Session) -> OnChange | None:
        """Return what a service on a caller's session calls for each change."""
        return None if self.tell is None else after_commit(session, self.tell)

    def patient_service(self, session: Session) -> SecretService:
        """Return a service in a transaction of ours, where it is not."""
        return self._service(self._repository(session), PatientKeyRing(self.keyring), lambda _: None)

    def call(
        self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Trial[T]:
        """Return a call of a method of the service, to be made in a transaction of ours."""

        def work(session: Session, written: Written) -> T:
            repository = self._repository(session)
            # Where nobody is told of them, changes are not kept: there may be a million.
            on_change = None if self.tell is None else written.changes.append
            service = self._service(repository, PatientKeyRing(self.keyring), on_change)
            answer = method(service, *args, **kwargs)
            written.event_id = repository.last_event_id
            return answer

        return Trial(work, self.parsed_namespace, self.retrying, tell=self.tell)

    def step(self, do: Callable[[Session], T], *, is_repeatable: bool) -> Trial[T]:
        """Return anything else that is done in a transaction of ours."""
        return Trial(lambda session, _: do(session), self.parsed_namespace, self.retrying, is_repeatable=is_repeatable)

    def _repository(self, session: Session) -> SecretRepository:
        return SecretRepository(session, namespace=self.namespace)

    def _service(
        self, repository: SecretRepository, keyring: KeyRing | PatientKeyRing, on_change: OnChange | None
    ) -> SecretService:
        return SecretService(
            repository,
            keyring,
            actor=self.actors.default,
            require_actor=self.actors.is_required,
            max_value_bytes=self.max_value_bytes,
            notify=self.notify,
            on_change=on_change,
        )


def told(*listeners: OnChange | None) -> OnChange | None:
    """Return what tells each of those who want to know of a change, in their order; None where nobody does."""
    wanting = [listener for listener in listeners if listener is not None]

    def tell(change: Changed) -> None:
        for listener in wanting:
            listener(change)

    return tell if wanting else None
