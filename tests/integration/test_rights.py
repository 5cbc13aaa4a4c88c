"""Rights that PostgreSQL enforces, as `client.grants` gives and takes them."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import (
    AsyncSecretClient,
    GrantError,
    KeyRing,
    PermissionDeniedError,
    RoleNotFoundError,
    SecretClient,
    SecretStoreError,
)
from secretstore.client.grants import Grants
from secretstore.crypto.local import LocalMasterKey
from secretstore.domain.grants import ABILITIES, with_implied
from secretstore.domain.names import Namespace
from secretstore.orm.engines import make_async_engine
from secretstore.orm.event_repository import EventRepository
from secretstore.service.data_keys import MAX_SEALS
from secretstore.service.explaining import describe_own
from tests.support.roles import PASSWORD, Roles, open_roles
from tests.support.server import Server
from tests.support.threads import DEADLINE_SECONDS, in_thread, run_together, wait_until_blocked

Call = Callable[[SecretClient, str], object]

# Each call, on secrets that begin with a text, and what it takes.
CALLS: dict[str, tuple[Call, set[str]]] = {
    "get": (lambda store, at: store.get_secret_or_raise(f"{at}a"), {"read"}),
    "get many": (lambda store, at: store.get_secrets([f"{at}a"])[f"{at}a"], {"read"}),
    "get a prefix": (lambda store, at: store.get_secrets_by_prefix(at)[f"{at}a"], {"read"}),
    "export": (lambda store, at: list(store.export_secrets(at)), {"read"}),
    "get a version": (lambda store, at: store.get_secret_or_raise(f"{at}a", version=1), {"read", "history"}),
    "get of then": (
        lambda store, at: store.as_of(datetime.now(UTC)).get_secret_or_raise(f"{at}a"),
        {"read", "history"},
    ),
    "list of then": (lambda store, at: store.as_of(datetime.now(UTC)).list_secrets(at)[0], {"list", "history"}),
    "describe": (lambda store, at: store.describe_secret(f"{at}a"), {"list"}),
    "list": (lambda store, at: store.list_secrets(at)[0], {"list"}),
    "list deleted": (lambda store, at: store.list_secrets(at, include_deleted=True)[0], {"list"}),
    "list by labels": (lambda store, at: store.list_secrets(at, labels={"x": "y"})[0], {"list"}),
    "list unchanged": (
        lambda store, at: store.list_secrets(at, unchanged_for=timedelta(0))[0],
        {"list", "history"},
    ),
    "count": (lambda store, at: store.get_secret_count(at), {"list"}),
    "versions": (lambda store, at: store.list_versions(f"{at}a")[0], {"history"}),
    "set": (lambda store, at: store.set_secret(f"{at}a", 3), {"write"}),
    "set a new one": (lambda store, at: store.set_secret(f"{at}new", 3, expected_version=0), {"write"}),
    "set many": (lambda store, at: store.set_secrets({f"{at}a": 4, f"{at}newer": 4}), {"write"}),
    "patch": (lambda store, at: store.patch_secret(f"{at}b", {"c": 3}), {"write"}),
    "roll back": (lambda store, at: store.rollback_secret(f"{at}a", 1), {"write"}),
    "labels": (lambda store, at: store.set_labels(f"{at}a", {"x": "z"}), {"write"}),
    "some labels": (lambda store, at: store.patch_labels(f"{at}a", {"w": "v"}), {"write"}),
    "limit one": (lambda store, at: store.set_max_versions(9, key=f"{at}a"), {"delete"}),
    "delete": (lambda store, at: store.delete_secret(f"{at}b") or 1 / 0, {"delete"}),
    "undelete": (lambda store, at: store.undelete_secret(f"{at}gone"), {"delete"}),
    "destroy": (lambda store, at: store.destroy_versions(f"{at}a", [1]) or 1 / 0, {"delete"}),
    "purge": (lambda store, at: store.purge_secret(f"{at}c") or 1 / 0, {"delete"}),
    "number": (lambda store, _: store.last_change_number(), {"seal"}),
    "seal": (lambda store, _: store.audit.seal(), {"seal"}),
    "verify": (lambda store, _: store.audit.verify(), {"seal"}),
    "limit all": (lambda store, _: store.set_max_versions(9), {"owner"}),
    "rotate": (lambda store, _: store.keys.rotate(), {"owner"}),
    "shred": (lambda store, _: store.keys.shred(), {"owner"}),
    "add a grant": (lambda store, _: store.grants.add("pg_monitor", can=["read"]), {"owner"}),
}
COMBINATIONS: list[tuple[str, ...]] = [
    *((ability,) for ability in ABILITIES),
    *(("read", "history"), ("list", "history"), ("read", "delete"), ("read", "write", "delete")),
]
NASTY = ('a"b', "a'b", "a\\b", "a%sb", "a:b", "äb\U0010ffff", "%(x)s", "$1", "a--b;/*", "\U0010ffff")


@pytest.fixture
def roles(server: Server, database: str, raw: psycopg.Connection, keyring: KeyRing) -> Iterator[Roles]:
    """Roles of this test."""
    with open_roles(server, database, raw, keyring) as opened:
        yield opened


def prepare(store: SecretClient, at: str) -> None:
    """Write what the calls need."""
    for value in (1, 2):
        store.set_secrets({f"{at}a": value, f"{at}b": {"c": value}, f"{at}c": value, f"{at}gone": value})
    store.set_labels(f"{at}a", {"x": "y"})
    store.delete_secret(f"{at}gone")


def is_done(call: Call, store: SecretClient, at: str) -> bool:
    """Make a call, and return whether it was not denied; any other error is one of the test."""
    try:
        call(store, at)
    except PermissionDeniedError:
        return False
    return True


def test_an_ability_gives_what_it_says_and_no_more(store: SecretClient, roles: Roles) -> None:
    """Each call of the library works for a role that was given what it takes, and is denied to any other."""
    for can in COMBINATIONS:
        role, at = roles.make("+".join(can)), "" if can == ("seal",) else f"{'+'.join(can)}/"
        prepare(store, at)
        store.grants.add(role, prefix=at, can=can)
        client = roles.client(role)
        may = {"seal" if can == ("seal",) else "", *with_implied(can)}
        expected = {name: needed <= may for name, (_, needed) in CALLS.items()}
        # Whoever writes may also put a value back.
        expected |= {"limit one": True, "undelete": True} if "write" in can else {}
        # What others have numbered is read without the right to number.
        expected |= {"number": True} if "audit" in can else {}
        # Whoever deletes sees which versions there are.
        expected |= {"versions": True, "list unchanged": True} if "delete" in can else {}

        assert {name: is_done(call, client, at) for name, (call, _) in CALLS.items()} == expected, can


def test_a_role_reaches_its_prefix_and_its_namespace_alone(store: SecretClient, roles: Roles) -> None:
    """Of other keys it sees nothing, and writes none; an equal key of another namespace is another key."""
    store.set_secrets({"a/1": 1, "a0": 2, "b/1": 2})
    store.namespace("other").set_secret("a/1", 2)
    role = roles.make()
    store.grants.add(role, prefix="a/", can=["read", "write", "delete"])
    client = roles.client(role)

    assert (client.list_secret_keys(), client.get_secret_count()) == (["a/1"], 1)
    assert client.get_secrets(["a/1"]) == client.get_secrets_by_prefix("") == {"a/1": 1}
    assert client.namespace("other").list_secret_keys() == []
    for there, key in ((client, "b/1"), (client, "a0"), (client, "new"), (client.namespace("other"), "a/1")):
        with pytest.raises(PermissionDeniedError):
            there.set_secret(key, 3)
    assert store.get_secrets(["a0", "b/1"]) == {"a0": 2, "b/1": 2}


def test_the_first_writer_of_a_namespace_may_be_limited(store: SecretClient, roles: Roles) -> None:
    """A role that writes brings the data key of a new namespace, and its record names it."""
    role = roles.make()
    store.grants.add(role, prefix="a/", can=["write"])

    assert roles.client(role).set_secret("a/1", 1).version == 1
    assert store.get_secret("a/1") == 1
    assert store.list_changes()[-1].database_role == role


def test_a_limited_writer_goes_on_with_a_data_key_that_is_used_up(
    store: SecretClient, roles: Roles, raw: psycopg.Connection, master_key: str
) -> None:
    """It may not retire one, and writes on; the owner's next write brings another."""
    role = roles.make()
    store.grants.add(role, can=["write"])
    counting = KeyRing(LocalMasterKey.parse(master_key), chance=lambda: 0.0)
    application = SecretClient(roles.engine(role), counting)
    application.set_secret("a", 1)
    raw.execute(
        "INSERT INTO secretstore.data_key_use SELECT namespace, id, gen_random_uuid(), %s FROM secretstore.data_key",
        [MAX_SEALS],
    )

    assert application.set_secret("a", 2).version == 2
    assert len(store.keys.list_data_keys()) == 1
    SecretClient(store.engine, counting).set_secret("a", 3)
    assert len(store.keys.list_data_keys()) == 2
    assert application.set_secret("a", 4).version == 4


def test_a_lost_commit_is_found_out_by_a_limited_role(store: SecretClient, roles: Roles) -> None:
    """It may ask whether an event of its own was recorded, and sees no other row for it."""
    role = roles.make()
    store.grants.add(role, prefix="a/", can=["write"])
    roles.client(role).set_secret("a/1", 1)
    with Session(roles.engine(role)) as session:
        raw_id = roles.raw.execute("SELECT id FROM secretstore.change_event WHERE key = 'a/1'").fetchone()
        assert raw_id is not None
        events = EventRepository(session, Namespace("default"))
        assert events.was_recorded(UUID(str(raw_id[0])))
        assert not events.was_recorded(uuid4())
        session.rollback()


@pytest.mark.parametrize("name", NASTY)
def test_any_name_may_be_granted(store: SecretClient, roles: Roles, name: str) -> None:
    """Roles, namespaces and prefixes of any characters mean themselves, in the policy and beside it."""
    role = roles.make(name)
    there = store.namespace(name)
    there.set_secrets({f"{name}/1": 1, "other": 2})
    there.grants.add(role, prefix=name, can=["read"])

    assert roles.client(role, name).list_secret_keys() == [f"{name}/1"]
    (grant,) = store.grants.list(role)
    assert (grant.namespace, grant.prefix, grant.can, grant.problem) == (name, name, ("read",), None)
    assert there.grants.revoke(role, prefix=name)[0].prefix == name


def test_a_backslash_is_one_whatever_the_session_takes_it_for(
    store: SecretClient, roles: Roles, raw: psycopg.Connection
) -> None:
    """Where PostgreSQL is told to take backslashes for escapes, a prefix still means itself."""
    raw.execute(f"ALTER DATABASE {roles.database} SET standard_conforming_strings = off".encode())
    role = roles.make()
    store.set_secrets({"a\\b/1": 1, "ab/1": 2})

    store.grants.add(role, prefix="a\\", can=["read"])

    assert roles.client(role).list_secret_keys() == ["a\\b/1"]
    assert [(one.prefix, one.problem) for one in store.grants.list()] == [("a\\", None)]


def test_what_is_added_goes_without_a_trace(store: SecretClient, roles: Roles) -> None:
    """Taking a grant away leaves the rights that there were, whatever the grant was; policies stay switched on."""
    kept, role = roles.make("kept"), roles.make()
    store.grants.add(kept, prefix="k/", can=["read", "write"])
    before = roles.rights()

    for can in COMBINATIONS:
        prefix = "" if "seal" in can else "a'/"
        store.grants.add(role, prefix=prefix, can=can)
        assert roles.rights() > before
        assert [grant.problem for grant in store.grants.list()] == [None, None]
        store.grants.revoke(role, prefix=prefix)
        assert roles.rights() == before
    with pytest.raises(GrantError, match="has no grant in namespace 'default' with prefix 'x'"):
        store.grants.revoke(role, prefix="x")


def test_a_script_does_what_add_does(store: SecretClient, roles: Roles, raw: psycopg.Connection) -> None:
    """What `sql` prints leaves the same rights and the same record, also as the first of all."""
    role, plain = roles.make('a"\\b'), roles.make("plain")
    roles.execute("GRANT SELECT ON ALL TABLES IN SCHEMA secretstore TO {}", plain)
    first = store.grants.sql(role, prefix="%s\\'/", can=["read", "write"])
    assert not any("policy" in line for line in roles.rights())
    raw.execute(first.encode())
    by_hand = roles.rights()

    assert "row-level security is on" not in first
    store.grants.revoke(role, everything=True)
    store.grants.revoke(plain, everything=True)
    for table in ("secret_store", "change_event"):
        roles.raw.execute(f"ALTER TABLE secretstore.{table} DISABLE ROW LEVEL SECURITY".encode())
    roles.execute("GRANT SELECT ON ALL TABLES IN SCHEMA secretstore TO {}", plain)
    store.grants.add(role, prefix="%s\\'/", can=["read", "write"])
    opened = {line for line in by_hand if "everything" in line}
    assert roles.rights() - opened == by_hand - opened
    recorded = [change.outcome for change in store.list_changes(with_data_keys=True) if change.action == "grant"]
    assert recorded[0] == recorded[2]
    assert repr(role) in recorded[0]


def test_what_is_given_again_replaces_what_was(store: SecretClient, roles: Roles) -> None:
    """The same grant twice changes nothing; a wider or a narrower one leaves what it would leave alone."""
    role = roles.make()
    seen = {}
    for can in (["read"], ["read", "write", "delete"], ["list"]):
        store.grants.add(role, prefix="a/", can=can)
        seen[tuple(can)] = roles.rights()
        store.grants.revoke(role, prefix="a/")

    for can in (["read"], ["read"], ["read", "write", "delete"], ["list"], ["read"]):
        store.grants.add(role, prefix="a/", can=can)
        assert roles.rights() == seen[tuple(can)]
    script = store.grants.sql(role, prefix="a/", can=["read"])
    assert not any(word in script for word in ("POLICY", "GRANT ", "REVOKE"))


def test_the_first_grant_is_no_outage(store: SecretClient, roles: Roles) -> None:
    """Roles that have rights go on as before, until that is ended; roles that get plain rights later see nothing."""
    before, after, role = (roles.make(name) for name in ("before", "after", "role"))
    plain = "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA secretstore TO {}"
    usage = "GRANT USAGE ON SCHEMA secretstore TO {}"
    roles.execute(usage, before)
    roles.execute(plain, before)
    store.set_secret("a/1", 1)

    added = store.grants.add(role, prefix="b/", can=["read"])
    roles.execute(usage, after)
    roles.execute(plain, after)

    assert [(one.role, one.can) for one in added] == [(role, ("read",)), (before, ("everything",))]
    assert roles.client(before).get_secret("a/1") == 1
    assert roles.client(before).set_secret("a/1", 2).version == 2
    assert roles.client(after).list_secret_keys() == []
    assert {one.role: one.can for one in store.grants.list()} == {role: ("read",), before: ("everything",)}
    assert {one.is_allowed for one in store.grants.explain(before, "a/1") if one.ability in {"read", "write"}} == {True}

    store.grants.add(before, prefix="a/", can=["read"])
    assert roles.client(before).set_secret("a/1", 3).version == 3
    store.grants.add(before, prefix="c/", can=["read"], narrow=True)
    assert [(one.prefix, one.can) for one in store.grants.list(before)] == [("a/", ("read",)), ("c/", ("read",))]
    assert roles.client(before).list_secret_keys() == ["a/1"]
    assert "revoke" in {change.action for change in store.list_changes(with_data_keys=True)}
    with pytest.raises(PermissionDeniedError):
        roles.client(before).set_secret("a/1", 4)
    store.grants.revoke(before, everything=True)
    assert store.grants.list(before) == []
    assert not any(before in line for line in roles.rights())


def test_a_role_that_had_all_is_narrowed_by_its_first_grant(store: SecretClient, roles: Roles) -> None:
    """The role that the first grant names does not go on as before: what it had is replaced."""
    role = roles.make()
    roles.execute("GRANT USAGE ON SCHEMA secretstore TO {}", role)
    roles.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA secretstore TO {}", role)
    store.set_secrets({"a/1": 1, "b/1": 1})

    store.grants.add(role, prefix="a/", can=["read"])

    assert roles.client(role).list_secret_keys() == ["a/1"]
    with pytest.raises(PermissionDeniedError):
        roles.client(role).set_secret("a/1", 1)


def test_a_right_of_everybody_goes_on_and_can_be_ended(store: SecretClient, roles: Roles) -> None:
    """What PUBLIC was given is treated like what a role was given, and nobody can give it more."""
    role = roles.make()
    roles.raw.execute("GRANT USAGE ON SCHEMA secretstore TO PUBLIC")
    roles.raw.execute("GRANT SELECT ON ALL TABLES IN SCHEMA secretstore TO PUBLIC")
    store.set_secret("b/1", 1)

    assert [one.role for one in store.grants.add(role, prefix="a/", can=["read"])] == [role, "public"]
    assert roles.client(role).list_secret_keys() == ["b/1"]
    store.grants.revoke("PUBLIC", everything=True)
    assert roles.client(role).list_secret_keys() == []
    assert store.grants.list("PUBLIC") == []
    with pytest.raises(GrantError, match="PUBLIC"):
        store.grants.add("PUBLIC", can=["read"])


def test_many_may_give_rights_at_once(store: SecretClient, roles: Roles) -> None:
    """Grants that are made at the same moment, the first among them, wait for each other, and all are there."""
    names = [roles.make(f"role{n}") for n in range(3)]
    run_together(*(partial(store.grants.add, role, prefix="a/", can=["read", "write"]) for role in names * 2))

    assert sorted(one.role for one in store.grants.list()) == sorted(names)
    assert {one.problem for one in store.grants.list()} == {None}


def test_a_grant_waits_for_whoever_reads(
    store: SecretClient, engine: Engine, roles: Roles, raw: psycopg.Connection
) -> None:
    """An open transaction that has read a table holds a grant up, and neither is broken off."""
    role = roles.make()
    store.set_secret("a", 1)
    with Session(engine) as session:
        assert store.bind(session).get_secret("a") == 1
        with in_thread(lambda: store.grants.add(role, can=["read"])) as adding:
            wait_until_blocked(raw)
            assert store.bind(session).get_secret("a") == 1
            session.commit()
            assert adding.result(DEADLINE_SECONDS)[0].role == role


def test_doctor_looks_at_rights(store: SecretClient, roles: Roles, raw: psycopg.Connection) -> None:
    """It says whether policies hold for the role that has logged in, and fails where they are not what grants say."""
    role = roles.make()

    def found(name: str | None) -> str:
        with Session(store.engine if name is None else roles.engine(name)) as session:
            return describe_own(session)

    assert found(None).startswith("row-level security is off")
    store.grants.add(role, can=["read"])
    assert found(None).startswith("danger: role")
    assert found(role) == f"policies hold for role {role!r}"
    raw.execute("ALTER TABLE secretstore.label_change DISABLE ROW LEVEL SECURITY")
    with pytest.raises(GrantError, match="off for label_change"):
        found(None)
    store.grants.add(role, can=["read"])
    roles.execute("GRANT DELETE ON secretstore.secret_store TO {}", role)
    with pytest.raises(GrantError, match="privileges of the role are not those"):
        found(role)


def test_what_was_changed_by_hand_is_told_and_mended(store: SecretClient, roles: Roles) -> None:
    """A policy that is not what its grant says, one that is gone, one more, and privileges, show; adding again mends."""
    role = roles.make()

    def policy(command: str) -> str:
        found = roles.raw.execute(
            "SELECT polname FROM pg_policy WHERE polrelid = 'secretstore.secret_store'::regclass AND polcmd = %s",
            [command],
        ).fetchone()
        assert found is not None
        return str(found[0])

    changes: list[Callable[[], object]] = [
        lambda: roles.execute("ALTER POLICY {} ON secretstore.secret_store USING (true)", policy("r")),
        lambda: roles.execute("DROP POLICY {} ON secretstore.secret_store", policy("a")),
        lambda: roles.execute("ALTER POLICY {} ON secretstore.secret_store TO {}, pg_monitor", policy("w"), role),
        lambda: roles.execute("COMMENT ON POLICY {} ON secretstore.secret_store IS NULL", policy("w")),
        lambda: roles.execute("ALTER POLICY {} ON secretstore.secret_store TO pg_monitor, {}", policy("a"), role),
        lambda: roles.execute("GRANT DELETE ON secretstore.secret_store TO {}", role),
        lambda: roles.execute("REVOKE USAGE ON SCHEMA secretstore FROM {}", role),
    ]
    for change in changes:
        store.grants.add(role, prefix="a/", can=["read", "write"])
        right = roles.rights()
        change()
        assert any(one.problem for one in store.grants.list(role))
        store.grants.add(role, prefix="a/", can=["read", "write"])
        assert roles.rights() == right
    roles.execute("CREATE POLICY mine ON secretstore.secret_store TO {} USING (true)", role)
    assert "policy mine on secret_store was made by hand" in {one.problem for one in store.grants.list(role)}


def test_reads_of_a_limited_role_are_recorded(store: SecretClient, roles: Roles) -> None:
    """Also what it was refused, which is about keys that it has no right to; it cannot read that record."""
    store.set_secrets({"a/1": 1, "b/1": 2})
    role = roles.make()
    store.grants.add(role, prefix="a/", can=["read"])
    reader = SecretClient(roles.engine(role), roles.keyring, audit_reads="strict")

    assert reader.get_secret("a/1") == 1
    with pytest.raises(PermissionDeniedError):
        reader.set_secret("b/1", 3)
    recorded = {(one.key, one.outcome, one.database_role) for one in store.audit.list_accesses()}
    assert recorded == {("a/1", "done", role), ("b/1", "denied", role)}
    with pytest.raises(PermissionDeniedError):
        reader.audit.list_accesses()


def test_a_role_with_another_name_keeps_its_rights(store: SecretClient, roles: Roles) -> None:
    """Its grants are listed under the name that it has, and adding one again leaves nothing of the old name."""
    role = roles.make()
    store.set_secret("a/1", 1)
    store.grants.add(role, prefix="a/", can=["read"])
    renamed = f"{role}.renamed"
    roles.execute("ALTER ROLE {} RENAME TO {}", role, renamed)
    roles.execute(f"ALTER ROLE {{}} PASSWORD '{PASSWORD}'", renamed)
    roles.made.append(renamed)
    roles.made.remove(role)

    assert roles.client(renamed).list_secret_keys() == ["a/1"]
    assert [one.role for one in store.grants.list() if one.problem] == [renamed]
    store.grants.add(renamed, prefix="a/", can=["read"])
    assert [one.problem for one in store.grants.list()] == [None]
    assert not any(f'"{role}"' in line for line in roles.rights())


@pytest.mark.parametrize(
    "attempt", ["", "ON CONFLICT DO NOTHING", "ON CONFLICT (namespace, key) DO UPDATE SET version = 2"]
)
def test_a_foreign_key_is_refused_alike_whether_it_is_there_or_not(
    store: SecretClient, roles: Roles, attempt: str
) -> None:
    """The policy refuses before PostgreSQL looks for such a row, so that an attempt does not tell."""
    store.set_secrets({"a/1": 1, "there": 2})
    role = roles.make()
    store.grants.add(role, prefix="a/", can=["read", "write", "delete"])
    told = set()
    with psycopg.connect(roles.url(role), autocommit=True) as limited:
        for key in ("there", "elsewhere"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
                limited.execute(
                    "INSERT INTO secretstore.secret_store (namespace, key, version, created_by, updated_by) "
                    f"VALUES ('default', '{key}', 1, 'x', 'x') {attempt}".encode()
                )
            told.add((refused.value.diag.message_primary, refused.value.diag.message_detail))

    assert len(told) == 1


def test_what_is_explained_is_what_is_so(store: SecretClient, roles: Roles) -> None:
    """For roles with grants at random, each answer of `explain` is that of an attempt."""
    chance = random.Random(7)
    keys = ["", "a/1", "a/b/1", "b/1"]
    store.set_secrets(dict.fromkeys(keys[1:], 1))
    attempts: dict[str, Callable[[SecretClient, str], object]] = {
        "read": lambda client, key: client.get_secrets([key])[key],
        "list": lambda client, key: client.list_secret_keys(key)[0],
        "history": lambda client, key: client.as_of(datetime.now(UTC)).list_secret_keys(key)[0],
        "write": lambda client, key: client.set_secret(key, 2),
        "delete": lambda client, key: client.set_max_versions(9, key=key),
    }
    # The member of a role may do what that role may.
    names = [roles.make(f"role{n}") for n in range(5)]
    roles.execute("GRANT {} TO {}", names[0], names[4])
    for role, prefix in itertools.product(names[:4], ("", "a/", "a/b", "b/")):
        can = chance.sample(["read", "list", "history", "write", "delete"], chance.randrange(4))
        try_to_add(store.grants, role, prefix, can)
    for role, key in itertools.product(names, keys[1:]):
        client = roles.client(role)
        explained = {one.ability: one for one in store.grants.explain(role, key)}
        for ability, attempt in attempts.items():
            if ability == "delete" and explained["write"].is_allowed:
                continue  # a limit of versions is set by either
            assert explained[ability].is_allowed == succeeds(attempt, client, key), (role, key, explained[ability])


def try_to_add(grants: Grants, role: str, prefix: str, can: list[str]) -> None:
    """Add a grant unless it is refused, or is none."""
    try:
        grants.add(role, prefix=prefix, can=can)
    except SecretStoreError:
        return


def succeeds(attempt: Callable[[SecretClient, str], object], client: SecretClient, key: str) -> bool:
    """Return whether an attempt finds something and is not denied."""
    try:
        attempt(client, key)
    except (SecretStoreError, LookupError):
        return False
    return True


def test_roles_that_no_policy_limits_are_told(store: SecretClient, roles: Roles) -> None:
    """A superuser, an owner and a role with BYPASSRLS are given nothing, and `explain` says why they may."""
    free = roles.make("free", "BYPASSRLS")
    superuser = store.grants.list() == [] and roles.raw.info.user
    role = roles.make()
    assert {one.reason for one in store.grants.explain(role, "a")} == {"the role lacks privileges on the tables"}
    store.grants.add(role, can=["read"])

    for name, why in ((free, "has BYPASSRLS"), (superuser, "is a superuser")):
        with pytest.raises(GrantError, match=why):
            store.grants.add(str(name), can=["read"])
    assert {one.is_allowed for one in store.grants.explain(str(superuser), "a")} == {True}
    assert {one.is_allowed for one in store.grants.explain(free, "a")} == {False}
    roles.execute("GRANT USAGE ON SCHEMA secretstore TO {}", free)
    roles.execute("GRANT SELECT ON ALL TABLES IN SCHEMA secretstore TO {}", free)
    allowed = {one.ability for one in store.grants.explain(free, "a") if one.is_allowed}
    assert allowed == {"read", "list", "history", "audit"}


def test_only_the_owner_gives_rights(store: SecretClient, roles: Roles) -> None:
    """Any other role is told who may, and may still list, explain and print."""
    role = roles.make()
    store.grants.add(role, can=["read", "write", "delete"])
    client = roles.client(role)

    refusals: list[Callable[[], object]] = [
        lambda: client.grants.add(role, can=["read"]),
        lambda: client.grants.revoke(role),
        lambda: client.grants.revoke(role, everything=True),
    ]
    for refused in refusals:
        with pytest.raises(PermissionDeniedError, match="who owns the tables"):
            refused()
    assert client.grants.list() == store.grants.list()
    assert client.grants.sql(role, prefix="a/", can=["read"]).startswith("BEGIN;\n")
    assert client.grants.explain(role, "a") == store.grants.explain(role, "a")


def test_what_cannot_be_given_is_refused(store: SecretClient, roles: Roles) -> None:
    """A role that is not there, an ability that is none, sealing of a part, and columns that would open further rows."""
    role = roles.make()
    with pytest.raises(RoleNotFoundError, match="there is no role 'nobody'"):
        store.grants.add("nobody", can=["read"])
    with pytest.raises(SecretStoreError, match="can be given read, list"):
        store.grants.add(role, can=["fly"])
    with pytest.raises(GrantError, match="whole namespace"):
        store.grants.add(role, prefix="a/", can=["seal"])
    store.grants.add(role, prefix="a/", can=["read"])
    with pytest.raises(GrantError, match="use another role"):
        store.grants.add(role, prefix="b/", can=["list"])
    assert [one.prefix for one in store.grants.list()] == ["a/"]


def test_the_async_client_gives_rights_too(
    store: SecretClient, roles: Roles, database_url: str, keyring: KeyRing
) -> None:
    """The same methods, awaited, with the same answers."""
    role = roles.make()

    async def use() -> None:
        engine = make_async_engine(database_url)
        grants = AsyncSecretClient(engine, keyring).grants
        assert "CREATE POLICY" in await grants.sql(role, prefix="a/", can=["read"])
        (added,) = await grants.add(role, prefix="a/", can=["read"])
        assert await grants.list(role) == [added] == store.grants.list()
        assert await grants.explain(role, "a/1") == store.grants.explain(role, "a/1")
        assert await grants.revoke(role, prefix="a/") == [added]
        await engine.dispose()

    asyncio.run(use())
