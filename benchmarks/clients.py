"""Clients with the options that a row asks for."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import psycopg

import secretstore
from benchmarks.raw import RawStore
from benchmarks.stage import MAIN, Stage
from benchmarks.values import NAMESPACE
from secretstore import AsyncSecretClient, CacheConfig, SecretClient

Options: TypeAlias = dict[str, Any]  # the arguments of `connect`

PREPARED: Options = {"prepared_statements": True}
CACHED: Options = {"cache": CacheConfig()}


@contextmanager
def client(stage: Stage, options: Options | None = None, *, database: str = MAIN) -> Iterator[SecretClient]:
    """Give a client of a database, and close it."""
    url = stage.url_of(database)
    with secretstore.connect(url, namespace=NAMESPACE, keyring=stage.keyring, **(options or {})) as opened:
        yield opened


@asynccontextmanager
async def async_client(stage: Stage, options: Options) -> AsyncIterator[AsyncSecretClient]:
    """Give an async client of the main database, and close it."""
    url = stage.url_of(MAIN)
    async with await secretstore.connect_async(url, namespace=NAMESPACE, keyring=stage.keyring, **options) as opened:
        yield opened


@contextmanager
def raw(stage: Stage, database: str = MAIN, *, autocommit: bool = True) -> Iterator[RawStore]:
    """Give the twin of a client: one connection that is kept, with psycopg's own defaults, which prepare."""
    with psycopg.connect(stage.conninfo_of(database), autocommit=autocommit) as connection:
        yield RawStore(connection, stage.vault)
