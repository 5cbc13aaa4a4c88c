"""What roles with few rights try in raw SQL: they get none of what is not theirs, and no error tells them of it.

The rows of others hold a marker in every text.  It may be in no answer, no error and no notice.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from secretstore import KeyRing, SecretClient, acting_as
from secretstore.crypto.local import generate_master_key
from secretstore.orm.engines import make_engine
from secretstore.orm.models import Base
from tests.support.roles import Roles, open_roles
from tests.support.server import Server

MARKER = "XFOREIGNX"
OWN = "OWN/"
# A namespace that nobody here has rights to, and keys of the first one that lie outside of the prefix.
OTHER = f"other.{MARKER}"
TABLES = {table.name: [column.name for column in table.columns] for table in Base.metadata.sorted_tables}
ROLES: dict[str, tuple[str, ...]] = {
    "application": ("read", "write", "delete"),
    "reader": ("read",),
    "metadata reader": ("list",),
    "auditor": ("audit",),
    "nobody": (),
}
# A cheap function that tells what it is called with, before a policy would have hidden it.
LEAKY = """
    CREATE FUNCTION pg_temp.leaky(text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql
    AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END'
"""


@pytest.fixture(scope="module")
def roles(server: Server, template: str, module_keyring: KeyRing) -> Iterator[Roles]:
    """One database with secrets of two owners, and all roles on it."""
    with (
        server.database(template) as database,
        psycopg.connect(server.direct_url(database), autocommit=True) as raw,
        open_roles(server, database, raw, module_keyring) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def module_keyring() -> KeyRing:
    """A key ring for all tests here."""
    return KeyRing.from_text(generate_master_key("attacks"))


@pytest.fixture(scope="module")
def names(roles: Roles, module_keyring: KeyRing) -> dict[str, str]:
    """The roles by what they are, with their grants, beside the rows of others."""
    engine = make_engine(roles.server.url(roles.database))
    owner = SecretClient(engine, module_keyring, audit_reads="strict")
    with acting_as(f"actor {MARKER}", request_id=MARKER):
        for client, key in ((owner, f"b/{MARKER}"), (owner.namespace(OTHER), OWN)):
            client.set_secret(key, MARKER, labels={"l": MARKER})
            client.set_secret(key, MARKER)
            client.set_labels(key, {"l": MARKER})
            client.get_secret(key)
            client.set_max_versions(9)
    owner.set_secret(f"{OWN}1", "own", labels={"l": "own"})
    made = {name: roles.make(name.replace(" ", "_")) for name in ROLES}
    for name, can in ROLES.items():
        if can:
            owner.grants.add(made[name], prefix=OWN, can=can)
    engine.dispose()
    return made


@contextmanager
def logged_in(roles: Roles, role: str, heard: list[str]) -> Iterator[psycopg.Connection]:
    """A connection of a role, and what PostgreSQL says to it besides."""
    with psycopg.connect(roles.url(role), autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: heard.append(f"{notice.message_primary} {notice.message_detail}"))
        yield connection


def tried(connection: psycopg.Connection, words: str, heard: list[str]) -> bool:
    """Run a statement, hear all that comes of it, and return whether it was allowed."""
    try:
        with connection.cursor() as cursor:
            if " TO STDOUT" in words:
                with cursor.copy(words.encode()) as copy:
                    heard += [bytes(block).decode() for block in copy]
            else:
                cursor.execute(words.encode())
                heard += [repr(row) for row in cursor.fetchall()] if cursor.description else []
    except psycopg.Error as error:
        diag = error.diag
        heard += [str(error), repr(diag.message_detail), repr(diag.context), repr(diag.message_hint)]
        return False
    return True


def attempts_to_see() -> Iterator[str]:
    """Every way to look at every column of every table."""
    for table, columns in TABLES.items():
        place = f"secretstore.{table}"
        yield f"SELECT * FROM {place}"
        yield f"SELECT {table} FROM {place}"
        yield f"COPY {place} TO STDOUT"
        yield f"COPY (SELECT * FROM {place}) TO STDOUT"
        yield f"TABLE {place} LIMIT 100"
        yield f"SELECT * FROM {place} FOR UPDATE"
        yield f"SELECT * FROM {place} FOR KEY SHARE"
        yield f"EXPLAIN ANALYZE SELECT * FROM {place}"
        yield f"SELECT ctid, xmin, xmax, tableoid FROM {place}"
        yield f"SET row_security = off; SELECT namespace FROM {place}"
        yield f"UPDATE {place} SET namespace = namespace RETURNING *"
        yield f"DELETE FROM {place} WHERE namespace = '{OTHER}' RETURNING *"
        yield f"DELETE FROM {place} WHERE namespace = '{OTHER}'"
        yield f"INSERT INTO {place} SELECT * FROM {place} ON CONFLICT DO NOTHING RETURNING *"
        yield f"TRUNCATE {place}"
        yield f"SELECT * FROM pg_stats WHERE tablename = '{table}'"
        for column in columns:
            yield f"SELECT {column} FROM {place}"
            yield f"SELECT {column} FROM {place} WHERE pg_temp.leaky({column}::text)"
            yield f"SELECT CAST({column}::text AS integer) FROM {place}"
            yield f"SELECT count(*) FROM {place} WHERE 1 / (CASE WHEN {column}::text LIKE '%{MARKER}%' THEN 0 ELSE 1 END) = 0"
            yield f"SELECT min({column}::text), max({column}::text) FROM {place}"
            yield f"UPDATE {place} SET {column} = {column} WHERE namespace = '{OTHER}' RETURNING {column}"


def attempts_elsewhere() -> Iterator[str]:
    """Ways around the tables."""
    yield "SELECT query FROM pg_stat_activity"
    yield "SELECT * FROM pg_statistic"
    yield "SELECT * FROM pg_stats_ext"
    yield "SELECT * FROM pg_stat_user_tables WHERE schemaname = 'secretstore'"
    yield "SELECT * FROM pg_largeobject"
    yield "SELECT pg_read_file('postgresql.conf')"
    yield "COPY (SELECT 1) TO PROGRAM 'true'"


def attempts_to_change() -> Iterator[str]:
    """What takes the rights of an owner or another role; none may work."""
    for table in TABLES:
        place = f"secretstore.{table}"
        yield f"TRUNCATE {place}"
        yield f"ALTER TABLE {place} DISABLE ROW LEVEL SECURITY"
        yield f"ALTER TABLE {place} ADD COLUMN c text"
        yield f"DROP TABLE {place}"
        yield f"CREATE POLICY mine ON {place} USING (true)"
        yield f"CREATE TRIGGER mine BEFORE INSERT ON {place} EXECUTE FUNCTION pg_temp.leaky()"
        yield f"CREATE INDEX ON {place} (namespace)"
        yield f"GRANT SELECT ON {place} TO PUBLIC"
        yield f"CREATE TABLE public.lookalike (LIKE {place})"
    yield "CREATE TABLE secretstore.mine (c text)"
    yield "CREATE FUNCTION secretstore.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    yield "SET ROLE postgres"
    yield "SET SESSION AUTHORIZATION postgres"
    yield "ALTER ROLE CURRENT_USER BYPASSRLS"
    yield "CREATE ROLE mine"


@pytest.mark.parametrize("name", ROLES)
def test_nothing_of_others_is_seen(roles: Roles, names: dict[str, str], name: str) -> None:
    """In no answer, error, notice or context, whatever the statement; and nothing of theirs is changed by it."""
    before = contents(roles)
    heard: list[str] = []
    with logged_in(roles, names[name], heard) as connection:
        connection.execute(LEAKY)
        done = [words for words in (*attempts_to_see(), *attempts_elsewhere()) if tried(connection, words, heard)]

    hidden = [MARKER, *ciphertexts(roles)]
    told = [line for line in heard if any(text in line for text in hidden) and f"%{MARKER}%" not in line]
    assert told == []
    assert contents(roles) == before
    assert bool([words for words in done if "secretstore." in words]) == (name != "nobody")


@pytest.mark.parametrize("name", ROLES)
def test_nothing_of_the_owner_is_taken(roles: Roles, names: dict[str, str], name: str) -> None:
    """Neither tables nor policies, nor the rights of anybody else."""
    with logged_in(roles, names[name], []) as connection:
        connection.execute(LEAKY)
        before = roles.rights()
        done = [words for words in attempts_to_change() if tried(connection, words, [])]

    # PostgreSQL only warns of a right that cannot be given.
    assert [words for words in done if not words.startswith("GRANT")] == []
    assert roles.rights() == before


def test_who_sees_what_of_its_own(roles: Roles, names: dict[str, str]) -> None:
    """Ciphertext is for those who read values; data keys too; the records are an auditor's, to be read."""
    questions = {
        "value": "SELECT value FROM secretstore.secret_store",
        "labels": "SELECT labels FROM secretstore.secret_store",
        "data key": "SELECT wrapped FROM secretstore.data_key",
        "changes": "SELECT actor FROM secretstore.change_event",
        "accesses": "SELECT actor FROM secretstore.access_event",
    }
    seen = {}
    for name, role in names.items():
        with logged_in(roles, role, []) as connection:
            seen[name] = {question for question, words in questions.items() if tried(connection, words, [])}

    assert seen == {
        "application": {"value", "labels", "data key"},
        "reader": {"value", "labels", "data key"},
        "metadata reader": {"labels"},
        "auditor": {"changes", "accesses"},
        "nobody": set(),
    }


EVENT = "(namespace, id, key, version, action, actor, occurred_at)"


@pytest.mark.parametrize("table", ["change_event", "access_event"])
def test_an_application_adds_to_the_record_and_no_more(roles: Roles, names: dict[str, str], table: str) -> None:
    """It neither changes nor removes what is there, its own included, and adds nothing about keys or namespaces of others."""
    place = f"secretstore.{table}"

    def added(namespace: str, key: str, columns: str = EVENT, more: str = "") -> str:
        values = f"'{namespace}', gen_random_uuid(), '{key}', 1, 'set', 'me', now(){more}"
        return f"INSERT INTO {place} {columns} VALUES ({values})"

    with logged_in(roles, names["application"], []) as connection:
        assert tried(connection, added("default", f"{OWN}new"), [])
        denied = [
            added(OTHER, OWN),
            *([added("default", "b/x")] if table == "change_event" else []),
            added("default", f"{OWN}x", EVENT.replace(")", ", database_role)"), ", 'postgres'"),
            added("default", f"{OWN}x", EVENT.replace(")", ", seq)"), ", 1"),
            f"UPDATE {place} SET actor = 'x'",
            f"UPDATE {place} SET seq = 1",
            f"DELETE FROM {place}",
            f"{added('default', f'{OWN}y')} RETURNING *",
        ]
        assert [words for words in denied if tried(connection, words, [])] == []


def test_an_audit_record_is_nobodys_to_edit(roles: Roles, names: dict[str, str]) -> None:
    """Nor a checkpoint."""
    with logged_in(roles, names["auditor"], []) as connection:
        for table in ("change_event", "access_event", "audit_checkpoint"):
            for words in (f"UPDATE secretstore.{table} SET namespace = 'x'", f"DELETE FROM secretstore.{table}"):
                assert not tried(connection, words, [])


def test_a_view_or_function_of_a_role_shows_what_the_role_sees(roles: Roles, names: dict[str, str]) -> None:
    """Also to somebody who sees more, and it sees no more where they call it."""
    heard: list[str] = []
    with logged_in(roles, names["reader"], heard) as connection:
        connection.execute("CREATE TEMP VIEW seen AS SELECT key, labels::text FROM secretstore.secret_store")
        connection.execute(
            "CREATE FUNCTION pg_temp.seen() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER "
            "AS 'SELECT key FROM secretstore.secret_store'"
        )
        assert connection.execute("SELECT key FROM seen").fetchall() == [(f"{OWN}1",)]
        assert connection.execute("SELECT pg_temp.seen()").fetchall() == [(f"{OWN}1",)]


SECRETS = """
    INSERT INTO secretstore.secret_store (namespace, key, value, version, created_by, updated_by)
    SELECT 'plans', format('%s/%s', CASE WHEN number % 2 = 0 THEN 'OWN' ELSE 'b' END, number), NULL, 1, '', ''
    FROM generate_series(1, 20000) AS number
"""
PLANS = {
    "one": (f"key = '{OWN}7000'", f"(key = '{OWN}7000'::text"),
    "many": (f"key = ANY(ARRAY['{OWN}7000', '{OWN}9000'])", "(key = ANY ("),
    "a page": (
        f"key >= '{OWN}' AND key < 'OWN0' AND key > '{OWN}7000' ORDER BY key LIMIT 10",
        f"(key > '{OWN}7000'::text",
    ),
}


@pytest.fixture(scope="module")
def planned(roles: Roles, names: dict[str, str]) -> str:
    """A role that reads half of very many secrets of a namespace, among the roles above."""
    roles.raw.execute(SECRETS)
    roles.raw.execute("ANALYZE secretstore.secret_store")
    role = roles.make("planned")
    engine = make_engine(roles.server.url(roles.database))
    SecretClient(engine, roles.keyring, namespace="plans").grants.add(role, prefix=OWN, can=["read"])
    engine.dispose()
    return role


@pytest.mark.parametrize("wanted", PLANS)
def test_a_granted_read_uses_the_primary_key(roles: Roles, planned: str, wanted: str) -> None:
    """By what was asked for, and not only by the range of the policy: it is found in the index, among many others."""
    condition, found = PLANS[wanted]
    with logged_in(roles, planned, []) as connection:
        words = f"EXPLAIN SELECT value FROM secretstore.secret_store WHERE namespace = 'plans' AND {condition}"
        plan = [line.strip() for (line,) in connection.execute(words.encode())]

    (used,) = [line for line in plan if line.startswith("Index Cond:")]
    assert "pk_secret_store" in "".join(plan), plan
    assert found in used, plan


CIPHERTEXTS = f"""
    SELECT DISTINCT member.value FROM (
        SELECT value FROM secretstore.secret_store WHERE key LIKE '%%{MARKER}' OR namespace = '{OTHER}'
        UNION ALL SELECT value FROM secretstore.secret_version WHERE key LIKE '%%{MARKER}' OR namespace = '{OTHER}'
        UNION ALL SELECT wrapped FROM secretstore.data_key WHERE namespace = '{OTHER}'
    ) AS sealed, jsonb_each_text(sealed.value) AS member
    WHERE length(member.value) > 12 AND member.value NOT IN (SELECT id FROM secretstore.data_key WHERE namespace = 'default')
"""


def ciphertexts(roles: Roles) -> list[str]:
    """Return nonces, ciphertexts and ids of data keys of what belongs to others."""
    found = [text for (text,) in roles.raw.execute(CIPHERTEXTS.replace("%%", "%").encode())]
    assert len(found) >= 10
    return found


def contents(roles: Roles) -> list[str]:
    """Return all that is in the tables of what belongs to others."""
    return sorted(
        line
        for table in TABLES
        for (line,) in roles.raw.execute(
            sql.SQL("SELECT t::text FROM secretstore.{} t WHERE t::text LIKE '%%{}%%'").format(
                sql.Identifier(table), sql.SQL(MARKER)
            )
        )
    )
