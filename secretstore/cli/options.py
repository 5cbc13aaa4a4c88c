"""The options that commands share, and how a store is opened from them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

import typer

from secretstore import SecretClient, connect
from secretstore.cli import output
from secretstore.cli.output import Format
from secretstore.connecting import open_database
from secretstore.embedded import SCHEME, EmbeddedFolder
from secretstore.orm.engines import make_engine
from secretstore.settings import Settings, load_settings

T = TypeVar("T")
P = ParamSpec("P")

_PASSWORD = re.compile(r"//[^/?@]*:[^/?@]+@|[?&][^=&]*password=", re.IGNORECASE)

SecretKey = Annotated[str, typer.Argument(metavar="KEY", help="The name of the secret.", show_default=False)]
SecretKeys = Annotated[list[str], typer.Argument(metavar="KEY…", help="The names of the secrets.", show_default=False)]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="Where the store is: postgresql://user@host/database, or embedded, or embedded:///path. "
        "Else SECRETSTORE_DATABASE_URL, which no list of processes shows, or the file that "
        "SECRETSTORE_DATABASE_URL_FILE names; else embedded.",
        show_default=False,
    ),
]
NamespaceName = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="The namespace of the secrets; else SECRETSTORE_NAMESPACE; else default.",
        show_default=False,
    ),
]
OutputFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="How data is printed; else SECRETSTORE_FORMAT; else a table on a terminal and json in a pipe.",
        show_default=False,
    ),
]


@contextmanager
def opened_store(url: str | None, namespace: str | None) -> Iterator[SecretClient]:
    """Open the store that the options, else the environment, name."""
    settings = named_settings(url, namespace)
    assert settings.database_url is not None  # noqa: S101 - for the type checker: `named_settings` sees to it
    named = settings.database_url.get_secret_value()
    # A command reads once.
    # By the cursor, so that Ctrl-C comes through at any moment.
    with connect(named, namespace=settings.namespace, cache=False, libpq=False) as store:
        yield store


def on_database(
    url: str | None, action: Callable[Concatenate[Any, P], T], /, *arguments: P.args, **options: P.kwargs
) -> T:
    """Call a function with an engine on the database that the option, else the environment, names."""
    database = open_database(named_settings(url))
    try:
        engine = make_engine(database.url)
        try:
            return action(engine, *arguments, **options)
        finally:
            engine.dispose()
    finally:
        database.close()


def named_settings(url: str | None, namespace: str | None = None) -> Settings:
    """Return the settings, with the embedded server where no database is named."""
    warn_of_password("--database-url", url, variable="SECRETSTORE_DATABASE_URL")
    settings = load_settings(database_url=url, namespace=namespace)
    if settings.database_url is not None:
        return settings
    folder = EmbeddedFolder.default().data
    output.say(f"no database is named, so this uses the embedded PostgreSQL in {folder}")
    return load_settings(database_url=SCHEME, namespace=namespace)


def warn_of_password(option: str, url: str | None, *, variable: str) -> None:
    """Warn where the URL of an option holds a password, and name the variable that would hide it."""
    if url is not None and _PASSWORD.search(url):
        output.warn(f"the password in {option} shows in the list of processes; set {variable} instead")


def format_of(wanted: Format | None) -> Format:
    """Return the format of the option, else of the environment, else the one that fits stdout."""
    return output.chosen_format(wanted or load_settings().format)
