"""What tests of keys share: key rings of several keys, a master key that can be slow or down, and what is in the tables."""

import threading
from collections.abc import Callable, Mapping

import psycopg
from sqlalchemy.orm import Session

from secretstore import KeyRing, MasterKeyError, SecretClient
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.domain.key_records import Reencryption
from secretstore.domain.protocols import DataKeyPlace
from secretstore.service.flows import Flow, Outside

_STORED = """
    SELECT 'head', namespace, key, version, labels::text, expires_at, deleted_at, created_at, created_by, updated_at, updated_by
    FROM secretstore.secret_store
    UNION ALL
    SELECT 'history', namespace, key, version, labels::text, expires_at, destroyed_at, created_at, created_by, NULL, NULL
    FROM secretstore.secret_version
    ORDER BY 1, 2, 3, 4
"""


class ServedMasterKey:
    """A master key behind a server that is slow, or does not answer, or refuses, as a test wants it."""

    def __init__(self, key_id: str = "served") -> None:
        self._key = LocalMasterKey.parse(generate_master_key(key_id))
        self.id, self.fingerprint = self._key.id, self._key.fingerprint
        self.calls: list[str] = []
        self.refusal: MasterKeyError | None = None
        self.during: Callable[[], object] = lambda: None
        self._lock = threading.Lock()

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap as a local key does."""
        self._answer("wrap")
        return self._key.wrap(data_key, place)

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Unwrap as a local key does."""
        self._answer("unwrap")
        return self._key.unwrap(wrapped, place)

    def go_down(self) -> None:
        """Do not answer from now on."""
        self.refusal = MasterKeyError("the key server does not answer", is_temporary=True)

    def deny(self) -> None:
        """Refuse from now on."""
        self.refusal = MasterKeyError("the key server refuses")

    def _answer(self, call: str) -> None:
        with self._lock:
            self.calls.append(call)
        self.during()
        if self.refusal is not None:
            raise MasterKeyError(str(self.refusal), is_temporary=self.refusal.is_temporary)


def ring_of(*key_texts: str) -> KeyRing:
    """A key ring of local keys; the first one wraps."""
    return KeyRing.from_text(",".join(key_texts))


def stored_rows(raw: psycopg.Connection) -> list[tuple[object, ...]]:
    """Everything that is stored of secrets, current and old, but their envelopes."""
    return raw.execute(_STORED).fetchall()


def drive(store: SecretClient, flow: Flow[Reencryption], between: Callable[[int], object]) -> Reencryption:
    """Carry out a flow as a client does, and call a function before each step with its number."""
    answer: object = None
    number_of_step = 0
    while True:
        try:
            step = flow.send(answer)
        except StopIteration as end:
            done: Reencryption = end.value
            return done
        between(number_of_step)
        number_of_step += 1
        if isinstance(step, Outside):
            answer = step.do()
            continue
        with Session(store.engine) as session, session.begin():
            answer = step.do(session)
