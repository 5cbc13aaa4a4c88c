"""Rights that PostgreSQL enforces: its catalog is the only place where they are kept.

What a change of rights has to do is the difference between what the catalog says and what it should say.  The same list of
statements is run by `add` and `revoke`, and printed by `sql`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from sqlalchemy.orm import Session

from secretstore.domain.acting import Acting
from secretstore.domain.grants import (
    ABILITIES,
    EVERYBODY,
    EVERYTHING,
    Explanation,
    Grant,
    parse_abilities,
    with_implied,
)
from secretstore.domain.names import Key, Namespace, parse_prefix
from secretstore.errors import ConfigurationError, GrantError, PermissionDeniedError, RoleNotFoundError
from secretstore.orm import grant_statements as statements
from secretstore.orm.event_repository import EventRepository
from secretstore.orm.grant_repository import LOCK, Catalog, FoundPolicy, GrantRepository, RoleState, TableState
from secretstore.orm.rights import (
    VERSION_TABLE,
    Policy,
    Privileges,
    leaks,
    literal,
    policies_of,
    privileges_of,
    table_names,
)
from secretstore.service.flows import Flow, InTransaction


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, and the grants that come or go by it; the one that was asked for is the first."""

    statements: tuple[str, ...]
    grants: tuple[Grant, ...]


def new_grant(namespace: Namespace, role: str, prefix: str, can: Iterable[str]) -> Grant:
    """Return a grant that breaks no rule by itself."""
    if role == EVERYBODY:
        raise GrantError("a right of PUBLIC is one of every role that may log in; make a role for it")
    grant = Grant(role=role, namespace=namespace, prefix=parse_prefix(prefix), can=parse_abilities(can))
    if "seal" in grant.can and grant.prefix:
        raise GrantError("events are sealed for a whole namespace: give `seal` without a prefix")
    return grant


def add(grant: Grant, by: Acting) -> Flow[list[Grant]]:
    """Give a role rights; returns the grant, and those that let other roles go on as before."""

    def change(session: Session) -> list[Grant]:
        repository = GrantRepository(session)
        repository.lock()
        plan = plan_to_add(repository, grant, is_run_here=True)
        repository.run(plan.statements)
        for place, told in _records(plan.grants, grant.namespace):
            EventRepository(session, place).record("grant", by, outcome=told)
        return list(plan.grants)

    added: list[Grant] = yield InTransaction(change)
    return added


def revoke(namespace: Namespace, role: str, prefix: str, by: Acting, *, everything: bool) -> Flow[list[Grant]]:
    """Take rights away; returns the grants that are gone."""
    if everything and prefix:
        raise ConfigurationError("give either a prefix or everything, not both")
    parsed = parse_prefix(prefix)

    def change(session: Session) -> list[Grant]:
        repository = GrantRepository(session)
        repository.lock()
        plan = _plan_to_revoke(repository, role, None if everything else (namespace, parsed))
        repository.run(plan.statements)
        for place, told in _records(plan.grants, namespace):
            EventRepository(session, place).record("revoke", by, outcome=told)
        return list(plan.grants)

    gone: list[Grant] = yield InTransaction(change)
    return gone


def list_grants(role: str | None) -> Flow[list[Grant]]:
    """Return the grants of a role or of all, in the order of roles, namespaces and prefixes."""

    def find(session: Session) -> list[Grant]:
        repository = GrantRepository(session)
        if role is not None and role != EVERYBODY:
            _find_role(repository, role)
        catalog = repository.read()
        found = (_with_problem(catalog, grant) for grant in _grants_of(catalog.policies))
        return [one for one in chain(found, _by_hand(catalog)) if role in {None, one.role}]

    grants: list[Grant] = yield InTransaction(find)
    return sorted(grants, key=lambda one: (one.role, one.namespace or "", one.prefix))


def print_sql(grant: Grant) -> Flow[str]:
    """Return what `add` would run, as a script for someone else."""

    def write(session: Session) -> str:
        plan = plan_to_add(GrantRepository(session), grant, is_run_here=False)
        records = (_recorded_by_hand(*record) for record in _records(plan.grants, grant.namespace))
        # As a repository does when it locks and reads.
        before = (f"SELECT pg_advisory_xact_lock({LOCK})", statements.limit_waiting(), statements.read_texts_plainly())
        return "".join(f"{line};\n" for line in ("BEGIN", *before, *plan.statements, *records, "COMMIT"))

    printed: str = yield InTransaction(write)
    return printed


def plan_to_add(repository: GrantRepository, grant: Grant, *, is_run_here: bool) -> Plan:
    """Return what gives a role rights; what it could there before is replaced."""
    role = _find_role(repository, grant.role)
    catalog = repository.read()
    if is_run_here:
        _check_ours(catalog)
    _check_bound(catalog, role)
    others = [one for one in _of_role(catalog, role.name) if not _is_same_place(one, grant)]
    wanted = [*others, grant]
    if not any(one.is_everything for one in wanted):
        _check_tight(wanted)
    opened = _to_open(catalog, role.name)
    changes = [*_guard(catalog, opened), *_changed_policies(catalog, role.name, wanted)]
    return Plan((*changes, *_changed_privileges(catalog, role.name, wanted)), (grant, *opened))


def _plan_to_revoke(repository: GrantRepository, role: str, place: tuple[str, str] | None) -> Plan:
    if role != EVERYBODY:
        _find_role(repository, role)
    catalog = repository.read()
    _check_ours(catalog)
    if role in {table.owner for table in catalog.tables}:
        raise GrantError(f"role {role!r} owns the tables, and may do everything for as long as it does")
    grants = _of_role(catalog, role)
    gone = [one for one in grants if place in {None, (one.namespace, one.prefix)}]
    if place is not None and not gone:
        raise GrantError(
            f"role {role!r} has no grant in namespace {place[0]!r} with prefix {place[1]!r}; see `secretstore grants list`"
        )
    left = [one for one in grants if one not in gone]
    changes = (*_changed_policies(catalog, role, left), *_changed_privileges(catalog, role, left))
    # Privileges that came from elsewhere go, too.
    return Plan(changes, tuple(gone or [_everything(role)]))


def _find_role(repository: GrantRepository, name: str) -> RoleState:
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
    why = _why_free(catalog, role)
    if why:
        raise GrantError(f"role {role.name!r} {why}, so that no grant limits it; use another role")


def _why_free(catalog: Catalog, role: RoleState) -> str:
    if role.is_superuser:
        return "is a superuser"
    for table in catalog.tables:
        if table.owner in role.roles:
            return (
                "owns the tables"
                if table.owner == role.name
                else f"is a member of {table.owner!r}, who owns the tables"
            )
    return "has BYPASSRLS" if role.bypasses else ""


def _check_tight(grants: Sequence[Grant]) -> None:
    found = leaks(grants)
    if found is None:
        return
    narrow, wide, table = found
    raise GrantError(
        f"role {narrow.role!r} may {_words(wide.can)} {_place(wide)}, and columns of {table!r} are open to a role and not to a "
        f"row: it could do more than {_words(narrow.can)} {_place(narrow)}; use another role for one of them"
    )


def _words(can: Sequence[str]) -> str:
    return ", ".join(can)


def _place(grant: Grant) -> str:
    if grant.namespace is None:
        return "everywhere"
    return f"{grant.prefix!r} in namespace {grant.namespace!r}" if grant.prefix else f"in namespace {grant.namespace!r}"


def _of_role(catalog: Catalog, role: str) -> list[Grant]:
    return [grant for grant in _grants_of(catalog.policies) if grant.role == role]


def _grants_of(policies: Iterable[FoundPolicy]) -> list[Grant]:
    found = {(one.grant.role, one.grant.namespace, one.grant.prefix): one.grant for one in policies if one.grant}
    return list(found.values())


def _is_same_place(one: Grant, other: Grant) -> bool:
    return (one.namespace, one.prefix) == (other.namespace, other.prefix)


def _guarded(catalog: Catalog) -> list[TableState]:
    ours = set(table_names())
    return [table for table in catalog.tables if table.name in ours]


def _to_open(catalog: Catalog, besides: str) -> list[Grant]:
    """Return what lets other roles go on, where tables come to be guarded on which they have rights."""
    unguarded = {table.name for table in _guarded(catalog) if not table.is_guarded}
    having = {role for role, found in catalog.privileges.items() if any(table in unguarded for table, _ in found)}
    if unguarded:
        having |= set(catalog.readers)
    limited = {grant.role for grant in _grants_of(catalog.policies) if not grant.is_everything}
    return [_everything(role) for role in sorted(having - limited - catalog.free_roles - {besides})]


def _everything(role: str) -> Grant:
    return Grant(role=role, namespace=None, prefix="", can=(EVERYTHING,))


def _guard(catalog: Catalog, opened: Sequence[Grant]) -> Iterator[str]:
    for table in _guarded(catalog):
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
        if one.grant is not None and one.grant.role == role and not (keeps_everything and one.grant.is_everything)
    }
    for place, one in found.items():
        if place not in should or not _is_as(one, should[place]):
            yield statements.drop_policy(*place)
    for place, policy in should.items():
        if place not in found or not _is_as(found[place], policy):
            yield from statements.create_policy(policy)
        elif found[place].policy.comment != policy.comment:
            yield statements.comment_on(policy)


def _is_as(found: FoundPolicy, policy: Policy) -> bool:
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


def _records(grants: Iterable[Grant], namespace: str | None) -> Iterator[tuple[Namespace, str]]:
    """Give the namespaces in which grants are recorded, and what is said of them."""
    for grant in grants:
        yield Namespace(grant.namespace or namespace or ""), _told(grant)


def _told(grant: Grant) -> str:
    """Return how the record says what was given or taken: its other columns have no place for a role."""
    return f"done: {_words(grant.can)} {_place(grant)}, role {grant.role!r}"


def _recorded_by_hand(namespace: Namespace, told: str) -> str:
    return (
        "INSERT INTO secretstore.change_event (namespace, id, key, version, action, actor, occurred_at, outcome) VALUES "  # noqa: S608 - no text of others
        f"({literal(namespace)}, gen_random_uuid(), '', 0, 'grant', CURRENT_USER, clock_timestamp(), {literal(told)})"
    )


def _with_problem(catalog: Catalog, grant: Grant) -> Grant:
    return grant if grant.is_everything else replace(grant, problem=_problem_of(catalog, grant))


def _problem_of(catalog: Catalog, grant: Grant) -> str | None:
    should = policies_of(grant)
    found = {
        (one.policy.table, one.policy.name): one
        for one in catalog.policies
        if one.grant is not None and one.grant.role == grant.role and _is_same_place(one.grant, grant)
    }
    wrong = {place for place in found.keys() | should if not _is_right(found.get(place), should.get(place))}
    if wrong:
        table, name = min(wrong)
        return f"policy {name} on {table} is not that of the grant; add it again, or revoke it"
    of_role = _of_role(catalog, grant.role)
    has, needs = catalog.privileges.get(grant.role, {}), privileges_of(of_role)
    if grant.role not in catalog.schema_users or (has != needs and not any(one.is_everything for one in of_role)):
        return "the privileges of the role are not those of its grants; add one of them again"
    return None


def _is_right(found: FoundPolicy | None, policy: Policy | None) -> bool:
    return found is not None and policy is not None and _is_as(found, policy) and found.policy.comment == policy.comment


def _by_hand(catalog: Catalog) -> Iterator[Grant]:
    """Give what others have written, of which only they know what it lets through."""
    for one in catalog.policies:
        if one.grant is None:
            problem = f"policy {one.policy.name} on {one.policy.table} was made by hand"
            for role in one.roles:
                yield Grant(role=role, namespace=None, prefix="", can=(), problem=problem)


def explain(namespace: Namespace, role: str, key: Key) -> Flow[list[Explanation]]:
    """Return for each ability whether a role may do it with a key, and why."""

    def find(session: Session) -> list[Explanation]:
        repository = GrantRepository(session)
        found, catalog = _find_role(repository, role), repository.read()
        return [_explain(repository, catalog, found, namespace, key, ability) for ability in ABILITIES]

    explained: list[Explanation] = yield InTransaction(find)
    return explained


def _explain(  # noqa: PLR0917 - private
    repository: GrantRepository, catalog: Catalog, role: RoleState, namespace: Namespace, key: Key, ability: str
) -> Explanation:
    why = _why_free(catalog, role)
    if why and not why.startswith("has"):
        return Explanation(ability=ability, is_allowed=True, reason=f"the role {why}: policies do not hold for it")
    if why or not all(table.is_guarded for table in _guarded(catalog)):
        reason = (
            "BYPASSRLS: policies do not hold for the role" if why else "row-level security is not on for all tables"
        )
        return _by_privileges(repository, role, ability, reason)
    return _by_grants(repository, catalog, role, namespace, key, ability)


def _by_privileges(repository: GrantRepository, role: RoleState, ability: str, reason: str) -> Explanation:
    may = repository.has_privileges(role.name, _privileges_to(ability))
    return Explanation(
        ability=ability,
        is_allowed=may,
        reason=reason if may else "the role has no privileges on the tables that are enough",
    )


def _by_grants(  # noqa: PLR0917 - ditto
    repository: GrantRepository, catalog: Catalog, role: RoleState, namespace: Namespace, key: Key, ability: str
) -> Explanation:
    covering = [
        grant
        for grant in _grants_of(catalog.policies)
        if grant.role in {*role.roles, EVERYBODY} and grant.covers(namespace, key) and _gives(grant, ability)
    ]
    if not covering:
        return Explanation(ability=ability, is_allowed=False, reason="no grant gives it")
    best = next((one for one in covering if _with_problem(catalog, one).problem is None), covering[0])
    reason = f"{_words(best.can)} {_place(best)}{'' if best.role == role.name else f', given to {best.role!r}'}"
    if not repository.has_privileges(role.name, _privileges_to(ability)):
        return Explanation(
            ability=ability, is_allowed=False, reason=f"{reason}; but privileges on the tables are missing"
        )
    problem = _with_problem(catalog, best).problem
    return Explanation(
        ability=ability, is_allowed=problem is None, reason=f"{reason}{f'; but {problem}' if problem else ''}"
    )


def _gives(grant: Grant, ability: str) -> bool:
    return grant.is_everything or ability in with_implied(grant.can)


def _privileges_to(ability: str) -> Privileges:
    needed = privileges_of([Grant(role="", namespace="", prefix=" ", can=(ability,))])
    return {place: columns for place, columns in needed.items() if place[0] != VERSION_TABLE}
