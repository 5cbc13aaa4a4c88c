"""The main job once through, on a PostgreSQL of its own: what `secretstore demo` shows.

It plays an application, and uses the library as one does.  No secret is in what it tells.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, SecretStr
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from secretstore import migrate
from secretstore.client.synchronous import SecretClient
from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from secretstore.errors import SecretStoreError
from secretstore.orm.engines import make_engine
from secretstore.orm.models import SecretStore

_SHOWN_OF_ENVELOPE = 16


class GitHubOAuth(BaseModel):
    """An OAuth client."""

    client_id: str
    client_secret: SecretStr
    scopes: list[str]


class DatabaseConfig(BaseModel):
    """How to reach a database."""

    host: str
    port: int
    user: str
    password: SecretStr


GITHUB = GitHubOAuth(
    client_id="Iv1.8a61f9b3", client_secret=SecretStr("demo-9f2c1e7ab45d"), scopes=["repo", "user:email"]
)
DATABASE = DatabaseConfig(host="db.internal", port=5432, user="app", password=SecretStr("demo-correct-horse"))
API_KEYS: Mapping[str, SecretStr] = MappingProxyType(
    {"stripe": SecretStr("demo-sk-51Hx7"), "sendgrid": SecretStr("demo-SG-x0Zq")}
)
NEW_GITHUB = GITHUB.model_copy(update={"client_secret": SecretStr("demo-77d0aa13c2fe")})
TOKEN = SecretStr("demo-token-4be8")


class _Base(DeclarativeBase):
    """The application's own tables."""


class DemoAccount(_Base):
    """A row of the application that needs a secret."""

    __tablename__ = "demo_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@dataclass(frozen=True, slots=True)
class Step:
    """Calls, and what came of each."""

    title: str
    calls: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class DemoStore:
    """A store on a server of its own."""

    server: EmbeddedServer
    engine: Engine
    client: SecretClient


@contextmanager
def throw_away_store(*, keep: bool = False) -> Iterator[DemoStore]:
    """Start a server in a temporary folder; afterwards nothing is left of it, unless it is to be kept."""
    # A short name, because the path of a socket may not be long.
    home = Path(tempfile.mkdtemp(prefix="ss-demo-"))
    folder = EmbeddedFolder(home / "db")
    kept = False
    try:
        with _started(folder) as store:
            yield store
            if keep:
                store.server.keep_running()
                kept = True
    finally:
        if not kept:
            _remove(home, folder)


def steps(store: DemoStore) -> Iterator[Step]:
    """Do the main job step by step."""
    _Base.metadata.create_all(store.engine)
    yield _store_three(store.client)
    yield _read_by_type(store.client)
    yield _update(store.client)
    yield _miss(store.client)
    yield _roll_back(store)
    yield _look_into_the_table(store.engine)
    yield _list_and_delete(store.client)


@contextmanager
def _started(folder: EmbeddedFolder) -> Iterator[DemoStore]:
    server = EmbeddedServer(folder)
    engine = make_engine(server.url)
    try:
        migrate.upgrade(engine)
        yield DemoStore(server, engine, SecretClient(engine, folder.keyring(), actor="demo"))
    finally:
        engine.dispose()
        server.release()


def _remove(home: Path, folder: EmbeddedFolder) -> None:
    try:
        # A start or a stop that was broken off leaves a server.
        folder.end_server()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _store_three(store: SecretClient) -> Step:
    values: dict[str, object] = {"oauth.github": GITHUB, "db.main": DATABASE, "api.keys": dict(API_KEYS)}
    calls = [
        (f'store.set_secret("{key}", {_name(value)})', f"version {store.set_secret(key, value).version}")
        for key, value in values.items()
    ]
    return Step("1. Store an OAuth client, a database's address, a map of API keys", calls)


def _read_by_type(store: SecretClient) -> Step:
    github = store.get_secret_or_raise("oauth.github", GitHubOAuth)
    database = store.get_secret_or_raise("db.main", DatabaseConfig)
    keys = store.get_secret_or_raise("api.keys", dict[str, SecretStr])
    return Step(
        "2. Read them by type; secret fields stay masked until you reveal them",
        [
            ('store.get_secret("oauth.github", GitHubOAuth)', str(github)),
            ('store.get_secret("db.main", DatabaseConfig)', str(database)),
            ('store.get_secret("api.keys", dict[str, SecretStr])', str(keys)),
            (
                "github.client_secret.get_secret_value() is what was stored?",
                "yes" if github.client_secret == GITHUB.client_secret else "no",
            ),
        ],
    )


def _update(store: SecretClient) -> Step:
    written = store.set_secret("oauth.github", NEW_GITHUB, expected_version=1)
    return Step(
        "3. Replace a secret only over the version that was read",
        [
            ('store.set_secret("oauth.github", rotated, expected_version=1)', f"version {written.version}"),
            (
                "the same once more",
                _error_of(lambda: store.set_secret("oauth.github", NEW_GITHUB, expected_version=1)),
            ),
        ],
    )


def _miss(store: SecretClient) -> Step:
    return Step(
        "4. A missing secret is None, or an error: as you ask",
        [
            ('store.get_secret("oauth.gitlab")', str(store.get_secret("oauth.gitlab"))),
            (
                'store.get_secret_or_raise("oauth.gitlab")',
                _error_of(lambda: store.get_secret_or_raise("oauth.gitlab")),
            ),
        ],
    )


def _roll_back(store: DemoStore) -> Step:
    with Session(store.engine) as session:
        session.add(DemoAccount(id=1, name="acme"))
        session.flush()
        store.client.bind(session).set_secret("accounts.1.token", TOKEN)
        session.rollback()
    after_rollback = _account_and_token(store)
    with Session(store.engine) as session, session.begin():
        session.add(DemoAccount(id=1, name="acme"))
        store.client.bind(session).set_secret("accounts.1.token", TOKEN)
    return Step(
        "5. A secret and the row that needs it: together or not at all",
        [
            ("session.add(account); store.bind(session).set_secret(…, token)", "both written, not yet committed"),
            ("session.rollback()", after_rollback),
            ("the same again, and session.commit()", _account_and_token(store)),
        ],
    )


def _look_into_the_table(engine: Engine) -> Step:
    with Session(engine) as session:
        row = session.scalars(select(SecretStore).where(SecretStore.key == "db.main")).one()
        envelope = dict(row.value or {})
    shown = {name: _shortened(part) if isinstance(part, str) else part for name, part in envelope.items()}
    is_there = DATABASE.password.get_secret_value() in json.dumps(envelope)
    return Step(
        "6. What PostgreSQL holds: an envelope, and no value",
        [
            ("SELECT value FROM secretstore.secret_store WHERE key = 'db.main'", json.dumps(shown, ensure_ascii=False)),
            ("is the password in it?", "yes" if is_there else "no"),
        ],
    )


def _list_and_delete(store: SecretClient) -> Step:
    calls = [
        ("store.list_secret_keys()", ", ".join(store.list_secret_keys())),
        ('store.get_secret_count("accounts.")', str(store.get_secret_count("accounts."))),
        ('store.delete_secret("api.keys")', str(store.delete_secret("api.keys"))),
        ('store.delete_secret("api.keys")', str(store.delete_secret("api.keys"))),
        ("store.list_secret_keys()", ", ".join(store.list_secret_keys())),
    ]
    return Step("7. List, count, delete", calls)


def _account_and_token(store: DemoStore) -> str:
    with Session(store.engine) as session:
        accounts = session.scalar(select(func.count()).select_from(DemoAccount))
    return f"rows in demo_account: {accounts}, secrets: {store.client.get_secret_count('accounts.')}"


def _error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except SecretStoreError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _name(value: object) -> str:
    return f"{type(value).__name__}(…)"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_OF_ENVELOPE else f"{text[:_SHOWN_OF_ENVELOPE]}…"
