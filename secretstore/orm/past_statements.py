"""Every statement that reads secrets as they were; the rules are those of `statements`.

What was current at a moment is told by the record of changes: the last change of each key until then.  Values, labels and
expiry come from the history, where they may be gone by now: such a secret is found, with null in their places.
"""

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Executable,
    Select,
    Subquery,
    Text,
    and_,
    cast,
    func,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from secretstore.orm.models import ChangeEvent, LabelChange, SecretStore, SecretVersion
from secretstore.orm.statements import among_keys, constant, in_namespace, in_page, parameter, version_labels

_IS_KEY = ChangeEvent.key == parameter("key", Text)


def _action(name: str) -> ColumnElement[str]:
    return constant(name)


def _moment() -> ColumnElement[Any]:
    return parameter("moment", DateTime(timezone=True))


def _last_changes(*conditions: ColumnElement[bool]) -> Subquery:
    changed = ChangeEvent.__table__.c
    # Changes by the first releases have the time of their transaction, which a deletion may share with a write.
    newest_first = (changed.version.desc(), changed.occurred_at.desc(), changed.action)
    changes = (
        select(
            *(changed[name] for name in ("namespace", "key", "version", "action", "occurred_at")),
            func.row_number().over(partition_by=changed.key, order_by=newest_first).label("place"),
        )
        .where(
            in_namespace(ChangeEvent),
            *conditions,
            ChangeEvent.occurred_at <= _moment(),
            # It concerns the history alone: the secret goes on, or was deleted by a change of its own.
            ChangeEvent.action != _action("destroy"),
        )
        .subquery("change")
    )
    return select(changes).where(changes.c.place == 1).subquery("last_change")


def _live(last: Subquery, *columns: Any) -> Select[Any]:  # columns, mapped or not
    version = and_(
        SecretVersion.namespace == last.c.namespace,
        SecretVersion.key == last.c.key,
        SecretVersion.version == last.c.version,
    )
    return (
        select(*columns)
        .select_from(last)
        .outerjoin(SecretVersion, version)
        .where(
            last.c.action != _action("delete"),
            last.c.action != _action("purge"),
            or_(SecretVersion.expires_at.is_(None), SecretVersion.expires_at > _moment()),
        )
    )


def _values(last: Subquery) -> Select[Any]:
    return _live(last, last.c.key, last.c.version, SecretVersion.value)


def _labels() -> ColumnElement[Any]:
    labels = version_labels(LabelChange.changed_at <= _moment())
    return func.coalesce(labels, cast(constant("{}"), JSONB))


def _infos(last: Subquery) -> Select[Any]:
    head = and_(SecretStore.namespace == last.c.namespace, SecretStore.key == last.c.key)
    return _live(
        last,
        *(last.c[name] for name in ("namespace", "key", "version")),
        _labels().label("labels"),
        SecretStore.created_at,
        last.c.occurred_at.label("updated_at"),
        SecretStore.created_by,
        SecretVersion.expires_at,
        null().label("deleted_at"),
    ).join(SecretStore, head)


def _page(selected: Select[Any], last: Subquery) -> Select[Any]:
    return selected.order_by(last.c.key).limit(parameter("limit", BigInteger))


@cache
def select_value() -> Executable:
    """The envelope of one secret."""
    return _values(_last_changes(_IS_KEY))


@cache
def select_value_of_version() -> Executable:
    """The envelope of one version, which was written by then, of a secret that was there."""
    last = _last_changes(_IS_KEY)
    wanted = SecretVersion.__table__.alias("wanted")
    return (
        _live(last, wanted.c.key, wanted.c.version, wanted.c.value)
        .join(wanted, and_(wanted.c.namespace == last.c.namespace, wanted.c.key == last.c.key))
        .where(
            wanted.c.version == parameter("version", BigInteger),
            wanted.c.version <= last.c.version,
            wanted.c.value.is_not(None),
        )
    )


@cache
def select_values() -> Executable:
    """The envelopes of many secrets."""
    return _values(_last_changes(ChangeEvent.key == among_keys()))


@cache
def select_page_of_values() -> Executable:
    """The envelopes of a page of secrets, by key."""
    last = _last_changes(*in_page(ChangeEvent.key))
    return _page(_values(last), last)


@cache
def select_page_of_states() -> Executable:
    """A page of secrets with all that a file has of them."""
    last = _last_changes(*in_page(ChangeEvent.key))
    columns = (last.c.key, last.c.version, SecretVersion.value, _labels().label("labels"), SecretVersion.expires_at)
    return _page(_live(last, *columns), last)


@cache
def select_page_of_keys() -> Executable:
    """A page of keys."""
    last = _last_changes(*in_page(ChangeEvent.key))
    return _page(_live(last, last.c.key), last)


@cache
def select_page_of_infos(*, by_labels: bool) -> Executable:
    """A page of what was known of secrets."""
    last = _last_changes(*in_page(ChangeEvent.key))
    return _page(_infos(last), last).where(
        _labels().op("@>")(parameter("labels", JSONB)) if by_labels else true(),
    )


@cache
def select_info() -> Executable:
    """What was known of one secret."""
    return _infos(_last_changes(_IS_KEY))


@cache
def select_count() -> Executable:
    """How many secrets had a prefix."""
    last = _last_changes(*in_page(ChangeEvent.key))
    return _live(last, func.count())
