"""The group `metrics`: what the store holds, for Prometheus."""

import threading
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Annotated, Any

import typer

from secretstore.cli import output
from secretstore.cli.arguments import parse_duration
from secretstore.cli.exit_codes import CommandError
from secretstore.cli.options import DatabaseUrl, on_database

EXAMPLES = "`secretstore metrics > /var/lib/node_exporter/secretstore.prom`, `secretstore metrics serve --port 9187`"

group = typer.Typer(help="Print or serve what the store holds, for Prometheus.")

ExpiringWithin = Annotated[
    timedelta,
    typer.Option(
        "--expiring-within",
        parser=parse_duration,
        metavar="TIME",
        help="What expires within this time counts as expiring soon.",
    ),
]
ByNamespace = Annotated[
    bool, typer.Option("--by-namespace", help="Numbers of each namespace, not of all; the page then names them.")
]


@group.callback(invoke_without_command=True, epilog=EXAMPLES)
def metrics(
    context: typer.Context,
    *,
    expiring_within: ExpiringWithin = "7d",  # type: ignore[assignment] # Typer parses it
    by_namespace: ByNamespace = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Print what the store holds as Prometheus reads it, or serve it; reads no value and needs no key."""
    if context.invoked_subcommand is None:
        page = on_database(database_url, partial(_page, expiring_within=expiring_within, by_namespace=by_namespace))
        output.show_exactly(page)


@group.command()
def serve(
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes one that is free.")],
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Whose requests are taken.")] = "127.0.0.1",
    expiring_within: ExpiringWithin = "7d",  # type: ignore[assignment] # ditto
    by_namespace: ByNamespace = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Serve the page until Ctrl-C or a signal; the store is asked each time that somebody reads it.

    There is no login and no TLS: leave it on 127.0.0.1, or put something before it that has both.
    """
    served = partial(_serve, expiring_within=expiring_within, by_namespace=by_namespace, host=host, port=port)
    on_database(database_url, served)


def _page(
    engine: Any,  # SQLAlchemy's, which no command knows
    *,
    expiring_within: timedelta,
    by_namespace: bool,
) -> str:
    shown = _metrics().Metrics(with_namespace=by_namespace)
    shown.follow_store(engine, expiring_within=expiring_within, strict=True)
    return str(shown.text())


def _serve(engine: Any, *, expiring_within: timedelta, by_namespace: bool, host: str, port: int) -> None:  # ditto
    shown = _metrics().Metrics(with_namespace=by_namespace)
    shown.follow_store(engine, expiring_within=expiring_within)
    problem = ""
    try:
        with shown.served(port, host=host) as url:
            output.say(f"serving {url} until Ctrl-C")
            threading.Event().wait()
    except OSError as error:
        problem = error.strerror or type(error).__name__
    if problem:
        raise CommandError(f"cannot serve on {host}, port {port}: {problem}")


def _metrics() -> ModuleType:
    from secretstore import metrics  # noqa: PLC0415 - brings an extra, which no other command needs

    return metrics
