"""Every statement that reads or changes data keys, and that puts other envelopes in the place of stored ones.

The same rules hold as in `statements`.  Row locks on data keys are the fence between writers and those who take a key
away: whoever seals holds `FOR KEY SHARE` on the key until the end of the transaction, as the foreign key of a value does;
whoever destroys or shreds one takes `FOR UPDATE` first, and so waits for every writer, and every later writer waits for it.
"""

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Executable,
    Select,
    Subquery,
    Text,
    Uuid,
    and_,
    case,
    cast,
    column,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.selectable import NamedFromClause

from secretstore.crypto.envelope import SHREDDED
from secretstore.orm.models import DataKey, DataKeyUse, SecretStore, SecretVersion
from secretstore.orm.statements import constant, in_namespace, is_active, parameter

ValueTable = type[SecretStore] | type[SecretVersion]

_INFO = (
    DataKey.namespace,
    DataKey.id,
    DataKey.master_key_id,
    DataKey.created_at,
    DataKey.wrapped_at,
    DataKey.retired_at,
    DataKey.shredded_at,
    case(
        (DataKey.shredded_at.is_not(None), constant("shredded")),
        else_=DataKey.state,
    ).label("state"),
)


_RETIRED = constant("retired")
_AUDIT = constant("audit")


def _this_one() -> Any:  # a condition, whose type says nothing
    return and_(in_namespace(DataKey), DataKey.id == parameter("data_key_id", Text))


def _is_of_values() -> Any:  # ditto
    """Select keys that encrypt values; one that authenticates checkpoints has nothing to do with them."""
    return DataKey.state != _AUDIT


@cache
def select_wrapped_data_key() -> Executable:
    """One data key as it is stored."""
    return select(DataKey.wrapped).where(_this_one(), _is_of_values())


@cache
def select_audit_keys() -> Executable:
    """The key of a namespace that authenticates checkpoints, as it is stored."""
    return select(DataKey.namespace, DataKey.id, DataKey.wrapped).where(in_namespace(DataKey), _is_audit())


def _is_audit() -> Any:  # ditto
    # The condition of the partial index.
    return DataKey.state == _AUDIT


@cache
def select_data_keys_in_use() -> Executable:
    """The data keys of all namespaces that seal or authenticate, as they are stored."""
    return (
        select(DataKey.namespace, DataKey.id, DataKey.wrapped)
        .where(or_(is_active(), _is_audit()))
        .order_by(DataKey.namespace, DataKey.id)
    )


@cache
def select_data_keys_of_namespace() -> Executable:
    """The data keys of a namespace that open values, as they are stored; the active one comes last."""
    return (
        select(DataKey.namespace, DataKey.id, DataKey.wrapped, is_active().label("is_active"))
        .where(in_namespace(DataKey), DataKey.shredded_at.is_(None), _is_of_values())
        .order_by(is_active(), DataKey.created_at, DataKey.id)
    )


@cache
def select_data_keys_to_rewrap() -> Executable:
    """A page of the data keys of all namespaces that a master key does not wrap; of all, where it is null."""
    master_key_id = parameter("master_key_id", Text)
    after = tuple_(parameter("after_namespace", Text), parameter("after_id", Text))
    return (
        select(DataKey.namespace, DataKey.id, DataKey.wrapped)
        .where(
            DataKey.shredded_at.is_(None),
            or_(cast(master_key_id, Text).is_(None), DataKey.master_key_id.is_distinct_from(master_key_id)),
            tuple_(DataKey.namespace, DataKey.id) > after,
        )
        .order_by(DataKey.namespace, DataKey.id)
        .limit(parameter("limit", BigInteger))
    )


@cache
def update_wrapped_data_key() -> Executable:
    """Put a data key's new wrapping in place of the one that was read."""
    return (
        update(DataKey)
        .values(wrapped=parameter("wrapped", JSONB), wrapped_at=func.now())
        .where(_this_one(), DataKey.wrapped == parameter("seen", JSONB))
        .returning(DataKey.id)
    )


@cache
def insert_data_key() -> Executable:
    """Store an active data key unless the namespace has one; waits for another that is being stored."""
    return (
        upsert(DataKey).values(_new_row()).on_conflict_do_nothing(index_elements=["namespace"], index_where=is_active())
    )


@cache
def insert_audit_key() -> Executable:
    """Store a key that authenticates checkpoints unless the namespace has one; waits for another that is being stored."""
    row = _new_row() | {"state": _AUDIT}
    return upsert(DataKey).values(row).on_conflict_do_nothing(index_elements=["namespace"], index_where=_is_audit())


def _new_row() -> dict[str, Any]:  # ditto
    return {
        "namespace": parameter("namespace", Text),
        "id": parameter("data_key_id", Text),
        "wrapped": parameter("wrapped", JSONB),
    }


@cache
def retire_active_data_key() -> Executable:
    """Let the active data key of a namespace seal nothing any more."""
    return update(DataKey).values(state=_RETIRED, retired_at=func.now()).where(in_namespace(DataKey), is_active())


@cache
def retire_used_up_data_key() -> Executable:
    """Retire one data key, unless it is not active any more or someone else is about to do the same."""
    locked = select(DataKey.id).where(_this_one(), is_active()).with_for_update(key_share=True, skip_locked=True)
    found = locked.cte("found")
    return (
        update(DataKey)
        .values(state=_RETIRED, retired_at=func.now())
        .where(in_namespace(DataKey), DataKey.id == found.c.id)
        .returning(DataKey.id)
    )


@cache
def lock_active_data_key() -> Executable:
    """Keep a data key from being taken away until the transaction ends; no row where it is not active."""
    return select(DataKey.id).where(_this_one(), is_active()).with_for_update(read=True, key_share=True)


@cache
def record_use() -> Executable:
    """Record seals of a data key, and answer with how many are recorded by now."""
    seals = parameter("seals", BigInteger)
    row = {
        "namespace": parameter("namespace", Text),
        "data_key_id": parameter("data_key_id", Text),
        "id": parameter("use_id", Uuid),
        "seals": seals,
    }
    added = insert(DataKeyUse).values(row).cte("added")
    before = select(func.coalesce(func.sum(DataKeyUse.seals), constant(0))).where(
        in_namespace(DataKeyUse), DataKeyUse.data_key_id == parameter("data_key_id", Text)
    )
    return select(before.scalar_subquery() + cast(seals, BigInteger)).add_cte(added)


@cache
def select_most_used() -> Executable:
    """How many seals are recorded for that active data key of any namespace for which they are the most."""
    sums = (
        select(func.sum(DataKeyUse.seals).label("seals"))
        .join(DataKey, and_(DataKey.namespace == DataKeyUse.namespace, DataKey.id == DataKeyUse.data_key_id))
        .where(is_active())
        .group_by(DataKeyUse.namespace, DataKeyUse.data_key_id)
        .subquery()
    )
    return select(func.coalesce(func.max(sums.c.seals), constant(0)))


@cache
def select_master_keys() -> Executable:
    """How many data keys each master key wraps, and since when; no values are counted."""
    return (
        select(
            DataKey.master_key_id,
            func.count().label("data_keys"),
            func.min(DataKey.wrapped_at).label("since"),
            func.min(DataKey.namespace).label("namespace"),
        )
        .where(DataKey.master_key_id.is_not(None))
        .group_by(DataKey.master_key_id)
        .order_by(DataKey.master_key_id)
    )


@cache
def select_infos(*, of_all: bool) -> Executable:
    """What is known of the data keys of a namespace or of all, with how many values and seals each has."""
    values, seals = _values_by_data_key(of_all=of_all), _seals_by_data_key()
    here = true() if of_all else in_namespace(DataKey)
    zero = constant(0)
    return (
        select(
            *_INFO,
            func.coalesce(values.c["values"], zero).label("values"),
            func.coalesce(seals.c.seals, zero).label("seals"),
        )
        .outerjoin(values, and_(values.c.namespace == DataKey.namespace, values.c.data_key_id == DataKey.id))
        .outerjoin(seals, and_(seals.c.namespace == DataKey.namespace, seals.c.data_key_id == DataKey.id))
        .where(here)
        .order_by(DataKey.namespace, DataKey.created_at, DataKey.id)
    )


def _values_by_data_key(*, of_all: bool) -> Subquery:
    stored = _stored_values(of_all=of_all).subquery()
    return (
        select(stored.c.namespace, stored.c.data_key_id, func.count().label("values"))
        .group_by(stored.c.namespace, stored.c.data_key_id)
        .subquery()
    )


def _seals_by_data_key() -> Subquery:
    return (
        select(DataKeyUse.namespace, DataKeyUse.data_key_id, func.sum(DataKeyUse.seals).label("seals"))
        .group_by(DataKeyUse.namespace, DataKeyUse.data_key_id)
        .subquery()
    )


def _stored_values(*, of_all: bool) -> CompoundSelect[Any]:
    parts = [
        select(table.namespace, table.data_key_id).where(
            table.data_key_id.is_not(None), true() if of_all else in_namespace(table)
        )
        for table in (SecretStore, SecretVersion)
    ]
    return union_all(*parts)


@cache
def select_namespaces() -> Executable:
    """The namespaces that have a data key."""
    return select(DataKey.namespace).distinct().order_by(DataKey.namespace)


@cache
def lock_data_keys() -> Executable:
    """Wait for every writer that seals with a data key of the namespace, and let none begin until the transaction ends."""
    return select(DataKey.id).where(in_namespace(DataKey), _is_of_values()).order_by(DataKey.id).with_for_update()


@cache
def shred_data_keys() -> Executable:
    """Leave nothing of the data keys of a namespace but their rows."""
    return (
        update(DataKey)
        .values(
            wrapped=parameter("wrapped", JSONB),
            state=_RETIRED,
            retired_at=func.coalesce(DataKey.retired_at, func.now()),
            shredded_at=func.now(),
        )
        .where(in_namespace(DataKey), DataKey.shredded_at.is_(None), _is_of_values())
    )


@cache
def select_data_key_ids() -> Executable:
    """The ids of the data keys of a namespace that open values."""
    return select(DataKey.id).where(in_namespace(DataKey), DataKey.shredded_at.is_(None), _is_of_values())


@cache
def select_shredded_data_keys() -> Executable:
    """The ids of the data keys of a namespace of which nothing is left."""
    return select(DataKey.id).where(in_namespace(DataKey), DataKey.shredded_at.is_not(None)).order_by(DataKey.id)


@cache
def lock_data_key() -> Executable:
    """One data key, which no writer can seal with until the transaction ends."""
    return select(DataKey.state).where(_this_one()).with_for_update()


@cache
def select_is_needed() -> Executable:
    """Whether any value of the namespace, old and deleted ones too, names a data key."""
    needed = [
        select(table.version).where(in_namespace(table), table.data_key_id == parameter("data_key_id", Text)).exists()
        for table in (SecretStore, SecretVersion)
    ]
    return select(or_(*needed))


@cache
def delete_data_key() -> Executable:
    """Remove a data key for good."""
    return delete(DataKey).where(_this_one())


@cache
def select_page_of_sealed(table: ValueTable) -> Executable:
    """A page of envelopes under some data keys, as text, by key and version."""
    after = tuple_(parameter("after_key", Text), parameter("after_version", BigInteger))
    return (
        select(table.key, table.version, table.data_key_id, cast(table.value, Text).label("text"))
        .where(*_sealed(table), tuple_(table.key, table.version) > after)
        .order_by(table.key, table.version)
        .limit(parameter("limit", BigInteger))
    )


@cache
def select_count_of_sealed() -> Executable:
    """How many values there are under some data keys."""
    counts = [select(func.count()).where(*_sealed(table)).scalar_subquery() for table in (SecretStore, SecretVersion)]
    return select(counts[0] + counts[1])


def _sealed(table: ValueTable) -> tuple[Any, ...]:
    return (
        in_namespace(table),
        table.data_key_id == func.any(parameter("data_key_ids", ARRAY(Text))),
        table.value["alg"].astext != constant(SHREDDED),
    )


@cache
def replace_envelopes(table: ValueTable, *, skip_locked: bool) -> Executable:
    """Put new envelopes in the place of those that were read, and answer with how many were still the same.

    Locks in the order of keys and versions; with `skip_locked` a row that someone else holds is left as it is.
    """
    rows = _rows_to_replace()
    found = _find_rows(table, rows).with_for_update(of=table, key_share=True, skip_locked=skip_locked).cte("found")
    replaced = (
        update(table)
        .values(value=cast(found.c.envelope, JSONB))
        .where(
            in_namespace(table),
            table.key == found.c.key,
            table.version == found.c.version,
            table.value == cast(found.c.seen, JSONB),
        )
        .returning(table.key)
        .cte("replaced")
    )
    return select(func.count()).select_from(replaced)


def _find_rows(table: ValueTable, rows: NamedFromClause) -> Select[Any]:
    return (
        select(table.key, table.version, rows.c.seen, rows.c.envelope)
        .join(rows, and_(table.key == rows.c.key, table.version == rows.c.version))
        .where(in_namespace(table))
        .order_by(table.key, table.version)
    )


def _rows_to_replace() -> NamedFromClause:
    return (
        func.unnest(
            parameter("keys", ARRAY(Text)),
            parameter("versions", ARRAY(BigInteger)),
            parameter("seen", ARRAY(Text)),
            parameter("envelopes", ARRAY(Text)),
        )
        .table_valued(
            column("key", Text), column("version", BigInteger), column("seen", Text), column("envelope", Text)
        )
        .render_derived(name="rows")
    )
