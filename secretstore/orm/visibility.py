"""Tells a secret that is not there from one that the role may not see: under row-level security both are no row.

Asked only where nothing was found.  The policies of a grant say beside them of which keys they are; one of somebody else's
may be about any.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, Executable, Text, text

from secretstore.domain.names import Namespace
from secretstore.errors import PermissionDeniedError
from secretstore.orm.models import SCHEMA, SecretStore

# What of a row a policy has to let through for a read, and for a change.
TO_READ = ("r",)
TO_CHANGE = ("r", "w")
_EVERY_COMMAND = "*"
_TABLE = f"to_regclass('{SCHEMA}.{SecretStore.__tablename__}')"

Fetch = Callable[[Executable, dict[str, object]], Sequence[Any]]


@cache
def select_own_policies() -> Executable:
    """The role of this session, and the policies that hold for it on secrets; no row where none has to."""
    return text(
        "SELECT CAST(current_user AS text) AS role, CAST(p.polname AS text) AS name, CAST(p.polcmd AS text) AS command, "  # noqa: S608 - no text of others
        "ARRAY(SELECT CASE WHEN r.oid = 0 THEN 'public' ELSE CAST(pg_get_userbyid(r.oid) AS text) END "
        "FROM unnest(p.polroles) AS r(oid)) AS roles, obj_description(p.oid, 'pg_policy') AS comment "
        f"FROM (SELECT WHERE row_security_active({_TABLE})) AS guarded LEFT JOIN pg_policy p ON p.polrelid = {_TABLE} "
        "AND EXISTS (SELECT 1 FROM unnest(p.polroles) AS r(oid) WHERE r.oid = 0 OR pg_has_role(r.oid, 'USAGE'))"
    ).columns(role=Text, name=Text, command=Text, roles=ARRAY(Text), comment=Text)


def check_may_see(fetch: Fetch, namespace: Namespace, keys: Iterable[str], commands: Sequence[str] = TO_READ) -> None:
    """Raise `PermissionDeniedError` where one of the keys, which were not found, is none that the role may see."""
    policies = fetch(select_own_policies(), {})
    if not policies:
        return
    for key in keys:
        for command in commands:
            if not any(_may_cover(policy, command, namespace, key) for policy in policies):
                role = policies[0].role
                raise PermissionDeniedError(
                    f"role {role!r} may not do this with {key!r} in namespace {namespace!r}, whether it is there or not; "
                    "`secretstore grants explain` says what a role may do"
                )


def _may_cover(policy: Any, command: str, namespace: str, key: str) -> bool:  # a row of any statement
    # Without any policy the outer join gives a row of nothing.
    if policy.name is None or policy.command not in {command, _EVERY_COMMAND}:
        return False
    from secretstore.orm.grant_repository import grant_of  # noqa: PLC0415 - where policies hold, and only there
    from secretstore.orm.rights import OURS  # noqa: PLC0415 - ditto

    grant = grant_of(policy.comment, policy.roles) if policy.name.startswith(OURS) else None
    return grant is None or grant.covers(namespace, key)
