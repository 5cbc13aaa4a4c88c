"""The stand-alone client, awaited: each call is a transaction of its own."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

from secretstore.cache import CacheConfig, CacheStatistics
from secretstore.client.accesses import AsyncAccessBuffer, Losses
from secretstore.client.attempts import recorded
from secretstore.client.audit import AsyncAudit
from secretstore.client.grants import AsyncGrants
from secretstore.client.keys import AsyncKeys
from secretstore.client.notifying import AsyncNotifier
from secretstore.client.options import ClientOptions, check_recording, told
from secretstore.client.retrying import RETRY_SECONDS, Retrying, Trial
from secretstore.client.statistics import ClientStatistics, statistics_of
from secretstore.client.watching import watch_async
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.accesses import Accessed, AuditReads
from secretstore.domain.acting import Actors
from secretstore.domain.names import parse_key
from secretstore.domain.observing import Observer
from secretstore.domain.records import Change, Collection, ExportedSecret, Restoration, SecretDifference
from secretstore.errors import SecretStoreError
from secretstore.orm.engines import make_async_engine
from secretstore.orm.lending import KEPT_CONNECTIONS, Lender
from secretstore.orm.listening import listening_async
from secretstore.orm.reads import Page
from secretstore.orm.translate import translated
from secretstore.service import applying
from secretstore.service.asynchronous import AsyncSecretMethods, AsyncSecretService
from secretstore.service.changes import EVERY_CHANGE, ChangeReader, wanted_changes
from secretstore.service.checks import checked_seconds, checked_time, parse_page
from secretstore.service.collecting import Collector
from secretstore.service.data_keys import KeyServerCall
from secretstore.service.exporting import PAGE, read_page
from secretstore.service.flows import Flow, InTransaction, OnProgress, Outside, unseen
from secretstore.service.keeping import Found, find_to_keep
from secretstore.service.reading import SecretReader
from secretstore.service.synchronous import Notify, SecretService
from secretstore.service.typed import MAX_VALUE_BYTES

if TYPE_CHECKING:
    from secretstore.cache.clients import AsyncClientCache

T = TypeVar("T")
P = ParamSpec("P")


class AsyncSecretClient(AsyncSecretMethods):
    """Secrets of one namespace; each call is a transaction of its own.  Safe to use from many tasks of one loop.

    `secretstore.connect_async` makes one.  The methods are those of `SecretService`, awaited.
    """

    __module__ = "secretstore"

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        engine: AsyncEngine,
        keyring: KeyRing,
        *,
        namespace: str = "default",
        actor: str | None = None,
        require_actor: bool = False,
        max_value_bytes: int = MAX_VALUE_BYTES,
        notify: Notify = "transaction",
        retry_seconds: float = RETRY_SECONDS,
        cache: CacheConfig | None = None,
        listen_url: str | None = None,
        audit_reads: AuditReads = "off",
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.engine = engine
        self._notifier = AsyncNotifier(engine) if notify == "after_commit" else None
        self._cache = None if cache is None else _make_cache(cache, engine, listen_url)
        tell = told(
            None if self._cache is None else self._cache.let_go,
            None if self._notifier is None else self._notifier.add,
        )
        retrying = Retrying(checked_seconds(retry_seconds))
        self._losses = Losses()
        self._buffer = AsyncAccessBuffer(engine, self._losses) if audit_reads == "buffered" else None
        self._options = ClientOptions(
            keyring,
            namespace,
            Actors(actor, require_actor),
            max_value_bytes,
            notify,
            retrying,
            tell,
            audit_reads=audit_reads,
            buffer=None if self._buffer is None else self._buffer.add,
        )
        # Only where close() closes the engine, too.
        self._lender = Lender(engine.sync_engine, keeps=0 if on_close is None else KEPT_CONNECTIONS)
        self._reader = self._options.pooled_reader(self._lender)
        self._on_close = on_close
        self._is_sibling = False

    def bind(self, session: AsyncSession) -> AsyncSecretService:
        """Return a service on your session: it takes part in your transaction and never ends it."""
        options = self._options
        service = AsyncSecretService(
            session,
            options.keyring,
            namespace=options.namespace,
            actor=options.actors.default,
            require_actor=options.actors.is_required,
            max_value_bytes=options.max_value_bytes,
            notify=options.notify,
            on_change=options.on_change(session.sync_session),
            on_read=options.on_read(session.sync_session),
        )
        return service if options.audit_reads == "off" else recorded(service, self._record_failure)

    def namespace(self, namespace: str) -> "AsyncSecretClient":
        """Return a client on another namespace that shares engine, cache and key ring, and lives as long as this one."""
        sibling = copy(self)
        sibling._options = self._options.on(namespace)  # noqa: SLF001 - it is one of us
        sibling._reader = sibling._options.pooled_reader(self._lender)  # noqa: SLF001 - ditto
        sibling._on_close = None  # noqa: SLF001 - ditto
        sibling._is_sibling = True  # noqa: SLF001 - ditto
        return sibling

    def observed_by(self, observer: Observer) -> "AsyncSecretClient":
        """See `SecretClient.observed_by`."""
        from secretstore.client.observing import observed_face  # noqa: PLC0415 - most clients have none

        twin = observed_face(self, observer, self._options.namespace)
        options = twin._options = self._options.observed_by(observer)  # noqa: SLF001 - it is one of us
        twin._reader = options.pooled_reader(self._lender)  # noqa: SLF001 - ditto
        return twin

    @property
    def keys(self) -> AsyncKeys:
        """The keys of the store, to be listed, checked and changed."""
        return self._bare_keys()

    @property
    def audit(self) -> AsyncAudit:
        """The record of what was done to secrets of the namespace."""
        options = self._options
        return AsyncAudit(options.keyring, options.parsed_namespace, self._drive_committed, actors=options.actors)

    @property
    def grants(self) -> AsyncGrants:
        """The rights of roles to the store, to be given, listed, explained and taken."""
        return AsyncGrants(self._options.parsed_namespace, self._drive, actors=self._options.actors)

    async def gc(
        self,
        *,
        deleted_for: timedelta = timedelta(days=30),
        dry_run: bool = False,
        on_progress: Callable[[int], object] = unseen,
    ) -> Collection:
        """See `SecretClient.gc`."""
        collector = Collector(
            self._options.parsed_namespace,
            self._options.actors,
            self._options.notify != "off",
            dry_run,
            self._options.tell,
        )
        return await self._drive(collector.collect(deleted_for, on_progress))

    async def import_secrets(
        self,
        secrets: Iterable[ExportedSecret],
        *,
        prune: str | None = None,
        dry_run: bool = False,
        on_progress: OnProgress = unseen,
    ) -> Sequence[SecretDifference]:
        """See `SecretClient.import_secrets`."""
        given = applying.gathered(
            secrets, namespace=self._options.parsed_namespace, max_bytes=self._options.max_value_bytes
        )
        return await self._run(applying.import_secrets, given, prune=prune, dry_run=dry_run, on_progress=on_progress)

    async def restore(
        self,
        moment: datetime,
        prefix: str = "",
        *,
        prune: bool = False,
        dry_run: bool = False,
        on_progress: OnProgress = unseen,
    ) -> Restoration:
        """See `SecretClient.restore`."""
        return await self._run(applying.restore, moment, prefix, prune=prune, dry_run=dry_run, on_progress=on_progress)

    async def export_secrets(
        self, prefix: str = "", *, at: datetime | None = None
    ) -> AsyncGenerator[ExportedSecret, None]:
        """See `SecretClient.export_secrets`."""
        page = parse_page(prefix, None, PAGE)
        moment = None if at is None else checked_time(at, name="the moment")
        while True:
            try:
                async with self._snapshot() as session:
                    while secrets := await self._read_page(session, page, moment):
                        for secret in secrets:
                            yield secret
                        page = replace(page, after=secrets[-1].key)
            except KeyServerCall as needed:
                make = needed.make
            else:
                return
            await asyncio.to_thread(make)

    async def _read_page(self, session: AsyncSession, page: Page, moment: datetime | None) -> list[ExportedSecret]:
        read: list[Accessed] = []
        service = self._options.exporting_service(session.sync_session, read.extend)
        if self._options.audit_reads == "off":
            return await session.run_sync(lambda _: read_page(service, page, moment))
        async with self._recording_failures(read_page.__name__, ()):
            secrets = await session.run_sync(lambda _: read_page(service, page, moment))
            # In a transaction of its own: whoever stops in the middle was given these all the same.
            await self._record(read)
        return secrets

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[AsyncSession]:
        engine = self.engine.execution_options(isolation_level="REPEATABLE READ")
        with translated():
            async with AsyncSession(engine) as session, session.begin():
                yield session

    async def list_changes(
        self,
        prefix: str = "",
        *,
        key: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        with_data_keys: bool = False,
        after: int = 0,
        limit: int = 500,
    ) -> list[Change]:
        """See `SecretClient.list_changes`."""
        wanted = wanted_changes(prefix, key=key, actor=actor, action=action, since=since, with_data_keys=with_data_keys)
        reader = ChangeReader(self._options.parsed_namespace, wanted)
        page = await self._committed(lambda session: reader.read(session, after, limit))
        return list(page.changes)

    async def last_change_number(self) -> int:
        """See `SecretClient.last_change_number`."""
        reader = ChangeReader(self._options.parsed_namespace, EVERY_CHANGE)
        return await self._committed(reader.start)

    async def watch(
        self,
        prefix: str = "",
        *,
        with_data_keys: bool = False,
        after: int | None = None,
        poll_seconds: float = 1.0,
    ) -> AsyncGenerator[Change, None]:
        """See `SecretClient.watch`; close it with `contextlib.aclosing` where the loop may be left early."""
        namespace = self._options.parsed_namespace
        reader = ChangeReader(namespace, wanted_changes(prefix, with_data_keys=with_data_keys))
        async with listening_async(self.engine, namespace) as listener:
            changes = watch_async(self._read_committed, listener, reader, after=after, poll_seconds=poll_seconds)
            async with aclosing(changes):
                async for change in changes:
                    yield change

    async def _read_committed(self, do: Callable[[Session], T]) -> T:
        with translated():
            async with AsyncSession(self._committed_engine) as session, session.begin():
                return await session.run_sync(do)

    async def _committed(self, do: Callable[[Session], T]) -> T:
        return await self._transact(self._options.step(do, is_repeatable=True), self._committed_engine)

    @property
    def _committed_engine(self) -> AsyncEngine:
        return self.engine.execution_options(isolation_level="READ COMMITTED")

    def cache_statistics(self) -> CacheStatistics | None:
        """See `SecretClient.cache_statistics`."""
        return None if self._cache is None else self._cache.statistics()

    def statistics(self) -> ClientStatistics:
        """See `SecretClient.statistics`."""
        return statistics_of(
            self.engine.pool,
            self._lender,
            retries=self._options.retrying.retries,
            accesses_dropped=self._losses.dropped,
            cache=self.cache_statistics(),
        )

    async def close(self) -> None:
        """Close what `connect_async` opened; an engine that was given stays as it is."""
        if self._notifier is not None:
            await self._notifier.flush()
        if self._buffer is not None:
            await self._buffer.flush()
        if self._cache is not None and not self._is_sibling:
            await self._cache.close()
        if self._on_close is not None:
            await greenlet_spawn(self._lender.close)
            await self._on_close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncSecretClient(namespace={self._options.namespace!r})"

    async def _cached(self, key: str) -> Found | None:
        cache = self._cache
        if cache is None:
            return None
        namespace = self._options.namespace
        # What is no text, and perhaps cannot be looked up, is refused below.
        found = cache.get(namespace, key) if type(key) is str else None
        if found is None:
            wanted = parse_key(key)
            found = await cache.load(namespace, wanted, lambda: self._read(find_to_keep, wanted))
        if self._options.audit_reads != "off":
            await self._record([found.accessed()])
        return found

    def _let_go(self) -> None:
        if self._cache is not None:
            self._cache.clear_namespace(self._options.namespace)

    async def _check_recording(self) -> None:
        """Raise `ConfigurationError` where the server cannot record a read in its transaction."""
        await self._transact(self._options.step(check_recording, is_repeatable=True), self.engine)

    async def _record(self, accessed: Sequence[Accessed]) -> None:
        writing = self._options.recording(accessed)
        if writing is not None:
            await self._transact(writing, self.engine)

    async def _record_failure(self, name: str, arguments: Sequence[object], error: SecretStoreError) -> None:
        """Record a call that was refused or failed, whose transaction is over; what raised it goes on to its caller."""
        accessed = self._options.failed(name, arguments, error)
        try:
            if accessed:
                await self._record(accessed)
        except SecretStoreError as trouble:
            self._losses.add(len(accessed), str(trouble))

    @asynccontextmanager
    async def _recording_failures(self, name: str, arguments: Sequence[object]) -> AsyncIterator[None]:
        try:
            yield
        except SecretStoreError as error:
            await self._record_failure(name, arguments, error)
            raise

    async def _run(self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._options.audit_reads == "off":
            return await self._run_plainly(method, *args, **kwargs)
        async with self._recording_failures(method.__name__, args):
            return await self._run_plainly(method, *args, **kwargs)

    async def _run_plainly(
        self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        while True:
            try:
                return await self._transact(self._options.call(method, *args, **kwargs), self.engine)
            except KeyServerCall as needed:
                make = needed.make
            await self._check_ring()
            await asyncio.to_thread(make)

    async def _read(self, method: Callable[Concatenate[SecretReader, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        # References are followed in one transaction.
        # And what has to be recorded with the read is, too.
        if not kwargs.get("resolve") and self._options.audit_reads != "strict":
            try:
                answer = await greenlet_spawn(lambda: method(self._reader, *args, **kwargs))
            except SecretStoreError as error:
                await self._check_repeatable(error, method.__name__, args)
            except KeyServerCall:
                pass
            else:
                self._options.retrying.has_reached = True
                return answer
        return await self._run(method, *args, **kwargs)

    async def _check_repeatable(self, error: SecretStoreError, name: str, arguments: Sequence[object]) -> None:
        if self._options.audit_reads == "off":
            self._options.check_repeatable(error)
            return
        async with self._recording_failures(name, arguments):
            self._options.check_repeatable(error)

    def _bare_keys(self) -> AsyncKeys:
        # Those of an observed client tell of what is asked of them; what a client asks by itself is a part of its operation.
        options = self._options
        return AsyncKeys(
            options.keyring, options.parsed_namespace, self._drive, actors=options.actors, let_go=self._let_go
        )

    async def _check_ring(self) -> None:
        if not self._options.ring_check.passed:
            await self._bare_keys().check_complete()
            self._options.ring_check.passed = True

    async def _transact(self, trial: Trial[T], engine: AsyncEngine) -> T:
        while True:
            try:
                if trial.is_in_doubt and await self._was_committed(trial):
                    return trial.end()
                with translated():
                    async with AsyncSession(engine) as session, session.begin():
                        await session.run_sync(trial.run)
                return trial.end()
            except SecretStoreError as error:
                failure = error
            await asyncio.sleep(trial.pause_after(failure))

    async def _was_committed(self, trial: Trial[Any]) -> bool:
        with translated():
            async with AsyncSession(self._committed_engine) as session:
                return await session.run_sync(trial.was_committed)

    async def _drive(self, flow: Flow[T]) -> T:
        return await self._drive_on(self.engine, flow)

    async def _drive_committed(self, flow: Flow[T]) -> T:
        return await self._drive_on(self._committed_engine, flow)

    async def _drive_on(self, engine: AsyncEngine, flow: Flow[T]) -> T:
        if self._options.audit_reads == "off":
            return await self._go_through(engine, flow)
        async with self._recording_failures(getattr(flow, "__name__", ""), ()):
            return await self._go_through(engine, flow)

    async def _go_through(self, engine: AsyncEngine, flow: Flow[T]) -> T:
        answer = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                return cast("T", end.value)
            waiting = asyncio.to_thread(step.do) if isinstance(step, Outside) else self._step(step, engine)
            answer = await waiting

    async def _step(self, step: InTransaction, engine: AsyncEngine) -> Any:  # the flow knows what its own step returns
        # Whether a step was committed cannot be asked, and it may be one that must not run twice.
        return await self._transact(self._options.step(step.do, is_repeatable=False), engine)


def _make_cache(config: CacheConfig, engine: AsyncEngine, listen_url: str | None) -> "AsyncClientCache":
    from secretstore.cache.clients import AsyncClientCache  # noqa: PLC0415 - most clients have none

    return AsyncClientCache(config, engine, engine if listen_url is None else make_async_engine(listen_url))
