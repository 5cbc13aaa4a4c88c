"""Every statement that changes secrets; the rules are those of `statements`.

A change, the history and the record of the change are one statement.  All take their locks in the order of the keys, and
of the versions where those are changed, so that two batches that share keys never wait for each other in a circle, nor a
batch and a rotation.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Executable,
    Select,
    Text,
    Uuid,
    and_,
    case,
    cast,
    collate,
    delete,
    false,
    func,
    insert,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.selectable import NamedFromClause
from sqlalchemy.types import TypeEngine

from secretstore.orm.models import ChangeEvent, LabelChange, NamespaceSetting, SecretStore, SecretVersion
from secretstore.orm.statements import INFO, among_keys, constant, has_value, in_namespace, is_live, parameter, rows_of

_SECRET = SecretStore.__table__.c
_MOMENT = DateTime(timezone=True)
# What a write has of each row.
_WRITTEN: Mapping[str, TypeEngine[Any] | type[TypeEngine[Any]]] = MappingProxyType(
    {"key": Text, "version": BigInteger, "envelope": Text, "label": Text, "expires_at": _MOMENT, "event_id": Uuid}
)
_TIMES = ("created_at", "updated_at")
_VERSION = (SecretVersion.key, SecretVersion.version)


def _moment() -> ColumnElement[Any]:
    return parameter("moment", _MOMENT)


def _actor() -> ColumnElement[str]:
    return func.coalesce(parameter("actor", Text), func.current_user())


def _no_labels() -> ColumnElement[Any]:
    return cast(constant("{}"), JSONB)


@cache
def write_secrets() -> Executable:
    """Write heads, history and change events in one statement, and answer with the heads that were written.

    A head is written only where its version is still the one before the new version; where `was_deleted` is not null,
    only where that has not changed either.  A head that changed after the moment, which the writer may have waited for,
    is not written, unless `is_locked` says that none can.  Every head that is there is locked, written or not.  With
    `keeps_labels` the rows' labels are those of new secrets only.
    """
    return _write(rows_of(**_WRITTEN), with_times=False)


@cache
def import_secrets() -> Executable:
    """Do as `write_secrets` does, with times that come with the rows; a head that changed at that time or later stays."""
    return _write(rows_of(**_WRITTEN, **dict.fromkeys(_TIMES, _MOMENT)), with_times=True)


def _write(rows: NamedFromClause, *, with_times: bool) -> Executable:
    head = _write_heads(rows, with_times=with_times)
    history = _copy_to_history(head)
    # Rows of their own, so that nobody takes the array of envelopes apart a second time.
    events = _record_changes(head, rows_of(key=Text, event_id=Uuid), parameter("action", Text))
    return select(*(head.c[info.name] for info in INFO)).add_cte(history, events)


def _write_heads(rows: NamedFromClause, *, with_times: bool) -> CTE:
    new = {
        "namespace": parameter("namespace", Text),
        "key": rows.c.key,
        "value": cast(rows.c.envelope, JSONB),
        "version": rows.c.version,
        "labels": cast(rows.c.label, JSONB),
        "expires_at": rows.c.expires_at,
        "created_by": _actor(),
        "updated_by": _actor(),
        **{name: rows.c[name] if with_times else _moment() for name in _TIMES},
    }
    statement = upsert(SecretStore).from_select(
        list(new),
        select(*(expression.label(name) for name, expression in new.items())).order_by(collate(rows.c.key, "C")),
    )
    excluded = statement.excluded
    keeps_labels = cast(parameter("keeps_labels", Boolean), Boolean)
    was_deleted = cast(parameter("was_deleted", Boolean), Boolean)
    is_earlier = SecretStore.updated_at < excluded.updated_at
    return (
        statement.on_conflict_do_update(
            index_elements=["namespace", "key"],
            set_={
                **{name: excluded[name] for name in ("value", "version", "expires_at", "updated_at", "updated_by")},
                # Of a secret whose value is gone for good nothing goes on but its number.
                **{
                    name: case((SecretStore.value.is_(None), excluded[name]), else_=_SECRET[name])
                    for name in ("created_at", "created_by")
                },
                "labels": case((keeps_labels, SecretStore.labels), else_=excluded.labels),
                "deleted_at": None,
            },
            where=and_(
                SecretStore.version == excluded.version - 1,
                or_(was_deleted.is_(None), SecretStore.deleted_at.is_not(None) == was_deleted),
                is_earlier if with_times else or_(cast(parameter("is_locked", Boolean), Boolean), is_earlier),
            ),
        )
        .returning(*INFO, _SECRET.value, _SECRET.updated_by)
        .cte("head")
    )


def _copy_to_history(head: CTE) -> CTE:
    copied = {
        **{name: head.c[name] for name in ("namespace", "key", "version", "value", "labels", "expires_at")},
        "created_at": head.c.updated_at,
        "created_by": head.c.updated_by,
    }
    return insert(SecretVersion).from_select(list(copied), select(*copied.values())).cte("history")


def _record_changes(changed: CTE, rows: NamedFromClause, action: ColumnElement[str]) -> CTE:
    recorded = _recorded(changed, rows.c.event_id, action)
    events = select(*recorded.values()).join_from(changed, rows, changed.c.key == rows.c.key)
    return insert(ChangeEvent).from_select(list(recorded), events).cte("event")


def _recorded(changed: CTE, event_id: ColumnElement[Any], action: ColumnElement[str]) -> dict[str, ColumnElement[Any]]:
    return {
        **{name: changed.c[name] for name in ("namespace", "key", "version")},
        "id": event_id,
        "action": action,
        "actor": _actor(),
        "request_id": parameter("request_id", Text),
        "occurred_at": _moment(),
    }


@cache
def lock_heads() -> Executable:
    """The heads of those keys that are there, locked, and a moment that is later than every change of them."""
    locked = (
        select(
            *(_SECRET[name] for name in ("key", "version")),
            has_value(SecretStore).label("has_value"),
            SecretStore.deleted_at.is_not(None).label("is_deleted"),
            is_live().label("is_live"),
            *(_SECRET[name] for name in ("expires_at", "labels")),
        )
        .where(in_namespace(SecretStore), SecretStore.key == among_keys())
        .order_by(SecretStore.key)
        .with_for_update()
        .cte("locked")
    )
    # The clock is read outside the part that may have to wait.
    return select(*locked.c, func.clock_timestamp().label("moment"))


@cache
def delete_secrets() -> Executable:
    """Mark locked secrets as deleted, and record it."""
    return _change_heads("delete", deleted_at=_moment())


@cache
def undelete_secrets() -> Executable:
    """Take the mark from locked secrets, and record it."""
    return _change_heads("undelete", deleted_at=null())


@cache
def set_labels() -> Executable:
    """Give locked secrets other labels, record it, and keep the labels before."""
    head, event = _changed_heads("labels", labels=parameter("labels", JSONB))
    kept = {
        **{name: head.c[name] for name in ("namespace", "key", "version", "labels")},
        "changed_at": _moment(),
    }
    change = insert(LabelChange).from_select(list(kept), select(*kept.values())).cte("label")
    return select(*(head.c[info.name] for info in INFO)).add_cte(event, change)


@cache
def purge_secrets() -> Executable:
    """Leave nothing of locked secrets but the numbers of their last versions, and record it."""
    head, event = _changed_heads(
        "purge",
        value=null(),
        labels=_no_labels(),
        expires_at=null(),
        max_versions=null(),
        deleted_at=func.coalesce(SecretStore.deleted_at, _moment()),
    )
    versions = _delete_versions(_select_versions().where(SecretVersion.key == among_keys()))
    return select(*(head.c[info.name] for info in INFO)).add_cte(event, versions)


def _delete_versions(selected: Select[Any]) -> CTE:
    found = _locked(selected)
    return (
        delete(SecretVersion)
        .where(
            in_namespace(SecretVersion),
            SecretVersion.key == found.c.key,
            SecretVersion.version == found.c.version,
        )
        .returning(SecretVersion.version)
        .cte("gone")
    )


def _select_versions(*columns: Any) -> Select[Any]:  # columns, mapped or not
    return select(*_VERSION, *columns)


def _locked(selected: Select[Any]) -> CTE:
    return (
        selected.where(in_namespace(SecretVersion)).order_by(*_VERSION).with_for_update(of=SecretVersion).cte("found")
    )


@cache
def destroy_versions() -> Executable:
    """Remove the envelopes of some versions of a locked secret, record it, and answer with their numbers."""
    rows = rows_of(version=BigInteger, event_id=Uuid)
    found = _locked(
        _select_versions(rows.c.event_id)
        .join(rows, SecretVersion.version == rows.c.version)
        .where(SecretVersion.key == parameter("key", Text), has_value(SecretVersion))
    )
    gone = (
        update(SecretVersion)
        .values(value=null(), destroyed_at=_moment())
        .where(
            in_namespace(SecretVersion),
            SecretVersion.key == parameter("key", Text),
            SecretVersion.version == found.c.version,
        )
        .returning(SecretVersion.namespace, SecretVersion.key, SecretVersion.version, found.c.event_id)
        .cte("gone")
    )
    head = (
        update(SecretStore)
        .values(value=null())
        .where(
            in_namespace(SecretStore),
            SecretStore.key == parameter("key", Text),
            SecretStore.version == func.any(parameter("versions", ARRAY(BigInteger))),
        )
        .cte("head")
    )
    recorded = _recorded(gone, gone.c.event_id, constant("destroy"))
    events = insert(ChangeEvent).from_select(list(recorded), select(*recorded.values())).cte("event")
    return select(gone.c.version).add_cte(head, events)


def _change_heads(action: str, **changes: Any) -> Executable:  # what columns take
    head, event = _changed_heads(action, **changes)
    return select(*(head.c[info.name] for info in INFO)).add_cte(event)


def _changed_heads(action: str, **changes: Any) -> tuple[CTE, CTE]:  # ditto
    head = (
        update(SecretStore)
        .values(**changes, updated_at=_moment(), updated_by=_actor())
        .where(in_namespace(SecretStore), SecretStore.key == among_keys())
        .returning(*INFO)
        .cte("head")
    )
    return head, _record_changes(head, rows_of(key=Text, event_id=Uuid), constant(action))


@cache
def prune_versions() -> Executable:
    """Remove the versions of some keys up to a number for each, and answer with how many there were."""
    rows = rows_of(key=Text, version=BigInteger)
    is_too_old = and_(SecretVersion.key == rows.c.key, SecretVersion.version <= rows.c.version)
    return select(func.count()).select_from(_delete_versions(_select_versions().join(rows, is_too_old)))


@cache
def select_page_to_prune() -> Executable:
    """A page of keys that have more versions than they may, up to which version they have to go, and how many those are.

    Of secrets that were deleted or expired before a time there are none: they are purged whole.
    """
    limit = func.coalesce(SecretStore.max_versions, NamespaceSetting.max_versions)
    too_old = (
        select(func.count())
        .where(
            SecretVersion.namespace == SecretStore.namespace,
            SecretVersion.key == SecretStore.key,
            SecretVersion.version <= SecretStore.version - limit,
        )
        .scalar_subquery()
    )
    return (
        select(SecretStore.key, (SecretStore.version - limit).label("version"), too_old.label("versions"))
        .outerjoin(NamespaceSetting, NamespaceSetting.namespace == SecretStore.namespace)
        .where(
            in_namespace(SecretStore),
            SecretStore.key > parameter("after", Text),
            func.coalesce(_gone_before(), false()).is_(False),
            limit.is_not(None),
            too_old > 0,
        )
        .order_by(SecretStore.key)
        .limit(parameter("limit", BigInteger))
    )


@cache
def select_page_to_purge() -> Executable:
    """A page of keys of secrets that were deleted or expired before a time, and of which something is left."""
    something_left = (
        select(SecretVersion.version)
        .where(SecretVersion.namespace == SecretStore.namespace, SecretVersion.key == SecretStore.key)
        .exists()
    )
    return (
        select(SecretStore.key)
        .where(
            in_namespace(SecretStore),
            SecretStore.key > parameter("after", Text),
            _gone_before(),
            something_left,
        )
        .order_by(SecretStore.key)
        .limit(parameter("limit", BigInteger))
    )


def _gone_before() -> ColumnElement[bool]:
    return func.coalesce(SecretStore.deleted_at, SecretStore.expires_at) < parameter("before", _MOMENT)


@cache
def limit_namespace() -> Executable:
    """Set how many versions of a secret a namespace keeps."""
    statement = upsert(NamespaceSetting).values(
        namespace=parameter("namespace", Text), max_versions=parameter("max_versions", BigInteger)
    )
    return statement.on_conflict_do_update(
        index_elements=["namespace"], set_={"max_versions": statement.excluded.max_versions}
    )


@cache
def limit_secret() -> Executable:
    """Set how many versions of one secret are kept, and answer with its key, if it is there."""
    return (
        update(SecretStore)
        .values(max_versions=parameter("max_versions", BigInteger))
        .where(in_namespace(SecretStore), SecretStore.key == parameter("key", Text), has_value(SecretStore))
        .returning(SecretStore.key)
    )


@cache
def select_now() -> Executable:
    """What time it is in the database."""
    return select(func.clock_timestamp())
