"""Every statement on roles, their rights and policies.

What is asked is asked of PostgreSQL's catalog.  What changes it takes no parameters, so names and texts are quoted here, by
the rules of standard SQL, which `read_texts_plainly` sees to.
"""

from collections.abc import Iterable, Iterator
from functools import cache

from sqlalchemy import BigInteger, Executable, Text, cast, func, select, text

from secretstore.orm.models import SCHEMA
from secretstore.orm.rights import VERSION_TABLE, Policy, literal
from secretstore.orm.statements import parameter

_COMMANDS = "CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END"
_TABLES = f"c.relnamespace = to_regnamespace('{SCHEMA}') AND c.relkind IN ('r', 'p')"


@cache
def lock_grants() -> Executable:
    """Wait until nobody else changes grants, and let nobody begin until the transaction ends."""
    return select(func.pg_advisory_xact_lock(parameter("lock", BigInteger)))


@cache
def read_texts_plainly() -> Executable:
    """Take a backslash for a backslash in this transaction, in what is sent and in what PostgreSQL prints."""
    return text("SET LOCAL standard_conforming_strings = on")


@cache
def limit_waiting() -> Executable:
    """Wait for a table for less time than PostgreSQL takes to look for a deadlock, so that no caller of ours is its victim."""
    return text("SET LOCAL lock_timeout = '500ms'")


@cache
def select_tables() -> Executable:
    """The tables of the store, whose they are, and whether policies hold on them."""
    return text(
        "SELECT c.relname AS name, c.relrowsecurity AS is_guarded, pg_get_userbyid(c.relowner) AS owner, "  # noqa: S608 - no text of others
        f"pg_has_role(c.relowner, 'USAGE') AS is_ours FROM pg_class c WHERE {_TABLES} ORDER BY c.relname"
    )


@cache
def select_policies() -> Executable:
    """All policies on the tables of the store, with their comments."""
    return text(
        f"SELECT c.relname AS table, p.polname AS name, {_COMMANDS} AS command, p.polpermissive AS is_permissive, "  # noqa: S608 - no text of others
        "ARRAY(SELECT CASE WHEN r.oid = 0 THEN 'public' ELSE CAST(pg_get_userbyid(r.oid) AS text) END "
        "FROM unnest(p.polroles) AS r(oid)) AS roles, "
        "pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS check, "
        "obj_description(p.oid, 'pg_policy') AS comment "
        f"FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE {_TABLES} ORDER BY c.relname, p.polname"
    )


@cache
def select_privileges() -> Executable:
    """The privileges on the tables of the store and on their columns that are not those of an owner or of one who needs none."""
    columns = (
        "UNION ALL SELECT c.relname, a.attname, c.relowner, x.grantee, x.privilege_type FROM pg_class c "  # noqa: S608 - no text of others
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        f"CROSS JOIN LATERAL aclexplode(a.attacl) x WHERE {_TABLES}"
    )
    return text(
        'SELECT g."table", g."column", g.privilege, '  # noqa: S608 - no text of others
        "CASE WHEN g.grantee = 0 THEN 'public' ELSE CAST(pg_get_userbyid(g.grantee) AS text) END AS role, "
        "COALESCE(r.rolsuper OR r.rolbypassrls, false) AS needs_none "
        'FROM (SELECT c.relname AS "table", CAST(NULL AS name) AS "column", c.relowner, x.grantee, '
        f"x.privilege_type AS privilege FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) x WHERE {_TABLES} {columns}) g "
        "LEFT JOIN pg_roles r ON r.oid = g.grantee WHERE g.grantee <> g.relowner "
        'ORDER BY g."table", g."column" NULLS FIRST, g.privilege, role'
    )


@cache
def select_schema_users() -> Executable:
    """The roles that have a right to the schema by its list of rights."""
    return text(
        "SELECT CASE WHEN x.grantee = 0 THEN 'public' ELSE CAST(pg_get_userbyid(x.grantee) AS text) END AS role "  # noqa: S608 - no text of others
        "FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) x "
        f"WHERE n.oid = to_regnamespace('{SCHEMA}') AND x.privilege_type = 'USAGE' AND x.grantee <> n.nspowner"
    )


@cache
def select_role() -> Executable:
    """A role, and what makes policies not hold for it."""
    return text(
        "SELECT r.rolname AS name, r.rolsuper AS is_superuser, r.rolbypassrls AS bypasses, "  # noqa: S608 - no text of others
        "ARRAY(SELECT CAST(m.rolname AS text) FROM pg_roles m WHERE pg_has_role(r.oid, m.oid, 'USAGE')) AS roles, "
        f"EXISTS (SELECT 1 FROM pg_class c WHERE {_TABLES} AND pg_has_role(r.oid, c.relowner, 'USAGE')) AS owns "
        "FROM pg_roles r WHERE r.rolname = :given_role"
    )


@cache
def select_own_role() -> Executable:
    """The role whose rights this session has."""
    return select(cast(func.current_user(), Text))


@cache
def select_members_of_readers() -> Executable:
    """PostgreSQL's own roles that may read or write all tables, as far as somebody is a member of them."""
    return text(
        "SELECT CAST(r.rolname AS text) AS role FROM pg_roles r "
        "WHERE r.rolname IN ('pg_read_all_data', 'pg_write_all_data') "
        "AND EXISTS (SELECT 1 FROM pg_auth_members m WHERE m.roleid = r.oid) ORDER BY r.rolname"
    )


@cache
def select_has_privileges() -> Executable:
    """Whether a role has each of some privileges, of its own or by another role; without a column, on the whole table."""
    return text(
        "SELECT COALESCE(bool_and(CASE WHEN w.wanted = '' THEN has_table_privilege(r.oid, c.oid, w.privilege) "  # noqa: S608 - no text of others
        "ELSE has_column_privilege(r.oid, c.oid, w.wanted, w.privilege) END "
        f"AND has_schema_privilege(r.oid, to_regnamespace('{SCHEMA}'), 'USAGE')), false) "
        "FROM unnest(CAST(:given_tables AS text[]), CAST(:given_privileges AS text[]), CAST(:given_columns AS text[])) "
        "AS w(relname, privilege, wanted) "
        f"JOIN pg_class c ON c.relname = w.relname AND {_TABLES} CROSS JOIN pg_roles r WHERE r.rolname = :given_role"
    )


def enable_policies(table: str) -> str:
    """Let policies hold on a table."""
    return f"ALTER TABLE {_named(table)} ENABLE ROW LEVEL SECURITY"


def create_policy(policy: Policy) -> Iterator[str]:
    """Make a policy, and say beside it what it is of."""
    using = f" USING ({policy.using})" if policy.using else ""
    check = f" WITH CHECK ({policy.check})" if policy.check else ""
    yield (
        f"CREATE POLICY {quoted(policy.name)} ON {_named(policy.table)} AS PERMISSIVE FOR {policy.command} "
        f"TO {role_name(policy.role)}{using}{check}"
    )
    yield comment_on(policy)


def comment_on(policy: Policy) -> str:
    """Say beside a policy what it is of."""
    return f"COMMENT ON POLICY {quoted(policy.name)} ON {_named(policy.table)} IS {literal(policy.comment)}"


def drop_policy(table: str, name: str) -> str:
    """Take a policy away."""
    return f"DROP POLICY {quoted(name)} ON {_named(table)}"


def grant_usage(role: str) -> str:
    """Let a role find the tables."""
    return f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role_name(role)}"


def revoke_usage(role: str) -> str:
    """Let a role not find the tables any more."""
    return f"REVOKE USAGE ON SCHEMA {SCHEMA} FROM {role_name(role)}"


def grant_privileges(table: str, privileges: Iterable[tuple[str, frozenset[str] | None]], role: str) -> str:
    """Give privileges on a table, or on some of its columns."""
    listed = ", ".join(
        privilege if columns is None else f"{privilege} ({', '.join(map(quoted, sorted(columns)))})"
        for privilege, columns in privileges
    )
    return f"GRANT {listed} ON {_named(table)} TO {role_name(role)}"


def revoke_privileges(table: str, role: str) -> str:
    """Take all privileges on a table and its columns away."""
    return f"REVOKE ALL ON {_named(table)} FROM {role_name(role)}"


def quoted(name: str) -> str:
    """Return the name of anything in the catalog, in quotes."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def role_name(role: str) -> str:
    """Return the name of a role, or the word for all of them."""
    return "PUBLIC" if role == "public" else quoted(role)


def _named(table: str) -> str:
    return f"{SCHEMA}.{table if table == VERSION_TABLE else quoted(table)}"
