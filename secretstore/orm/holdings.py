"""Counts what a store holds, in all namespaces; no value is read."""

from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Executable,
    Interval,
    Select,
    and_,
    cast,
    extract,
    func,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import Session

from secretstore.domain.holdings import Holdings
from secretstore.orm.execute import execute
from secretstore.orm.models import AccessEvent, AuditCheckpoint, ChangeEvent, DataKey, DataKeyUse, SecretStore
from secretstore.orm.statements import constant, is_active, parameter


def list_holdings(session: Session, *, expiring_within: timedelta) -> list[Holdings]:
    """Return what each namespace holds, by name; counts the secrets of all."""
    found: dict[str, dict[str, Any]] = {}
    for statement, values in (
        (count_secrets(), {"expiring_within": expiring_within}),
        (select_active_data_keys_and_seals(), {}),
        (count_unnumbered_changes(), {}),
        (select_ages_of_checkpoints(), {}),
        (count_unsealed_events(), {}),
    ):
        for row in execute(session, statement, **values):
            found.setdefault(row.namespace, {}).update(row._asdict())
    return [Holdings(**found[namespace]) for namespace in sorted(found)]


@cache
def count_secrets() -> Executable:
    """How many secrets of each namespace are live, expiring and expired."""
    ends, soon = SecretStore.expires_at, func.now() + parameter("expiring_within", Interval)
    return (
        select(
            SecretStore.namespace,
            _count(or_(ends.is_(None), ends > soon)).label("live"),
            _count(and_(ends > func.now(), ends <= soon)).label("expiring"),
            _count(ends <= func.now()).label("expired"),
        )
        .where(SecretStore.deleted_at.is_(None))
        .group_by(SecretStore.namespace)
    )


@cache
def select_active_data_keys_and_seals() -> Executable:
    """How old the active data key of each namespace is, and how many seals are recorded for it."""
    seals = (
        select(func.coalesce(func.sum(DataKeyUse.seals), constant(0)))
        .where(DataKeyUse.namespace == DataKey.namespace, DataKeyUse.data_key_id == DataKey.id)
        .scalar_subquery()
    )
    age = cast(extract("epoch", func.now() - DataKey.created_at), Double)
    return select(DataKey.namespace, age.label("data_key_age_seconds"), cast(seals, BigInteger).label("seals")).where(
        is_active()
    )


@cache
def count_unnumbered_changes() -> Executable:
    """How many changes of each namespace have no number yet."""
    return (
        select(ChangeEvent.namespace, func.count().label("unnumbered_changes"))
        .where(ChangeEvent.seq.is_(None))
        .group_by(ChangeEvent.namespace)
    )


@cache
def select_ages_of_checkpoints() -> Executable:
    """How old the last checkpoint of each namespace is."""
    age = cast(extract("epoch", func.now() - func.max(AuditCheckpoint.sealed_at)), Double)
    return select(AuditCheckpoint.namespace, age.label("checkpoint_age_seconds")).group_by(AuditCheckpoint.namespace)


@cache
def count_unsealed_events() -> Executable:
    """How many events of each namespace, of both records, are in no checkpoint."""
    parts = union_all(_unsealed(ChangeEvent, "change"), _unsealed(AccessEvent, "access")).subquery()
    return select(parts.c.namespace, func.count().label("unsealed_events")).group_by(parts.c.namespace)


def _unsealed(table: type[ChangeEvent] | type[AccessEvent], record: str) -> Select[Any]:
    last = (
        select(AuditCheckpoint.namespace, func.max(AuditCheckpoint.last_seq).label("seq"))
        .where(AuditCheckpoint.record == constant(record))
        .group_by(AuditCheckpoint.namespace)
        .subquery()
    )
    return (
        select(table.namespace)
        .outerjoin(last, last.c.namespace == table.namespace)
        .where(or_(table.seq.is_(None), last.c.seq.is_(None), table.seq > last.c.seq))
    )


def _count(those: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count().filter(those)
