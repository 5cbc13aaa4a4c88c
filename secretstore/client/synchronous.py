"""The stand-alone client: each call is a transaction of its own."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore.cache import CacheConfig, CacheStatistics
from secretstore.client.accesses import AccessBuffer, Losses
from secretstore.client.attempts import recorded
from secretstore.client.audit import Audit
from secretstore.client.grants import Grants
from secretstore.client.keys import Keys
from secretstore.client.methods import SecretMethods
from secretstore.client.notifying import Notifier
from secretstore.client.options import ClientOptions, check_recording, told
from secretstore.client.retrying import RETRY_SECONDS, Retrying, Trial
from secretstore.client.statistics import ClientStatistics, statistics_of
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.accesses import Accessed, AuditReads
from secretstore.domain.acting import Actors
from secretstore.domain.names import parse_key
from secretstore.domain.observing import Observer
from secretstore.domain.records import Change, Collection, ExportedSecret, Restoration, SecretDifference
from secretstore.errors import SecretStoreError
from secretstore.orm.engines import make_engine
from secretstore.orm.lending import KEPT_CONNECTIONS, Lender
from secretstore.orm.reads import Page
from secretstore.orm.translate import translated
from secretstore.service.changes import EVERY_CHANGE, ChangeReader, wanted_changes
from secretstore.service.checks import checked_seconds, checked_time, parse_page
from secretstore.service.data_keys import KeyServerCall
from secretstore.service.exporting import PAGE, read_page
from secretstore.service.flows import Flow, InTransaction, OnProgress, Outside, unseen
from secretstore.service.keeping import Found, find_to_keep
from secretstore.service.reading import SecretReader
from secretstore.service.synchronous import Notify, SecretService
from secretstore.service.typed import MAX_VALUE_BYTES

if TYPE_CHECKING:
    from secretstore.cache.clients import ClientCache

T = TypeVar("T")
P = ParamSpec("P")


class SecretClient(SecretMethods):
    """Secrets of one namespace; each call is a transaction of its own.  Safe to use from many threads.

    `secretstore.connect` makes one.  The methods are those of `SecretService`.
    """

    __module__ = "secretstore"

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        engine: Engine,
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
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.engine = engine
        self._notifier = Notifier(engine) if notify == "after_commit" else None
        self._cache = None if cache is None else _make_cache(cache, engine, listen_url)
        tell = told(
            None if self._cache is None else self._cache.let_go,
            None if self._notifier is None else self._notifier.add,
        )
        retrying = Retrying(checked_seconds(retry_seconds))
        self._losses = Losses()
        self._buffer = AccessBuffer(engine, self._losses) if audit_reads == "buffered" else None
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
        self._lender = Lender(engine, keeps=0 if on_close is None else KEPT_CONNECTIONS)
        self._reader = self._options.pooled_reader(self._lender)
        self._on_close = on_close
        self._is_sibling = False

    def bind(self, session: Session) -> SecretService:
        """Return a service on your session: it takes part in your transaction and never ends it."""
        service = self._options.service(session)
        return service if self._options.audit_reads == "off" else recorded(service, self._record_failure)

    def namespace(self, namespace: str) -> "SecretClient":
        """Return a client on another namespace that shares engine, cache and key ring, and lives as long as this one."""
        sibling = copy(self)
        sibling._options = self._options.on(namespace)  # noqa: SLF001 - it is one of us
        sibling._reader = sibling._options.pooled_reader(self._lender)  # noqa: SLF001 - ditto
        sibling._on_close = None  # noqa: SLF001 - ditto
        sibling._is_sibling = True  # noqa: SLF001 - ditto
        return sibling

    def observed_by(self, observer: Observer) -> "SecretClient":
        """Return a client that tells an observer of each of its operations, and shares everything with this one.

        So do its siblings, its keys, and the services and pasts that it gives; and the calls of its key servers are told.
        """
        from secretstore.client.observing import observed_face  # noqa: PLC0415 - most clients have none

        twin = observed_face(self, observer, self._options.namespace)
        options = twin._options = self._options.observed_by(observer)  # noqa: SLF001 - it is one of us
        twin._reader = options.pooled_reader(self._lender)  # noqa: SLF001 - ditto
        return twin

    @property
    def keys(self) -> Keys:
        """The keys of the store, to be listed, checked and changed."""
        return self._bare_keys()

    @property
    def audit(self) -> Audit:
        """The record of what was done to secrets of the namespace."""
        options = self._options
        return Audit(options.keyring, options.parsed_namespace, self._drive_committed, actors=options.actors)

    @property
    def grants(self) -> Grants:
        """The rights of roles to the store, to be given, listed, explained and taken."""
        return Grants(self._options.parsed_namespace, self._drive, actors=self._options.actors)

    def gc(
        self,
        *,
        deleted_for: timedelta = timedelta(days=30),
        dry_run: bool = False,
        on_progress: Callable[[int], object] = unseen,
    ) -> Collection:
        """Purge secrets that were deleted or expired so long ago, and prune what is beyond a limit of versions.

        Danger: what is purged or pruned is gone for good.  Works through the namespace in pages, each a transaction of
        its own, so that it can be broken off and begun again.  `on_progress` is told how much is done.
        """
        from secretstore.service.collecting import Collector  # noqa: PLC0415 - the business of few

        collector = Collector(
            self._options.parsed_namespace,
            self._options.actors,
            self._options.notify != "off",
            dry_run,
            self._options.tell,
        )
        return self._drive(collector.collect(deleted_for, on_progress))

    def import_secrets(
        self,
        secrets: Iterable[ExportedSecret],
        *,
        prune: str | None = None,
        dry_run: bool = False,
        on_progress: OnProgress = unseen,
    ) -> Sequence[SecretDifference]:
        """Make secrets be as given, in one transaction, and return how each differed; what is equal is not written.

        A secret without labels keeps those that it has.  With `prune`, other secrets with that prefix are deleted.  With
        `dry_run` nothing is written.  `on_progress` is told how many are done, and of how many.  All are checked before
        anything is sent.  However many they are, memory holds a few of them, and of the answer: more than fit there are in a
        temporary file, encrypted under a key of this process.
        """
        from secretstore.service import applying  # noqa: PLC0415 - the business of few

        given = applying.gathered(
            secrets, namespace=self._options.parsed_namespace, max_bytes=self._options.max_value_bytes
        )
        return self._run(applying.import_secrets, given, prune=prune, dry_run=dry_run, on_progress=on_progress)

    def restore(
        self,
        moment: datetime,
        prefix: str = "",
        *,
        prune: bool = False,
        dry_run: bool = False,
        on_progress: OnProgress = unseen,
    ) -> Restoration:
        """Make secrets be as they were at a moment, in one transaction; what differs is written as new versions.

        With `prune` those that were not there then are deleted.  With `dry_run` nothing is written.  Values that are gone
        by now, or have expired since, are left out and named in the answer.
        """
        from secretstore.service import applying  # noqa: PLC0415 - ditto

        return self._run(applying.restore, moment, prefix, prune=prune, dry_run=dry_run, on_progress=on_progress)

    def export_secrets(self, prefix: str = "", *, at: datetime | None = None) -> Generator[ExportedSecret, None, None]:
        """Give whole secrets by key, as they are in one snapshot, or as they were.

        A value of then that is gone by now is a `VersionGoneError`.
        """
        page = parse_page(prefix, None, PAGE)
        moment = None if at is None else checked_time(at, name="the moment")
        while True:
            try:
                with self._snapshot() as session:
                    read: list[Accessed] = []
                    service = self._options.exporting_service(session, read.extend)
                    while secrets := self._read_page(service, page, moment, read):
                        yield from secrets
                        page = replace(page, after=secrets[-1].key)
            except KeyServerCall as needed:
                make = needed.make
            else:
                return
            # Only before the first value, or where a rotation is not at its end yet: goes on after what was given.
            make()

    def _read_page(
        self, service: SecretService, page: Page, moment: datetime | None, read: list[Accessed]
    ) -> list[ExportedSecret]:
        if self._options.audit_reads == "off":
            return read_page(service, page, moment)
        with self._recording_failures(read_page.__name__, ()):
            secrets = read_page(service, page, moment)
            # In a transaction of its own: whoever stops in the middle was given these all the same.
            self._record(read)
        read.clear()
        return secrets

    @contextmanager
    def _snapshot(self) -> Iterator[Session]:
        engine = self.engine.execution_options(isolation_level="REPEATABLE READ")
        with translated(), Session(engine) as session, session.begin():
            yield session

    def list_changes(
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
        """Return committed changes of keys that begin with `prefix`, after the one with that `seq`; see `watch`.

        Only those of one key, by one actor, of one kind, or `since` a time, which needs a time zone; and with
        `with_data_keys` those of the data keys of the namespace, too, whose key is empty.
        """
        wanted = wanted_changes(prefix, key=key, actor=actor, action=action, since=since, with_data_keys=with_data_keys)
        reader = ChangeReader(self._options.parsed_namespace, wanted)
        page = self._committed(lambda session: reader.read(session, after, limit))
        return list(page.changes)

    def last_change_number(self) -> int:
        """Return the `seq` of the last committed change of the namespace, or 0: what comes after it is yet to come.

        Whoever keeps a copy asks for it first, reads then, and watches `after` it.
        """
        reader = ChangeReader(self._options.parsed_namespace, EVERY_CHANGE)
        return self._committed(reader.start)

    def watch(
        self,
        prefix: str = "",
        *,
        with_data_keys: bool = False,
        after: int | None = None,
        poll_seconds: float = 1.0,
    ) -> Generator[Change, None, None]:
        """Give every committed change of keys that begin with `prefix`, for ever, each once, those of a key in order.

        `with_data_keys` gives those of the data keys of the namespace, too, whose key is empty.
        Begins after the change of that `seq`, or with what comes after the first step of the loop.  Keep the `seq` of the
        last change that you have dealt with, and nothing is missed and nothing comes twice, whatever happens to this
        process, to the database, or to transactions that commit late.  Notices only make it look sooner than after
        `poll_seconds`.  A role that may not number changes, and a replica, give them as somebody else numbers them, as
        `audit seal` does.  A database that stays away for more than a minute is a `StoreUnavailableError`.
        """
        from secretstore.client.watching import watch  # noqa: PLC0415 - the business of few
        from secretstore.orm.listening import listening  # noqa: PLC0415 - ditto

        namespace = self._options.parsed_namespace
        reader = ChangeReader(namespace, wanted_changes(prefix, with_data_keys=with_data_keys))
        with listening(self.engine, namespace) as listener:
            yield from watch(self._read_committed, listener, reader, after=after, poll_seconds=poll_seconds)

    def _read_committed(self, do: Callable[[Session], T]) -> T:
        with translated(), Session(self._committed_engine) as session, session.begin():
            return do(session)

    def _committed(self, do: Callable[[Session], T]) -> T:
        return self._transact(self._options.step(do, is_repeatable=True), self._committed_engine)

    @property
    def _committed_engine(self) -> Engine:
        return self.engine.execution_options(isolation_level="READ COMMITTED")

    def cache_statistics(self) -> CacheStatistics | None:
        """Return what the cache did in this process, and how it is; None without a cache."""
        return None if self._cache is None else self._cache.statistics()

    def statistics(self) -> ClientStatistics:
        """Return how this client is in this process: its connections, its retries, its cache."""
        return statistics_of(
            self.engine.pool,
            self._lender,
            retries=self._options.retrying.retries,
            accesses_dropped=self._losses.dropped,
            cache=self.cache_statistics(),
        )

    def close(self) -> None:
        """Close what `connect` opened, once notices are sent; an engine that was given stays as it is."""
        if self._notifier is not None:
            self._notifier.flush()
        if self._buffer is not None:
            self._buffer.flush()
        if self._cache is not None and not self._is_sibling:
            self._cache.close()
        if self._on_close is not None:
            self._lender.close()
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SecretClient(namespace={self._options.namespace!r})"

    def _cached(self, key: str) -> Found | None:
        cache = self._cache
        if cache is None:
            return None
        namespace = self._options.namespace
        # What is no text, and perhaps cannot be looked up, is refused below.
        found = cache.get(namespace, key) if type(key) is str else None
        if found is None:
            wanted = parse_key(key)
            found = cache.load(namespace, wanted, lambda: self._read(find_to_keep, wanted))
        if self._options.audit_reads != "off":
            self._record([found.accessed()])
        return found

    def _let_go(self) -> None:
        if self._cache is not None:
            self._cache.clear_namespace(self._options.namespace)

    def _check_recording(self) -> None:
        """Raise `ConfigurationError` where the server cannot record a read in its transaction."""
        self._transact(self._options.step(check_recording, is_repeatable=True), self.engine)

    def _record(self, accessed: Sequence[Accessed]) -> None:
        writing = self._options.recording(accessed)
        if writing is not None:
            self._transact(writing, self.engine)

    def _record_failure(self, name: str, arguments: Sequence[object], error: SecretStoreError) -> None:
        """Record a call that was refused or failed, whose transaction is over; what raised it goes on to its caller."""
        accessed = self._options.failed(name, arguments, error)
        try:
            if accessed:
                self._record(accessed)
        except SecretStoreError as trouble:
            self._losses.add(len(accessed), str(trouble))

    @contextmanager
    def _recording_failures(self, name: str, arguments: Sequence[object]) -> Iterator[None]:
        try:
            yield
        except SecretStoreError as error:
            self._record_failure(name, arguments, error)
            raise

    def _run(self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._options.audit_reads == "off":
            return self._run_plainly(method, *args, **kwargs)
        with self._recording_failures(method.__name__, args):
            return self._run_plainly(method, *args, **kwargs)

    def _run_plainly(
        self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        while True:
            try:
                return self._transact(self._options.call(method, *args, **kwargs), self.engine)
            except KeyServerCall as needed:
                make = needed.make
            self._check_ring()
            make()

    def _read(self, method: Callable[Concatenate[SecretReader, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        # References are followed in one transaction.
        # And what has to be recorded with the read is, too.
        if not kwargs.get("resolve") and self._options.audit_reads != "strict":
            try:
                answer = method(self._reader, *args, **kwargs)
            except SecretStoreError as error:
                self._check_repeatable(error, method.__name__, args)
            except KeyServerCall:
                pass
            else:
                self._options.retrying.has_reached = True
                return answer
        return self._run(method, *args, **kwargs)

    def _check_repeatable(self, error: SecretStoreError, name: str, arguments: Sequence[object]) -> None:
        if self._options.audit_reads == "off":
            self._options.check_repeatable(error)
            return
        with self._recording_failures(name, arguments):
            self._options.check_repeatable(error)

    def _bare_keys(self) -> Keys:
        # Those of an observed client tell of what is asked of them; what a client asks by itself is a part of its operation.
        options = self._options
        return Keys(options.keyring, options.parsed_namespace, self._drive, actors=options.actors, let_go=self._let_go)

    def _check_ring(self) -> None:
        if not self._options.ring_check.passed:
            self._bare_keys().check_complete()
            self._options.ring_check.passed = True

    def _transact(self, trial: Trial[T], engine: Engine) -> T:
        while True:
            try:
                if trial.is_in_doubt and self._was_committed(trial):
                    return trial.end()
                with translated(), Session(engine) as session, session.begin():
                    trial.run(session)
                return trial.end()
            except SecretStoreError as error:
                failure = error
            time.sleep(trial.pause_after(failure))

    def _was_committed(self, trial: Trial[Any]) -> bool:
        with translated(), Session(self._committed_engine) as session:
            return trial.was_committed(session)

    def _drive(self, flow: Flow[T]) -> T:
        return self._drive_on(self.engine, flow)

    def _drive_committed(self, flow: Flow[T]) -> T:
        return self._drive_on(self._committed_engine, flow)

    def _drive_on(self, engine: Engine, flow: Flow[T]) -> T:
        if self._options.audit_reads == "off":
            return self._go_through(engine, flow)
        with self._recording_failures(getattr(flow, "__name__", ""), ()):
            return self._go_through(engine, flow)

    def _go_through(self, engine: Engine, flow: Flow[T]) -> T:
        answer = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                return cast("T", end.value)
            answer = step.do() if isinstance(step, Outside) else self._step(step, engine)

    def _step(self, step: InTransaction, engine: Engine) -> Any:  # the flow knows what its own step returns
        # Whether a step was committed cannot be asked, and it may be one that must not run twice.
        return self._transact(self._options.step(step.do, is_repeatable=False), engine)


def _make_cache(config: CacheConfig, engine: Engine, listen_url: str | None) -> "ClientCache":
    from secretstore.cache.clients import ClientCache  # noqa: PLC0415 - most clients have none

    return ClientCache(config, engine, engine if listen_url is None else make_engine(listen_url))
