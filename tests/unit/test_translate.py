"""Errors of the driver become errors of the library, and nothing of the original is left."""

import asyncio
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import errors as driver_errors
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from secretstore.errors import (
    PermissionDeniedError,
    SchemaOutOfDateError,
    SecretNotFoundError,
    SecretStoreError,
    StoreUnavailableError,
)
from secretstore.orm import translate
from secretstore.orm.engines import make_engine
from secretstore.orm.translate import translated

SAID = "Key (value)=(hunter2) already exists"


@contextmanager
def assert_alone(kind: type[SecretStoreError]) -> Iterator[pytest.ExceptionInfo[SecretStoreError]]:
    """Expect exactly one class of error, which keeps nothing of the original."""
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind
    assert (error.__cause__, error.__context__) == (None, None)
    assert "hunter2" not in f"{error!r} {''.join(traceback.format_exception(error))} {vars(error)}"


def of_state(state: str) -> psycopg.Error:
    """A driver's error with an SQLSTATE and words that repeat a value."""
    try:
        kind = driver_errors.lookup(state)
    except KeyError:
        kind = type("Unknown", (psycopg.DatabaseError,), {"sqlstate": state})
    return kind(SAID)


STATES: list[tuple[str, type[SecretStoreError], str]] = [
    ("0A000", StoreUnavailableError, "a table has changed meanwhile"),
    ("25006", StoreUnavailableError, "only reads; connect to the primary"),
    ("26000", StoreUnavailableError, "dropped by someone else"),
    ("42P05", StoreUnavailableError, "is there already"),
    ("25P02", StoreUnavailableError, "roll it back first"),
    ("3D000", StoreUnavailableError, "the database does not exist"),
    ("3F000", SchemaOutOfDateError, "secretstore db upgrade"),
    ("40001", StoreUnavailableError, "try the whole transaction again"),
    ("40P01", StoreUnavailableError, "deadlock"),
    ("42501", PermissionDeniedError, "grant it USAGE"),
    ("42703", SchemaOutOfDateError, "secretstore db upgrade"),
    ("42P01", SchemaOutOfDateError, "secretstore db upgrade"),
    ("55P03", StoreUnavailableError, "a lock was not free in time"),
    ("57014", StoreUnavailableError, "statement_timeout"),
    ("08000", StoreUnavailableError, "the connection to PostgreSQL broke"),
    ("08006", StoreUnavailableError, "the connection to PostgreSQL broke"),
    ("08P01", StoreUnavailableError, "the connection to PostgreSQL broke"),
    ("28000", PermissionDeniedError, "refused the login"),
    ("28P01", PermissionDeniedError, "refused the login"),
    ("53100", StoreUnavailableError, "out of connections, memory or disk"),
    ("53300", StoreUnavailableError, "out of connections, memory or disk"),
    ("57P01", StoreUnavailableError, "shutting down or starting"),
    ("57P03", StoreUnavailableError, "shutting down or starting"),
    ("23505", SecretStoreError, "its server log says why"),
    ("23514", SecretStoreError, "its server log says why"),
    ("22P05", SecretStoreError, "its server log says why"),
    ("42601", SecretStoreError, "its server log says why"),
    ("XX000", SecretStoreError, "its server log says why"),
    ("ZZ999", SecretStoreError, "its server log says why"),
]
EACH_STATE = pytest.mark.parametrize(("state", "kind", "words"), STATES, ids=[state for state, _, _ in STATES])


@EACH_STATE
def test_a_state_has_its_class_and_words(state: str, kind: type[SecretStoreError], words: str) -> None:
    """SQLSTATE decides, the message says what to do and names the state, and the driver's words are gone."""
    with assert_alone(kind) as caught, translated():
        raise of_state(state)
    assert words in str(caught.value)
    assert f"SQLSTATE {state}" in str(caught.value)


@EACH_STATE
def test_sqlalchemy_s_wrapping_changes_nothing(state: str, kind: type[SecretStoreError], words: str) -> None:
    """What comes wrapped, with statement and parameters, is told apart alike."""
    wrapped = DBAPIError("INSERT hunter2", {"value": "hunter2"}, of_state(state))
    with assert_alone(kind) as caught, translated():
        raise wrapped from of_state(state)
    assert words in str(caught.value)


def test_every_state_of_the_table_is_proven() -> None:
    """No row of the table is left without an example here."""
    tried = {state for state, _, _ in STATES}

    assert set(translate._BY_STATE) <= tried
    assert set(translate._BY_CLASS) <= {state[:2] for state in tried}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_connection_that_broke_has_no_state(wrapped: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """An operational error without a state is a lost connection, and another error without one is unknown."""
    for original, kind in (
        (psycopg.OperationalError(SAID), StoreUnavailableError),
        (psycopg.InterfaceError(SAID), SecretStoreError),
        (psycopg.ProgrammingError(SAID), SecretStoreError),
    ):
        with assert_alone(kind) as caught, translated():
            raise DBAPIError("SELECT hunter2", {}, original) if wrapped else original
        assert "SQLSTATE " not in str(caught.value).replace("no SQLSTATE", "")


def test_an_error_of_another_driver_is_unknown() -> None:
    """What psycopg did not raise is not guessed at."""
    with assert_alone(SecretStoreError) as caught, translated():
        raise DBAPIError("SELECT hunter2", {}, ValueError(SAID))
    assert "no SQLSTATE" in str(caught.value)


def test_a_pool_without_a_free_connection_is_unavailable() -> None:
    """The pool's own time limit says what to do."""
    with assert_alone(StoreUnavailableError) as caught, translated():
        raise PoolTimeoutError(SAID)
    assert "make the pool larger" in str(caught.value)


@pytest.mark.parametrize("error", [SecretNotFoundError("n", "k"), ValueError("mine"), InvalidRequestError("closed")])
def test_any_other_error_passes_as_it_is(error: Exception) -> None:
    """Errors of ours, of the caller, and of a misused session are not touched."""
    with pytest.raises(type(error)) as caught, translated():
        raise error
    assert caught.value is error


def test_a_block_without_error_goes_on() -> None:
    """Nothing is raised where nothing failed."""
    with translated():
        done = True
    assert done


def test_an_earlier_error_of_the_caller_does_not_carry_the_original() -> None:
    """Inside an `except` block of the caller, too, the original is in no context."""
    with assert_alone(StoreUnavailableError):
        try:
            raise KeyError("caller's")  # noqa: TRY301 - stands for the caller's own code
        except KeyError:
            with translated():
                raise of_state("40001") from None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:hunter2@/app?host=/nonexistent", "there is no such socket"),
        ("postgresql://me:hunter2@localhost:1/app", "nothing listens there"),
        ("postgresql://me:hunter2@no.such.host.invalid/app", "the host name is not known"),
    ],
)
def test_a_failed_connection_says_what_to_correct(url: str, words: str) -> None:
    """Nothing had been sent yet, so the words of libpq decide; the password is never shown."""
    engine = make_engine(url)
    with assert_alone(StoreUnavailableError) as caught, translated():
        engine.connect()
    assert words in str(caught.value)
    assert "cannot connect to PostgreSQL" in str(caught.value)


def test_a_failed_transaction_asks_for_a_rollback() -> None:
    """A session that SQLAlchemy has marked as failed is told like a transaction that PostgreSQL has."""
    with assert_alone(StoreUnavailableError) as caught, translated():
        raise PendingRollbackError(SAID)
    assert "roll it back first" in str(caught.value)


class Connection:
    """What libpq knows of a connection that failed."""

    host, port, db, user = b"db\xff", b"5432", b"app", b"me"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ('FATAL:  password authentication failed for user "hunter2"', PermissionDeniedError, "password is wrong"),
        ("fe_sendauth: no password supplied", PermissionDeniedError, "the server asks for a password"),
        ('FATAL:  no pg_hba.conf entry for host "1"', PermissionDeniedError, "does not let this role in from here"),
        ('FATAL:  permission denied for database "a"', PermissionDeniedError, "may not connect to this database"),
        ('FATAL:  role "a" is not permitted to log in', PermissionDeniedError, "may not log in"),
        ('FATAL:  database "hunter2" does not exist', StoreUnavailableError, "the database does not exist"),
        ('FATAL:  role "hunter2" does not exist', PermissionDeniedError, "the role does not exist"),
        ('could not translate host name "hunter2"', StoreUnavailableError, "the host name is not known"),
        ("failed to resolve host 'hunter2'", StoreUnavailableError, "the host name is not known"),
        ("Connection refused", StoreUnavailableError, "nothing listens there"),
        ("No such file or directory", StoreUnavailableError, "there is no such socket"),
        ("FATAL:  sorry, too many clients already", StoreUnavailableError, "it is out of connections"),
        ("FATAL:  the database system is starting up", StoreUnavailableError, "it takes no connections now"),
        ("connection timed out", StoreUnavailableError, "it did not answer in time"),
        ("timeout expired", StoreUnavailableError, "it did not answer in time"),
        ("ungültig hunter2", StoreUnavailableError, "is it running, and is the URL right?"),
    ],
)
def test_the_words_of_a_failed_connection_decide(said: str, kind: type[SecretStoreError], words: str) -> None:
    """Each known failure of connecting has its hint, any other the general one, all with the address."""
    original = psycopg.OperationalError(said, pgconn=Connection())  # type: ignore[arg-type]  # a fake by hand
    with assert_alone(kind) as caught, translated():
        raise original
    assert words in str(caught.value)
    assert "at db\ufffd:5432, database 'app', as 'me'" in str(caught.value)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(143), asyncio.CancelledError()], ids=repr)
def test_an_interruption_is_not_hidden_by_the_error_that_follows(interruption: BaseException) -> None:
    """Where a roll back fails because the program is being ended, that is what leaves, and nothing of the driver's."""

    def leave() -> None:
        with translated():
            try:
                raise interruption
            finally:
                try:
                    raise psycopg.OperationalError(SAID)
                except psycopg.Error as error:
                    raise DBAPIError("ROLLBACK", None, error) from error

    with pytest.raises(type(interruption)) as caught:
        leave()
    assert caught.value is interruption
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize(
    ("state", "flags"),
    [
        *((state, (True, False, False)) for state in ("26000", "40001", "40P01", "42P05", "55P03", "57P05")),
        *((state, (True, True, False)) for state in ("08006", "08003", "57P01", "57P02", "57P03")),
        ("25006", (True, False, True)),
        *((state, (False, False, False)) for state in ("25P02", "57014", "53100", "57P04")),
    ],
)
def test_an_error_says_whether_to_try_again(state: str, flags: tuple[bool, bool, bool]) -> None:
    """Conflicts, locks, lost plans and servers that go away are worth another try; what a new transaction meets again is not."""
    with assert_alone(StoreUnavailableError) as caught, translated():
        raise of_state(state)
    assert (caught.value.is_transient, caught.value.was_lost, caught.value.was_unreached) == flags


def test_a_lost_connection_is_worth_another_try() -> None:
    """Without a state it is transient too, and if it was lost during COMMIT nobody knows what became of that."""
    with assert_alone(StoreUnavailableError) as caught, translated():
        raise DBAPIError("SELECT 1", {}, psycopg.OperationalError(SAID))
    assert (caught.value.is_transient, caught.value.was_lost, caught.value.was_unreached) == (True, True, False)
