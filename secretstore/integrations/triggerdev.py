"""Imports the secrets that trigger.dev keeps in its own table, `"SecretStore"`.

A row of version 2 holds `{"nonce", "ciphertext", "tag"}` in hex: AES-256-GCM under the 32 characters of `ENCRYPTION_KEY`
taken as bytes, over JSON text.  A row of version 1 holds plain JSON, and so does every row of a table that has no column
`version` yet.  Times are UTC, with or without a time zone in the column's type.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias
from urllib.parse import unquote

from sqlalchemy import ColumnElement, Connection, Text, case, cast, column, func, literal, literal_column, select, text
from sqlalchemy import table as table_of

from secretstore.client.synchronous import SecretClient
from secretstore.crypto.aead import KEY_BYTES, NONCE_BYTES, TAG_BYTES, Aead, SealFailed
from secretstore.domain.names import parse_prefix
from secretstore.errors import (
    ConfigurationError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    MasterKeyError,
    PermissionDeniedError,
)
from secretstore.orm.engines import make_engine
from secretstore.orm.repository import Times
from secretstore.orm.translate import translated
from secretstore.service.importing import Incoming, Outcome, import_secrets, incoming
from secretstore.service.synchronous import SecretService

TABLE = "SecretStore"
CHUNK_ROWS = 300
SHOWN_SKIPS = 30

_FETCHED_ROWS = 100
# Fewer rows make a chunk where they are large, so that what is held does not grow with the size of values.
_CHUNK_CHARACTERS = 8 * 1024 * 1024
_DEFAULT_SCHEMA = "public"
# What Prisma takes in a URL beside libpq's own parameters, and libpq refuses.
_OF_PRISMA = frozenset(
    {
        *("schema", "connection_limit", "pool_timeout", "socket_timeout", "pgbouncer", "statement_cache_size"),
        *("single_use_connections", "sslaccept", "sslidentity"),
    }
)
_COLUMNS = frozenset({"key", "value", "createdAt", "updatedAt"})
_HEX = re.compile("(?:[0-9a-fA-F]{2})+")
# PostgreSQL's infinities and most remote years are no points in time to Python.
_FIRST_DAY, _LAST_DAY = "'0001-01-02'", "'9999-12-30'"
# The catalogue may be read by every role.
_PROBE = text(
    """
    SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS is_readable,
           array(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :schema AND c.relname = :table
    """
)


class SkipReason(StrEnum):
    """Why a row was not imported."""

    PLAINTEXT = "plaintext"
    UNKNOWN_VERSION = "unknown_version"
    MALFORMED = "malformed"
    DOES_NOT_OPEN = "does_not_open"
    NOT_JSON = "not_json"
    BREAKS_A_LIMIT = "breaks_a_limit"
    CHANGED_HERE = "changed_here"
    DELETED_HERE = "deleted_here"


# The key of a row that was not imported, and why, for programs and in words.
Skip: TypeAlias = tuple[str, SkipReason, str]

_HERE = MappingProxyType(
    {
        Outcome.CHANGED_HERE: (SkipReason.CHANGED_HERE, "it has another value here, which is not older"),
        Outcome.DELETED_HERE: (SkipReason.DELETED_HERE, "it was deleted here, and has not changed there since"),
    }
)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it is stored in trigger.dev; `value` is JSON text."""

    key: str
    value: str | None = field(repr=False)
    version: str
    created_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that was not imported, and why in words."""

    key: str
    words: str


@dataclass(slots=True)
class Report:
    """How many rows came to what, and the first of those that were skipped."""

    imported: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: Counter[SkipReason] = field(default_factory=Counter)
    first_skipped: list[Skipped] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """All rows that were looked at."""
        return self.imported + self.updated + self.unchanged + self.skipped.total()

    def skip(self, key: str, reason: SkipReason, words: str) -> None:
        """Count a row that was skipped."""
        self.skipped[reason] += 1
        if len(self.first_skipped) < SHOWN_SKIPS:
            self.first_skipped.append(Skipped(key, words))

    def add(self, outcomes: Mapping[Any, Outcome]) -> None:
        """Count rows that were looked up here."""
        counted = Counter(outcomes.values())
        self.imported += counted[Outcome.IMPORTED]
        self.updated += counted[Outcome.UPDATED]
        self.unchanged += counted[Outcome.UNCHANGED]
        for key, outcome in outcomes.items():
            if outcome in _HERE:
                self.skip(key, *_HERE[outcome])


class TriggerdevTable:
    """The table of a trigger.dev, in one transaction that only reads."""

    def __init__(self, connection: Connection, schema: str, columns: Iterable[str]) -> None:
        self._connection = connection
        self._has_version = "version" in columns
        names = (*_COLUMNS, "version")
        self._table = table_of(TABLE, *(column(name) for name in names), schema=schema)

    def count(self, prefix: str = "") -> int:
        """Return how many rows have keys that begin with `prefix`."""
        statement = select(func.count()).select_from(self._table).where(self._begins_with(prefix))
        return int(self._connection.execute(statement).scalar_one())

    def chunks(self, prefix: str = "", *, size: int = CHUNK_ROWS) -> Generator[list[SourceRow]]:
        """Fetch rows in the order of their keys, a few at a time, from a cursor of the server."""
        columns = self._table.c
        statement = (
            select(
                cast(columns.key, Text),
                cast(columns.value, Text),
                cast(columns.version, Text) if self._has_version else literal("1", Text),
                _datable(columns.createdAt),
                _datable(columns.updatedAt),
            )
            .where(self._begins_with(prefix))
            .order_by(columns.key, columns.updatedAt.desc())
        )
        options = {"yield_per": min(size, _FETCHED_ROWS)}
        with self._connection.execute(statement, execution_options=options) as found:
            rows = (SourceRow(*row) for row in found)
            # trigger.dev has one row for each key; of a table that lost its unique index, the newest counts.
            yield from _chunks((next(same) for _, same in groupby(rows, attrgetter("key"))), size)

    def _begins_with(self, prefix: str) -> ColumnElement[bool]:
        return func.starts_with(self._table.c.key, parse_prefix(prefix))


@contextmanager
def open_table(url: str) -> Iterator[TriggerdevTable]:
    """Connect to the database of a trigger.dev, by the `DATABASE_URL` that trigger.dev has.

    Raises `ConfigurationError` where the database has no such table.
    """
    libpq_url, schema = _without_prisma(url)
    engine = make_engine(libpq_url)
    try:
        with translated(), engine.connect().execution_options(postgresql_readonly=True) as connection:
            yield TriggerdevTable(connection, schema, _columns(connection, schema))
    finally:
        engine.dispose()


def parse_encryption_key(text: str) -> Aead:
    """Return trigger.dev's `ENCRYPTION_KEY` as a key; raises `MasterKeyError`, which never repeats it."""
    key = text.encode(errors="replace")
    if len(key) != KEY_BYTES:
        raise MasterKeyError(
            f"trigger.dev's ENCRYPTION_KEY has {KEY_BYTES} bytes, and the one that is given has {len(key)}; take it from "
            "the environment of trigger.dev as it is there"
        )
    return Aead("trigger.dev", key)


def import_table(
    store: SecretClient,
    table: TriggerdevTable,
    key: Aead,
    *,
    prefix: str = "",
    allow_plaintext: bool = False,
    dry_run: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    on_rows: Callable[[int], object] = lambda _: None,
) -> Report:
    """Import all rows whose keys begin with `prefix`, each chunk in a transaction, and keep their times.

    It is safe to run again, also beside another run: what is here already is left as it is, unless the row is newer.  A
    row that cannot be imported is counted with its reason, and does not stop the others.  With `dry_run` nothing is
    written, and the report says what would have been.  `on_rows` hears after each commit how many rows are done.
    """
    report = Report()
    importer = _reader(store) if dry_run else store
    work = partial(_import_chunk, key=key, allow_plaintext=allow_plaintext, dry_run=dry_run)
    with closing(table.chunks(prefix, size=chunk_rows)) as chunks:
        for chunk in chunks:
            # Not on a session of ours: the client leaves its transaction where a key server has to be asked.
            skips, outcomes = importer._run(work, chunk)
            for skip in skips:
                report.skip(*skip)
            report.add(outcomes)
            on_rows(report.rows)
    return report


def open_value(row: SourceRow, key: Aead, *, allow_plaintext: bool = False) -> Any:
    """Return the value of a row; raises `SkipRow`."""
    if row.version == "2":
        return _json(_decrypted(_json(row.value, SkipReason.MALFORMED), key), SkipReason.NOT_JSON)
    if row.version != "1":
        raise SkipRow(SkipReason.UNKNOWN_VERSION, f"its version is {row.version!r}, which this release does not know")
    if not allow_plaintext:
        raise SkipRow(SkipReason.PLAINTEXT, "it is stored in plain text, which was not allowed")
    return _json(row.value, SkipReason.NOT_JSON)


class SkipRow(Exception):  # noqa: N818 - it is counted, and never leaves this module's import
    """Says why a row cannot be imported, without its value."""

    def __init__(self, reason: SkipReason, words: str) -> None:
        super().__init__(reason, words)
        self.reason = reason
        self.words = words


def _reader(store: SecretClient) -> SecretClient:
    """Return the same client, whose transactions cannot write."""
    reader = copy(store)
    reader.engine = store.engine.execution_options(postgresql_readonly=True)
    return reader


def _import_chunk(
    service: SecretService, rows: Iterable[SourceRow], *, key: Aead, allow_plaintext: bool, dry_run: bool
) -> tuple[list[Skip], Mapping[Any, Outcome]]:
    """Import those rows of a chunk that can be imported; return which cannot, and what came of the others."""
    skips: list[Skip] = []
    opened: list[Incoming] = []
    for row in rows:
        try:
            times = Times(_utc(row.created_at), _utc(row.updated_at))
            opened.append(incoming(service, row.key, open_value(row, key, allow_plaintext=allow_plaintext), times))
        except SkipRow as skip:
            skips.append((row.key, skip.reason, skip.words))
        except (InvalidSecretKeyError, InvalidSecretValueError) as error:
            skips.append((row.key, SkipReason.BREAKS_A_LIMIT, str(error)))
    return skips, import_secrets(service, opened, dry_run=dry_run)


def _decrypted(envelope: Any, key: Aead) -> bytes:
    match envelope:
        case {"nonce": str(nonce), "ciphertext": str(ciphertext), "tag": str(tag)}:
            parts = [bytes.fromhex(part) if _HEX.fullmatch(part) else b"" for part in (nonce, ciphertext, tag)]
        case _:
            raise SkipRow(SkipReason.MALFORMED, "its value is not an object of nonce, ciphertext and tag")
    if (len(parts[0]), len(parts[2])) != (NONCE_BYTES, TAG_BYTES) or not parts[1]:
        raise SkipRow(SkipReason.MALFORMED, "its nonce, ciphertext or tag is not hex of the right length")
    try:
        return key.open(parts[0], parts[1] + parts[2], b"")
    except SealFailed:
        pass
    raise SkipRow(
        SkipReason.DOES_NOT_OPEN,
        "it does not open with this ENCRYPTION_KEY: it was sealed with another one, or changed",
    )


def _json(data: str | bytes | None, reason: SkipReason) -> Any:
    try:
        # Text, because `json.loads` would guess at the encoding of bytes.
        decoded = data.decode() if isinstance(data, bytes) else data
        return json.loads("" if decoded is None else decoded, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    raise SkipRow(reason, "its value is not JSON")


def _refuse(_: str) -> NoReturn:
    raise ValueError("NaN and infinities are not JSON")


def _utc(moment: datetime | None) -> datetime:
    if moment is None:
        raise SkipRow(SkipReason.MALFORMED, "its times are missing, or out of range")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _datable(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((moment.between(literal_column(_FIRST_DAY), literal_column(_LAST_DAY)), moment))


def _chunks(rows: Iterable[SourceRow], size: int) -> Iterator[list[SourceRow]]:
    chunk: list[SourceRow] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += len(row.value or "")
        if len(chunk) >= size or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _columns(connection: Connection, schema: str) -> list[str]:
    found = connection.execute(_PROBE, {"schema": schema, "table": TABLE}).one_or_none()
    name = f'"{schema}"."{TABLE}"'
    if found is None:
        raise ConfigurationError(
            f"the database of this URL has no trigger.dev table {name}; correct the URL, or its ?schema=…"
        )
    missing = sorted(_COLUMNS - set(found.columns))
    if missing:
        raise ConfigurationError(f"{name} is not trigger.dev's table: it has no column {', '.join(missing)}")
    if not found.is_readable:
        raise PermissionDeniedError(
            f"the role of trigger.dev's URL may not read {name}; grant it USAGE on the schema, and SELECT on the table"
        )
    return list(found.columns)


def _without_prisma(url: str) -> tuple[str, str]:
    """Return a URL for libpq, and the schema that it names."""
    address, _, query = url.partition("?")
    parameters = [(part.partition("=")[0], part) for part in query.split("&") if part]
    schemas = [unquote(part.partition("=")[2]) for name, part in parameters if name == "schema"]
    kept = "&".join(part for name, part in parameters if name not in _OF_PRISMA)
    return f"{address}?{kept}" if kept else address, schemas[-1] if schemas else _DEFAULT_SCHEMA
