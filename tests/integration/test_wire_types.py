"""What hot statements say of the types of their parameters and columns is what PostgreSQL says."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Double, Text, Uuid, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import TypeEngine, to_instance

from secretstore.orm import event_statements, key_statements, statements, visibility, wire, write_statements

MOMENT = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))


def name_of(type_: TypeEngine[Any]) -> str:
    """How SQL names a type."""
    return type_.compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call] # SQLAlchemy's dialects have no types


def kept(type_: Any) -> TypeEngine[Any]:  # a class of SQLAlchemy's
    """A type as our columns have it."""
    return DateTime(timezone=True) if type_ is DateTime else to_instance(type_)


@pytest.mark.parametrize("type_", [*map(kept, wire._SCALARS), *(ARRAY(kept(type_)) for type_ in wire._ARRAYS)], ids=str)
def test_parameters_are_sent_as_what_they_are(raw: psycopg.Connection, type_: TypeEngine[Any]) -> None:
    """PostgreSQL is told the types beside the statement, in which nothing says them."""
    (found,) = raw.execute("SELECT %s::regtype::oid::bigint", [name_of(type_)]).fetchone() or ()
    assert wire._parameter_of(type_).oid == found


@pytest.mark.parametrize(
    ("type_", "elements"),
    [
        (Text(), []),
        (Text(), ["", "é", None, 'a,b"{}\\', "NULL", "🔑" * 1000]),
        (BigInteger(), [0, -1, 2**63 - 1, -(2**63), None]),
        (Uuid(), [uuid4(), None, uuid4()]),
        (DateTime(timezone=True), [MOMENT, None, datetime(1900, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
    ],
)
def test_arrays_arrive_as_they_were(raw: psycopg.Connection, type_: TypeEngine[Any], elements: list[Any]) -> None:
    """Our binary form is PostgreSQL's: it reads each element back as psycopg would have sent it."""
    sent = wire._parameter_of(ARRAY(type_))
    name = name_of(type_)
    result = raw.pgconn.exec_params(
        f"SELECT $1 IS NOT DISTINCT FROM $2::{name}[]".encode(),
        [sent.encode(elements), raw.execute(f"SELECT %s::{name}[]::text", [elements]).fetchone()[0].encode()],  # type: ignore[index]
        param_types=[sent.oid, 0],
        param_formats=[sent.format, 0],
    )

    assert result.get_value(0, 0) == b"t"


HOT = {
    build.__name__: build()
    for build in (
        *(statements.select_value, statements.select_value_of_version, statements.select_value_to_keep),
        *(statements.select_values, statements.select_page_of_values, statements.select_page_of_states),
        *(statements.select_info, statements.select_whole_secrets, statements.select_heads),
        *(write_statements.write_secrets, write_statements.import_secrets),
        *(key_statements.select_wrapped_data_key, event_statements.notify, visibility.select_own_policies),
    )
}
# As PostgreSQL numbers the types of what we read ourselves.
READ = {
    wire._DECODERS[type_]: numbers
    for type_, numbers in ((Text, {25}), (BigInteger, {20, 23}), (Double, {701}), (JSONB, {3802}), (Boolean, {16}))
}


@pytest.mark.parametrize("name", HOT)
def test_columns_are_what_the_statement_says(raw: psycopg.Connection, name: str) -> None:
    """Nobody asks a result for its types; what the statement does not say is left to psycopg."""
    compiled = wire.compile_once(HOT[name])
    raw.pgconn.prepare(b"tried", compiled.sql, compiled.types)
    described = raw.pgconn.describe_prepared(b"tried")

    assert len(compiled.decoders) == described.nfields
    assert all(
        described.ftype(column) in READ[decode] for column, decode in enumerate(compiled.decoders) if decode is not None
    )


def test_a_name_stands_for_the_types_too() -> None:
    """A later release may say another type in the same text, behind the same pooler."""
    text_, number_ = (wire.compile_once(select(statements.parameter("x", type_))) for type_ in (Text, BigInteger))

    assert text_.sql == number_.sql
    assert text_.name != number_.name
