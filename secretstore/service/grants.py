"""Rights that PostgreSQL enforces: its catalog is the only place where they are kept.

What a change of rights has to do is the difference between what the catalog says and what it should say.  The same list of
statements is run by `add` and printed by `print_sql`.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from sqlalchemy.orm import Session

from secretstore.domain.acting import Acting
from secretstore.domain.grants import ABILITIES, EVERYBODY, Explanation, Grant, parse_abilities, parse_role
from secretstore.domain.names import Key, Namespace, parse_prefix
from secretstore.errors import ConfigurationError, GrantError
from secretstore.orm import grant_statements as statements
from secretstore.orm.event_repository import EventRepository
from secretstore.orm.grant_repository import LOCK, GrantRepository
from secretstore.orm.rights import literal
from secretstore.service.explaining import Question, made_by_hand, with_problem
from secretstore.service.flows import Flow, InTransaction
from secretstore.service.granting import Plan, find_role, grants_of, place_of, plan_to_add, plan_to_revoke, words_of


def new_grant(namespace: Namespace, role: str, prefix: str, can: Iterable[str]) -> Grant:
    """Return a grant that breaks no rule by itself."""
    if parse_role(role) == EVERYBODY:
        raise GrantError("a right of PUBLIC is one of every role that may log in; make a role for it")
    grant = Grant(role=role, namespace=namespace, prefix=parse_prefix(prefix), can=parse_abilities(can))
    if "seal" in grant.can and grant.prefix:
        raise GrantError("events are sealed for a whole namespace: give `seal` without a prefix")
    return grant


def add(grant: Grant, by: Acting, *, narrow: bool) -> Flow[list[Grant]]:
    """Give a role rights; returns the grant, and those that let other roles go on as before."""

    def change(session: Session) -> list[Grant]:
        repository = GrantRepository(session)
        repository.lock()
        plan = plan_to_add(repository, grant, narrow=narrow, is_run_here=True)
        repository.run(plan.statements)
        _record(session, plan, grant.namespace, by)
        return list(plan.added)

    added: list[Grant] = yield InTransaction(change)
    return added


def revoke(namespace: Namespace, role: str, prefix: str, by: Acting, *, everything: bool) -> Flow[list[Grant]]:
    """Take rights away; returns the grants that are gone."""
    if everything and prefix:
        raise ConfigurationError("give either a prefix or everything, not both")
    named, parsed = parse_role(role), parse_prefix(prefix)

    def change(session: Session) -> list[Grant]:
        repository = GrantRepository(session)
        repository.lock()
        plan = plan_to_revoke(repository, named, None if everything else (namespace, parsed))
        repository.run(plan.statements)
        _record(session, plan, namespace, by)
        return list(plan.gone)

    gone: list[Grant] = yield InTransaction(change)
    return gone


def list_grants(role: str | None) -> Flow[list[Grant]]:
    """Return the grants of a role or of all, in the order of roles, namespaces and prefixes."""
    wanted = None if role is None else parse_role(role)

    def find(session: Session) -> list[Grant]:
        repository = GrantRepository(session)
        if wanted is not None and wanted != EVERYBODY:
            find_role(repository, wanted)
        catalog = repository.read()
        found = (with_problem(catalog, grant) for grant in grants_of(catalog.policies))
        return [one for one in chain(found, made_by_hand(catalog)) if wanted in {None, one.role}]

    grants: list[Grant] = yield InTransaction(find)
    return sorted(grants, key=lambda one: (one.role, one.namespace or "", one.prefix))


def print_sql(grant: Grant, *, narrow: bool) -> Flow[str]:
    """Return what `add` would run, as a script for someone else."""

    def write(session: Session) -> str:
        plan = plan_to_add(GrantRepository(session), grant, narrow=narrow, is_run_here=False)
        records = (_recorded_by_hand(*record) for record in _records(plan, grant.namespace))
        # As a repository does when it locks and reads.
        before = (f"SELECT pg_advisory_xact_lock({LOCK})", statements.limit_waiting(), statements.read_texts_plainly())
        return "".join(f"{line};\n" for line in ("BEGIN", *before, *plan.statements, *records, "COMMIT"))

    printed: str = yield InTransaction(write)
    return printed


def _record(session: Session, plan: Plan, namespace: str | None, by: Acting) -> None:
    for place, action, told in _records(plan, namespace):
        EventRepository(session, place).record(action, by, outcome=told)


def _records(plan: Plan, namespace: str | None) -> Iterator[tuple[Namespace, str, str]]:
    """Give where each grant that comes or goes is recorded, as which action, and what is said of it."""
    for action, grants in (("grant", plan.added), ("revoke", plan.gone)):
        for grant in grants:
            yield Namespace(grant.namespace or namespace or ""), action, _told(grant)


def _told(grant: Grant) -> str:
    """Return how the record says what was given or taken: its other columns have no place for a role."""
    return f"done: {words_of(grant.can)} {place_of(grant)}, role {grant.role!r}"


def _recorded_by_hand(namespace: Namespace, action: str, told: str) -> str:
    return (
        "INSERT INTO secretstore.change_event (namespace, id, key, version, action, actor, occurred_at, outcome) VALUES "  # noqa: S608 - no text of others
        f"({literal(namespace)}, gen_random_uuid(), '', 0, {literal(action)}, CURRENT_USER, clock_timestamp(), {literal(told)})"
    )


def explain(namespace: Namespace, role: str, key: Key) -> Flow[list[Explanation]]:
    """Return for each ability whether a role may do it with a key, and why."""

    def find(session: Session) -> list[Explanation]:
        repository = GrantRepository(session)
        found, catalog = find_role(repository, role), repository.read()
        question = Question(repository, catalog, found, namespace, key)
        return [question.answer(ability) for ability in ABILITIES]

    explained: list[Explanation] = yield InTransaction(find)
    return explained
