"""Copies into and out of a real PostgreSQL: whole, killed in the middle, and while somebody else writes."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from secretstore import CopiedSecret, SecretClient, compare_providers, copy_secrets
from secretstore.providers.delegating import Delegating
from secretstore.providers.memory import MemoryProvider
from secretstore.providers.postgres import PostgresProvider
from tests.support.moving import memory, values

T = TypeVar("T")
NUMBER = 250

# Copies from one namespace to another, and tells of each secret as it is written; without a word it never gets to the end.
COPIES = """
import sys
import secretstore
from secretstore import KeyRing, copy_secrets
from secretstore.providers.postgres import PostgresProvider
url, key = sys.stdin.readline().split()
store = secretstore.connect(url, keyring=KeyRing.from_text(key))
source, target = (PostgresProvider(store.namespace(name)) for name in ("from", "to"))
told = []
def tell(one):
    print(one.difference.key, flush=True)
    told.append(one)
    if len(told) == 200:
        sys.stdin.readline()
copy_secrets(source, target, on_secret=tell)
"""


class SteppingIn(Delegating):
    """Lets a test do something before each call."""

    def __init__(self, provider: PostgresProvider, before: Callable[[str], None]) -> None:
        super().__init__(provider)
        self.before = before

    def _ask(self, operation: str, do: Callable[[], T]) -> T:
        self.before(operation)
        return do()


def versions(provider: MemoryProvider | PostgresProvider, key: str) -> list[tuple[bytes, Mapping[str, str]]]:
    """The values and labels of all versions, oldest first."""
    numbers = [info.version for info in reversed(provider.list_versions(key))]
    found = [provider.read(key, version=number) for number in numbers]
    return [(one.value_json, dict(one.info.labels)) for one in found if one is not None]


def test_secrets_go_into_postgresql_and_come_out_the_same(store: SecretClient) -> None:
    """Values, labels and older versions are the same after two copies, and then there is nothing to write."""
    source, end = memory({"plain": b"1.10", "é/ß": b"null"}), memory(name="memory:end")
    source.write("told", b'{"a": 1, "b": [true]}', labels={"team": "web"})
    source.write("told", b'"second"')
    source.write("told", b'"third"', labels={"team": "app"})
    middle = PostgresProvider(store)

    for one, other in ((source, middle), (middle, end)):
        assert copy_secrets(one, other, verify=True).is_complete

    assert values(end) == values(source)
    assert versions(middle, "told") == versions(end, "told") == versions(source, "told")
    assert len(versions(end, "told")) == 3
    assert {one.kind for one in compare_providers(source, end)} == {"same"}


def test_a_copy_that_was_killed_is_finished_by_the_next_one(
    store: SecretClient, database_url: str, master_key: str, raw: psycopg.Connection
) -> None:
    """What stands after SIGKILL is whole, and the next run writes the rest and nothing twice."""
    source, target = store.namespace("from"), store.namespace("to")
    source.set_secrets({f"k{number:03}": {"number": number} for number in range(NUMBER)})
    killed = subprocess.Popen([sys.executable, "-c", COPIES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with killed:
        assert killed.stdin is not None
        assert killed.stdout is not None
        killed.stdin.write(f"{database_url} {master_key}\n")
        killed.stdin.flush()
        for _ in range(NUMBER // 3):
            killed.stdout.readline()
        killed.kill()
    there = target.get_secret_count()

    report = copy_secrets(PostgresProvider(source), PostgresProvider(target), verify=True)

    assert NUMBER // 3 <= there < NUMBER
    assert report.kinds == {"same": there, "added": NUMBER - there}
    assert target.get_secrets_by_prefix("") == source.get_secrets_by_prefix("")
    written = raw.execute("SELECT count(*) FROM secretstore.change_event WHERE namespace = 'to'").fetchone()
    assert written == (NUMBER,)


@pytest.mark.parametrize("there", [None, "old"], ids=["new", "changed"])
def test_what_is_written_meanwhile_stays(store: SecretClient, there: str | None) -> None:
    """Somebody else's value is not overwritten, the conflict is told, and the next run decides anew."""
    target = store.namespace("to")
    if there is not None:
        target.set_secret("k", there)
    pending = ["theirs"]

    def write(operation: str) -> None:
        if operation == "write a secret" and pending:
            target.set_secret("k", pending.pop())

    told: list[CopiedSecret] = []
    copying = SteppingIn(PostgresProvider(target), write)
    copy_secrets(memory({"k": b'"ours"'}), copying, on_secret=told.append)

    assert target.get_secret("k") == "theirs"
    assert told[0].outcome == "failed"
    assert "decide anew" in (told[0].problem or "")
    assert copy_secrets(memory({"k": b'"ours"'}), copying).outcomes == {"written": 1}


def test_memory_does_not_grow_with_the_number_of_secrets() -> None:
    """Four times as many secrets take hardly more memory than one time: batches go as they come."""
    program = Path(__file__).parent.parent / "support" / "moved_peak.py"
    few, many = (
        int(subprocess.run([sys.executable, program, str(n)], capture_output=True, check=True, text=True).stdout)
        for n in (2_000, 8_000)
    )

    assert many < 1.5 * few
