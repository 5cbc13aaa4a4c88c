"""Reads and changes the rights of roles, on a session that belongs to the caller."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from secretstore.domain.grants import EVERYTHING, Grant
from secretstore.orm import event_statements
from secretstore.orm import grant_statements as statements
from secretstore.orm.execute import connection_of, execute
from secretstore.orm.rights import OURS, Policy, Privileges
from secretstore.orm.translate import translated

# "grants of secretstore" in a number that is nobody else's.
LOCK = 0x73656372_6772616E


@dataclass(frozen=True, slots=True)
class TableState:
    """Whose a table is, and whether policies hold on it."""

    name: str
    is_guarded: bool
    owner: str
    is_ours: bool


@dataclass(frozen=True, slots=True)
class FoundPolicy:
    """A policy as it is, and for whom; the grant that its comment names, if it has one of ours."""

    policy: Policy
    roles: tuple[str, ...]
    is_permissive: bool
    grant: Grant | None


@dataclass(frozen=True, slots=True)
class RoleState:
    """What makes policies not hold for a role, and the roles whose rights it has, itself too."""

    name: str
    is_superuser: bool
    bypasses: bool
    roles: tuple[str, ...]
    owns: bool

    @property
    def bypasses_only(self) -> bool:
        """Whether it still needs privileges, and nothing but policies does not hold for it."""
        return self.bypasses and not (self.is_superuser or self.owns)


@dataclass(frozen=True, slots=True)
class Catalog:
    """What PostgreSQL knows of the rights to the store."""

    tables: tuple[TableState, ...]
    policies: tuple[FoundPolicy, ...]
    # By role.
    privileges: Mapping[str, Privileges]
    # Roles for which policies do not hold, and which have privileges.
    free_roles: frozenset[str]
    schema_users: frozenset[str]
    readers: tuple[str, ...]

    @property
    def owners(self) -> frozenset[str]:
        """The roles that own the tables; one, as a rule."""
        return frozenset(table.owner for table in self.tables)


class GrantRepository:
    """The rights of all roles to the store; the transaction stays the caller's."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock(self) -> None:
        """Let nobody else change grants until the transaction ends."""
        execute(self._session, statements.lock_grants(), lock=LOCK)
        execute(self._session, event_statements.propagate_settings())
        execute(self._session, statements.limit_waiting())

    def read(self) -> Catalog:
        """Return what PostgreSQL knows."""
        execute(self._session, statements.read_texts_plainly())
        rows = execute(self._session, statements.select_privileges()).all()
        return Catalog(
            tables=tuple(
                TableState(row.name, row.is_guarded, row.owner, row.is_ours)
                for row in execute(self._session, statements.select_tables())
            ),
            policies=tuple(map(_found, execute(self._session, statements.select_policies()))),
            privileges=_by_role(rows),
            free_roles=frozenset(row.role for row in rows if row.needs_none),
            schema_users=frozenset(execute(self._session, statements.select_schema_users()).scalars()),
            readers=tuple(execute(self._session, statements.select_members_of_readers()).scalars()),
        )

    def find_role(self, role: str) -> RoleState | None:
        """Return a role."""
        row = execute(self._session, statements.select_role(), role=role).one_or_none()
        return row and RoleState(row.name, row.is_superuser, row.bypasses, tuple(row.roles), row.owns)

    def find_own_role(self) -> RoleState:
        """Return the role whose rights this session has."""
        found = self.find_role(execute(self._session, statements.select_own_role()).scalar_one())
        assert found is not None  # noqa: S101 - for the type checker: it runs this
        return found

    def has_privileges(self, role: str, privileges: Privileges) -> bool:
        """Return whether a role has some privileges, whoever gave them."""
        wanted = [
            (table, privilege, column)
            for (table, privilege), columns in privileges.items()
            for column in ([""] if columns is None else sorted(columns))
        ]
        tables, names, columns = ([one[place] for one in wanted] for place in range(3))
        found = execute(
            self._session,
            statements.select_has_privileges(),
            role=role,
            tables=tables,
            privileges=names,
            columns=columns,
        )
        return bool(found.scalar_one_or_none())

    def run(self, changes: Iterable[str]) -> None:
        """Change rights."""
        connection = connection_of(self._session)
        with translated():
            for change in changes:
                # What stands in quotes may look like a parameter.
                connection.exec_driver_sql(change, execution_options={"no_parameters": True})


def _found(row: Any) -> FoundPolicy:  # a row of any statement
    grant = grant_of(row.comment, row.roles) if row.name.startswith(OURS) else None
    policy = Policy(row.table, row.name, row.roles[0], row.command, row.using, row.check, row.comment or "")
    return FoundPolicy(policy, tuple(row.roles), row.is_permissive, grant)


def grant_of(comment: str | None, roles: Sequence[str]) -> Grant | None:
    """Return the grant that a comment tells of; where its role is none of the policy's, it has another name by now."""
    try:
        told = json.loads(comment or "")
        can = tuple(map(str, told["can"]))
        role = told["role"] if told["role"] in roles else roles[0]
        place = (None, "") if can == (EVERYTHING,) else (str(told["namespace"]), str(told["prefix"]))
    except (ValueError, KeyError, TypeError):
        return None
    return Grant(role=role, namespace=place[0], prefix=place[1], can=can)


def _by_role(rows: Iterable[Any]) -> dict[str, dict[tuple[str, str], frozenset[str] | None]]:
    found: dict[str, dict[tuple[str, str], frozenset[str] | None]] = {}
    for row in rows:
        of_role = found.setdefault(row.role, {})
        place = (row.table, row.privilege)
        before = of_role.get(place, frozenset())
        of_role[place] = None if before is None or row.column is None else before | {row.column}
    return found
