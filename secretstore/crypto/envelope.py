"""The stored form of every ciphertext: of values, and of data keys wrapped by a local master key.

An envelope is a JSON object with exactly these members, in any order:

    v      number   1, the format
    alg    text     "A256GCM": AES-256-GCM with a nonce of 96 bits and a tag of 128 bits
    key    text     the id of the key that seals: of a data key for a value, of a master key for a data key
    nonce  text     base64 (RFC 4648 section 4, with padding) of 12 bytes
    data   text     base64 of the ciphertext followed by its 16 bytes of tag

The associated data are these fields one after another, each as a length of 4 bytes (big-endian) and then its bytes;
texts are UTF-8, numbers are decimal digits:

    of a value      "secretstore value 1"     namespace  key            version      data key id
    of a data key   "secretstore data key 1"  namespace  data key id    master key id

The plaintext of a value is its JSON text in UTF-8; that of a data key is its 32 bytes.
Base64 that is not in its one canonical form is refused, so that every changed character is noticed.

What was shredded leaves an object behind that holds nothing but its format, "alg": "shredded", and of a value the id of the
data key that is gone.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from typing import NamedTuple

from pybase64 import b64decode, b64encode_as_string

from secretstore.crypto.aead import NONCE_BYTES, TAG_BYTES, Aead, SealFailed
from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError

FORMAT = 1
ALGORITHM = "A256GCM"
SHREDDED = "shredded"
_MEMBERS = ("v", "alg", "key", "nonce", "data")
_members_of = itemgetter(*_MEMBERS)
# How base64 ends after a last group of two bytes, or of one, where the bits that are not used are zero.
_CANONICAL_ENDS = (*(f"{last}=" for last in "AEIMQUYcgkosw048"), *(f"{last}==" for last in "AQgw"))


class ValuePlace(NamedTuple):
    """Where a value belongs; its envelope opens nowhere else."""

    namespace: str
    key: str
    version: int

    def __str__(self) -> str:
        return f"version {self.version} of {self.key!r} in namespace {self.namespace!r}"

    def associated_data(self, data_key_id: str) -> bytes:
        """Return what the tag covers beside the value."""
        start, end = _around_the_key(self.namespace, self.version, data_key_id)
        key = self.key.encode()
        return b"".join((start, len(key).to_bytes(4, "big"), key, end))


class Envelope(NamedTuple):
    """A parsed envelope; nothing of it is secret."""

    key_id: str
    nonce: bytes
    data: bytes

    @staticmethod
    def parse(stored: object, what: object) -> "Envelope":
        """Read a stored envelope, or raise `DecryptionError` that names `what` it is of."""
        if not isinstance(stored, dict) or len(stored) != len(_MEMBERS):
            raise _unknown_format(stored, what)
        try:
            version, algorithm, key_id, nonce_text, data_text = _members_of(stored)
        except KeyError:
            raise _unknown_format(stored, what) from None
        # A bool would pass for the number 1.
        if algorithm != ALGORITHM or version != FORMAT or type(version) is not int:
            raise _unknown_format(stored, what)
        if not (type(key_id) is type(nonce_text) is type(data_text) is str):
            raise _unknown_format(stored, what)
        nonce, data = _decoded(nonce_text, what), _decoded(data_text, what)
        if len(nonce) != NONCE_BYTES or len(data) < TAG_BYTES:
            raise DecryptionError(f"{what} was changed: a part of it has the wrong length")
        return _envelope((key_id, nonce, data))

    def as_object(self) -> dict[str, object]:
        """Return the envelope as the JSON object to store."""
        return {
            "v": FORMAT,
            "alg": ALGORITHM,
            "key": self.key_id,
            "nonce": b64encode_as_string(self.nonce),
            "data": b64encode_as_string(self.data),
        }

    def as_json(self) -> str:
        """Return the envelope as JSON text."""
        # By hand, because every write makes one: nothing but the id of the key can hold what has to be escaped.
        key, nonce, data = (
            encode_basestring_ascii(self.key_id),
            b64encode_as_string(self.nonce),
            b64encode_as_string(self.data),
        )
        return f'{{"v":{FORMAT},"alg":"{ALGORITHM}","key":{key},"nonce":"{nonce}","data":"{data}"}}'


# As the class does, without a step in Python for every value that is read.
_envelope = partial(tuple.__new__, Envelope)


def _unknown_format(stored: object, what: object) -> DecryptionError:
    check_not_shredded(stored, what)
    return DecryptionError(f"{what} is not in a format that this release knows")


def shredded(data_key_id: str | None = None) -> dict[str, object]:
    """Return what is left of a data key, or of a value that one sealed."""
    return {"v": FORMAT, "alg": SHREDDED} | ({} if data_key_id is None else {"key": data_key_id})


def check_not_shredded(stored: object, what: object) -> None:
    """Raise the `DecryptionError` of what was destroyed on purpose."""
    if isinstance(stored, Mapping) and stored.get("alg") == SHREDDED:
        raise DecryptionError(f"{what} was shredded: its data key was destroyed, and nobody can ever read it again")


def seal_value(data_key: Aead, value: bytes, place: ValuePlace) -> Envelope:
    """Seal a value's JSON text so that it opens at `place` and nowhere else."""
    nonce, data = data_key.seal(value, place.associated_data(data_key.id))
    return Envelope(data_key.id, nonce, data)


def open_value(data_key: Aead, envelope: Envelope, place: ValuePlace) -> bytes:
    """Return a value's JSON text, or raise `DecryptionError`."""
    try:
        return data_key.open(envelope.nonce, envelope.data, place.associated_data(envelope.key_id))
    except SealFailed:
        raise DecryptionError(
            f"{place} does not open: it was changed, or moved here from another place; restore the row from a backup"
        ) from None


def wrap_data_key(master_key: Aead, data_key: bytes, place: DataKeyPlace) -> Envelope:
    """Seal a data key's 32 bytes under a master key."""
    nonce, data = master_key.seal(data_key, data_key_context(place, master_key.id))
    return Envelope(master_key.id, nonce, data)


def unwrap_data_key(master_key: Aead, envelope: Envelope, place: DataKeyPlace) -> bytes:
    """Return a data key's 32 bytes, or raise `DecryptionError`."""
    try:
        return master_key.open(envelope.nonce, envelope.data, data_key_context(place, master_key.id))
    except SealFailed:
        raise DecryptionError(
            f"{place} does not open with master key {master_key.id!r}: these are not the bytes that the key of this id "
            "had, or the row was changed"
        ) from None


def data_key_context(place: DataKeyPlace, master_key_id: str) -> bytes:
    """Return what a wrapped data key is bound to."""
    return _joined("secretstore data key 1", place.namespace, place.data_key_id, master_key_id)


def _joined(*fields: str) -> bytes:
    return b"".join(map(_framed, fields))


# Many values have it in common.
@lru_cache(maxsize=1024)
def _around_the_key(namespace: str, version: int, data_key_id: str) -> tuple[bytes, bytes]:
    return _joined("secretstore value 1", namespace), _joined(str(version), data_key_id)


def _framed(field: str) -> bytes:
    encoded = field.encode()
    return len(encoded).to_bytes(4, "big") + encoded


def _decoded(text: str, what: object) -> bytes:
    try:
        # By position, because names of arguments take as long as all the rest.
        decoded = b64decode(text, None, True)  # noqa: FBT003 - `altchars` and `validate`
    except ValueError:
        decoded = b""
    # Strict as it is, it takes any bits that a last group of one or two bytes does not use.
    if text and (not decoded or (text[-1] == "=" and not text.endswith(_CANONICAL_ENDS))):
        raise DecryptionError(f"{what} was changed: a part of it is not canonical base64")
    return decoded
