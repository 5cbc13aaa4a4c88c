"""The command line: words in and out, and nothing of the store's own logic (extra `cli`)."""

import sys

_EXTRAS = frozenset({"rich", "typer", "yaml"})
_EXTRA = "the command line needs the extra `cli`: python -m pip install 'pg-secretstore[cli]'"


def main() -> None:
    """Run the command that `sys.argv` names, and exit with its code."""
    try:
        # The extra may be missing, and this module is what the entry point imports.
        from secretstore.cli.app import run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRAS:
            raise
        sys.stderr.write(f"error: {_EXTRA}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    run()
