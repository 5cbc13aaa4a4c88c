"""Old accesses leave the record once they are in a file, and what is left verifies."""

import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine

from secretstore import (
    AsyncSecretClient,
    ConfigurationError,
    KeyRing,
    PermissionDeniedError,
    RecordTamperedError,
    SecretClient,
)
from secretstore.orm.engines import make_async_engine
from secretstore.service import dropping, sealing
from tests.support.roles import open_roles
from tests.support.server import Server

LATER = timedelta(hours=1)
PLACE = "secretstore.access_event"


@pytest.fixture
def audited(engine: Engine, keyring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> SecretClient:
    """A client whose record of accesses has three checkpoints of four events each, in pages of three."""
    monkeypatch.setattr(sealing, "PAGE", 3)
    client = SecretClient(engine, keyring, audit_reads="strict")
    client.set_secret("k", 1)
    for _ in range(3):
        for _ in range(4):
            client.get_secret("k")
        client.audit.seal()
    return client


def numbers(raw: psycopg.Connection) -> list[int]:
    """Return the numbers of the accesses that are there; a drop that failed leaves one without."""
    return [seq for (seq,) in raw.execute(f"SELECT seq FROM {PLACE} WHERE seq IS NOT NULL ORDER BY seq".encode())]


def test_what_is_dropped_is_in_the_file_and_the_rest_verifies(
    audited: SecretClient, raw: psycopg.Connection, tmp_path: Path
) -> None:
    """Whole checkpoints go, the newest stays, the record says who did it, and numbers and seals go on."""
    head = audited.audit.head()
    file = tmp_path / "reads.jsonl"

    done = audited.audit.drop_accesses(before=datetime.now(UTC) + LATER, export=file)

    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert (done.events, done.kept_from, numbers(raw)) == (8, 9, [9, 10, 11, 12])
    assert ([line["seq"] for line in lines], {line["key"] for line in lines}) == (list(range(1, 9)), {"k"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    change = audited.list_changes(with_data_keys=True)[-1]
    assert (change.action, change.key, change.outcome) == ("drop", "", "done: accesses 1 to 8")
    audited.get_secret("k")
    audited.audit.seal()
    found = audited.audit.verify(record="access", against=head)[0]
    assert (found.kept_from, found.events, found.checkpoints, found.unsealed) == (9, 5, 5, 0)


def test_it_can_be_done_again_and_again(audited: SecretClient, raw: psycopg.Connection, tmp_path: Path) -> None:
    """Each time the next ones go, and where there is nothing old, nothing happens and no file is made."""
    until = datetime.now(UTC) + LATER
    audited.audit.drop_accesses(before=until, export=tmp_path / "1")
    assert audited.audit.drop_accesses(before=until, export=tmp_path / "2").events == 0
    audited.get_secret("k")

    assert audited.audit.drop_accesses(before=until, export=tmp_path / "3").events == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1", "3"]
    assert numbers(raw) == [13]
    assert audited.audit.verify()[1].kept_from == 13
    before_all = datetime.now(UTC) - LATER
    assert audited.audit.drop_accesses(before=before_all, export=tmp_path / "4").events == 0


def test_a_file_that_is_there_is_not_written_over(
    audited: SecretClient, raw: psycopg.Connection, tmp_path: Path
) -> None:
    """Nor is anything dropped."""
    (tmp_path / "kept").write_text("precious")

    with pytest.raises(ConfigurationError, match="File exists"):
        audited.audit.drop_accesses(before=datetime.now(UTC) + LATER, export=tmp_path / "kept")
    assert ((tmp_path / "kept").read_text(), len(numbers(raw))) == ("precious", 12)


def test_what_the_file_does_not_hold_stays(
    audited: SecretClient, raw: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that loses a line is found out before anything is deleted."""
    write = dropping._line
    monkeypatch.setattr(dropping, "_line", lambda event: "" if event[-1] == 8 else write(event))

    with pytest.raises(RecordTamperedError):
        audited.audit.drop_accesses(before=datetime.now(UTC) + LATER, export=tmp_path / "short")
    assert len(numbers(raw)) == 12


def test_what_was_tampered_with_is_not_dropped(audited: SecretClient, raw: psycopg.Connection, tmp_path: Path) -> None:
    """It would be gone, and nobody would know."""
    raw.execute(f"UPDATE {PLACE} SET actor = 'eve' WHERE seq = 2".encode())

    with pytest.raises(RecordTamperedError, match="2"):
        audited.audit.drop_accesses(before=datetime.now(UTC) + LATER, export=tmp_path / "reads")
    assert len(numbers(raw)) == 12


def test_events_that_are_gone_without_a_word_are_missed(
    audited: SecretClient, raw: psycopg.Connection, tmp_path: Path
) -> None:
    """Only a checkpoint that holds can say that older ones were dropped."""
    audited.audit.drop_accesses(before=datetime.now(UTC) + LATER, export=tmp_path / "reads")
    raw.execute(f"DELETE FROM {PLACE} WHERE seq = 9".encode())
    with pytest.raises(RecordTamperedError, match="9"):
        audited.audit.verify()
    raw.execute("UPDATE secretstore.audit_checkpoint SET kept_from = 10 WHERE kept_from = 9")
    with pytest.raises(RecordTamperedError):
        audited.audit.verify()


def test_it_takes_the_right_to_delete(
    audited: SecretClient, server: Server, database: str, raw: psycopg.Connection, *, keyring: KeyRing, tmp_path: Path
) -> None:
    """A sealer adds checkpoints and takes nothing away; all of it is rolled back."""
    with open_roles(server, database, raw, keyring) as roles:
        sealer = roles.make("sealer")
        audited.grants.add(sealer, can=["seal"])
        with pytest.raises(PermissionDeniedError):
            roles.client(sealer).audit.drop_accesses(before=datetime.now(UTC) + LATER, export=tmp_path / "reads")

    assert len(numbers(raw)) == 12
    assert audited.audit.verify(record="access")[0].checkpoints == 3


def test_it_is_awaited_too(
    audited: SecretClient, database_url: str, keyring: KeyRing, raw: psycopg.Connection, *, tmp_path: Path
) -> None:
    """With the same end."""

    async def drop() -> int:
        engine = make_async_engine(database_url)
        try:
            client = AsyncSecretClient(engine, keyring)
            return (await client.audit.drop_accesses(before=datetime.now(UTC) + LATER, export=tmp_path / "r")).events
        finally:
            await engine.dispose()

    assert (asyncio.run(drop()), numbers(raw)) == (8, [9, 10, 11, 12])
