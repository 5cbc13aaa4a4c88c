"""What rights and records cost a read: policies of a role with a grant, beside none; and a record of reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from sqlalchemy import make_url

import secretstore
from benchmarks.clients import PREPARED, client
from benchmarks.harness import Contest, Goal, Row
from benchmarks.reads import reading, reads
from benchmarks.stage import MAIN, Stage
from benchmarks.values import NAMESPACE

OTHERS = 20


@contextmanager
def granted(stage: Stage) -> Iterator[Contest]:
    """A client of a role that may read a namespace, among others that may, beside one of the owner."""
    with (
        client(stage, PREPARED) as owner,
        roles(stage, owner) as role,
        secretstore.connect(
            make_url(stage.url_of(MAIN)).set(username=role).render_as_string(hide_password=False),
            namespace=NAMESPACE,
            keyring=stage.keyring,
            prepared_statements=True,
        ) as limited,
    ):
        yield reads(stage, reading("with a grant", limited.get_secret), reading("the owner", owner.get_secret))


@contextmanager
def roles(stage: Stage, owner: secretstore.SecretClient) -> Iterator[str]:
    """Make roles with grants, give the name of one, and take them away."""
    made = [f"bench_{uuid4().hex[:12]}" for _ in range(OTHERS + 1)]
    with psycopg.connect(stage.conninfo_of(MAIN), autocommit=True) as admin:
        for role in made:
            admin.execute(f"CREATE ROLE {role} LOGIN".encode())
        try:
            owner.grants.add(made[0], can=["read"])
            for number, role in enumerate(made[1:]):
                owner.grants.add(role, prefix=f"team-{number}/", can=["read", "write", "delete"])
            yield made[0]
        finally:
            for role in made:
                admin.execute(f"DROP OWNED BY {role}".encode())
                admin.execute(f"DROP ROLE {role}".encode())


@contextmanager
def recorded(stage: Stage) -> Iterator[Contest]:
    """A client that records its reads a moment later, beside one that does not."""
    with client(stage, PREPARED | {"audit_reads": "buffered"}) as audited, client(stage, PREPARED) as plain:
        yield reads(stage, reading("recorded", audited.get_secret), reading("not recorded", plain.get_secret))


ROWS = (
    Row(
        "get-granted", f"`client.get_secret` cold with a grant, beside {OTHERS} other roles", Goal(1.3, "time"), granted
    ),
    Row(
        "get-recorded",
        '`client.get_secret` cold with `audit_reads="buffered"`, beside none',
        Goal(2, "time"),
        recorded,
    ),
)
