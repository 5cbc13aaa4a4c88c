"""Hot statements through libpq itself, on a driver connection that a session or a pool lends.

Around a statement that takes PostgreSQL 20 µs, psycopg's cursor takes 40 µs and SQLAlchemy's execution 60 µs more.  So the
few statements that every read and write sends are compiled once, and go by `psycopg.pq`.  Nothing else uses this file, and
everything works without it: where it does not fit, SQLAlchemy and psycopg's cursor do the work.

What the cursor would have done, and what becomes of it here:

    BEGIN                   sent as the cursor does; a transaction with settings of its own is left to SQLAlchemy
    failed transactions     left to SQLAlchemy, which says so
    pipeline mode           left to SQLAlchemy
    encodings other than    left to SQLAlchemy
      UTF-8
    the connection's lock   taken
    waiting, Ctrl-C, tasks  psycopg's own `wait`, which cancels the statement and never blocks a loop
      that are cancelled
    result status           checked; an error is raised by its SQLSTATE and without PostgreSQL's words
    broken connections      raised as psycopg does; whoever lends the connection takes it out of the pool
    names of prepared       made of the statement's text: behind a pooler the same name is the same statement
      statements
    their eviction          none: there are as many as this library has hot statements
    statements that are     prepared anew, or sent without a name; inside a transaction the error stands, see `_FORGOTTEN`
      gone or out of date
    fork                    the pool's business, see `engines`

Parameters are sent in PostgreSQL's text form, but arrays in its binary form, which is much cheaper to make and to read:

    int32  dimensions: 1, or 0 where the array is empty
    int32  1 where there are nulls, else 0
    int32  type of the elements
    int32  number of elements        } not where it is empty
    int32  lower bound: 1            }
    then for each element: int32 number of bytes, or -1 for null, and the bytes

Integers are big-endian; bigint is 8 bytes, uuid 16 bytes, timestamptz 8 bytes of µs since 2000-01-01 UTC, text UTF-8.
Results come in the text form.
"""

import hashlib
import select
import struct
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.generators import execute as answer_of
from pydantic_core import from_json
from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Executable, Integer, Text, Uuid
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import await_only

from secretstore.orm.statements import unprefixed

# Options of engines, by SQLAlchemy's own `execution_options`.
LIBPQ = "secretstore_libpq"
PREPARED = "secretstore_prepared_statements"

Encode: TypeAlias = Callable[[Any], bytes]
Driver: TypeAlias = psycopg.Connection | psycopg.AsyncConnection

_KEPT = "secretstore_kept"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT4 = struct.Struct("!i")
_INT8 = struct.Struct("!q")
# The statement is not there, is there already, or its tables have changed.
_FORGOTTEN = frozenset({"26000", "42P05", "0A000"})
_GOOD = frozenset({pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK})
_NULL = _INT4.pack(-1)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement as it is sent."""

    sql: bytes
    name: bytes
    parameters: tuple[tuple[str, Encode, pq.Format], ...]
    constants: Mapping[str, Any]
    row: Callable[..., Any]  # a named tuple, as SQLAlchemy's rows are

    def encode(self, values: Mapping[str, Any]) -> list[bytes | None]:
        """Return the values of parameters in their order."""
        given = {**self.constants, **values} if self.constants else values
        return [None if (value := given[name]) is None else encode(value) for name, encode, _ in self.parameters]

    @property
    def formats(self) -> list[pq.Format]:
        """The forms of the parameters, in their order."""
        return [form for _, _, form in self.parameters]


def is_free(driver: object) -> bool:
    """Return whether a driver connection is at rest, so that a statement is a transaction of its own."""
    return _is_fit(driver) and driver.pgconn.transaction_status == pq.TransactionStatus.IDLE  # type: ignore[attr-defined] # of psycopg


def is_in_transaction(driver: object) -> bool:
    """Return whether a driver connection is in a transaction that goes well."""
    return _is_fit(driver) and driver.pgconn.transaction_status == pq.TransactionStatus.INTRANS  # type: ignore[attr-defined] # of psycopg


def begins_plainly(driver: object) -> bool:
    """Return whether the next statement of a driver connection begins a transaction that has no settings of its own."""
    return (
        is_free(driver)
        and not driver.autocommit  # type: ignore[attr-defined] # of psycopg
        and driver.isolation_level is driver.read_only is driver.deferrable is None  # type: ignore[attr-defined] # ditto
    )


def begin(driver: Any) -> None:  # of psycopg
    """Begin a transaction, which psycopg ends."""
    _checked(_exchange(driver, lambda: driver.pgconn.send_query(b"BEGIN")))


def is_lost(driver: object) -> bool:
    """Return whether nothing can be sent on a driver connection any more."""
    return bool(driver.pgconn.status != pq.ConnStatus.OK)  # type: ignore[attr-defined] # of psycopg


def is_closed_by_server(driver: object) -> bool:
    """Return whether a connection at rest was closed by the other side, without asking it."""
    pgconn = driver.pgconn  # type: ignore[attr-defined] # of psycopg
    # Its end is there to be read, perhaps after a last word; notices and changes of settings are kept by libpq.
    with suppress(psycopg.OperationalError):
        while not is_lost(driver) and _is_readable(pgconn.socket):
            pgconn.consume_input()
    return is_lost(driver)


def _is_readable(socket: int) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([socket], [], [], 0)[0])


def _is_fit(driver: object) -> bool:
    if not isinstance(driver, psycopg.Connection | psycopg.AsyncConnection):
        return False
    pgconn = driver.pgconn
    return (
        pgconn.status == pq.ConnStatus.OK
        and pgconn.pipeline_status == pq.PipelineStatus.OFF
        and pgconn.parameter_status(b"client_encoding") == b"UTF8"
    )


def fetch(
    lent: PoolProxiedConnection, statement: Executable, values: Mapping[str, Any], *, prepared: bool
) -> list[Any]:
    """Return the rows of a statement; raises psycopg's errors without their words.

    The connection has to be found fit before.  Statements are prepared only where psycopg prepares none itself: it drops
    all of a connection together with its own.
    """
    driver: Any = lent.driver_connection  # it was found to be of psycopg
    compiled = compile_once(statement)
    encoded = compiled.encode(values)
    if prepared and driver.prepare_threshold is None:
        result = _fetch_prepared(driver, lent.info.setdefault(_KEPT, _Kept()), compiled, encoded)
    else:
        result = _fetch_unnamed(driver, compiled, encoded)
    return _rows(driver, compiled, result)


def _fetch_unnamed(driver: Driver, compiled: Compiled, encoded: list[bytes | None]) -> pq.abc.PGresult:
    pgconn = driver.pgconn
    return _checked(
        _exchange(driver, lambda: pgconn.send_query_params(compiled.sql, encoded, param_formats=compiled.formats))
    )


def _fetch_prepared(driver: Driver, kept: "_Kept", compiled: Compiled, encoded: list[bytes | None]) -> pq.abc.PGresult:
    pgconn = driver.pgconn
    stands_alone = pgconn.transaction_status == pq.TransactionStatus.IDLE
    name = kept.name_of(compiled)
    try:
        if name not in kept.names:
            _checked(_exchange(driver, lambda: pgconn.send_prepare(name, compiled.sql)))
            kept.names.add(name)
        return _checked(_exchange(driver, lambda: pgconn.send_query_prepared(name, encoded, compiled.formats)))
    except psycopg.Error as error:
        if error.sqlstate not in _FORGOTTEN:
            raise
        kept.forget()
        # What failed alone did nothing; what failed in a transaction has ended it.
        if not stands_alone:
            raise
    return _fetch_unnamed(driver, compiled, encoded)


@dataclass(slots=True)
class _Kept:
    """The statements that are prepared on one driver connection."""

    names: set[bytes] = field(default_factory=set)
    generation: int = 0

    def name_of(self, compiled: Compiled) -> bytes:
        return b"%s_%d" % (compiled.name, self.generation)

    def forget(self) -> None:
        """Prepare all anew, under other names: the old ones may still be there."""
        self.names.clear()
        self.generation += 1


def _exchange(driver: Driver, send: Callable[[], None]) -> pq.abc.PGresult:
    if isinstance(driver, psycopg.AsyncConnection):
        # We are in a greenlet that SQLAlchemy's asyncio has made for us.
        return await_only(_exchange_async(driver, send))
    with driver.lock:
        send()
        return _last(driver.wait(answer_of(driver.pgconn)))


async def _exchange_async(driver: psycopg.AsyncConnection, send: Callable[[], None]) -> pq.abc.PGresult:
    async with driver.lock:
        send()
        return _last(await driver.wait(answer_of(driver.pgconn)))


def _last(results: list[pq.abc.PGresult]) -> pq.abc.PGresult:
    return results[-1]


def _checked(result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status in _GOOD:
        return result
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    if state is None:
        raise psycopg.OperationalError
    with suppress(KeyError):
        raise psycopg.errors.lookup(state.decode())
    raise _UnknownStateError(state.decode())


class _UnknownStateError(psycopg.DatabaseError):
    """An error that psycopg has no class for."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__()
        self.sqlstate = sqlstate


def _rows(driver: Driver, compiled: Compiled, result: pq.abc.PGresult) -> list[Any]:
    decoders = [_decoder(result.ftype(column), driver) for column in range(result.nfields)]
    columns = list(enumerate(decoders))
    get, row = result.get_value, compiled.row
    return [
        row(*[None if (value := get(number, column)) is None else decode(value) for column, decode in columns])
        for number in range(result.ntuples)
    ]


def _decoder(oid: int, driver: Driver) -> Callable[[bytes], Any]:
    # What depends on the connection's settings, as times do, is psycopg's to read.
    return _DECODERS.get(oid) or Transformer(driver).get_loader(oid, pq.Format.TEXT).load


_DECODERS: Mapping[int, Callable[[bytes], Any]] = MappingProxyType(
    {16: b"t".__eq__, 20: int, 25: bytes.decode, 1043: bytes.decode, 3802: from_json}
)


@cache
def compile_once(statement: Executable) -> Compiled:
    """Return a statement in the form in which it is sent; the functions that build statements return each only once."""
    compiled = statement.compile(dialect=PGDialect_psycopg(paramstyle="numeric_dollar"))  # type: ignore[no-untyped-call,attr-defined] # SQLAlchemy's dialects have no types
    names = compiled.positiontup or []
    sql = str(compiled).encode()
    return Compiled(
        sql=sql,
        name=b"secretstore_" + hashlib.sha256(sql).hexdigest()[:24].encode(),
        parameters=tuple(_parameter(unprefixed(name), compiled.binds[name].type) for name in names),
        constants={name: bind.value for name, bind in compiled.binds.items() if not bind.required},
        row=namedtuple("Row", statement.selected_columns.keys()),  # type: ignore[attr-defined] # noqa: PYI024 - every one of ours selects
    )


def _parameter(name: str, type_: TypeEngine[Any]) -> tuple[str, Encode, pq.Format]:
    if isinstance(type_, ARRAY):
        return name, _array_of(*_ELEMENTS[type(type_.item_type)]), pq.Format.BINARY
    return name, _SCALARS[type(type_)], pq.Format.TEXT


def _array_of(oid: int, encode: Encode) -> Encode:
    def encode_array(elements: Sequence[Any]) -> bytes:
        if not elements:
            return struct.pack("!iii", 0, 0, oid)
        parts = [struct.pack("!iiiii", 1, None in elements, oid, len(elements), 1)]
        for element in elements:
            if element is None:
                parts.append(_NULL)
            else:
                data = encode(element)
                parts += (_INT4.pack(len(data)), data)
        return b"".join(parts)

    return encode_array


def _encode_moment(moment: datetime) -> bytes:
    return _INT8.pack((moment - _EPOCH) // _MICROSECOND)


_SCALARS: Mapping[type[TypeEngine[Any]], Encode] = MappingProxyType(
    {
        Text: str.encode,
        **dict.fromkeys((BigInteger, Integer), lambda number: str(number).encode()),
        Boolean: lambda is_so: b"t" if is_so else b"f",
        DateTime: lambda moment: moment.isoformat().encode(),
    }
)
_ELEMENTS: Mapping[type[TypeEngine[Any]], tuple[int, Encode]] = MappingProxyType(
    {
        Text: (25, str.encode),
        BigInteger: (20, _INT8.pack),
        DateTime: (1184, _encode_moment),
        Uuid: (2950, lambda id_: id_.bytes),
    }
)
