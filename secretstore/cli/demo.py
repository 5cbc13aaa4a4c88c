"""`demo`: shows what `secretstore.demo` does."""

from contextlib import ExitStack
from typing import Annotated

import typer

from secretstore.cli import output


def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the server running, and say where its folder is.")
    ] = False,
) -> None:
    """See the store at work, on a PostgreSQL for the moment."""
    from secretstore import demo as acted  # noqa: PLC0415 - brings Alembic, which no other command waits for

    with ExitStack() as stack:
        with output.waiting("starting a PostgreSQL of its own"):
            store = stack.enter_context(acted.throw_away_store(keep=keep))
        for step in acted.steps(store):
            output.show_calls(step.title, step.calls)
        if keep:
            folder, url = store.server.folder, store.server.url
    if keep:
        output.show_text(url)
        output.say(f"it runs on in {folder.data}, with its key ring in {folder.key_file}")
        output.say(f"to end it: secretstore embedded stop {folder.data} && rm -r {folder.data.parent}")
    else:
        output.say("stopped, and nothing is left of it; your own: secretstore set my.first.secret")
