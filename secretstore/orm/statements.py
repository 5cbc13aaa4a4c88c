"""Every statement that reads secrets as they are now.

Each function builds its statement once; whatever varies comes as a parameter.  The rules that all of them keep, so that
they run unchanged behind a pooler, on replicas and on tables distributed by namespace: one namespace by `=`, no function
of the database in `DO UPDATE SET`, no `SELECT *`, no state of the session.
"""

from enum import Enum
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    Double,
    Executable,
    Interval,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    column,
    extract,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.selectable import NamedFromClause
from sqlalchemy.types import TypeEngine

from secretstore.orm.models import DataKey, LabelChange, NamespaceSetting, SecretStore, SecretVersion


class Show(Enum):
    """Which secrets a list shows."""

    LIVE = "live"
    DELETED_TOO = "deleted too"
    EXPIRED = "expired"


# SQLAlchemy takes a parameter that is named like a column for a new value of that column.
_PREFIX = "given_"

_SECRET = SecretStore.__table__.c
VERSION_INFO = tuple(
    SecretVersion.__table__.c[name]
    for name in ("namespace", "key", "version", "created_at", "created_by", "expires_at", "destroyed_at")
)
STATE = tuple(_SECRET[name] for name in ("key", "version", "value", "labels", "expires_at"))
INFO = tuple(
    _SECRET[name]
    for name in (
        *("namespace", "key", "version", "labels", "created_at"),
        *("updated_at", "created_by", "expires_at", "deleted_at"),
    )
)


def parameters(**values: object) -> dict[str, object]:
    """Return values under the names that the statements give to their parameters."""
    return {_PREFIX + name: value for name, value in values.items()}


def parameter(name: str, type_: TypeEngine[Any] | type[TypeEngine[Any]]) -> BindParameter[Any]:
    """Return a parameter of a statement."""
    return bindparam(_PREFIX + name, type_=type_)


def unprefixed(name: str) -> str:
    """Return the name of a value by the name of its parameter."""
    return name.removeprefix(_PREFIX)


def constant(value: str | int) -> ColumnElement[Any]:
    """Return a word or a number of ours, written into the statement so that the planner sees it."""
    return literal_column(repr(value), Text if isinstance(value, str) else BigInteger)


def rows_of(**columns: TypeEngine[Any] | type[TypeEngine[Any]]) -> NamedFromClause:
    """Return rows from one array for each column; the parameter of an array is named like its column, with an s."""
    arrays = (parameter(f"{name}s", ARRAY(type_)) for name, type_ in columns.items())
    named = (column(name, type_) for name, type_ in columns.items())
    return func.unnest(*arrays).table_valued(*named).render_derived(name="rows")


def among_keys() -> ColumnElement[Any]:
    """Return what a key is compared with to be one of many."""
    return func.any(parameter("keys", ARRAY(Text)))


def has_value(table: Any) -> ColumnElement[bool]:  # a model with values
    """Select what has not lost its value for good; takes no right to read values, because each one names its data key."""
    condition: ColumnElement[bool] = table.data_key_id.is_not(None)
    return condition


def is_live() -> ColumnElement[bool]:
    """Select what readers see: neither deleted nor expired."""
    return and_(
        SecretStore.deleted_at.is_(None),
        or_(SecretStore.expires_at.is_(None), SecretStore.expires_at > func.now()),
    )


def _is_expired() -> ColumnElement[bool]:
    return and_(SecretStore.deleted_at.is_(None), SecretStore.expires_at <= func.now())


def _can_be_undeleted() -> ColumnElement[bool]:
    return and_(SecretStore.deleted_at.is_not(None), has_value(SecretStore))


def _is_shown(show: Show) -> ColumnElement[bool]:
    if show is Show.EXPIRED:
        return _is_expired()
    return or_(is_live(), _can_be_undeleted()) if show is Show.DELETED_TOO else is_live()


def in_namespace(table: Any) -> ColumnElement[bool]:  # any of our models
    """Select one namespace, as every statement has to."""
    condition: ColumnElement[bool] = table.namespace == parameter("namespace", Text)
    return condition


def is_active() -> ColumnElement[bool]:
    """Select data keys that seal."""
    # The condition of the partial index.
    return DataKey.state == constant("active")


def in_page(key: Any) -> tuple[ColumnElement[bool], ...]:  # a column, mapped or not
    """Select by prefix, from after a key on, as one range of an index."""
    return (
        key >= parameter("prefix", Text),
        key < parameter("prefix_end", Text),
        key > parameter("after", Text),
    )


def _page(show: Show, *columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns)
        .where(in_namespace(SecretStore), *in_page(SecretStore.key), _is_shown(show))
        .order_by(SecretStore.key)
        # PostgreSQL takes LIMIT NULL as no limit.
        .limit(parameter("limit", BigInteger))
    )


@cache
def select_may_update() -> Executable:
    """Whether this role may change a column of a table, on a server that does not only follow another one."""
    wanted = (parameter(name, Text) for name in ("table", "column", "privilege"))
    return select(and_(func.has_column_privilege(*wanted), func.pg_is_in_recovery().is_(False)))


@cache
def select_value() -> Executable:
    """The envelope of one secret, and whether readers do not see it.

    That is asked for, not selected by: a condition more costs more to plan than all else here, and where nothing is
    prepared every read is planned.  For the same reason the text is short, and names no function that would have to be
    looked up.
    """
    secret = SecretStore.__table__.alias("s").c
    is_gone = or_(secret.deleted_at.is_not(None), secret.expires_at <= func.current_timestamp())
    return select(secret.version, secret.value, is_gone.label("is_gone")).where(
        in_namespace(secret), secret.key == parameter("key", Text)
    )


@cache
def select_value_to_keep() -> Executable:
    """The envelope of one secret, and for how many seconds from now on it may be kept by a reader."""
    seconds = cast(extract("epoch", SecretStore.expires_at - func.now()), Double)
    return select(_SECRET.version, _SECRET.value, seconds.label("seconds_left")).where(
        in_namespace(SecretStore), SecretStore.key == parameter("key", Text), is_live()
    )


@cache
def select_value_of_version() -> Executable:
    """The envelope of one version of a secret that is still there."""
    version = SecretVersion.__table__.c
    return (
        select(version.value)
        .join(SecretStore, and_(SecretStore.namespace == version.namespace, SecretStore.key == version.key))
        .where(
            in_namespace(SecretVersion),
            version.key == parameter("key", Text),
            version.version == parameter("version", BigInteger),
            version.value.is_not(None),
            is_live(),
        )
    )


@cache
def select_values() -> Executable:
    """The envelopes of many secrets."""
    return select(_SECRET.key, _SECRET.version, _SECRET.value).where(
        in_namespace(SecretStore), SecretStore.key == among_keys(), is_live()
    )


@cache
def select_page_of_values() -> Executable:
    """The envelopes of a page of secrets, by key."""
    return _page(Show.LIVE, _SECRET.key, _SECRET.version, _SECRET.value)


@cache
def select_states() -> Executable:
    """Many secrets that are there, with all that a file has of them."""
    return select(*STATE).where(in_namespace(SecretStore), SecretStore.key == among_keys(), is_live())


@cache
def select_whole_secrets() -> Executable:
    """Many secrets that are there: their envelopes beside what is known of them."""
    return select(*INFO, _SECRET.value).where(in_namespace(SecretStore), SecretStore.key == among_keys(), is_live())


@cache
def select_page_of_states() -> Executable:
    """A page of secrets with all that a file has of them."""
    return _page(Show.LIVE, *STATE)


@cache
def select_page_of_keys(show: Show) -> Executable:
    """A page of keys."""
    return _page(show, _SECRET.key)


@cache
def select_page_of_infos(
    show: Show, *, by_labels: bool = False, expiring: bool = False, unchanged: bool = False
) -> Executable:
    """A page of what is known of secrets without their values."""
    return _page(show, *INFO).where(
        SecretStore.labels.contains(parameter("labels", JSONB)) if by_labels else true(),
        SecretStore.expires_at <= func.now() + parameter("expiring_within", Interval) if expiring else true(),
        _is_unchanged() if unchanged else true(),
    )


def _is_unchanged() -> ColumnElement[bool]:
    return (
        select(SecretVersion.version)
        .where(
            SecretVersion.namespace == SecretStore.namespace,
            SecretVersion.key == SecretStore.key,
            SecretVersion.version == SecretStore.version,
            SecretVersion.created_at <= func.now() - parameter("unchanged_for", Interval),
        )
        .exists()
    )


@cache
def select_info() -> Executable:
    """What is known of one secret without its value."""
    return select(*INFO).where(in_namespace(SecretStore), SecretStore.key == parameter("key", Text), is_live())


@cache
def select_versions() -> Executable:
    """What is known of every version of a secret, deleted ones too, newest first; labels are those that it had last."""
    return (
        select(*VERSION_INFO, version_labels().label("labels"))
        .where(in_namespace(SecretVersion), SecretVersion.key == parameter("key", Text))
        .order_by(SecretVersion.version.desc())
    )


def version_labels(*conditions: ColumnElement[bool]) -> ColumnElement[Any]:
    """Return the last labels of a version, or the last under a condition."""
    later = (
        select(LabelChange.labels)
        .where(
            LabelChange.namespace == SecretVersion.namespace,
            LabelChange.key == SecretVersion.key,
            LabelChange.version == SecretVersion.version,
            *conditions,
        )
        .order_by(LabelChange.changed_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(later, SecretVersion.labels)


@cache
def select_count(show: Show) -> Executable:
    """How many secrets have a prefix."""
    return select(func.count()).where(in_namespace(SecretStore), *in_page(SecretStore.key), _is_shown(show))


@cache
def select_heads() -> Executable:
    """The namespace's active data key beside the heads of the keys that are there; no row where there is no data key.

    The data key cannot be taken away until the transaction ends.  The moment is later than every change of these heads,
    because each of them took its own moment before it was committed.
    """
    head = and_(SecretStore.namespace == DataKey.namespace, SecretStore.key == among_keys())
    return (
        select(
            DataKey.id.label("data_key_id"),
            SecretStore.key,
            SecretStore.version,
            SecretStore.expires_at,
            SecretStore.deleted_at.is_not(None).label("is_deleted"),
            is_live().label("is_live"),
            func.coalesce(SecretStore.max_versions, NamespaceSetting.max_versions).label("max_versions"),
            func.clock_timestamp().label("moment"),
        )
        .outerjoin_from(DataKey, SecretStore, head)
        .outerjoin(NamespaceSetting, NamespaceSetting.namespace == DataKey.namespace)
        .where(in_namespace(DataKey), is_active())
        .with_for_update(of=DataKey, read=True, key_share=True)
    )


@cache
def select_stored() -> Executable:
    """What an import compares with: many secrets as they are stored, also those that readers do not see."""
    return select(
        *(_SECRET[name] for name in ("key", "version", "value", "updated_at")),
        SecretStore.deleted_at.is_not(None).label("is_deleted"),
        is_live().label("is_live"),
    ).where(in_namespace(SecretStore), SecretStore.key == among_keys())
