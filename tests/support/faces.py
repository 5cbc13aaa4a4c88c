"""The four faces of the library, called alike, so that one test body proves a promise for all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from secretstore import (
    AsyncSecretClient,
    AsyncSecretService,
    KeyRing,
    SecretClient,
    SecretRepository,
    SecretService,
)
from secretstore.orm.engines import make_async_engine, make_engine

KINDS = ("client", "service", "async client", "async service")


@dataclass(frozen=True)
class View:
    """The past as a face shows it; every method is called blocking, too."""

    reader: object
    run: Callable[[Any], Any]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.reader, name)
        return lambda *args, **kwargs: self.run(method(*args, **kwargs))


@dataclass(frozen=True)
class Face:
    """One face; every method of the library is called blocking, whichever it is."""

    make: Callable[..., Any]
    run: Callable[[Any], Any]
    commit: Callable[[], object]
    rollback: Callable[[], object]
    keyring: KeyRing
    options: dict[str, object]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._made(), name)
        return lambda *args, **kwargs: self.run(method(*args, **kwargs))

    def as_of(self, moment: datetime) -> View:
        """Return the secrets as they were; asking for the view is never awaited, only its methods are."""
        return View(self._made().as_of(moment), self.run)

    def _made(self) -> Any:  # one of the four
        return self.make(self.keyring, **self.options)

    def with_options(self, **options: object) -> "Face":
        """Return the same face on another namespace, for another actor, or with another limit."""
        return replace(self, options={**self.options, **options})

    def with_keyring(self, keyring: KeyRing) -> "Face":
        """Return the same face with another key ring."""
        return replace(self, keyring=keyring)


@contextmanager
def open_face(kind: str, url: str, keyring: KeyRing, *, prepared_statements: bool = False) -> Iterator[Face]:
    """Open a face; a service has one transaction until `commit` or `rollback`, and a client ends its own."""
    opened = _blocking if kind in {"client", "service"} else _awaited
    with opened(kind, url, keyring, prepared_statements=prepared_statements) as face:
        yield face


@asynccontextmanager
async def async_engine(url: str) -> AsyncIterator[AsyncEngine]:
    """An async engine as `connect_async` makes it, closed in the loop that used it."""
    engine = make_async_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()


@contextmanager
def _blocking(kind: str, url: str, keyring: KeyRing, *, prepared_statements: bool) -> Iterator[Face]:
    engine = make_engine(url, prepared_statements=prepared_statements)
    with Session(engine) as session:

        def service(ring: KeyRing, *, namespace: str = "default", **options: Any) -> SecretService:
            return SecretService(SecretRepository(session, namespace=namespace), ring, **options)

        def client(ring: KeyRing, **options: Any) -> SecretClient:
            return SecretClient(engine, ring, **options)

        yield Face(
            client if kind == "client" else service,
            lambda answer: answer,
            session.commit,
            session.rollback,
            keyring,
            {},
        )
    engine.dispose()


@contextmanager
def _awaited(kind: str, url: str, keyring: KeyRing, *, prepared_statements: bool) -> Iterator[Face]:
    with asyncio.Runner() as runner:
        engine = make_async_engine(url, prepared_statements=prepared_statements)
        session = AsyncSession(engine)

        def service(ring: KeyRing, **options: Any) -> AsyncSecretService:
            return AsyncSecretService(session, ring, **options)

        def client(ring: KeyRing, **options: Any) -> AsyncSecretClient:
            return AsyncSecretClient(engine, ring, **options)

        try:
            make = client if kind == "async client" else service
            commit, rollback = (lambda: runner.run(session.commit())), (lambda: runner.run(session.rollback()))
            # In the context of the caller, as an awaited call would be.
            yield Face(make, lambda answer: runner.run(answer, context=copy_context()), commit, rollback, keyring, {})
        finally:
            runner.run(session.close())
            runner.run(engine.dispose())
