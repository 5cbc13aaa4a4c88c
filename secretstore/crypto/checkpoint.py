"""The bytes that seal the record: of events, of the tree over them, and of the checkpoints that hold its root.

A *field* is a text: one byte 1, the length of its UTF-8 in 4 bytes (big-endian), and its UTF-8; a null is one byte 0.
Numbers are decimal digits, a UUID is its 36 characters in lower case, a time is the decimal digits of the whole
microseconds since 1970-01-01T00:00Z, and hashes are 64 hexadecimal digits in lower case.

    an event        the fields "secretstore event 1", the record ("change" or "access"), and then each column of its row
                    in the order of `EVENT_COLUMNS`
    a leaf          SHA-256 of a byte 0 and an event
    a node          SHA-256 of a byte 1, the hash on the left and the hash on the right
    the root        of a tree as in RFC 6962, section 2.1; of no events SHA-256 of nothing
    a checkpoint    the fields "secretstore checkpoint 1", namespace, record, number, first_seq, last_seq, kept_from,
                    sealed_at, data_key_id, root, previous
    previous        SHA-256 of the checkpoint before; 32 zero bytes where there is none
    mac             HMAC-SHA-256 of a checkpoint, under a key of 32 bytes from HKDF-SHA-256 (RFC 5869) over the data key of
                    state `audit`, without salt; its info are the fields "secretstore checkpoint key 1", namespace, data key id
    leaves          the leaves one after another, which the root proves; so it can be said which event is not as it was
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secretstore.domain.protocols import DataKeyPlace

HASH_BYTES = 32
NOTHING_BEFORE = bytes(HASH_BYTES)
EVENT_COLUMNS = (
    *("namespace", "id", "key", "version", "action", "actor", "occurred_at", "outcome"),
    *("request_id", "application_name", "database_role", "seq"),
)

_KEY_BYTES = 32
_SEQ = EVENT_COLUMNS.index("seq")

Field = str | int | None


class CheckpointKey:
    """What authenticates the checkpoints of one namespace; its bytes cannot be read back from it."""

    __slots__ = ("_key", "id")

    def __init__(self, data_key: bytes, place: DataKeyPlace) -> None:
        self.id = place.data_key_id
        info = _joined(("secretstore checkpoint key 1", place.namespace, place.data_key_id))
        self._key = HKDF(SHA256(), _KEY_BYTES, salt=None, info=info).derive(data_key)

    def authenticate(self, content: bytes) -> bytes:
        """Return the mac of a checkpoint."""
        return hmac.digest(self._key, content, "sha256")

    def __repr__(self) -> str:
        return f"CheckpointKey({self.id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a stretch of events was when it was sealed; `sealed_at` is in microseconds, as digits."""

    namespace: str
    record: str
    number: int
    first_seq: int
    last_seq: int
    kept_from: int
    sealed_at: str
    data_key_id: str
    root: bytes
    previous: bytes

    @property
    def content(self) -> bytes:
        """The bytes that are authenticated."""
        numbers = (self.number, self.first_seq, self.last_seq, self.kept_from)
        hashes = (self.root.hex(), self.previous.hex())
        who = ("secretstore checkpoint 1", self.namespace, self.record)
        return _joined((*who, *numbers, self.sealed_at, self.data_key_id, *hashes))

    @property
    def hash(self) -> bytes:
        """What the next checkpoint names."""
        return sha256(self.content).digest()

    def is_authentic(self, key: CheckpointKey, mac: bytes) -> bool:
        """Return whether someone with the key has sealed just this."""
        return self.data_key_id == key.id and hmac.compare_digest(key.authenticate(self.content), mac)


def leaf_of(record: str, event: Sequence[Field]) -> bytes:
    """Return the leaf of an event, whose columns come in the order of `EVENT_COLUMNS`, the time as digits."""
    return sha256(b"\0" + _joined(("secretstore event 1", record, *event))).digest()


def moved_to(event: Sequence[Field], seq: int) -> Sequence[Field]:
    """Return what an event would be under another number."""
    return (*event[:_SEQ], seq, *event[_SEQ + 1 :])


def root_of(leaves: bytes) -> bytes:
    """Return the root of the tree over leaves, which come one after another."""
    if not leaves:
        return sha256().digest()
    level = split(leaves)
    while len(level) > 1:
        nodes = [_node(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
        # What has no neighbour goes up as it is, which is the tree of RFC 6962.
        level = nodes + level[len(nodes) * 2 :]
    return level[0]


def split(leaves: bytes) -> list[bytes]:
    """Return leaves that come one after another as a list."""
    return [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def _joined(fields: Sequence[Field]) -> bytes:
    return b"".join([_field(field) for field in fields])


def _field(field: Field) -> bytes:
    if field is None:
        return b"\0"
    encoded = str(field).encode()
    return b"\1" + len(encoded).to_bytes(4, "big") + encoded
