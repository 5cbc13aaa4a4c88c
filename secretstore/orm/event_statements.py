"""Every statement on the record of changes; the rules are those of `statements`."""

from dataclasses import fields
from functools import cache

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Executable,
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

from secretstore.domain.records import Change
from secretstore.orm.models import ChangeEvent
from secretstore.orm.statements import constant, in_namespace, parameter

_EVENT = ChangeEvent.__table__.c


@cache
def select_is_unnumbered() -> Executable:
    """Whether there are changes without a number."""
    return select(select(_EVENT.id).where(in_namespace(ChangeEvent), _EVENT.seq.is_(None)).exists())


@cache
def lock_numbers() -> Executable:
    """Wait until nobody else numbers changes, and let nobody begin until the transaction ends."""
    return select(func.pg_advisory_xact_lock(parameter("lock", BigInteger)))


@cache
def number_changes() -> Executable:
    """Number the changes that are committed by now, those of one key in their order; answer with how many there were."""
    order = (_EVENT.key, _version_of_then(), _EVENT.occurred_at, _EVENT.action.desc())
    unnumbered = (
        select(_EVENT.id, (_last_number() + func.row_number().over(order_by=order)).label("seq"))
        .where(in_namespace(ChangeEvent), _EVENT.seq.is_(None))
        .order_by(*order)
        .limit(parameter("limit", BigInteger))
        .cte("unnumbered")
    )
    numbered = (
        update(ChangeEvent)
        .values(seq=unnumbered.c.seq)
        .where(in_namespace(ChangeEvent), _EVENT.id == unnumbered.c.id)
        .returning(_EVENT.id)
        .cte("numbered")
    )
    return select(func.count()).select_from(numbered)


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


def _last_number() -> ScalarSelect[int]:
    numbered = ChangeEvent.__table__.alias("numbered_before").c
    return (
        select(func.coalesce(func.max(numbered.seq), 0))
        .where(numbered.namespace == parameter("namespace", Text), numbered.seq.is_not(None))
        .scalar_subquery()
    )


@cache
def select_last_number() -> Executable:
    """The number of the last change that has one."""
    return select(_last_number())


@cache
def select_page_of_changes(only: frozenset[str]) -> Executable:
    """Changes after a number, in the order of their numbers; only those of `secrets`, of one `key`, and so on."""
    conditions = {
        "secrets": _EVENT.key > constant(""),
        "since": _EVENT.occurred_at >= parameter("since", DateTime(timezone=True)),
        **{name: _EVENT[name] == parameter(name, Text) for name in ("key", "actor", "action")},
    }
    return (
        select(*(_EVENT[one.name] for one in fields(Change)))
        .where(
            in_namespace(ChangeEvent),
            _EVENT.seq > parameter("after_seq", BigInteger),
            and_(_EVENT.key >= parameter("prefix", Text), _EVENT.key < parameter("prefix_end", Text)),
            *(conditions[name] for name in sorted(only)),
        )
        .order_by(_EVENT.seq)
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
def select_is_standby() -> Executable:
    """Whether the server only follows another one."""
    return select(func.pg_is_in_recovery())


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
