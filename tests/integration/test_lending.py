"""Connections that a client keeps in hand between its reads, and those that it does not."""

import os
from collections.abc import Iterator
from typing import cast

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.pool import QueuePool

from secretstore import KeyRing, SecretClient
from secretstore.orm import lending
from secretstore.orm.engines import make_engine
from secretstore.orm.lending import KEPT_CONNECTIONS, Lender, Lent
from tests.support.children import answer_of_child
from tests.support.threads import run_together

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("SECRETSTORE_TEST_CURSOR")), reason="by the cursor nothing is read on them"
)

END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def lent_by(engine: Engine) -> int:
    """How many connections of a pool are out."""
    return cast("QueuePool", engine.pool).checkedout()


def backend_of(lent: Lent) -> int:
    """The process of PostgreSQL behind a connection."""
    backend: int = lent.driver.info.backend_pid
    return backend


@pytest.fixture
def keeping(engine: Engine, keyring: KeyRing) -> Iterator[SecretClient]:
    """A client that closes its engine, as those of `connect` do, and tries nothing again."""
    client = SecretClient(engine, keyring, retry_seconds=0, on_close=lambda: None)
    client.set_secret("a", 1)
    assert client.get_secret("a") == 1
    yield client
    client.close()


def test_a_connection_is_kept_between_reads(keeping: SecretClient, engine: Engine) -> None:
    """One for one reader, of whatever namespace; closing brings it back, and then none is kept any more."""
    assert lent_by(engine) == 1
    keeping.namespace("other").get_secret("a")
    assert lent_by(engine) == 1

    keeping.close()
    assert lent_by(engine) == 0
    assert keeping.get_secret("a") == 1
    assert lent_by(engine) == 0


def test_no_more_are_kept_than_the_pool_can_do_without(keeping: SecretClient, engine: Engine) -> None:
    """However many read at once, others find a connection."""
    run_together(*[lambda: [keeping.get_secret("a") for _ in range(20)]] * (KEPT_CONNECTIONS + 5))

    assert lent_by(engine) <= KEPT_CONNECTIONS
    assert keeping.set_secret("a", 2).version == 2


def test_a_client_on_your_engine_keeps_none(engine: Engine, keyring: KeyRing) -> None:
    """Your pool is yours."""
    store = SecretClient(engine, keyring)
    store.set_secret("a", 1)
    store.get_secret("a")

    assert lent_by(engine) == 0


def test_one_that_rested_and_was_closed_by_the_server_is_replaced(
    keeping: SecretClient, raw: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent on it: nothing has to be tried again."""
    monkeypatch.setattr(lending, "_FRESH_SECONDS", 0.0)
    raw.execute(END_OTHERS)

    assert keeping.get_secret("a") == 1


def test_one_that_is_closed_within_a_moment_is_read_again(
    engine: Engine, keyring: KeyRing, raw: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not looked at, and the client tries again."""
    monkeypatch.setattr(lending, "_FRESH_SECONDS", 3600.0)
    client = SecretClient(engine, keyring, on_close=lambda: None)
    client.set_secret("a", 1)
    client.get_secret("a")
    raw.execute(END_OTHERS)

    assert client.get_secret("a") == 1
    client.close()


def test_one_that_is_not_at_rest_is_closed(engine: Engine) -> None:
    """Whatever was begun on it ends, and nobody goes on with it."""
    lender = Lender(engine, keeps=1)
    lent = lender.take()
    first = backend_of(lent)
    lent.driver.execute("SELECT 1")
    lender.give_back(lent)

    lent = lender.take()
    assert backend_of(lent) != first
    second = backend_of(lent)
    lender.give_back(lent)
    lent = lender.take()
    assert backend_of(lent) == second
    lender.give_back(lent)
    lender.close()


def test_one_that_nothing_can_go_by_goes_back_to_the_pool(database_url: str) -> None:
    """Neither kept for the next statement, nor closed: SQLAlchemy goes on with it."""
    engine = make_engine(f"{database_url}{'&' if '?' in database_url else '?'}client_encoding=KOI8R")
    lender = Lender(engine, keeps=1)
    lent = lender.take()
    first = backend_of(lent)
    lender.give_back(lent)

    assert (lent.is_free, lender.count_kept(), lent_by(engine)) == (False, 0, 0)
    again = lender.take()
    assert backend_of(again) == first
    lender.give_back(again)
    engine.dispose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_child_keeps_its_own(keeping: SecretClient) -> None:
    """After a fork what was kept is the parent's, which goes on using it."""
    ours = backend_in_hand(keeping)
    value, theirs = answer_of_child(lambda: [keeping.get_secret("a"), backend_in_hand(keeping)])

    assert value == 1
    assert theirs != ours
    assert backend_in_hand(keeping) == ours
    assert keeping.get_secret("a") == 1


def backend_in_hand(client: SecretClient) -> int:
    """The process behind the connection that a client uses next."""
    lent = client._lender.take()
    client._lender.give_back(lent)
    return backend_of(lent)
