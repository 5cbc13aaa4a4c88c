"""What a role may do, and by what; and where the catalog is not as the grants say that it is."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from secretstore.domain.grants import EVERYBODY, Explanation, Grant, with_implied
from secretstore.domain.names import Key, Namespace
from secretstore.errors import GrantError
from secretstore.orm.grant_repository import Catalog, FoundPolicy, GrantRepository, RoleState
from secretstore.orm.rights import VERSION_TABLE, Policy, Privileges, policies_of, privileges_of
from secretstore.service.granting import (
    grants_of,
    grants_of_role,
    guarded,
    is_as,
    is_same_place,
    place_of,
    why_free,
    words_of,
)


def with_problem(catalog: Catalog, grant: Grant) -> Grant:
    """Return a grant with what is wrong with its policies and privileges."""
    return grant if grant.is_everything else replace(grant, problem=_problem_of(catalog, grant))


def _problem_of(catalog: Catalog, grant: Grant) -> str | None:
    should = policies_of(grant)
    found = {
        (one.policy.table, one.policy.name): one
        for one in catalog.policies
        if one.grant is not None and one.grant.role == grant.role and is_same_place(one.grant, grant)
    }
    wrong = {place for place in found.keys() | should if not _is_right(found.get(place), should.get(place))}
    if wrong:
        table, name = min(wrong)
        return f"policy {name} on {table} is not that of the grant; add it again, or revoke it"
    of_role = grants_of_role(catalog, grant.role)
    has, needs = catalog.privileges.get(grant.role, {}), privileges_of(of_role)
    if grant.role not in catalog.schema_users or (has != needs and not any(one.is_everything for one in of_role)):
        return "the privileges of the role are not those of its grants; add one of them again"
    return None


def _is_right(found: FoundPolicy | None, policy: Policy | None) -> bool:
    return found is not None and policy is not None and is_as(found, policy) and found.policy.comment == policy.comment


def made_by_hand(catalog: Catalog) -> Iterator[Grant]:
    """Give what others have written, of which only they know what it lets through."""
    for one in catalog.policies:
        if one.grant is None:
            problem = f"policy {one.policy.name} on {one.policy.table} was made by hand"
            for role in one.roles:
                yield Grant(role=role, namespace=None, prefix="", can=(), problem=problem)


# What is needed for a record of reads, and to compare revisions.
_BESIDES = ("access_event", VERSION_TABLE)


@dataclass(frozen=True, slots=True)
class Question:
    """What a role may do with a key."""

    repository: GrantRepository
    catalog: Catalog
    role: RoleState
    namespace: Namespace
    key: Key

    def answer(self, ability: str) -> Explanation:
        """Return whether the role may do it, and by what."""
        why = why_free(self.catalog, self.role)
        if why and not self.role.bypasses_only:
            return _explained(ability, f"the role {why}: policies do not hold for it")
        if why:
            return self._by_privileges(ability, "the role has BYPASSRLS: policies do not hold for it")
        if all(table.is_guarded for table in guarded(self.catalog)):
            return self._by_grants(ability)
        return self._by_privileges(ability, "row-level security is not on for all tables")

    def _by_privileges(self, ability: str, reason: str) -> Explanation:
        if self.repository.has_privileges(self.role.name, _privileges_to(ability)):
            return _explained(ability, reason)
        return _explained(ability, "the role lacks privileges on the tables", is_allowed=False)

    def _by_grants(self, ability: str) -> Explanation:
        covering = [with_problem(self.catalog, grant) for grant in self._covering() if _gives(grant, ability)]
        if not covering:
            return _explained(ability, "no grant gives it", is_allowed=False)
        best = min(covering, key=lambda grant: grant.problem or "")
        given = f"{words_of(best.can)} {place_of(best)}" + (
            "" if best.role == self.role.name else f", of {best.role!r}"
        )
        if best.problem is not None:
            return _explained(ability, f"{given}; but {best.problem}", is_allowed=False)
        if not self.repository.has_privileges(self.role.name, _privileges_to(ability)):
            return _explained(ability, f"{given}; but privileges on the tables are missing", is_allowed=False)
        return _explained(ability, given)

    def _covering(self) -> list[Grant]:
        roles = {*self.role.roles, EVERYBODY}
        grants = grants_of(self.catalog.policies)
        return [grant for grant in grants if grant.role in roles and grant.covers(self.namespace, self.key)]


def _explained(ability: str, reason: str, *, is_allowed: bool = True) -> Explanation:
    return Explanation(ability=ability, is_allowed=is_allowed, reason=reason)


def _gives(grant: Grant, ability: str) -> bool:
    return grant.is_everything or ability in with_implied(grant.can)


def _privileges_to(ability: str) -> Privileges:
    needed = privileges_of([Grant(role="", namespace="", prefix=" ", can=(ability,))])
    return {place: columns for place, columns in needed.items() if place[0] not in _BESIDES}


def describe_own(session: Session) -> str:
    """Return what row-level security is to the role that has logged in; raises where grants are not what they say."""
    repository = GrantRepository(session)
    catalog = repository.read()
    open_tables = [table.name for table in guarded(catalog) if not table.is_guarded]
    if len(open_tables) == len(guarded(catalog)):
        return "row-level security is off: whoever has privileges on the tables sees all rows"
    if open_tables:
        raise GrantError(f"row-level security is off for {', '.join(open_tables)}; add one of the grants again")
    _check_grants(catalog)
    role = repository.find_own_role()
    why = why_free(catalog, role)
    return (
        f"danger: role {role.name!r} {why}, and no grant limits it" if why else f"policies hold for role {role.name!r}"
    )


def _check_grants(catalog: Catalog) -> None:
    for grant in (with_problem(catalog, grant) for grant in grants_of(catalog.policies)):
        if grant.problem is not None:
            raise GrantError(f"role {grant.role!r}, {place_of(grant)}: {grant.problem}")
