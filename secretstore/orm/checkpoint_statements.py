"""Every statement on checkpoints, and on events as they are sealed; the rules are those of `statements`."""

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Executable,
    LargeBinary,
    Text,
    cast,
    delete,
    extract,
    func,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import TypeEngine

from secretstore.crypto.checkpoint import EVENT_COLUMNS
from secretstore.orm.event_statements import EventTable
from secretstore.orm.models import AuditCheckpoint
from secretstore.orm.statements import constant, in_namespace, parameter

HEADER = ("namespace", "record", "number", "first_seq", "last_seq", "kept_from", "data_key_id", "root", "previous")
_INSERTED: dict[str, TypeEngine[Any] | type[TypeEngine[Any]]] = {
    **dict.fromkeys(("namespace", "record", "data_key_id"), Text),
    **dict.fromkeys(("number", "first_seq", "last_seq", "kept_from"), BigInteger),
    **dict.fromkeys(("leaves", "root", "previous", "mac"), LargeBinary),
    "sealed_at": DateTime(timezone=True),
}


def _microseconds(moment: Any) -> ColumnElement[str]:  # a column, mapped or not
    """A time as digits, also one that Python has no name for, as someone may have put there."""
    return cast(func.trunc(extract("epoch", moment) * constant(1_000_000)), Text)


def _in_record() -> tuple[ColumnElement[bool], ...]:
    return in_namespace(AuditCheckpoint), AuditCheckpoint.record == parameter("record", Text)


def _checkpoint() -> tuple[Any, ...]:
    columns = AuditCheckpoint.__table__.c
    return (*(columns[name] for name in HEADER), columns.mac, _microseconds(columns.sealed_at).label("sealed_at"))


@cache
def lock_checkpoints() -> Executable:
    """Wait until nobody else seals, and let nobody begin until the transaction ends."""
    return select(func.pg_advisory_xact_lock(parameter("lock", BigInteger)))


@cache
def select_last_checkpoint() -> Executable:
    """The last checkpoint of a record."""
    return select(*_checkpoint()).where(*_in_record()).order_by(AuditCheckpoint.number.desc()).limit(constant(1))


@cache
def select_next_checkpoint() -> Executable:
    """The first checkpoint from a number on, with its leaves."""
    return (
        select(*_checkpoint(), AuditCheckpoint.leaves)
        .where(*_in_record(), AuditCheckpoint.number >= parameter("from_number", BigInteger))
        .order_by(AuditCheckpoint.number)
        .limit(constant(1))
    )


@cache
def select_last_sealed_before() -> Executable:
    """The last event of the checkpoints that were made before a time; the last one of all stays, so that numbers go on."""
    before = parameter("before", DateTime(timezone=True))
    newest = (
        select(func.max(AuditCheckpoint.last_seq))
        .where(*_in_record(), AuditCheckpoint.last_seq >= AuditCheckpoint.first_seq)
        .scalar_subquery()
    )
    older = AuditCheckpoint.last_seq < newest
    return select(func.coalesce(func.max(AuditCheckpoint.last_seq), constant(0))).where(
        *_in_record(), AuditCheckpoint.sealed_at < before, older
    )


@cache
def select_covering_checkpoint() -> Executable:
    """The checkpoint that an event is in, with its leaves."""
    seq = parameter("seq", BigInteger)
    return select(*_checkpoint(), AuditCheckpoint.leaves).where(
        *_in_record(), AuditCheckpoint.first_seq <= seq, AuditCheckpoint.last_seq >= seq
    )


@cache
def delete_events_before(table: EventTable) -> Executable:
    """Remove the events with lower numbers."""
    return delete(table).where(in_namespace(table), table.seq < parameter("from_seq", BigInteger))


@cache
def select_doubled_checkpoint() -> Executable:
    """The first number that more than one checkpoint has, as may be where someone has taken the primary key away."""
    number = AuditCheckpoint.number
    return (
        select(number)
        .where(*_in_record())
        .group_by(number)
        .having(func.count() > constant(1))
        .order_by(number)
        .limit(constant(1))
    )


@cache
def insert_checkpoint() -> Executable:
    """Store a checkpoint unless there is one of its number, and answer with the number if it was stored."""
    row = {name: parameter(name, type_) for name, type_ in _INSERTED.items()}
    return insert(AuditCheckpoint).values(row).on_conflict_do_nothing().returning(AuditCheckpoint.number)


@cache
def select_moment() -> Executable:
    """What time it is."""
    return select(func.clock_timestamp())


@cache
def select_age_of_last_checkpoint() -> Executable:
    """How long ago the last checkpoint of any namespace was made."""
    return select(func.clock_timestamp() - func.max(AuditCheckpoint.sealed_at))


@cache
def select_sealed_events(table: EventTable) -> Executable:
    """A page of events in the order of their numbers, each with all that is sealed of it."""
    event = table.__table__.c
    columns = {
        **{name: event[name] for name in EVENT_COLUMNS},
        "id": cast(event.id, Text),
        "occurred_at": _microseconds(event.occurred_at),
    }
    return (
        select(*(column.label(name) for name, column in columns.items()))
        .where(
            in_namespace(table),
            event.seq >= parameter("from_seq", BigInteger),
            event.seq <= parameter("to_seq", BigInteger),
        )
        .order_by(event.seq, event.id)
        .limit(parameter("limit", BigInteger))
    )


@cache
def select_first_before(table: EventTable) -> Executable:
    """The lowest number of an event that is below another one."""
    return select(func.min(table.seq)).where(in_namespace(table), table.seq < parameter("from_seq", BigInteger))


@cache
def select_count_of_unsealed(table: EventTable) -> Executable:
    """How many events come after a number, or have none yet."""
    return select(func.count()).where(
        in_namespace(table), or_(table.seq.is_(None), table.seq > parameter("after_seq", BigInteger))
    )


@cache
def select_out_of_place(table: EventTable) -> Executable:
    """The first event after a number that does not follow the one before, and the number that it should have."""
    after = parameter("after_seq", BigInteger)
    expected = (cast(after, BigInteger) + func.row_number().over(order_by=table.seq)).label("expected")
    numbered = select(table.seq, expected).where(in_namespace(table), table.seq > after).subquery()
    return (
        select(numbered.c.seq, numbered.c.expected)
        .where(numbered.c.seq != numbered.c.expected)
        .order_by(numbered.c.expected)
        .limit(constant(1))
    )
