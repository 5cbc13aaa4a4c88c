"""The rights of roles of the database, as PostgreSQL enforces them; each change is a transaction of its own."""

import builtins
from collections.abc import Iterable

from secretstore.client.keys import AsyncDriver, Driver
from secretstore.domain.acting import ANYBODY, Actors
from secretstore.domain.grants import Explanation, Grant
from secretstore.domain.names import Namespace, parse_key
from secretstore.service import grants


class Grants:
    """Who may do what in the namespace of the client, as `client.grants`.

    To change it takes the owner of the tables, or a superuser.  To list it takes no right.
    """

    def __init__(self, namespace: Namespace, drive: Driver, *, actors: Actors = ANYBODY) -> None:
        self.namespace = namespace
        self._drive = drive
        self._actors = actors

    def add(self, role: str, *, prefix: str = "", can: Iterable[str], narrow: bool = False) -> builtins.list[Grant]:
        """Let a role do what `can` names with the secrets whose keys begin with a prefix.

        What the role could do there before is replaced.  Returns the grant; the first one of all lets policies hold on the
        tables, and then those grants come after it that let other roles go on as before, with `everything`.  To `narrow` a
        role takes that from it at the same moment.
        """
        grant = grants.new_grant(self.namespace, role, prefix, can)
        return self._drive(grants.add(grant, self._actors.acting(), narrow=narrow))

    def revoke(self, role: str, *, prefix: str = "", everything: bool = False) -> builtins.list[Grant]:
        """Take from a role what it may do with that prefix; or `everything`, in all namespaces; return what is gone."""
        by = self._actors.acting()
        return self._drive(grants.revoke(self.namespace, role, prefix, by, everything=everything))

    def list(self, role: str | None = None) -> builtins.list[Grant]:
        """Return the grants of a role, or of all, in all namespaces."""
        return self._drive(grants.list_grants(role))

    def explain(self, role: str, key: str) -> builtins.list[Explanation]:
        """Return for each ability whether a role may do it with a key, and by what."""
        return self._drive(grants.explain(self.namespace, role, parse_key(key)))

    def sql(self, role: str, *, prefix: str = "", can: Iterable[str], narrow: bool = False) -> str:
        """Return the statements that `add` would run, for someone else to run."""
        return self._drive(grants.print_sql(grants.new_grant(self.namespace, role, prefix, can), narrow=narrow))


class AsyncGrants:
    """As `Grants`, awaited."""

    def __init__(self, namespace: Namespace, drive: AsyncDriver, *, actors: Actors = ANYBODY) -> None:
        self.namespace = namespace
        self._drive = drive
        self._actors = actors

    async def add(
        self, role: str, *, prefix: str = "", can: Iterable[str], narrow: bool = False
    ) -> builtins.list[Grant]:
        """See `Grants.add`."""
        grant = grants.new_grant(self.namespace, role, prefix, can)
        return await self._drive(grants.add(grant, self._actors.acting(), narrow=narrow))

    async def revoke(self, role: str, *, prefix: str = "", everything: bool = False) -> builtins.list[Grant]:
        """See `Grants.revoke`."""
        by = self._actors.acting()
        return await self._drive(grants.revoke(self.namespace, role, prefix, by, everything=everything))

    async def list(self, role: str | None = None) -> builtins.list[Grant]:
        """See `Grants.list`."""
        return await self._drive(grants.list_grants(role))

    async def explain(self, role: str, key: str) -> builtins.list[Explanation]:
        """See `Grants.explain`."""
        return await self._drive(grants.explain(self.namespace, role, parse_key(key)))

    async def sql(self, role: str, *, prefix: str = "", can: Iterable[str], narrow: bool = False) -> str:
        """See `Grants.sql`."""
        return await self._drive(grants.print_sql(grants.new_grant(self.namespace, role, prefix, can), narrow=narrow))
