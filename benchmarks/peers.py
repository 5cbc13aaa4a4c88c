"""What else one could use, on the same PostgreSQL: reads and writes of one client, and reads of eight threads.

OpenBao's KV version 2 through `hvac`; variables as Airflow keeps them, encrypted by Fernet in an ORM entity; and the design
of this library's ancestor, an ORM entity of plain JSON.  Nothing is pinned, because OpenBao's server wants all cores.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet
from pydantic_core import from_json
from sqlalchemy import Engine, LargeBinary, Text, create_engine, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.attributes import flag_modified

from benchmarks import openbao
from benchmarks.clients import PREPARED, client, raw
from benchmarks.harness import Contest, Row, Side
from benchmarks.reads import reading
from benchmarks.stage import Stage
from benchmarks.threads import THREADS, each, executor_of, in_threads
from benchmarks.values import key_of, value_of
from benchmarks.writes import writing
from secretstore.service.typed import as_json_text

# So many secrets are in each of the peers; filling OpenBao takes a millisecond for each.
KEPT = range(500)
PEERS = "peers"


class Base(DeclarativeBase):
    """Tables of those who are compared."""


class Variable(Base):
    """A variable as Airflow has it."""

    __tablename__ = "variable"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text, unique=True)
    val: Mapped[bytes] = mapped_column(LargeBinary)


class PlainSecret(Base):
    """A secret as the ancestor has it: JSON, not encrypted."""

    __tablename__ = "plain_secret"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(JSONB)


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to keep secrets."""

    name: str
    get: Callable[[str], object]
    set: Callable[[str, Any], object]


@dataclass(frozen=True, slots=True)
class FernetVariables:
    """Variables in the manner of Airflow: an entity in a session for each call, decrypted, and then JSON."""

    engine: Engine
    fernet: Fernet

    def get(self, key: str) -> object:
        """Read a variable."""
        with Session(self.engine) as session:
            variable = session.scalar(select(Variable).where(Variable.key == key).limit(1))
            return None if variable is None else from_json(self.fernet.decrypt(variable.val))

    def set(self, key: str, value: object) -> object:
        """Write a variable."""
        sealed = self.fernet.encrypt(as_json_text(value))
        with Session(self.engine) as session, session.begin():
            variable = session.scalar(select(Variable).where(Variable.key == key).limit(1))
            if variable is None:
                session.add(Variable(key=key, val=sealed))
            else:
                variable.val = sealed
        return key


@dataclass(frozen=True, slots=True)
class PlainSecrets:
    """Secrets in the manner of the ancestor: an entity for each call, in a session as it comes."""

    engine: Engine

    def get(self, key: str) -> object:
        """Read a secret."""
        with Session(self.engine) as session:
            secret = session.get(PlainSecret, key)
            return None if secret is None else secret.value

    def set(self, key: str, value: dict[str, Any]) -> object:
        """Write a secret."""
        with Session(self.engine) as session, session.begin():
            secret = session.merge(PlainSecret(key=key, value=value))
            # The values here are always the same ones, and what is equal would not be written.
            flag_modified(secret, "value")
        return key


@contextmanager
def peers(stage: Stage) -> Iterator[tuple[Peer, ...]]:
    """Give ours, raw psycopg and the others, filled."""
    with ExitStack() as stack:
        store = stack.enter_context(client(stage, PREPARED))
        twin, writer = stack.enter_context(raw(stage)), stack.enter_context(raw(stage, autocommit=False))
        others = stack.enter_context(_others(stage))
        for peer in others:
            for number in KEPT:
                peer.set(key_of(number), value_of(number))
        ours = Peer("secretstore", store.get_secret, store.set_secret)
        yield ours, Peer("raw psycopg, by hand", twin.get, writer.set_and_commit), *others


@contextmanager
def _others(stage: Stage) -> Iterator[tuple[Peer, ...]]:
    name, fernet = f"{PEERS}_orm", Fernet(Fernet.generate_key())
    with ExitStack() as stack:
        stack.enter_context(stage.empty_database(f"{PEERS}_bao"))
        stack.enter_context(stage.empty_database(name))
        bao = stack.enter_context(openbao.running(stage.conninfo_of(f"{PEERS}_bao")))
        # A connection for each thread, that none has to be made while time is taken.
        engine = create_engine(stage.url_of(name).replace("postgresql:", "postgresql+psycopg:"), pool_size=THREADS)
        stack.callback(engine.dispose)
        Base.metadata.create_all(engine)
        variables, plain = FernetVariables(engine, fernet), PlainSecrets(engine)
        yield (
            Peer(
                "OpenBao KV 2 on PostgreSQL, hvac",
                lambda key: openbao.read(bao, key),
                lambda key, value: openbao.write(bao, key, value),
            ),
            Peer("Fernet in an ORM entity, as Airflow", variables.get, variables.set),
            Peer("plain JSON in an ORM entity", plain.get, plain.set),
        )


@contextmanager
def read(stage: Stage) -> Iterator[Contest]:
    """One client that reads."""
    with peers(stage) as everyone:
        yield _contest(stage, [reading(peer.name, peer.get) for peer in everyone])


@contextmanager
def write(stage: Stage) -> Iterator[Contest]:
    """One client that writes."""
    with peers(stage) as everyone:
        yield _contest(stage, [writing(peer.name, peer.set, peer.get) for peer in everyone])


@contextmanager
def read_in_threads(stage: Stage) -> Iterator[Contest]:
    """Eight threads that read: one client of each kind, but of raw psycopg a connection in each thread."""
    with peers(stage) as everyone, ExitStack() as stack:
        executor = stack.enter_context(executor_of(THREADS))
        twins = [stack.enter_context(raw(stage)) for _ in range(THREADS)]
        workers = {peer.name: [each(peer.get)] * THREADS for peer in everyone}
        workers[everyone[1].name] = [each(twin.get) for twin in twins]
        sides = [in_threads(peer.name, workers[peer.name], _answer(peer), executor) for peer in everyone]
        yield _contest(stage, sides, THREADS)


def _answer(peer: Peer) -> Callable[[int], object]:
    return lambda number: peer.get(key_of(number))


def _contest(stage: Stage, sides: list[Side], threads: int = 1) -> Contest:
    operations = threads * stage.size.peer_operations
    rounds = max(3, stage.size.rounds // 2)
    return Contest(tuple(sides), value_of, KEPT, operations, rounds, "anywhere")


ROWS = (
    Row("peers-get", "one client reads", None, read),
    Row("peers-set", "one client writes", None, write),
    Row("peers-threads", f"{THREADS} threads read", None, read_in_threads),
)
