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
    waiting, Ctrl-C, tasks  psycopg's own `wait`, which cancels the statement and never blocks a loop; but a read outside
      that are cancelled    of a loop waits in libpq, and Ctrl-C comes through only with its answer
    result status           checked; an error is raised by its SQLSTATE and without PostgreSQL's words
    broken connections      raised as psycopg does; whoever lends the connection takes it out of the pool
    names of prepared       made of the statement's text and the types of its parameters: behind a pooler the same name is
      statements              the same statement
    their eviction          none: there are as many as this library has hot statements
    statements that are     prepared anew, or sent without a name; inside a transaction the error stands, see `_FORGOTTEN`
      gone or out of date
    fork                    the pool's business, see `engines`
    what psycopg does not   looked up when it is used, so that a release without it leaves the way by the cursor, with
      document                `SECRETSTORE_LIBPQ=false`

Parameters are sent in PostgreSQL's text form, but arrays in its binary form, which is much cheaper to make and to read:

    int32  dimensions: 1, or 0 where the array is empty
    int32  1 where there are nulls, else 0
    int32  type of the elements
    int32  number of elements        } not where it is empty
    int32  lower bound: 1            }
    then for each element: int32 number of bytes, or -1 for null, and the bytes

The types are sent beside the statement, by PostgreSQL's own numbers for them (`pg_type`), so that its text needs no casts.
Integers are big-endian; bigint is 8 bytes, uuid 16 bytes, timestamptz 8 bytes of µs since 2000-01-01 UTC, text UTF-8.
Results come in the text form, and are read as what the statement says that they are.
"""

import hashlib
import select
import struct
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeAlias

import psycopg
from psycopg import generators, pq
from psycopg.adapt import Transformer
from pydantic_core import from_json
from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Double, Executable, Integer, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import BindTyping
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import await_only

from secretstore.orm.statements import unprefixed

# Options of engines, by SQLAlchemy's own `execution_options`.
LIBPQ = "secretstore_libpq"
PREPARED = "secretstore_prepared_statements"

Encode: TypeAlias = Callable[[Any], bytes]
Decode: TypeAlias = Callable[[bytes], Any]
_Encoded: TypeAlias = list[bytes | None]
_Columns: TypeAlias = tuple[tuple[int, Decode], ...]
Driver: TypeAlias = psycopg.Connection | psycopg.AsyncConnection

# The status of a connection at rest, and of one in a transaction that goes well.
IDLE = pq.TransactionStatus.IDLE
IN_TRANSACTION = pq.TransactionStatus.INTRANS

P = ParamSpec("P")

_DRIVERS = (psycopg.Connection, psycopg.AsyncConnection)
_OK = pq.ConnStatus.OK
_NO_PIPELINE = pq.PipelineStatus.OFF
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
    encoders: tuple[tuple[str, Encode], ...]
    types: tuple[int, ...]
    formats: tuple[pq.Format, ...]
    constants: Mapping[str, Any]
    only_reads: bool
    # As the statement says; None where it depends on the connection's settings, as with times, or the statement does not say.
    decoders: tuple[Decode | None, ...]
    # Where all are known.
    columns: "_Columns | None"
    make_row: Callable[[Iterable[Any]], Any]  # of a named tuple, as SQLAlchemy's rows are

    def encode(self, values: Mapping[str, Any]) -> _Encoded:
        """Return the values of parameters in their order."""
        given = {**self.constants, **values} if self.constants else values
        return [None if (value := given[name]) is None else encode(value) for name, encode in self.encoders]


def status_of(driver: object) -> int | None:
    """Return the status of the transaction on a driver connection, or None where nothing can go by this file."""
    if not isinstance(driver, _DRIVERS):
        return None
    pgconn = driver.pgconn
    if (
        pgconn.status != _OK
        or pgconn.pipeline_status != _NO_PIPELINE
        or pgconn.parameter_status(b"client_encoding") != b"UTF8"
    ):
        return None
    return pgconn.transaction_status


def is_free(driver: object) -> bool:
    """Return whether a driver connection is at rest, so that a statement is a transaction of its own."""
    return status_of(driver) == IDLE


def is_at_rest(driver: object) -> bool:
    """Return whether a driver connection is open and in no transaction."""
    return isinstance(driver, _DRIVERS) and driver.pgconn.transaction_status == IDLE


def begins_plainly(driver: Any) -> bool:  # of psycopg
    """Return whether the next statement on a connection at rest begins a transaction without settings of its own."""
    return not driver.autocommit and driver.isolation_level is driver.read_only is driver.deferrable is None


def begin(driver: Any) -> None:  # of psycopg
    """Begin a transaction, which psycopg ends."""
    _checked(_exchange(driver, driver.pgconn.send_query, b"BEGIN"))


def is_lost(driver: object) -> bool:
    """Return whether nothing can be sent on a driver connection any more."""
    return bool(driver.pgconn.status != _OK)  # type: ignore[attr-defined] # of psycopg


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


def fetch(
    driver: Any,  # of psycopg
    statement: Executable,
    values: Mapping[str, Any],
    *,
    kept: dict[Any, Any] | None,
) -> list[Any]:
    """Return the rows of a statement; raises psycopg's errors without their words.

    The connection has to be found fit before.  `kept` lives as long as the connection and knows what is prepared on it;
    without it nothing is prepared, nor where psycopg itself prepares: it drops all of a connection together with its own.
    """
    compiled = compile_once(statement)
    encoded = compiled.encode(values)
    if kept is not None and driver.prepare_threshold is None:
        return _fetch_prepared(driver, kept.get(_KEPT) or kept.setdefault(_KEPT, _Kept()), compiled, encoded)
    return _fetch_unnamed(driver, compiled, encoded)


def _fetch_unnamed(driver: Driver, compiled: Compiled, encoded: _Encoded) -> list[Any]:
    pgconn = driver.pgconn
    if compiled.only_reads and isinstance(driver, psycopg.Connection):
        with driver.lock:
            result = pgconn.exec_params(compiled.sql, encoded, compiled.types, compiled.formats)
    else:
        result = _exchange(driver, pgconn.send_query_params, compiled.sql, encoded, compiled.types, compiled.formats)
    return _rows(compiled, _checked(result), driver)


def _fetch_prepared(driver: Driver, kept: "_Kept", compiled: Compiled, encoded: _Encoded) -> list[Any]:
    try:
        name = kept.statements.get(compiled.name) or _prepare(driver, kept, compiled)
        result = _run_prepared(driver, name, compiled, encoded)
    except psycopg.Error as error:
        if error.sqlstate not in _FORGOTTEN:
            raise
        kept.forget()
        # What failed alone did nothing; what failed in a transaction has ended it.
        if not is_at_rest(driver):
            raise
        return _fetch_unnamed(driver, compiled, encoded)
    return _rows(compiled, result, driver)


def _prepare(driver: Driver, kept: "_Kept", compiled: Compiled) -> bytes:
    name = b"%s_%d" % (compiled.name, kept.generation)
    _checked(_exchange(driver, driver.pgconn.send_prepare, name, compiled.sql, compiled.types))
    kept.statements[compiled.name] = name
    return name


def _run_prepared(driver: Driver, name: bytes, compiled: Compiled, encoded: _Encoded) -> pq.abc.PGresult:
    pgconn = driver.pgconn
    if compiled.only_reads and isinstance(driver, psycopg.Connection):
        with driver.lock:
            result = pgconn.exec_prepared(name, encoded, compiled.formats)  # type: ignore[arg-type] # psycopg's types forbid nulls here, and its code does not
    else:
        result = _exchange(driver, pgconn.send_query_prepared, name, encoded, compiled.formats)
    if result.status not in _GOOD:
        _refuse(result)
    return result


@dataclass(slots=True)
class _Kept:
    """The statements that are prepared on one driver connection, and their names there."""

    statements: dict[bytes, bytes] = field(default_factory=dict)
    generation: int = 0

    def forget(self) -> None:
        """Prepare all anew, under other names: the old ones may still be there."""
        self.statements.clear()
        self.generation += 1


def _exchange(driver: Driver, send: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> pq.abc.PGresult:
    if isinstance(driver, psycopg.AsyncConnection):
        # We are in a greenlet that SQLAlchemy's asyncio has made for us.
        results = await_only(_exchange_async(driver, send, *args, **kwargs))
    else:
        with driver.lock:
            send(*args, **kwargs)
            results = driver.wait(generators.execute(driver.pgconn))
    return results[-1]


async def _exchange_async(
    driver: psycopg.AsyncConnection, send: Callable[P, None], *args: P.args, **kwargs: P.kwargs
) -> list[pq.abc.PGresult]:
    async with driver.lock:
        send(*args, **kwargs)
        return await driver.wait(generators.execute(driver.pgconn))


def _checked(result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status not in _GOOD:
        _refuse(result)
    return result


def _refuse(result: pq.abc.PGresult) -> NoReturn:
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


def _rows(compiled: Compiled, result: pq.abc.PGresult, driver: Driver) -> list[Any]:
    get, make, columns = result.get_value, compiled.make_row, compiled.columns or _columns_of(compiled, result, driver)
    rows = []
    # Not a comprehension in another, which would be a call of its own: most reads have one row.
    for row in range(result.ntuples):
        values = [None if (value := get(row, column)) is None else decode(value) for column, decode in columns]
        rows.append(make(values))
    return rows


def _columns_of(compiled: Compiled, result: pq.abc.PGresult, driver: Driver) -> _Columns:
    # What the statement alone does not tell is psycopg's to read.
    transformer = Transformer(driver)
    return tuple(
        (column, decode or transformer.get_loader(result.ftype(column), pq.Format.TEXT).load)
        for column, decode in enumerate(compiled.decoders)
    )


@cache
def compile_once(statement: Executable) -> Compiled:
    """Return a statement in the form in which it is sent; the functions that build statements return each only once."""
    compiled = statement.compile(dialect=_Dialect(paramstyle="numeric_dollar"))  # type: ignore[no-untyped-call,attr-defined] # SQLAlchemy's dialects have no types
    names = compiled.positiontup or []
    parameters = [_parameter_of(compiled.binds[name].type) for name in names]
    sql, types = str(compiled).encode(), tuple(parameter.oid for parameter in parameters)
    selected = statement.selected_columns  # type: ignore[attr-defined] # every one of ours selects
    decoders = tuple(_DECODERS.get(type(column.type)) for column in selected)
    known = tuple((column, decode) for column, decode in enumerate(decoders) if decode is not None)
    return Compiled(
        sql=sql,
        name=b"secretstore_" + hashlib.sha256(b"%s %r" % (sql, types)).hexdigest()[:24].encode(),
        encoders=tuple((unprefixed(name), parameter.encode) for name, parameter in zip(names, parameters, strict=True)),
        types=types,
        formats=tuple(parameter.format for parameter in parameters),
        constants={name: bind.value for name, bind in compiled.binds.items() if not bind.required},
        only_reads=sql.startswith(b"SELECT") and b" FOR " not in sql,
        decoders=decoders,
        columns=known if len(known) == len(decoders) else None,
        make_row=_maker(selected.keys()),
    )


def _maker(columns: Iterable[str]) -> Callable[[Iterable[Any]], Any]:
    # As `_make` does, which takes as long as the rest of a row; a statement has as many columns as it selects.
    return partial(tuple.__new__, namedtuple("Row", columns))  # noqa: PYI024 - its columns are known only here


class _Dialect(PGDialect_psycopg):
    """Without the casts by which psycopg's says what type a parameter has: PostgreSQL is told so beside the statement."""

    bind_typing = BindTyping.NONE


class _Parameter(NamedTuple):
    """What a parameter is sent as."""

    oid: int
    encode: Encode
    format: pq.Format = pq.Format.TEXT


def _parameter_of(type_: TypeEngine[Any]) -> _Parameter:
    return _ARRAYS[type(type_.item_type)] if isinstance(type_, ARRAY) else _SCALARS[type(type_)]


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


def _encode_number(number: int) -> bytes:
    return str(number).encode()


def _encode_moment(moment: datetime) -> bytes:
    return _INT8.pack((moment - _EPOCH) // _MICROSECOND)


_SCALARS: Mapping[type[TypeEngine[Any]], _Parameter] = MappingProxyType(
    {
        Text: _Parameter(25, str.encode),
        BigInteger: _Parameter(20, _encode_number),
        Integer: _Parameter(23, _encode_number),
        Boolean: _Parameter(16, lambda is_so: b"t" if is_so else b"f"),
        DateTime: _Parameter(1184, lambda moment: moment.isoformat().encode()),
    }
)
_ARRAYS: Mapping[type[TypeEngine[Any]], _Parameter] = MappingProxyType(
    {
        Text: _Parameter(1009, _array_of(25, str.encode), pq.Format.BINARY),
        BigInteger: _Parameter(1016, _array_of(20, _INT8.pack), pq.Format.BINARY),
        DateTime: _Parameter(1185, _array_of(1184, _encode_moment), pq.Format.BINARY),
        Uuid: _Parameter(2951, _array_of(2950, lambda id_: id_.bytes), pq.Format.BINARY),
    }
)
_DECODERS: Mapping[type[TypeEngine[Any]], Decode] = MappingProxyType(
    {Text: bytes.decode, BigInteger: int, Integer: int, Double: float, Boolean: b"t".__eq__, JSONB: from_json}
)
