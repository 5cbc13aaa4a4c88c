"""Clients with the options that a row asks for, as long as the installed release has them."""

import inspect
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias, get_args

import psycopg

import secretstore
from benchmarks.harness import NotInThisBuild
from benchmarks.raw import RawStore
from benchmarks.stage import MAIN, Stage
from benchmarks.values import NAMESPACE
from secretstore import AsyncSecretClient, SecretClient
from secretstore.service.synchronous import Notify

Options: TypeAlias = dict[str, object]

PREPARED: Options = {"prepared_statements": True}


@contextmanager
def client(stage: Stage, options: Options | None = None, *, database: str = MAIN) -> Iterator[SecretClient]:
    """Give a client of a database, and close it."""
    url, known = stage.url_of(database), supported(options or {})
    with secretstore.connect(url, namespace=NAMESPACE, keyring=stage.keyring, **known) as opened:
        yield opened


@asynccontextmanager
async def async_client(stage: Stage, options: Options) -> AsyncIterator[AsyncSecretClient]:
    """Give an async client of the main database, and close it."""
    url, known = stage.url_of(MAIN), supported(options)
    async with await secretstore.connect_async(url, namespace=NAMESPACE, keyring=stage.keyring, **known) as opened:
        yield opened


@contextmanager
def raw(stage: Stage, database: str = MAIN, *, autocommit: bool = True) -> Iterator[RawStore]:
    """Give the twin of a client: one connection that is kept, with psycopg's own defaults, which prepare."""
    with psycopg.connect(stage.conninfo_of(database), autocommit=autocommit) as connection:
        yield RawStore(connection, stage.vault)


def cache_options() -> Options:
    """Return what turns the cache on."""
    config = getattr(secretstore, "CacheConfig", None)
    if config is None:
        raise NotInThisBuild("the cache")
    return {"cache": config()}


def supported(options: Mapping[str, object]) -> dict[str, Any]:
    """Return those options that the installed release knows."""
    return {name: value for name, value in options.items() if not _is_missing(name, value)}


def missing(options: Mapping[str, object]) -> tuple[str, ...]:
    """Say which options the installed release does not know, and so were left out."""
    return tuple(
        f"without {name}={value}, which is not in this build"
        for name, value in options.items()
        if _is_missing(name, value)
    )


def _is_missing(name: str, value: object) -> bool:
    if name not in inspect.signature(secretstore.connect).parameters:
        return True
    return name == "notify" and value not in get_args(Notify)
