"""What a data key looks like that a key server has wrapped.

    v      number   1, the format
    alg    text     which kind of server it was, and what `data` is; see the file of each
    key    text     the id of the master key
    data   text     what the server answered

The server binds it to its place, which is not repeated in it.
"""

from collections.abc import Mapping

from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError

FORMAT = 1
DATA_KEY_BYTES = 32


def as_stored(algorithm: str, key_id: str, data: str) -> dict[str, object]:
    """Return a wrapped data key as it is stored."""
    return {"v": FORMAT, "alg": algorithm, "key": key_id, "data": data}


def parse_stored(wrapped: Mapping[str, object], algorithm: str, key_id: str, place: DataKeyPlace) -> str:
    """Return what the server answered, or raise `DecryptionError`."""
    match wrapped:
        case {"v": int(v), "alg": str(alg), "key": str(key), "data": str(data), **others} if (
            type(v) is int and (v, alg, key) == (FORMAT, algorithm, key_id) and not others
        ):
            return data
        case _:
            raise DecryptionError(f"{place} is not in a format that this release knows")


def checked_data_key(data_key: bytes, place: DataKeyPlace) -> bytes:
    """Return an unwrapped data key, if it can be one."""
    if len(data_key) != DATA_KEY_BYTES:
        raise DecryptionError(f"{place} was changed: it has the wrong length")
    return data_key
