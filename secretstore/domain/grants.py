"""Which rights a role of the database can be given, over which secrets."""

from collections.abc import Iterable
from dataclasses import dataclass

from secretstore.errors import ConfigurationError

ABILITIES = ("read", "list", "history", "write", "delete", "audit", "seal")
# What a role has that had rights before policies held, until they are taken away.
EVERYTHING = "everything"
# As PostgreSQL calls all roles together.
EVERYBODY = "public"

# A writer copies values to the history and goes back to them, and whoever deletes sees what there is.
_IMPLIED = {"read": {"list"}, "write": {"read", "list", "history"}, "delete": {"list"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a role may do with the secrets of a namespace whose keys begin with a prefix; `can` names some of `ABILITIES`.

    A role that had rights before policies held has `everything`, and its namespace is None.  `problem` says in what the
    policies are not those that a grant makes, as after a change by hand.
    """

    __module__ = "secretstore"

    role: str
    namespace: str | None
    prefix: str
    can: tuple[str, ...]
    problem: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether it is what a role had before policies held."""
        return self.can == (EVERYTHING,)

    def covers(self, namespace: str, key: str) -> bool:
        """Return whether a key is one of those that it is about."""
        return self.is_everything or (self.namespace == namespace and key.startswith(self.prefix))


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Whether a role may do one of `ABILITIES` with a key, and why."""

    __module__ = "secretstore"

    ability: str
    is_allowed: bool
    reason: str


def parse_role(name: str) -> str:
    """Return the name of a role, under which PostgreSQL lists it."""
    return EVERYBODY if name == "PUBLIC" else name


def parse_abilities(names: Iterable[str]) -> tuple[str, ...]:
    """Return abilities in their order, each once, or raise `ConfigurationError`."""
    given = {names} if isinstance(names, str) else set(names)
    if not given or given - set(ABILITIES):
        raise ConfigurationError(f"a role can be given {', '.join(ABILITIES)}; at least one, and nothing else")
    return tuple(ability for ability in ABILITIES if ability in given)


def with_implied(can: Iterable[str]) -> frozenset[str]:
    """Return abilities with those that they bring along."""
    return frozenset(can).union(*(_IMPLIED.get(ability, set()) for ability in can))
