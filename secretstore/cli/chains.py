"""What `get` and `list` do where providers are asked in order."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from secretstore import ProvidedSecret, open_chain
from secretstore.cli import output
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.options import opened_store, warn_of_password
from secretstore.cli.output import MASK, Format
from secretstore.domain.names import parse_key, parse_prefix
from secretstore.providers.chain import ChainProvider, Link, LinkAnswer
from secretstore.providers.postgres import PostgresProvider
from secretstore.service.typed import from_json_as
from secretstore.settings import load_settings

_EXPLAINED_COLUMNS = ("provider", "state", "version", "updated_at", "problem")

ChainUrls = Annotated[
    str | None,
    typer.Option(
        "--chain",
        metavar="URLS",
        help="Ask these providers in order, URLs with spaces between them, optional: before one that may be down. "
        "Else SECRETSTORE_CHAIN, which no list of processes shows; else the database alone.",
        show_default=False,
    ),
]


def chain_named(urls: str | None, database_url: str | None, namespace: str | None) -> str | None:
    """Return the chain of the option, else of the environment unless the option of a database is given."""
    if urls is not None and database_url is not None:
        raise CommandError("give either --chain or --database-url, not both", ExitCode.USAGE)
    warn_of_password("--chain", urls, variable="SECRETSTORE_CHAIN")
    named = load_settings(chain=urls).chain if database_url is None else None
    if named is not None and namespace is not None:
        raise CommandError("the URLs of a chain say the namespace; leave --namespace out", ExitCode.USAGE)
    return None if named is None else named.get_secret_value()


def refuse_options(where: str, **given: object) -> None:
    """Refuse options that were given and mean nothing there."""
    names = [f"--{name.replace('_', '-')}" for name, option in given.items() if option]
    if names:
        raise CommandError(f"{' and '.join(names)} cannot be used {where}", ExitCode.USAGE)


@contextmanager
def opened_chain(urls: str | None, database_url: str | None, namespace: str | None) -> Iterator[ChainProvider]:
    """Open a chain, or the database as one of a single link."""
    if urls is not None:
        with open_chain(urls) as chain:
            yield chain
    else:
        with opened_store(database_url, namespace) as store:
            yield ChainProvider([Link(PostgresProvider(store))])


@dataclass(frozen=True, slots=True)
class WantedOfChain:
    """The value to read, from the first provider that has it."""

    chain: ChainProvider
    key: str
    version: int | None

    def read(self) -> Any:
        """Return the value; ends with 3 where there is none."""
        return self._value_of(self._secret())

    def row(self, *, masked: bool) -> dict[str, Any]:
        """Return the value beside the provider that has it."""
        secret = self._secret()
        value = self._value_of(secret)
        return {
            "key": self.key,
            "provider": secret.info.provider,
            "version": secret.info.version,
            "updated_at": secret.info.updated_at,
            "value": MASK if masked else output.raw_text(value),
        }

    def _secret(self) -> ProvidedSecret:
        secret = self.chain.read(parse_key(self.key), version=self.version)
        if secret is None:
            raise CommandError(f"there is no secret {self.key!r} in the {self.chain.name}", ExitCode.NOT_FOUND)
        return secret

    def _value_of(self, secret: ProvidedSecret) -> Any:
        return from_json_as(secret.value_json, None, name=f"{self.key!r} of {secret.info.provider}")


def list_chain(urls: str, prefix: str, *, after: str | None, limit: int | None, wanted: Format) -> None:
    """Print the keys that a chain has, and which provider each comes from."""
    start = None if after is None else parse_key(after)
    with open_chain(urls) as chain:
        sources = chain.list_sources(parse_prefix(prefix), after=start, limit=limit)
    columns = ("key", "provider")
    output.show_records([dict(zip(columns, one, strict=True)) for one in sources.items()], columns, wanted)


def explain(chain: ChainProvider, key: str, wanted: Format) -> None:
    """Print which provider answers a read of a key and what the others say; ends with 3 where none has it."""
    found = chain.explain(parse_key(key))
    rows = [_row(link) for link in found.links]
    if wanted is Format.TABLE:
        output.show_records(rows, _EXPLAINED_COLUMNS, wanted)
    else:
        output.show_data({**asdict(found), "links": [output.plain(row) for row in rows]}, wanted)
    if found.problem is not None:
        raise CommandError(f"reading {key!r} fails: {found.problem}")
    if found.answered_by is None:
        raise CommandError(f"there is no secret {key!r} in the {chain.name}", ExitCode.NOT_FOUND)


def _row(link: LinkAnswer) -> dict[str, Any]:
    return {
        "provider": link.name,
        "optional": link.optional,
        "state": link.state,
        "version": None if link.info is None else link.info.version,
        "updated_at": None if link.info is None else link.info.updated_at,
        "problem": link.problem,
    }
