"""What a client hands to each service that it makes."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from secretstore.crypto.keyring import KeyRing
from secretstore.domain.names import parse_namespace
from secretstore.orm.repository import SecretRepository
from secretstore.service import SecretService


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The same for every call of a client."""

    keyring: KeyRing
    namespace: str
    actor: str | None
    max_value_bytes: int

    def __post_init__(self) -> None:
        parse_namespace(self.namespace)

    def service(self, session: Session) -> SecretService:
        """Return a service on a session."""
        repository = SecretRepository(session, namespace=self.namespace)
        return SecretService(repository, self.keyring, actor=self.actor, max_value_bytes=self.max_value_bytes)
