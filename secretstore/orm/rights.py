"""What a grant is in PostgreSQL: privileges on tables and columns, and a policy for each table and command.

Policies hold constants and operators that are leakproof, so that they are conditions of an index like any other.  They
are written as PostgreSQL prints them again, so that those that are there can be compared with those that should be.

Privileges on columns belong to a role and not to rows.  So all grants of a role that open rows of a table to a command have
to open the same columns; `leaks` finds those that do not.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from secretstore.domain.grants import EVERYTHING, Grant, with_implied
from secretstore.domain.names import prefix_end
from secretstore.orm.models import SCHEMA, Base

OURS = "secretstore_"
VERSION_TABLE = "alembic_version"

_FORMAT = 1
_EVENT = ("namespace", "id", "key", "version", "action", "actor", "occurred_at", "request_id")
_PAST_EVENT = ("namespace", "id", "key", "version", "action", "occurred_at")
_DELETED = ("value", "labels", "expires_at", "deleted_at", "max_versions", "updated_at", "updated_by")
_EVENT_TABLES = ("access_event", "change_event")
_CLAIM = ("(key = ''::text)", "(action = ''::text)")


@dataclass(frozen=True, slots=True)
class Access:
    """Rows of a table that a command may reach, and which of their columns; all, where `columns` is None.

    `using` and `check` are conditions.  A `pinned` one is about rows of a kind of which the other columns say nothing
    that is not known, so that a right to them that comes from elsewhere does no harm.
    """

    table: str
    command: str
    using: tuple[str, ...]
    columns: tuple[str, ...] | None = None
    check: tuple[str, ...] | None = None
    kind: str = "keys"
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy of one role as it is, or as it should be; the role of `public` is everybody."""

    table: str
    name: str
    role: str
    command: str
    using: str | None
    check: str | None
    comment: str


# Columns by table and privilege; None are all of them.
Privileges = Mapping[tuple[str, str], frozenset[str] | None]


@cache
def table_names() -> tuple[str, ...]:
    """Return the names of all tables that policies guard, in the order in which they are locked."""
    return tuple(sorted(table.name for table in Base.metadata.tables.values()))


def policies_of(grant: Grant) -> dict[tuple[str, str], Policy]:
    """Return the policies of a grant by their tables and names."""
    made = map(_open_policy, [grant] * len(table_names()), table_names()) if grant.is_everything else _policies(grant)
    return {(policy.table, policy.name): policy for policy in made}


def privileges_of(grants: Iterable[Grant]) -> Privileges:
    """Return the privileges that grants need together."""
    needed: dict[tuple[str, str], frozenset[str] | None] = {}
    for access in (access for grant in grants for access in accesses_of(grant)):
        place = (access.table, access.command)
        before = needed.get(place, frozenset())
        needed[place] = None if before is None or access.columns is None else before | set(access.columns)
    if needed:
        needed[VERSION_TABLE, "SELECT"] = None
    return needed


def accesses_of(grant: Grant) -> list[Access]:
    """Return what a grant opens."""
    return list(_accesses(grant.namespace or "", grant.prefix, with_implied(grant.can)))


def leaks(grants: Iterable[Grant]) -> tuple[Grant, Grant, str] | None:
    """Return a grant whose rows another one, of the same role, would open further than it says, and the table of them."""
    opened = [(grant, access) for grant in grants for access in accesses_of(grant) if not access.pinned]
    for narrow, less in opened:
        for wide, more in opened:
            if _is_same_place(less, more) and not _is_within(more.columns, less.columns):
                covering = [one for grant, one in opened if _reaches(grant, narrow) and _is_same_place(less, one)]
                if not any(_is_within(more.columns, one.columns) for one in covering):
                    return narrow, wide, less.table
    return None


def comment_of(grant: Grant) -> str:
    """Return what stands beside each policy of a grant."""
    described = {"secretstore": _FORMAT, "role": grant.role}
    if grant.is_everything:
        return json.dumps({**described, "can": [EVERYTHING]}, ensure_ascii=False)
    place = {"namespace": grant.namespace, "prefix": grant.prefix}
    return json.dumps({**described, **place, "can": list(grant.can)}, ensure_ascii=False)


def literal(text: str) -> str:
    """Return a text as PostgreSQL prints and reads it where `standard_conforming_strings` is on."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def condition(parts: Iterable[str]) -> str:
    """Return conditions that have to hold together, as PostgreSQL prints them."""
    listed = list(parts)
    return f"({' AND '.join(listed)})" if len(listed) > 1 else listed[0]


def _accesses(namespace: str, prefix: str, can: frozenset[str]) -> Iterator[Access]:
    rows = _Rows(namespace, prefix)
    if can & {"read", "list"}:
        yield from _to_see(rows, with_values="read" in can)
    if "history" in can:
        yield from _to_see_history(rows, with_values="read" in can)
    if "write" in can:
        yield from _to_write(rows)
    if "delete" in can:
        yield from _to_delete(rows)
    if can & {"write", "delete"}:
        yield from _to_record_changes(rows)
    if can - {"audit", "seal"}:
        # Refused calls are recorded too, which are about other keys.
        yield Access("access_event", "INSERT", (), (*_EVENT, "outcome"), check=rows.all, kind="any")
    if "audit" in can:
        yield from _to_audit(rows)
    if "seal" in can:
        yield from _to_seal(rows)


class _Rows:
    """Conditions on the rows of a namespace, and of a prefix in it."""

    def __init__(self, namespace: str, prefix: str) -> None:
        self.all = (f"(namespace = {literal(namespace)}::text)",)
        self.is_whole = not prefix
        self.keys = self.all + _range(prefix)
        # Records of what concerns the namespace as a whole have an empty key.
        self.secrets = self.keys if prefix else (*self.all, "(key > ''::text)")
        self.sealing = (*self.all, "(state = 'active'::text)")
        self.opening = (*self.all, "(state <> 'audit'::text)")
        self.auditing = (*self.all, "(state = 'audit'::text)")


def _range(prefix: str) -> tuple[str, ...]:
    if not prefix:
        return ()
    begin, end = f"(key >= {literal(prefix)}::text)", prefix_end(prefix)
    # After the last character of all there is no end to name.
    return (begin, f"(key < {literal(end)}::text)") if len(end) <= len(prefix) else (begin,)


def _to_see(rows: _Rows, *, with_values: bool) -> Iterator[Access]:
    yield Access("secret_store", "SELECT", rows.keys, None if with_values else _without_value("secret_store"))
    if with_values:
        yield Access("data_key", "SELECT", rows.opening, kind="opening", pinned=True)


def _to_see_history(rows: _Rows, *, with_values: bool) -> Iterator[Access]:
    yield Access("secret_version", "SELECT", rows.keys, None if with_values else _without_value("secret_version"))
    yield Access("label_change", "SELECT", rows.keys)
    yield Access("change_event", "SELECT", rows.secrets, _PAST_EVENT, kind="history")


def _to_write(rows: _Rows) -> Iterator[Access]:
    for table in ("secret_store", "secret_version", "label_change"):
        yield Access(table, "INSERT", (), check=rows.keys)
    # A write leaves a value that is there: it takes a mark of deletion away, and sets none.
    there = (*rows.keys, "(value IS NOT NULL)", "(deleted_at IS NULL)")
    columns = _but("secret_store", "namespace", "key", "data_key_id")
    yield Access("secret_store", "UPDATE", rows.keys, columns, check=there, kind="writing")
    yield Access("data_key", "INSERT", (), ("namespace", "id", "wrapped"), check=rows.sealing, kind="sealing")
    # The right to lock a row, which is one to change it; but no change of it passes the check.
    yield Access("data_key", "UPDATE", rows.sealing, ("retired_at",), check=("false",), kind="locking", pinned=True)
    yield Access("data_key_use", "SELECT", rows.all, kind="any")
    yield Access("data_key_use", "INSERT", (), check=rows.all, kind="any")
    yield Access("namespace_setting", "SELECT", rows.all, kind="any")


def _to_delete(rows: _Rows) -> Iterator[Access]:
    yield Access("secret_store", "UPDATE", rows.keys, _DELETED, check=rows.keys)
    # Which versions there are has to be known, and not what is in them.
    yield Access("secret_version", "SELECT", rows.keys, _without_value("secret_version"))
    yield Access("label_change", "SELECT", rows.keys)
    # An old version can be emptied, and not be overwritten.
    gone = (*rows.keys, "(value IS NULL)")
    yield Access("secret_version", "UPDATE", rows.keys, ("value", "destroyed_at"), check=gone, kind="emptying")
    yield Access("secret_version", "DELETE", rows.keys)


def _to_record_changes(rows: _Rows) -> Iterator[Access]:
    yield Access("change_event", "INSERT", (), _EVENT, check=rows.secrets)
    # Whether a lost COMMIT was carried out is asked by claiming the id of its event, in a row that is never committed.
    claim = rows.all + _CLAIM
    yield Access("change_event", "INSERT", (), _EVENT, check=claim, kind="claim")
    yield Access("change_event", "SELECT", claim, ("id",), kind="claim", pinned=True)


def _to_audit(rows: _Rows) -> Iterator[Access]:
    for table in _EVENT_TABLES:
        yield Access(table, "SELECT", rows.keys, kind="audit")
    if rows.is_whole:
        yield Access("audit_checkpoint", "SELECT", rows.all, kind="any")


def _to_seal(rows: _Rows) -> Iterator[Access]:
    for table in _EVENT_TABLES:
        yield Access(table, "SELECT", rows.all, kind="audit")
        unnumbered = (*rows.all, "(seq IS NULL)")
        yield Access(table, "UPDATE", unnumbered, ("seq",), check=rows.all, kind="numbering")
    yield Access("audit_checkpoint", "SELECT", rows.all, kind="any")
    yield Access("audit_checkpoint", "INSERT", (), check=rows.all, kind="any")
    yield Access("data_key", "SELECT", rows.auditing, kind="auditing", pinned=True)
    columns = ("namespace", "id", "wrapped", "state")
    yield Access("data_key", "INSERT", (), columns, check=rows.auditing, kind="auditing")


@cache
def _but(table: str, *left_out: str) -> tuple[str, ...]:
    columns = Base.metadata.tables[f"{SCHEMA}.{table}"].columns
    return tuple(one.name for one in columns if one.name not in left_out)


def _without_value(table: str) -> tuple[str, ...]:
    return _but(table, "value")


def _is_same_place(one: Access, other: Access) -> bool:
    return one.command in {"SELECT", "UPDATE"} and (one.table, one.command) == (other.table, other.command)


def _is_within(columns: tuple[str, ...] | None, others: tuple[str, ...] | None) -> bool:
    return others is None or (columns is not None and set(columns) <= set(others))


def _reaches(grant: Grant, other: Grant) -> bool:
    return grant.namespace == other.namespace and other.prefix.startswith(grant.prefix)


def _policies(grant: Grant) -> Iterator[Policy]:
    for access in accesses_of(grant):
        yield Policy(
            table=access.table,
            name=f"{OURS}{access.kind}_{access.command.lower()}_{_digest(grant)}",
            role=grant.role,
            command=access.command,
            using=condition(access.using) if access.using else None,
            check=condition(access.check) if access.check else None,
            comment=comment_of(grant),
        )


def _open_policy(grant: Grant, table: str) -> Policy:
    name = f"{OURS}{EVERYTHING}_{_digest(grant)}"
    return Policy(table, name, grant.role, "ALL", "true", "true", comment_of(grant))


def _digest(grant: Grant) -> str:
    named = json.dumps([grant.role, grant.namespace, grant.prefix])
    return hashlib.sha256(named.encode()).hexdigest()[:24]
