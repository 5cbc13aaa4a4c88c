"""What a client and its siblings on other namespaces have in common."""

from dataclasses import dataclass, field, replace

from sqlalchemy.orm import Session

from secretstore.crypto.keyring import KeyRing
from secretstore.domain.names import Namespace, parse_namespace
from secretstore.orm.repository import SecretRepository
from secretstore.service import SecretService
from secretstore.service.committed import OnCommit
from secretstore.service.data_keys import PatientKeyRing
from secretstore.service.synchronous import Notify


class RingCheck:
    """Whether the store was found to need no master key that the ring lacks; asked once, by the first who opens a key."""

    def __init__(self) -> None:
        self.passed = False


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The same for every call of a client."""

    keyring: KeyRing
    namespace: str
    actor: str | None
    max_value_bytes: int
    notify: Notify
    on_commit: OnCommit | None = None
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

    def service(self, session: Session) -> SecretService:
        """Return a service in the caller's transaction, where a key server is waited for."""
        return self._service(session, self.keyring)

    def patient_service(self, session: Session) -> SecretService:
        """Return a service in a transaction of ours, where it is not."""
        return self._service(session, PatientKeyRing(self.keyring))

    def _service(self, session: Session, keyring: KeyRing | PatientKeyRing) -> SecretService:
        repository = SecretRepository(session, namespace=self.namespace)
        return SecretService(
            repository,
            keyring,
            actor=self.actor,
            max_value_bytes=self.max_value_bytes,
            notify=self.notify,
            on_commit=self.on_commit,
        )
