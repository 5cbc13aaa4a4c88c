"""Every statement on the records of changes and of accesses; the rules are those of `statements`."""

from dataclasses import fields
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Executable,
    Interval,
    ScalarSelect,
    Text,
    Uuid,
    and_,
    case,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from secretstore.domain.records import Event
from secretstore.orm.models import AccessEvent, ChangeEvent
from secretstore.orm.statements import constant, in_namespace, parameter, rows_of

# Both records have the same columns.
EventTable = type[ChangeEvent] | type[AccessEvent]

_EVENT = ChangeEvent.__table__.c


@cache
def select_is_unnumbered(table: EventTable) -> Executable:
    """Whether there are events without a number."""
    return select(select(table.id).where(in_namespace(table), table.seq.is_(None)).exists())


@cache
def lock_numbers() -> Executable:
    """Wait until nobody else numbers events, and let nobody begin until the transaction ends."""
    return select(func.pg_advisory_xact_lock(parameter("lock", BigInteger)))


@cache
def number_events(table: EventTable) -> Executable:
    """Number the events that are committed by now, those of one key in their order; answer with how many there were."""
    order = _order_of(table)
    unnumbered = (
        select(table.id, (_last_number(table) + func.row_number().over(order_by=order)).label("seq"))
        .where(in_namespace(table), table.seq.is_(None))
        .order_by(*order)
        .limit(parameter("limit", BigInteger))
        .cte("unnumbered")
    )
    numbered = (
        update(table)
        .values(seq=unnumbered.c.seq)
        .where(in_namespace(table), table.id == unnumbered.c.id)
        .returning(table.id)
        .cte("numbered")
    )
    return select(func.count()).select_from(numbered)


def _order_of(table: EventTable) -> tuple[Any, ...]:  # columns, mapped or not
    if table is AccessEvent:
        return (table.occurred_at, table.id)
    return (_EVENT.key, _version_of_then(), _EVENT.occurred_at, _EVENT.action.desc())


def _version_of_then() -> ColumnElement[int]:
    """The last version at the time of a change, which comes before its time: the first releases wrote other times.

    The change of a destroyed version names that version, which may be an old one.
    """
    before = ChangeEvent.__table__.alias("before").c
    destroy = constant("destroy")
    last = (
        select(func.max(before.version))
        .where(
            before.namespace == parameter("namespace", Text),
            before.key == _EVENT.key,
            before.occurred_at <= _EVENT.occurred_at,
            before.action != destroy,
        )
        .scalar_subquery()
    )
    return case((_EVENT.action == destroy, func.coalesce(last, _EVENT.version)), else_=_EVENT.version)


def _last_number(table: EventTable) -> ScalarSelect[int]:
    numbered = table.__table__.alias("numbered_before").c
    return (
        select(func.coalesce(func.max(numbered.seq), 0))
        .where(numbered.namespace == parameter("namespace", Text), numbered.seq.is_not(None))
        .scalar_subquery()
    )


@cache
def select_last_number(table: EventTable) -> Executable:
    """The number of the last event that has one."""
    return select(_last_number(table))


@cache
def select_page_of_events(table: EventTable, only: frozenset[str]) -> Executable:
    """Events after a number, in the order of their numbers; only those of `secrets`, of one `key`, and so on."""
    event = table.__table__.c
    conditions = {
        "secrets": event.key > constant(""),
        "since": event.occurred_at >= parameter("since", DateTime(timezone=True)),
        **{name: event[name] == parameter(name, Text) for name in ("key", "actor", "action", "outcome")},
    }
    return (
        select(*(event[one.name] for one in fields(Event)))
        .where(
            in_namespace(table),
            event.seq > parameter("after_seq", BigInteger),
            and_(event.key >= parameter("prefix", Text), event.key < parameter("prefix_end", Text)),
            *(conditions[name] for name in sorted(only)),
        )
        .order_by(event.seq)
        .limit(parameter("limit", BigInteger))
    )


@cache
def record_change() -> Executable:
    """Record a change of the data keys of a namespace, or of the rights to it."""
    row = {
        **{name: parameter(name, Text) for name in ("namespace", "action", "outcome", "request_id")},
        "id": parameter("event_id", Uuid),
        "key": constant(""),
        "version": constant(0),
        "actor": func.coalesce(parameter("actor", Text), func.current_user()),
        "occurred_at": func.clock_timestamp(),
    }
    return insert(ChangeEvent).values(row)


@cache
def record_accesses() -> Executable:
    """Record accesses, so long ago each; those whose ids are there by now are left as they are."""
    rows = rows_of(
        event_id=Uuid,
        key=Text,
        version=BigInteger,
        action=Text,
        outcome=Text,
        actor=Text,
        request_id=Text,
        age=Interval,
    )
    recorded = {
        "namespace": parameter("namespace", Text),
        "id": rows.c.event_id,
        "actor": func.coalesce(rows.c.actor, func.current_user()),
        "occurred_at": func.clock_timestamp() - rows.c.age,
        **{name: rows.c[name] for name in ("key", "version", "action", "outcome", "request_id")},
    }
    return insert(AccessEvent).from_select(list(recorded), select(*recorded.values())).on_conflict_do_nothing()


@cache
def select_can_record() -> Executable:
    """Whether the server only follows another one, and whether its transactions may only read."""
    return select(
        func.pg_is_in_recovery().label("is_standby"),
        func.current_setting(parameter("setting", Text)).label("read_only"),
    )


@cache
def claim_event() -> Executable:
    """Record an event under an id, and answer with the id if no committed transaction has; waits for one under way."""
    nothing = constant("")
    row = {
        "namespace": parameter("namespace", Text),
        "id": parameter("event_id", Uuid),
        **dict.fromkeys(("key", "action", "actor"), nothing),
        "version": constant(0),
        "occurred_at": func.now(),
    }
    return insert(ChangeEvent).values(row).on_conflict_do_nothing().returning(_EVENT.id)


@cache
def propagate_settings() -> Executable:
    """Let the settings of this transaction hold on every node of a Citus cluster; elsewhere it does nothing."""
    return text("SET LOCAL citus.propagate_set_commands = 'local'")


@cache
def limit_waiting() -> Executable:
    """Wait for a lock no longer than two seconds in this transaction."""
    return text("SET LOCAL lock_timeout = '2s'")


@cache
def notify() -> Executable:
    """Hint to listeners that something changes when this transaction commits."""
    return select(func.pg_notify(parameter("channel", Text), parameter("payload", Text)))


@cache
def notify_all() -> Executable:
    """Send many notices; outside a transaction they are sent at once."""
    payloads = func.unnest(parameter("payloads", ARRAY(Text))).column_valued("payload")
    return select(func.pg_notify(parameter("channel", Text), payloads))
