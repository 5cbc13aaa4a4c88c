"""The twins: raw psycopg that does what the library does, by hand.

Their statements are those of the library, in its own text, so that the two cannot drift apart; they encrypt and decrypt with
`cryptography`, and parse JSON with pydantic's parser, as the library does.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.types.json import set_json_loads
from pydantic_core import from_json, to_json
from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from benchmarks.filling import Vault
from benchmarks.values import NAMESPACE
from secretstore.orm import event_statements, statements, write_statements
from secretstore.orm.event_repository import CHANNEL

_TEMPORARY = """
    CREATE TEMPORARY TABLE IF NOT EXISTS batch (key text COLLATE "C", version bigint, envelope text, event_id uuid)
    ON COMMIT DELETE ROWS
"""
_COPY = "COPY batch (key, version, envelope, event_id) FROM STDIN"
_UPSERT = """
    INSERT INTO secretstore.secret_store AS old
        (namespace, key, value, version, created_at, created_by, updated_at, updated_by)
    SELECT %(namespace)s, key, envelope::jsonb, version, %(moment)s, current_user, %(moment)s, current_user FROM batch ORDER BY key
    ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, version = excluded.version,
        expires_at = NULL, deleted_at = NULL, updated_at = excluded.updated_at, updated_by = excluded.updated_by
    WHERE old.version = excluded.version - 1
    RETURNING namespace, key, version, labels, created_at, updated_at, created_by, expires_at, deleted_at
"""
_HISTORY = """
    INSERT INTO secretstore.secret_version (namespace, key, version, value, created_at, created_by)
    SELECT %(namespace)s, key, version, envelope::jsonb, %(moment)s, current_user FROM batch
"""
_EVENTS = """
    INSERT INTO secretstore.change_event (namespace, id, key, version, action, actor, occurred_at)
    SELECT %(namespace)s, event_id, key, version, 'set', current_user, %(moment)s FROM batch
"""

_PREFIX = "given_"

# As psycopg gives it.
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of the library, and those of its parameters that are always the same."""

    text: str
    fixed: Mapping[str, object]

    @classmethod
    def of(cls, statement: Executable) -> Self:
        """Read a statement of the library."""
        dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # any of ours is SQL
        varying = {name: None for name in compiled.binds if name.startswith(_PREFIX)}
        expanded = compiled.construct_expanded_state(varying)
        fixed = {name: value for name, value in expanded.parameters.items() if name not in varying}
        return cls(expanded.statement, fixed)

    def given(self, **parameters: object) -> dict[str, object]:
        """Return all parameters."""
        return {**self.fixed, **statements.parameters(namespace=NAMESPACE, **parameters)}


class RawStore:
    """Secrets by hand on one connection, of which the caller decides when it commits."""

    def __init__(self, connection: psycopg.Connection[Row], vault: Vault) -> None:
        set_json_loads(from_json, context=connection)
        self.connection = connection
        self._codec = RawCodec(vault)
        self._value_text = Statement.of(statements.select_value()).text.encode()
        self._select_values = Statement.of(statements.select_values())
        self._select_heads = Statement.of(statements.select_heads())
        self._write_secrets = Statement.of(write_statements.write_secrets())
        self._notify = Statement.of(event_statements.notify())

    def get(self, key: str) -> object:
        """Read a secret."""
        row = self.connection.execute(self._value_text, {"given_namespace": NAMESPACE, "given_key": key}).fetchone()
        return None if row is None else self._codec.opened((key, *row))

    def get_many(self, keys: Sequence[str]) -> dict[str, object]:
        """Read many secrets."""
        rows = self._run(self._select_values, keys=list(keys)).fetchall()
        return {row[0]: self._codec.opened(row) for row in rows}

    def set(self, key: str, value: object) -> Row | None:
        """Write a secret in the transaction that is open."""
        heads = self._heads([key])
        moment = heads[0][7]
        version = (heads[0][2] or 0) + 1
        envelope = self._codec.sealed(key, version, value)
        written = self._run(self._write_secrets, **_one(key, version, envelope), moment=moment).fetchone()
        self._tell({"key": key, "version": version})
        return written

    def set_and_commit(self, key: str, value: object) -> Row | None:
        """Write a secret in a transaction of its own."""
        written = self.set(key, value)
        self.connection.commit()
        return written

    def set_many(self, values: Mapping[str, object], *, with_events: bool = True) -> list[Row]:
        """Write many secrets through a temporary table, in a transaction of their own."""
        heads = self._heads(list(values))
        versions = {head[1]: head[2] for head in heads}
        given = {"namespace": NAMESPACE, "moment": max(head[7] for head in heads)}
        self.connection.execute(_TEMPORARY)
        with self.connection.cursor().copy(_COPY) as copy:
            for key, value in values.items():
                version = versions.get(key, 0) + 1
                copy.write_row((key, version, self._codec.sealed(key, version, value), uuid4()))
        written = self.connection.execute(_UPSERT, given).fetchall()
        self.connection.execute(_HISTORY, given)
        if with_events:
            self.connection.execute(_EVENTS, given)
        self._tell({})
        self.connection.commit()
        return written

    def _heads(self, keys: list[str]) -> list[Row]:
        return self._run(self._select_heads, keys=keys).fetchall()

    def _tell(self, named: Mapping[str, object]) -> None:
        payload = json.dumps({"namespace": NAMESPACE, **named}, ensure_ascii=False)
        self._run(self._notify, channel=CHANNEL, payload=payload)

    def _run(self, statement: Statement, **parameters: object) -> psycopg.Cursor[Row]:
        return self.connection.execute(statement.text.encode(), statement.given(**parameters))


class RawAsyncStore:
    """Secrets by hand on connections of a pool."""

    def __init__(self, vault: Vault) -> None:
        self._codec = RawCodec(vault)
        self._value_text = Statement.of(statements.select_value()).text.encode()

    async def get(self, connection: psycopg.AsyncConnection[Row], key: str) -> object:
        """Read a secret."""
        cursor = await connection.execute(self._value_text, {"given_namespace": NAMESPACE, "given_key": key})
        row = await cursor.fetchone()
        return None if row is None else self._codec.opened((key, *row))


class RawCodec:
    """Seals and opens envelopes with `cryptography` alone."""

    def __init__(self, vault: Vault) -> None:
        self._id = vault.id
        self._cipher = AESGCM(vault.key)

    def opened(self, row: Row) -> object:
        """Return the value of a row of key, version and envelope."""
        key, version, envelope = row[:3]
        nonce, data = b64decode(envelope["nonce"]), b64decode(envelope["data"])
        return from_json(self._cipher.decrypt(nonce, data, _associated(key, version, envelope["key"])))

    def sealed(self, key: str, version: int, value: object) -> str:
        """Return an envelope as JSON text."""
        nonce = os.urandom(12)
        data = self._cipher.encrypt(nonce, to_json(value), _associated(key, version, self._id))
        nonce_text, data_text = b64encode(nonce).decode(), b64encode(data).decode()
        return f'{{"v":1,"alg":"A256GCM","key":"{self._id}","nonce":"{nonce_text}","data":"{data_text}"}}'


def _associated(key: str, version: int, data_key_id: str) -> bytes:
    fields = ("secretstore value 1", NAMESPACE, key, str(version), data_key_id)
    encoded = [field.encode() for field in fields]
    return b"".join(len(field).to_bytes(4, "big") + field for field in encoded)


def _one(key: str, version: int, envelope: str) -> dict[str, object]:
    return {
        "keys": [key],
        "versions": [version],
        "envelopes": [envelope],
        "labels": ["{}"],
        "expires_ats": [None],
        "event_ids": [uuid4()],
        "keeps_labels": True,
        "was_deleted": None,
        "action": "set",
        "actor": None,
        "request_id": None,
        "is_locked": False,
    }
