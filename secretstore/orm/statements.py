"""Every statement that reads or writes secrets.

Each function builds its statement once; whatever varies comes as a parameter.  The rules that all of them keep, so that
they run unchanged behind a pooler, on replicas and on tables distributed by namespace: one namespace by `=`, no function
of the database in `DO UPDATE SET`, no `SELECT *`, no state of the session.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    BindParameter,
    Boolean,
    ColumnElement,
    DateTime,
    Executable,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    collate,
    column,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.selectable import NamedFromClause
from sqlalchemy.types import TypeEngine

from secretstore.orm.models import ChangeEvent, DataKey, SecretStore, SecretVersion

# SQLAlchemy takes a parameter that is named like a column for a new value of that column.
_PREFIX = "given_"

_SECRET = SecretStore.__table__.c
_INFO = tuple(
    _SECRET[name]
    for name in (
        *("namespace", "key", "version", "labels", "created_at"),
        *("updated_at", "created_by", "expires_at", "deleted_at"),
    )
)
# What a write has of each row.
_WRITTEN: Mapping[str, type[TypeEngine[Any]]] = MappingProxyType(
    {"key": Text, "version": BigInteger, "envelope": Text, "event_id": Uuid}
)
_TIMES = ("created_at", "updated_at")


def parameters(**values: object) -> dict[str, object]:
    """Return values under the names that the statements give to their parameters."""
    return {_PREFIX + name: value for name, value in values.items()}


def parameter(name: str, type_: TypeEngine[Any] | type[TypeEngine[Any]]) -> BindParameter[Any]:
    """Return a parameter of a statement."""
    return bindparam(_PREFIX + name, type_=type_)


def _namespace() -> ColumnElement[str]:
    return parameter("namespace", Text)


def _keys() -> ColumnElement[Any]:
    return func.any(parameter("keys", ARRAY(Text)))


def _is_live() -> ColumnElement[bool]:
    return and_(
        SecretStore.deleted_at.is_(None),
        or_(SecretStore.expires_at.is_(None), SecretStore.expires_at > func.now()),
    )


def in_namespace(table: Any) -> ColumnElement[bool]:  # any of our models
    """Select one namespace, as every statement has to."""
    condition: ColumnElement[bool] = table.namespace == _namespace()
    return condition


def is_active() -> ColumnElement[bool]:
    """Select data keys that seal."""
    # Written into the statement, because the planner has to see that it is the condition of the partial index.
    return DataKey.state == literal("active", literal_execute=True)


def _in_page() -> tuple[ColumnElement[bool], ...]:
    """Select by prefix, from after a key on, as one range of the primary key."""
    return (
        SecretStore.namespace == _namespace(),
        SecretStore.key >= parameter("prefix", Text),
        SecretStore.key < parameter("prefix_end", Text),
        SecretStore.key > parameter("after", Text),
        _is_live(),
    )


def _page(*columns: ColumnElement[Any]) -> Select[Any]:
    # PostgreSQL takes LIMIT NULL as no limit.
    return select(*columns).where(*_in_page()).order_by(SecretStore.key).limit(parameter("limit", BigInteger))


@cache
def select_value() -> Executable:
    """The envelope of one secret."""
    return select(_SECRET.key, _SECRET.version, _SECRET.value).where(
        SecretStore.namespace == _namespace(), SecretStore.key == parameter("key", Text), _is_live()
    )


@cache
def select_value_of_version() -> Executable:
    """The envelope of one version of a secret that is still there."""
    version = SecretVersion.__table__.c
    return (
        select(version.key, version.version, version.value)
        .join(SecretStore, and_(SecretStore.namespace == version.namespace, SecretStore.key == version.key))
        .where(
            version.namespace == _namespace(),
            version.key == parameter("key", Text),
            version.version == parameter("version", BigInteger),
            version.value.is_not(None),
            _is_live(),
        )
    )


@cache
def select_values() -> Executable:
    """The envelopes of many secrets."""
    return select(_SECRET.key, _SECRET.version, _SECRET.value).where(
        SecretStore.namespace == _namespace(), SecretStore.key == _keys(), _is_live()
    )


@cache
def select_page_of_values() -> Executable:
    """The envelopes of a page of secrets, by key."""
    return _page(_SECRET.key, _SECRET.version, _SECRET.value)


@cache
def select_page_of_keys() -> Executable:
    """A page of keys."""
    return _page(_SECRET.key)


@cache
def select_page_of_infos(*, by_labels: bool) -> Executable:
    """A page of what is known of secrets without their values."""
    wanted = SecretStore.labels.contains(parameter("labels", JSONB)) if by_labels else true()
    return _page(*_INFO).where(wanted)


@cache
def select_info() -> Executable:
    """What is known of one secret without its value."""
    return select(*_INFO).where(
        SecretStore.namespace == _namespace(), SecretStore.key == parameter("key", Text), _is_live()
    )


@cache
def select_count() -> Executable:
    """How many secrets have a prefix."""
    return select(func.count()).where(*_in_page())


@cache
def select_heads() -> Executable:
    """The namespace's active data key beside the heads of the keys that are there; no row where there is no data key.

    The data key cannot be taken away until the transaction ends.
    """
    head = and_(SecretStore.namespace == DataKey.namespace, SecretStore.key == _keys())
    return (
        select(
            DataKey.id.label("data_key_id"),
            SecretStore.key,
            SecretStore.version,
            SecretStore.deleted_at.is_not(None).label("is_deleted"),
            _is_live().label("is_live"),
        )
        .outerjoin_from(DataKey, SecretStore, head)
        .where(DataKey.namespace == _namespace(), is_active())
        .with_for_update(of=DataKey, read=True, key_share=True)
    )


@cache
def select_stored() -> Executable:
    """What an import compares with: many secrets as they are stored, also those that readers do not see."""
    return select(
        *(_SECRET[name] for name in ("key", "version", "value", "updated_at")),
        SecretStore.deleted_at.is_not(None).label("is_deleted"),
        _is_live().label("is_live"),
    ).where(SecretStore.namespace == _namespace(), SecretStore.key == _keys())


@cache
def write_secrets() -> Executable:
    """Write heads, history and change events in one statement, and answer with the heads that were written.

    A head is written only where its version is still the one before the new version; where `was_deleted` is not null,
    only where that has not changed either.  Every head that is there is locked, written or not, in the order of the keys:
    two batches that share keys never wait for each other in a circle.
    """
    return _write("set", _unnested(**_WRITTEN), with_times=False)


@cache
def import_secrets() -> Executable:
    """Do as `write_secrets` does, with times that come with the rows; a head that changed at that time or later stays."""
    rows = _unnested(**_WRITTEN, **dict.fromkeys(_TIMES, DateTime(timezone=True)))
    return _write("import", rows, with_times=True)


def _write(action: str, rows: NamedFromClause, *, with_times: bool) -> Executable:
    head = _write_heads(rows, with_times=with_times)
    history = _copy_to_history(head)
    events = _record_changes(head, rows, action)
    return select(*(head.c[info.name] for info in _INFO)).add_cte(history, events)


def _unnested(**columns: TypeEngine[Any] | type[TypeEngine[Any]]) -> NamedFromClause:
    """Return rows from one array for each column; the parameter of an array is named like its column, with an s."""
    arrays = (parameter(f"{name}s", ARRAY(type_)) for name, type_ in columns.items())
    named = (column(name, type_) for name, type_ in columns.items())
    return func.unnest(*arrays).table_valued(*named).render_derived(name="rows")


def _write_heads(rows: NamedFromClause, *, with_times: bool) -> CTE:
    labels = parameter("labels", JSONB(none_as_null=True))
    actor = func.coalesce(parameter("actor", Text), func.current_user())
    new = {
        "namespace": _namespace(),
        "key": rows.c.key,
        "value": cast(rows.c.envelope, JSONB),
        "version": rows.c.version,
        "labels": func.coalesce(labels, cast(literal("{}", literal_execute=True), JSONB)),
        "expires_at": parameter("expires_at", DateTime(timezone=True)),
        "created_by": actor,
        "updated_by": actor,
        **{name: rows.c[name] for name in _TIMES if with_times},
    }
    statement = upsert(SecretStore).from_select(
        list(new),
        select(*(expression.label(name) for name, expression in new.items())).order_by(collate(rows.c.key, "C")),
    )
    excluded = statement.excluded
    was_deleted = cast(parameter("was_deleted", Boolean), Boolean)
    return (
        statement.on_conflict_do_update(
            index_elements=["namespace", "key"],
            set_={
                **{name: excluded[name] for name in ("value", "version", "expires_at", "updated_at", "updated_by")},
                "labels": func.coalesce(labels, SecretStore.labels),
                "deleted_at": None,
            },
            where=and_(
                SecretStore.version == excluded.version - 1,
                or_(was_deleted.is_(None), SecretStore.deleted_at.is_not(None) == was_deleted),
                SecretStore.updated_at < excluded.updated_at if with_times else true(),
            ),
        )
        .returning(*_INFO, _SECRET.value, _SECRET.updated_by)
        .cte("head")
    )


def _copy_to_history(head: CTE) -> CTE:
    copied = {
        **{name: head.c[name] for name in ("namespace", "key", "version", "value", "labels", "expires_at")},
        "created_at": head.c.updated_at,
        "created_by": head.c.updated_by,
    }
    return insert(SecretVersion).from_select(list(copied), select(*copied.values())).cte("history")


def _record_changes(changed: CTE, rows: NamedFromClause, action: str) -> CTE:
    recorded = {
        **{name: changed.c[name] for name in ("namespace", "key", "version")},
        "id": rows.c.event_id,
        "action": literal(action, literal_execute=True),
        "actor": changed.c.updated_by,
    }
    events = select(*recorded.values()).join_from(changed, rows, changed.c.key == rows.c.key)
    return insert(ChangeEvent).from_select(list(recorded), events).cte("event")


@cache
def delete_secrets() -> Executable:
    """Mark secrets as deleted and record it, and answer with how many there were; locks in the order of the keys."""
    rows = _unnested(key=Text, event_id=Uuid)
    found = (
        select(_SECRET.namespace, _SECRET.key)
        .where(SecretStore.namespace == _namespace(), SecretStore.key == _keys(), _is_live())
        .order_by(SecretStore.key)
        .with_for_update()
        .cte("found")
    )
    head = (
        update(SecretStore)
        .values(
            deleted_at=func.now(),
            updated_at=func.now(),
            updated_by=func.coalesce(parameter("actor", Text), func.current_user()),
        )
        .where(SecretStore.namespace == _namespace(), SecretStore.key == found.c.key)
        .returning(_SECRET.namespace, _SECRET.key, _SECRET.version, _SECRET.updated_by)
        .cte("head")
    )
    return select(func.count()).select_from(head).add_cte(_record_changes(head, rows, "delete"))
