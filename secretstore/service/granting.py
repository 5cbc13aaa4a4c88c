"""What has to be done so that the catalog says what it should: nothing more, and the same whoever runs it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from secretstore.domain.grants import EVERYBODY, EVERYTHING, Grant
from secretstore.errors import GrantError, PermissionDeniedError, RoleNotFoundError
from secretstore.orm import grant_statements as statements
from secretstore.orm.grant_repository import Catalog, FoundPolicy, GrantRepository, RoleState, TableState
from secretstore.orm.rights import VERSION_TABLE, Policy, Privileges, leaks, policies_of, privileges_of, table_names


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, and the grants that come and go by it; the one that was asked for is the first."""

    statements: tuple[str, ...]
    added: tuple[Grant, ...] = ()
    gone: tuple[Grant, ...] = ()


def plan_to_add(repository: GrantRepository, grant: Grant, *, narrow: bool, is_run_here: bool) -> Plan:
    """Return what gives a role rights; what it could there before is replaced, and everything too where it is narrowed."""
    role = find_role(repository, grant.role)
    catalog = repository.read()
    if is_run_here:
        _check_ours(catalog)
    _check_bound(catalog, role)
    before = grants_of_role(catalog, role.name)
    gone = [one for one in before if narrow and one.is_everything]
    wanted = [*(one for one in before if one not in gone and not is_same_place(one, grant)), grant]
    if not any(one.is_everything for one in wanted):
        _check_tight(wanted)
    opened = _to_open(catalog, role.name)
    changes = [*_guard(catalog, opened), *_changed_policies(catalog, role.name, wanted)]
    return Plan((*changes, *_changed_privileges(catalog, role.name, wanted)), (grant, *opened), tuple(gone))


def plan_to_revoke(repository: GrantRepository, role: str, place: tuple[str, str] | None) -> Plan:
    """Return what takes away a role's grant at a namespace and prefix, or everything where no place is given."""
    if role != EVERYBODY:
        find_role(repository, role)
    catalog = repository.read()
    _check_ours(catalog)
    if role in catalog.owners:
        raise GrantError(f"role {role!r} owns the tables, and may do everything for as long as it does")
    grants = grants_of_role(catalog, role)
    gone = [one for one in grants if place in {None, (one.namespace, one.prefix)}]
    if place is not None and not gone:
        raise GrantError(
            f"role {role!r} has no grant in namespace {place[0]!r} with prefix {place[1]!r}; see `secretstore grants list`"
        )
    left = [one for one in grants if one not in gone]
    changes = (*_changed_policies(catalog, role, left), *_changed_privileges(catalog, role, left))
    # Privileges that came from elsewhere go, too.
    return Plan(changes, gone=tuple(gone or [_everything(role)]))


def find_role(repository: GrantRepository, name: str) -> RoleState:
    """Return a role, or raise `RoleNotFoundError`."""
    role = repository.find_role(name)
    if role is None:
        raise RoleNotFoundError(name)
    return role


def _check_ours(catalog: Catalog) -> None:
    for table in catalog.tables:
        if not table.is_ours:
            raise PermissionDeniedError(
                f"only {table.owner!r}, who owns the tables, or a superuser may give and take rights; or let them run what "
                "`secretstore grants sql` prints"
            )


def _check_bound(catalog: Catalog, role: RoleState) -> None:
    why = why_free(catalog, role)
    if why:
        raise GrantError(f"role {role.name!r} {why}, so that no grant limits it; use another role")


def why_free(catalog: Catalog, role: RoleState) -> str:
    """Return why policies do not hold for a role; nothing where they do."""
    if role.is_superuser:
        return "is a superuser"
    if role.owns:
        return "owns the tables" + ("" if role.name in catalog.owners else ", as a member of their owner")
    return "has BYPASSRLS" if role.bypasses else ""


def _check_tight(grants: Sequence[Grant]) -> None:
    found = leaks(grants)
    if found is None:
        return
    narrow, wide, table = found
    raise GrantError(
        f"role {narrow.role!r} may {words_of(wide.can)} {place_of(wide)}, and columns of {table!r} are open to a role and not to a "
        f"row: it could do more than {words_of(narrow.can)} {place_of(narrow)}; use another role for one of them"
    )


def words_of(can: Sequence[str]) -> str:
    """Return abilities as people read them."""
    return ", ".join(can)


def place_of(grant: Grant) -> str:
    """Return of what a grant is, as people read it."""
    if grant.namespace is None:
        return "everywhere"
    return f"{grant.prefix!r} in namespace {grant.namespace!r}" if grant.prefix else f"in namespace {grant.namespace!r}"


def grants_of_role(catalog: Catalog, role: str) -> list[Grant]:
    """Return the grants of one role."""
    return [grant for grant in grants_of(catalog.policies) if grant.role == role]


def grants_of(policies: Iterable[FoundPolicy]) -> list[Grant]:
    """Return the grants that the comments of policies tell of, each once."""
    found = {(one.grant.role, one.grant.namespace, one.grant.prefix): one.grant for one in policies if one.grant}
    return list(found.values())


def is_same_place(one: Grant, other: Grant) -> bool:
    """Return whether two grants are about the same keys."""
    return (one.namespace, one.prefix) == (other.namespace, other.prefix)


def guarded(catalog: Catalog) -> list[TableState]:
    """Return the tables on which policies should hold."""
    ours = set(table_names())
    return [table for table in catalog.tables if table.name in ours]


def _to_open(catalog: Catalog, besides: str) -> list[Grant]:
    """Return what lets other roles go on, where tables come to be guarded on which they have rights."""
    unguarded = {table.name for table in guarded(catalog) if not table.is_guarded}
    having = {role for role, found in catalog.privileges.items() if any(table in unguarded for table, _ in found)}
    if unguarded:
        having |= set(catalog.readers)
    limited = {grant.role for grant in grants_of(catalog.policies) if not grant.is_everything}
    return [_everything(role) for role in sorted(having - limited - catalog.free_roles - {besides})]


def _everything(role: str) -> Grant:
    return Grant(role=role, namespace=None, prefix="", can=(EVERYTHING,))


def _guard(catalog: Catalog, opened: Sequence[Grant]) -> Iterator[str]:
    for table in guarded(catalog):
        if not table.is_guarded:
            for grant in opened:
                for policy in policies_of(grant).values():
                    if policy.table == table.name:
                        yield from statements.create_policy(policy)
            yield statements.enable_policies(table.name)


def _changed_policies(catalog: Catalog, role: str, wanted: Iterable[Grant]) -> Iterator[str]:
    should = {
        place: policy for grant in wanted if not grant.is_everything for place, policy in policies_of(grant).items()
    }
    keeps_everything = any(grant.is_everything for grant in wanted)
    found = {
        (one.policy.table, one.policy.name): one
        for one in catalog.policies
        if (one.policy.table, one.policy.name) in should
        or (one.grant is not None and one.grant.role == role and not (keeps_everything and one.grant.is_everything))
    }
    for place, one in found.items():
        if place not in should or not is_as(one, should[place]):
            yield statements.drop_policy(*place)
    for place, policy in should.items():
        if place not in found or not is_as(found[place], policy):
            yield from statements.create_policy(policy)
        elif found[place].policy.comment != policy.comment:
            yield statements.comment_on(policy)


def is_as(found: FoundPolicy, policy: Policy) -> bool:
    """Return whether a policy is what it should be, whatever its comment says."""
    return (
        found.is_permissive
        and found.roles == (policy.role,)
        and replace(found.policy, comment="") == replace(policy, comment="")
    )


def _changed_privileges(catalog: Catalog, role: str, wanted: Sequence[Grant]) -> Iterator[str]:
    before = catalog.privileges.get(role, {})
    after = _privileges_for(before, wanted)
    if after and role not in catalog.schema_users:
        yield statements.grant_usage(role)
    for table in (*table_names(), VERSION_TABLE):
        had, has = _on(table, before), _on(table, after)
        if had != has:
            if had:
                yield statements.revoke_privileges(table, role)
            if has:
                yield statements.grant_privileges(table, sorted(has.items()), role)
    if not after and role in catalog.schema_users:
        yield statements.revoke_usage(role)


def _privileges_for(before: Privileges, wanted: Sequence[Grant]) -> Privileges:
    """Return what a role needs; one that keeps everything loses nothing."""
    needed = dict(privileges_of(grant for grant in wanted if not grant.is_everything))
    if any(grant.is_everything for grant in wanted):
        for place, columns in before.items():
            more = needed.get(place, frozenset())
            needed[place] = None if columns is None or more is None else columns | more
    return needed


def _on(table: str, privileges: Privileges) -> dict[str, frozenset[str] | None]:
    return {privilege: columns for (name, privilege), columns in privileges.items() if name == table}
