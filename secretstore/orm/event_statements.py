"""Every statement on the record of changes; the rules are those of `statements`."""

from functools import cache

from sqlalchemy import BigInteger, Executable, Text, and_, func, select, update

from secretstore.orm.models import ChangeEvent
from secretstore.orm.statements import in_namespace, parameter

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
    order = (_EVENT.key, _EVENT.version, _EVENT.occurred_at, _EVENT.action.desc())
    unnumbered = (
        select(_EVENT.id, func.row_number().over(order_by=order).label("place"))
        .where(in_namespace(ChangeEvent), _EVENT.seq.is_(None))
        .order_by(*order)
        .limit(parameter("limit", BigInteger))
        .cte("unnumbered")
    )
    last = (
        select(func.coalesce(func.max(_EVENT.seq), 0).label("seq"))
        .where(in_namespace(ChangeEvent), _EVENT.seq.is_not(None))
        .cte("last")
    )
    numbered = (
        update(ChangeEvent)
        .values(seq=last.c.seq + unnumbered.c.place)
        .where(in_namespace(ChangeEvent), _EVENT.id == unnumbered.c.id)
        .returning(_EVENT.id)
        .cte("numbered")
    )
    return select(func.count()).select_from(numbered)


@cache
def select_last_number() -> Executable:
    """The number of the last change that has one."""
    return select(func.coalesce(func.max(_EVENT.seq), 0)).where(in_namespace(ChangeEvent), _EVENT.seq.is_not(None))


@cache
def select_page_of_changes() -> Executable:
    """Changes after a number, in the order of their numbers."""
    return (
        select(*(_EVENT[name] for name in ("seq", "namespace", "key", "version", "action", "actor", "occurred_at")))
        .where(
            in_namespace(ChangeEvent),
            _EVENT.seq > parameter("after_seq", BigInteger),
            and_(_EVENT.key >= parameter("prefix", Text), _EVENT.key < parameter("prefix_end", Text)),
        )
        .order_by(_EVENT.seq)
        .limit(parameter("limit", BigInteger))
    )


@cache
def notify() -> Executable:
    """Hint to listeners that something changes when this transaction commits."""
    return select(func.pg_notify(parameter("channel", Text), parameter("payload", Text)))
