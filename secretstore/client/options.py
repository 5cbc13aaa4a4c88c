"""What a client and its siblings on other namespaces have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from secretstore.client.attempts import accesses_of_failure
from secretstore.client.retrying import Retrying, Trial, Written
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.accesses import Accessed, AuditReads, OnRead, Stamped
from secretstore.domain.acting import Actors
from secretstore.domain.names import Namespace, parse_namespace
from secretstore.domain.observing import Observer
from secretstore.errors import ConfigurationError, SecretStoreError, StoreUnavailableError
from secretstore.orm.event_repository import EventRepository, why_nothing_can_be_recorded
from secretstore.orm.lending import Lender
from secretstore.orm.models import AccessEvent
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
    audit_reads: AuditReads = "off"
    # Takes what is written a moment later; only where reads are so audited.
    buffer: Callable[[Namespace, Sequence[Stamped]], object] | None = None
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
        return SecretReader(pool, self.parsed_namespace, finder, on_read=self.on_read(None))

    def recording(self, accessed: Sequence[Accessed]) -> Trial[None] | None:
        """Let accesses be written soon, or return the transaction that writes them, without which nothing may be given."""
        stamped = self._stamped(accessed)
        if self.audit_reads != "strict":
            self._add_to_buffer(stamped)
            return None
        return self.step(lambda session: self._record(session, stamped), is_repeatable=True)

    def failed(self, name: str, arguments: Sequence[object], error: SecretStoreError) -> list[Accessed]:
        """Return what has to be recorded of a call that raised, and is not yet."""
        if self.audit_reads == "strict":
            # Nothing can be written to what is away.
            return [] if isinstance(error, StoreUnavailableError) else accesses_of_failure(name, arguments, error)
        accessed = accesses_of_failure(name, arguments, error)
        # What a read did not find was recorded as it looked.
        return [one for one in accessed if (one.action, one.outcome) != ("get", "missing")]

    def on_read(self, session: Session | None) -> OnRead | None:
        """Return what a reader calls for each read, of a session or of none; nothing where reads are not audited."""
        if self.audit_reads == "off":
            return None
        if self.audit_reads == "strict" and session is not None:
            return lambda accessed: self._record(session, self._stamped(accessed))
        return lambda accessed: self._add_to_buffer(self._stamped(accessed))

    def _stamped(self, accessed: Sequence[Accessed]) -> list[Stamped]:
        # A read needs nobody to be named.
        by = self.actors.known()
        return [Stamped(one, by) for one in accessed]

    def _add_to_buffer(self, stamped: Sequence[Stamped]) -> None:
        if self.buffer is not None:
            self.buffer(self.parsed_namespace, stamped)

    def _record(self, session: Session, stamped: Sequence[Stamped]) -> None:
        EventRepository(session, self.parsed_namespace, AccessEvent).record_accesses(stamped)

    def check_repeatable(self, error: SecretStoreError) -> None:
        """Raise the error of a read without a transaction, unless the transaction that takes its place may help."""
        if not (isinstance(error, StoreUnavailableError) and self.retrying.seconds and self.retrying.allows(error)):
            raise error

    def service(self, session: Session) -> SecretService:
        """Return a service in the caller's transaction, where a key server is waited for."""
        return self._service(
            self._repository(session), self.keyring, self.on_change(session), on_read=self.on_read(session)
        )

    def on_change(self, session: Session) -> OnChange | None:
        """Return what a service on a caller's session calls for each change."""
        return None if self.tell is None else after_commit(session, self.tell)

    def exporting_service(self, session: Session, on_read: OnRead) -> SecretService:
        """Return a service in a snapshot of ours, which does not last: whoever exports records what was read elsewhere."""
        audited = None if self.audit_reads == "off" else on_read
        return self._service(self._repository(session), PatientKeyRing(self.keyring), lambda _: None, on_read=audited)

    def call(
        self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Trial[T]:
        """Return a call of a method of the service, to be made in a transaction of ours."""

        def work(session: Session, written: Written) -> T:
            repository = self._repository(session)
            # Where nobody is told of them, changes are not kept: there may be a million.
            on_change = None if self.tell is None else written.changes.append
            service = self._service(repository, PatientKeyRing(self.keyring), on_change, on_read=self.on_read(session))
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
        self,
        repository: SecretRepository,
        keyring: KeyRing | PatientKeyRing,
        on_change: OnChange | None,
        *,
        on_read: OnRead | None,
    ) -> SecretService:
        return SecretService(
            repository,
            keyring,
            actor=self.actors.default,
            require_actor=self.actors.is_required,
            max_value_bytes=self.max_value_bytes,
            notify=self.notify,
            on_change=on_change,
            on_read=on_read,
        )


def check_recording(session: Session) -> None:
    """Raise `ConfigurationError` where reads cannot be recorded in their own transaction."""
    problem = why_nothing_can_be_recorded(session)
    if problem is not None:
        raise ConfigurationError(
            f"reads cannot be recorded here, and audit_reads is strict: {problem}; connect to the primary, or let "
            "audit_reads be off"
        )


def told(*listeners: OnChange | None) -> OnChange | None:
    """Return what tells each of those who want to know of a change, in their order; None where nobody does."""
    wanting = [listener for listener in listeners if listener is not None]

    def tell(change: Changed) -> None:
        for listener in wanting:
            listener(change)

    return tell if wanting else None
