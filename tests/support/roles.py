"""Roles of the database for a test, which log in and are gone afterwards."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from secretstore import KeyRing, SecretClient
from secretstore.orm.engines import make_engine
from tests.support.server import Server

PASSWORD = "only-for-tests"

# What rights are made of: policies with their comments, privileges on tables, columns and the schema.
_RIGHTS = """
SELECT concat_ws(' ', 'policy', c.relname, p.polname, p.polcmd, p.polpermissive, p.polroles::regrole[],
                 pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
                 obj_description(p.oid, 'pg_policy'))
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
UNION ALL
SELECT concat_ws(' ', 'table', c.relname, x.grantee::regrole, x.privilege_type)
  FROM pg_class c, aclexplode(c.relacl) x
 WHERE c.relnamespace = 'secretstore'::regnamespace AND x.grantee <> c.relowner
UNION ALL
SELECT concat_ws(' ', 'column', c.relname, a.attname, x.grantee::regrole, x.privilege_type)
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) x
 WHERE c.relnamespace = 'secretstore'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'schema', x.grantee::regrole, x.privilege_type)
  FROM pg_namespace n, aclexplode(n.nspacl) x WHERE n.nspname = 'secretstore' AND x.grantee <> n.nspowner
"""

# To take rights away changes rows of the catalog first and locks tables afterwards, and vacuuming does it the other way round.
_LOCK_TABLES = """
DO $$ BEGIN EXECUTE (
    SELECT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', string_agg(CAST(oid::regclass AS text), ', ' ORDER BY oid))
      FROM pg_class WHERE relnamespace = 'secretstore'::regnamespace AND relkind = 'r'
); END $$
"""


@dataclass
class Roles:
    """Makes roles, and logs in as them."""

    server: Server
    database: str
    raw: psycopg.Connection
    keyring: KeyRing
    opened: ExitStack
    made: list[str] = field(default_factory=list)

    def make(self, name: str = "role", attributes: str = "") -> str:
        """Return the name of a new role that may log in."""
        role = f"{name}.{uuid4().hex[:8]}"
        words = f"CREATE ROLE {{}} LOGIN {attributes} PASSWORD {{}}".encode()
        self.raw.execute(sql.SQL(words.decode()).format(sql.Identifier(role), sql.Literal(PASSWORD)))
        self.made.append(role)
        return role

    def url(self, role: str) -> str:
        """Return the URL by which a role logs in, past a pooler."""
        return self.server.direct_url(self.database, user=role, password=PASSWORD)

    def engine(self, role: str) -> Engine:
        """Return an engine that logs in as a role."""
        engine = make_engine(self.url(role))
        self.opened.callback(engine.dispose)
        return engine

    def client(self, role: str, namespace: str = "default") -> SecretClient:
        """Return a client that logs in as a role."""
        return SecretClient(self.engine(role), self.keyring, namespace=namespace)

    def execute(self, words: str, *roles: str) -> None:
        """Run a statement of the owner that names roles."""
        self.raw.execute(sql.SQL(words).format(*map(sql.Identifier, roles)))

    def drop(self) -> None:
        """Take all roles away, and what they may do."""
        with self.raw.transaction():
            self.raw.execute(_LOCK_TABLES)
            for role in self.made:
                self.execute("DROP OWNED BY {}", role)
                self.execute("DROP ROLE {}", role)

    def rights(self) -> set[str]:
        """Return all rights to the store, in PostgreSQL's own words."""
        return {line for (line,) in self.raw.execute(_RIGHTS)}


@contextmanager
def open_roles(server: Server, database: str, raw: psycopg.Connection, keyring: KeyRing) -> Iterator[Roles]:
    """Make roles for a while."""
    with ExitStack() as opened:
        roles = Roles(server, database, raw, keyring, opened)
        try:
            yield roles
        finally:
            opened.close()
            roles.drop()
