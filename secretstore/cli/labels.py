"""The verb `label`."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from secretstore.cli import output
from secretstore.cli.arguments import parse_label_texts
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.options import DatabaseUrl, NamespaceName, OutputFormat, SecretKey, format_of, opened_store
from secretstore.cli.secrets import described

LABEL_EXAMPLES = """
Examples:

  secretstore label api.github                           # shows them

  secretstore label api.github team=web owner=ann        # adds or changes two

  secretstore label api.github team=web --remove owner   # takes one away

  secretstore label api.github --clear                   # takes all away
"""


def label_secret(
    key: SecretKey,
    labels: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=TEXT", help="Labels to add or to change.", show_default=False),
    ] = None,
    *,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME", help="A label to take away; several times for several."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take all away that are not given.")] = False,
    output_format: OutputFormat = None,
    database_url: DatabaseUrl = None,
    namespace: NamespaceName = None,
) -> None:
    """Change single labels of a secret, and show them all.

    Labels are not encrypted.  This is no new version; ends with 4 where another one is written meanwhile.
    """
    wanted = format_of(output_format)
    added, removed = parse_label_texts(labels) or {}, remove or []
    if (clear and removed) or not added.keys().isdisjoint(removed):
        raise CommandError("give a label either as NAME=TEXT or with --remove, and --clear without it", ExitCode.USAGE)
    with opened_store(database_url, namespace) as store:
        info = described(store, key)
        if added or removed or clear:
            left = {} if clear else _without(info.labels, removed)
            info = store.set_labels(key, {**left, **added}, expected_version=info.version)
    output.show_record(info.labels, wanted)
    if not info.labels:
        output.say(f"{key} has no labels")


def _without(labels: Mapping[str, str], removed: Sequence[str]) -> dict[str, str]:
    for name in removed:
        if name not in labels:
            output.warn(f"there was no label {name!r}")
    return {name: text for name, text in labels.items() if name not in removed}
