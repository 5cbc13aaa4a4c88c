"""Tells what is not there from what the role may not see: under row-level security both are no row.

Asked only where nothing was found.  The policies of a grant say beside them what it lets a role do with which keys; one of
somebody else's may be about any.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, Boolean, Executable, Text, text
from sqlalchemy.orm import Session

from secretstore.domain.names import Namespace
from secretstore.errors import PermissionDeniedError
from secretstore.orm.execute import execute
from secretstore.orm.models import SCHEMA, SecretStore
from secretstore.orm.statements import select_may_update

# As every policy of a grant is called; see `rights`.
_OURS = "secretstore_"

Fetch = Callable[[Executable, dict[str, object]], Sequence[Any]]


@cache
def select_own_policies() -> Executable:
    """The role of this session, and what the policies that hold for it are of; no row where none has to."""
    return text(
        "SELECT DISTINCT CAST(current_user AS text) AS role, "  # noqa: S608 - no text of others
        f"starts_with(CAST(p.polname AS text), '{_OURS}') AS is_ours, "
        "ARRAY(SELECT CASE WHEN r.oid = 0 THEN 'public' ELSE CAST(pg_get_userbyid(r.oid) AS text) END "
        "FROM unnest(p.polroles) AS r(oid)) AS roles, obj_description(p.oid, 'pg_policy') AS comment "
        f"FROM (SELECT WHERE row_security_active(to_regclass('{SCHEMA}.{SecretStore.__tablename__}'))) AS guarded "
        f"LEFT JOIN (pg_policy p JOIN pg_class c ON c.oid = p.polrelid AND c.relnamespace = to_regnamespace('{SCHEMA}')) "
        "ON EXISTS (SELECT 1 FROM unnest(p.polroles) AS r(oid) WHERE r.oid = 0 OR pg_has_role(r.oid, 'USAGE'))"
    ).columns(role=Text, is_ours=Boolean, roles=ARRAY(Text), comment=Text)


def check_may(fetch: Fetch, namespace: Namespace, keys: Iterable[str], abilities: frozenset[str]) -> None:
    """Raise `PermissionDeniedError` where the role may do none of this with one of the keys, which were not found."""
    policies = fetch(select_own_policies(), {})
    if not policies:
        return
    for key in keys:
        if not any(_may_give(policy, abilities, namespace, key) for policy in policies):
            role = policies[0].role
            raise PermissionDeniedError(
                f"role {role!r} may not do this with {key!r} in namespace {namespace!r}, whether it is there or not; "
                "`secretstore grants explain` says what a role may do"
            )


def may_update(session: Session, table: str, column: str) -> bool:
    """Return whether this role may change a column, on a server that does not only follow another one."""
    wanted = {"table": f"{SCHEMA}.{table}", "column": column, "privilege": "UPDATE"}
    return bool(execute(session, select_may_update(), **wanted).scalar_one())


def _may_give(policy: Any, abilities: frozenset[str], namespace: str, key: str) -> bool:  # a row of any statement
    if not policy.is_ours:
        # Without any policy the outer join gives a row of nothing.
        return policy.is_ours is not None
    from secretstore.domain.grants import with_implied  # noqa: PLC0415 - where policies hold, and only there
    from secretstore.orm.grant_repository import grant_of  # noqa: PLC0415 - ditto

    grant = grant_of(policy.comment, policy.roles)
    if grant is None or grant.is_everything:
        return True
    return grant.covers(namespace, key) and bool(abilities & with_implied(grant.can))
