"""Fills tables fast: COPY of envelopes that the library's own crypto has sealed."""

import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.values import NAMESPACE, key_of, value_of
from secretstore.crypto.aead import KEY_BYTES, Aead
from secretstore.crypto.envelope import ValuePlace, seal_value
from secretstore.crypto.local import LocalMasterKey
from secretstore.domain.protocols import DataKeyPlace
from secretstore.service.typed import as_json_text

_CHUNK = 10_000
# A prime that divides no number of secrets here: rows lie in the table in an order that is not that of their keys.
_STRIDE = 7_368_787

_ADD_DATA_KEY = "INSERT INTO secretstore.data_key (namespace, id, wrapped) VALUES (%s, %s, %s)"
_COPY_HEADS = "COPY secretstore.secret_store (namespace, key, value, version, created_by, updated_by) FROM STDIN"
_ADD_HISTORY = """
    INSERT INTO secretstore.secret_version (namespace, key, version, value, created_by)
    SELECT namespace, key, version, value, created_by FROM secretstore.secret_store
"""


@dataclass(frozen=True, slots=True)
class Vault:
    """The one data key of all databases here, also as bytes, for those who open values without the library."""

    id: str
    key: bytes = field(repr=False)
    wrapped: dict[str, object]

    def sealed(self, number: int) -> str:
        """Return a secret's envelope as JSON text."""
        place = ValuePlace(NAMESPACE, key_of(number), 1)
        return seal_value(Aead(self.id, self.key), as_json_text(value_of(number)), place).as_json()


def new_vault(master_key: LocalMasterKey) -> Vault:
    """Make a data key."""
    data_key_id, key = str(uuid4()), os.urandom(KEY_BYTES)
    return Vault(data_key_id, key, dict(master_key.wrap(key, DataKeyPlace(NAMESPACE, data_key_id))))


def fill(
    conninfo: str, vault: Vault, count: int, *, with_history: bool = False, readable: Container[int] | None = None
) -> None:
    """Put so many secrets into empty tables, vacuum, and read all of it once.

    Where only some are `readable`, the others have the envelope of another secret: they take as much room, and nobody
    reads them.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        add_data_key(connection, vault)
        # The data key is there, and looking for it at every row would take longer than all the rest.
        connection.execute("SET session_replication_role = replica")
        with connection.cursor().copy(_COPY_HEADS) as copy:
            for chunk in _chunks(_lines(vault, count, readable)):
                copy.write(chunk)
        if with_history:
            connection.execute(_ADD_HISTORY)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("SELECT sum(length(value::text)) FROM secretstore.secret_store")
        connection.execute("CHECKPOINT")


def add_data_key(connection: psycopg.Connection, vault: Vault) -> None:
    """Store the data key."""
    connection.execute(_ADD_DATA_KEY, [NAMESPACE, vault.id, Jsonb(vault.wrapped)])


def _lines(vault: Vault, count: int, readable: Container[int] | None) -> Iterator[str]:
    # Neither keys nor envelopes hold what COPY's text form would have to escape.
    another = vault.sealed(0)
    for position in range(count):
        number = position * _STRIDE % count
        envelope = vault.sealed(number) if readable is None or number in readable else another
        yield f"{NAMESPACE}\t{key_of(number)}\t{envelope}\t1\tbench\tbench\n"


def _chunks(lines: Iterable[str]) -> Iterator[str]:
    rest = iter(lines)
    while chunk := "".join(islice(rest, _CHUNK)):
        yield chunk
