"""`secretstore audit seal`, `verify` and `head`: sealing by cron, and a look at it by people and programs."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine


def test_a_record_is_sealed_verified_and_kept_elsewhere(
    cli: CommandLine, store: SecretClient, raw: psycopg.Connection, written: Callable[[str, bytes], str]
) -> None:
    """What is sealed verifies, also against the head that was kept; what was changed or cut ends with 8 and its name."""
    store.set_secret("a", 1)
    store.namespace("other").set_secret("b", 1)

    done = cli("audit", "seal", "--all-namespaces")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == [
        "sealed 1 event in 1 checkpoint of namespace default",
        "sealed 1 event in 1 checkpoint of namespace other",
    ]
    head = written("head.json", cli("audit", "head").out.encode())
    verified = cli("audit", "verify", "--against", head)
    assert (verified.code, [one["events"] for one in json.loads(verified.out)]) == (0, [1, 0])

    raw.execute("DELETE FROM secretstore.audit_checkpoint WHERE namespace = 'default'")
    cut = cli("audit", "verify", "--against", head)
    assert (cut.code, cut.out) == (8, "")
    assert "the change record of namespace 'default' was tampered with: it ends before checkpoint 1" in cut.err
    raw.execute("UPDATE secretstore.change_event SET actor = 'nobody' WHERE namespace = 'other'")
    edited = cli("audit", "verify", "--namespace", "other", "--record", "change", "--from", "1")
    assert (edited.code, "event 1 was edited" in edited.err) == (8, True)


def test_a_file_that_is_no_head_is_refused(cli: CommandLine, written: Callable[[str, bytes], str]) -> None:
    """A head is read strictly: what says anything else proves nothing."""
    file = written("head.json", b'{"namespace": "default", "heads": [], "more": 1}')

    refused = cli("audit", "verify", "--against", file)

    assert (refused.code, refused.out) == (2, "")
    assert "head.json: is not what `secretstore audit head` prints" in refused.err


def test_old_accesses_go_into_a_file(cli: CommandLine, store: SecretClient, tmp_path: Path) -> None:
    """Asked for twice, because nothing brings them back but the file."""
    store.set_secret("a", 1)
    reading = cli.with_(SECRETSTORE_AUDIT_READS="strict")
    for _ in range(2):
        assert reading("get", "a").code == 0
        store.audit.seal()
    drop = ("audit", "drop", "--before", "2100-01-01T00:00Z", "--export", str(tmp_path / "reads.jsonl"))

    refused = cli(*drop)
    assert (refused.code, "add --yes" in refused.err, list(tmp_path.iterdir())) == (2, True, [])
    done = cli(*drop, "--yes")
    assert (done.code, done.out, done.err) == (0, "", f"dropped 1 event, which {tmp_path / 'reads.jsonl'} has\n")
    assert json.loads((tmp_path / "reads.jsonl").read_text())["key"] == "a"
    assert cli("audit", "verify").code == 0


def test_a_person_sees_how_far_it_is(cli: CommandLine, store: SecretClient) -> None:
    """Both commands may take long: a bar counts events, and no value is on the terminal."""
    store.set_secret("a", "the value")

    sealed = cli.on_terminal("audit", "seal").finish()
    verified = cli.on_terminal("audit", "verify").finish()

    assert (sealed.code, verified.code) == (0, 0)
    assert "sealing" in sealed.out
    assert "verifying" in verified.out
    assert "1/" in verified.out
    assert "the value" not in sealed.out + verified.out
