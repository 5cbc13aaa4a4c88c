"""Calls that are kept out of an SDK's log: some write what is sent and answered into it, at the level DEBUG."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Those of boto3 that show requests and answers, and the token of a session that signs them.
AWS_LOGGERS = ("botocore.auth", "botocore.endpoint", "botocore.parsers")

# Whether a call of ours is under way; those of others are logged as ever.
_IS_OURS: ContextVar[bool] = ContextVar("secretstore-unlogged", default=False)


@contextmanager
def unlogged(*loggers: str) -> Iterator[None]:
    """Keep what these loggers say out of the log, in this thread or task."""
    for name in loggers:
        # One that is there is not added again.
        logging.getLogger(name).addFilter(_is_logged)
    before = _IS_OURS.set(True)
    try:
        yield
    finally:
        _IS_OURS.reset(before)


def _is_logged(_: logging.LogRecord) -> bool:
    return not _IS_OURS.get()
