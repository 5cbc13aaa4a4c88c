"""What an error must not tell, and roles that make PostgreSQL refuse."""

import itertools
import os
import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from secretstore import SecretStoreError
from tests.support.server import Server

_MAY_HOLD_VALUES = {"psycopg", "sqlalchemy", "pydantic", "pydantic_core"}
_COUNTER = itertools.count(1)


def chain(error: BaseException) -> list[BaseException]:
    """Return an error with everything that it came from."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and one not in found:
            found.append(one)
            left += [one.__cause__, one.__context__]
    return found


def assert_tells_nothing(error: BaseException, *secrets: str) -> None:
    """Nothing that can be printed of an error holds a secret, and nothing of the driver hangs on it."""
    printed = "".join(traceback.format_exception(error))
    assert isinstance(error, SecretStoreError)
    printed += repr(pickle.dumps(error))
    for one in chain(error):
        assert type(one).__module__.partition(".")[0] not in _MAY_HOLD_VALUES
        printed += f"{one!s} {one!r} {one.args!r} {vars(one)!r}"
    for secret in secrets:
        assert secret not in printed
    # Tools that report errors show the locals of every frame.
    translating = [
        frame for frame, _ in traceback.walk_tb(error.__traceback__) if "translate" in frame.f_code.co_filename
    ]
    held = [local for frame in translating for local in frame.f_locals.values() if isinstance(local, BaseException)]
    assert all(isinstance(local, SecretStoreError) for local in held)


@contextmanager
def refused_role(server: Server, attributes: str = "NOLOGIN") -> Iterator[str]:
    """Give the name of a new role without any rights, and drop it afterwards."""
    role = f"secretstore_role_{os.getpid()}_{next(_COUNTER)}"
    server.execute(f"CREATE ROLE {role} {attributes}")
    try:
        yield role
    finally:
        server.execute(f"DROP ROLE {role}")
