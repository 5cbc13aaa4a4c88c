"""URLs become engines."""

import traceback
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

from secretstore.errors import ConfigurationError
from secretstore.orm.engines import make_async_engine, make_engine

APP = {"host": "db", "user": "app", "password": "pw", "dbname": "app"}


class Stop(Exception):  # noqa: N818 - ends a connection before it begins
    """Carries what psycopg would have been given."""


def given_to_psycopg(engine: Engine) -> dict[str, Any]:
    """What psycopg is called with when the engine connects; nothing is connected to."""

    def stop(_: object, __: object, arguments: list[Any], parameters: dict[str, Any]) -> None:
        raise Stop(arguments, parameters)

    event.listen(engine, "do_connect", stop)
    with pytest.raises(Stop) as caught:
        engine.connect()
    arguments, parameters = caught.value.args
    assert "".join(arguments) == ""
    return dict(parameters)


def parameters(url: str) -> dict[str, str]:
    """What an engine tells libpq beside the defaults, as text."""
    given = given_to_psycopg(make_engine(url))
    defaults = {
        "connect_timeout": 10,
        "fallback_application_name": "secretstore",
        "prepare_threshold": None,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    }
    left = {name: value for name, value in given.items() if (name, value) not in defaults.items()}
    return {name: str(value) for name, value in left.items() if name != "context"}


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://app:pw@db/app", APP),
        ("postgres://app:pw@db/app", APP),
        ("postgresql+psycopg://app:pw@db/app", APP),
        ("postgresql://app:pw@db:5433/app", {**APP, "port": "5433"}),
        ("postgresql+psycopg://app:pw@db:5433/app?sslmode=require", {**APP, "port": "5433", "sslmode": "require"}),
        ("postgresql://app:p%40%2F%3A%20w@db/app", {**APP, "password": "p@/: w"}),
        ("postgresql+psycopg://app:p%40%2F%3A%20w@db/app", {**APP, "password": "p@/: w"}),
        ("postgresql://a%40b@db", {"user": "a@b", "host": "db"}),
        ("postgresql://", {}),
        ("postgresql:///app?host=/var/run/postgresql", {"dbname": "app", "host": "/var/run/postgresql"}),
        ("postgresql+psycopg:///app?host=/var/run", {"dbname": "app", "host": "/var/run"}),
        ("postgresql://%2Fvar%2Frun/app", {"dbname": "app", "host": "/var/run"}),
        ("postgresql://[::1]:5/app", {"host": "::1", "port": "5", "dbname": "app"}),
        ("postgresql+psycopg://[::1]:5/app", {"host": "::1", "port": "5", "dbname": "app"}),
        (
            "postgresql://h1:1,h2:2/app?target_session_attrs=read-write",
            {"host": "h1,h2", "port": "1,2", "dbname": "app", "target_session_attrs": "read-write"},
        ),
        (
            "postgresql+psycopg://h1:1,h2:2/app?target_session_attrs=read-write",
            {"host": "h1,h2", "port": "1,2", "dbname": "app", "target_session_attrs": "read-write"},
        ),
        (
            "postgresql+psycopg://app:pw@/app?host=h1:1&host=h2:2",
            {**APP, "host": "h1,h2", "port": "1,2"},
        ),
    ],
)
def test_a_url_becomes_the_parameters_of_libpq(url: str, wanted: dict[str, str]) -> None:
    """Both spellings of a URL, several hosts, sockets and escaped passwords reach the driver as they are meant."""
    assert parameters(url) == wanted


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_what_the_url_says_is_not_overridden(scheme: str) -> None:
    """A time limit and a name in the URL win over the defaults."""
    given = given_to_psycopg(make_engine(f"{scheme}://db/app?connect_timeout=3&fallback_application_name=mine"))

    assert (str(given["connect_timeout"]), given["fallback_application_name"]) == ("3", "mine")


def test_the_defaults_are_safe_behind_a_pooler() -> None:
    """No prepared statements, a limit on connecting, and a name that an administrator finds."""
    given = given_to_psycopg(make_engine("postgresql://db"))

    assert given["prepare_threshold"] is None
    assert (given["connect_timeout"], given["fallback_application_name"]) == (10, "secretstore")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "hunter2@db",
        "host=db password=hunter2",
        "mysql://app:hunter2@db",
        "postgresql+asyncpg://app:hunter2@db",
        "postgresql+psycopg2://app:hunter2@db",
        "postgresql:app:hunter2@db",
        "postgresql://app:hunter2@db/app?hunter2=1",
        "postgresql://app:hunter2%zz@db",
        "postgresql://app:hunter2@[::1/app",
        "postgresql+psycopg://app:hunter2@[::1/app",
        "postgresql+psycopg://app@[::1]:hunter2/a?x=hunter2&%",
        "postgresql+psycopg://app:hunter2@db/app?prepare_threshold=5",
        "postgresql+psycopg://app:hunter2@db/app?no_such_option=1",
    ],
)
@pytest.mark.parametrize("make", [make_engine, make_async_engine])
def test_a_bad_url_is_an_error_that_does_not_repeat_it(make: Any, url: str) -> None:  # either of two functions
    """The error says what to write; neither its text nor its traceback, cause or context holds the URL."""
    with pytest.raises(ConfigurationError, match="write postgresql://user@host:port/database") as caught:
        make(url)

    assert "hunter2" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_an_engine_does_not_show_its_password(scheme: str) -> None:
    """Neither repr nor URL of an engine holds anything of the URL that it was made from."""
    url = f"{scheme}://app:hunter2@db/app"

    for engine in (make_engine(url), make_async_engine(url)):
        assert "hunter2" not in f"{engine!r} {engine.url!r} {engine.url.render_as_string(hide_password=False)}"


def test_parameters_of_statements_are_hidden() -> None:
    """SQLAlchemy writes no parameter into logs and errors."""
    assert make_engine("postgresql://db").hide_parameters
    assert make_async_engine("postgresql://db").sync_engine.hide_parameters


def test_both_kinds_of_engine_use_psycopg_alike() -> None:
    """The async engine is given the same parameters by the same driver."""
    url = "postgresql://h1,h2/app?connect_timeout=3"
    engine, awaited = make_engine(url), make_async_engine(url)

    assert isinstance(awaited, AsyncEngine)
    assert (engine.driver, awaited.driver) == ("psycopg", "psycopg")
    given, given_awaited = given_to_psycopg(engine), given_to_psycopg(awaited.sync_engine)
    assert {name: given[name] for name in given if name != "context"} == {
        name: given_awaited[name] for name in given if name != "context"
    }
