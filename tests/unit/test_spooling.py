"""More secrets than memory should hold: their order, their way to the disk and back, and what of them is there."""

import gc
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretstore import ExportedSecret, InvalidSecretKeyError, SecretDifference, SecretStoreError
from secretstore.domain.names import Key, Namespace
from secretstore.service import spooling
from secretstore.service.applying import gathered
from secretstore.service.spooling import Differences, GivenSecrets, SortedSpool, Spool
from secretstore.service.synchronous import NewValue
from tests.support.forms import forms_of

HIDDEN = "hunter2-of-the-test"
AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=5, minutes=30)))
FULL = Path("/dev/full")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few records fill a block, and a few blocks a run."""
    monkeypatch.setattr(spooling, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(spooling, "_RUN_BYTES", 256)


def filled(spool: Spool | SortedSpool, count: int = 100) -> Any:
    """The same spool with some records, the last key first."""
    for number in reversed(range(count)):
        spool.add((f"é{number:03}", HIDDEN.encode()))
    return spool


def many(count: int) -> Iterator[ExportedSecret]:
    """Secrets of about 400 bytes, in no order."""
    for number in range(count):
        yield ExportedSecret(key=f"{number * 7919 % count:06}", value=[number, f"{number:0400}"])


@pytest.mark.usefixtures("small")
@given(records=st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=80))))
@settings(deadline=None)
def test_records_come_back_in_order(records: list[tuple[str, bytes]]) -> None:
    """One spool keeps the order in which they come, the other sorts by key; both as often as they are asked."""
    plain, ordered = Spool(), SortedSpool()
    for record in records:
        plain.add(record)
        ordered.add(record)

    for _ in range(2):
        assert list(plain) == records
        assert list(ordered) == sorted(records, key=lambda record: record[0])
    assert len(plain) == len(ordered) == len(records)


@pytest.mark.usefixtures("small")
def test_two_can_read_at_once() -> None:
    """Each goes on where it was."""
    spool = filled(Spool())

    assert [one == other for one, other in zip(spool, spool, strict=True)] == [True] * 100


@pytest.mark.parametrize("kind", [Spool, SortedSpool])
def test_a_few_never_reach_the_disk(kind: type[Spool | SortedSpool], monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is made for what fits into a block."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")

    assert len(list(filled(kind()))) == 100


@pytest.mark.usefixtures("small")
def test_only_ciphertext_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has no name, holds neither key nor value in any form, and is gone with the spool."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = filled(Spool())
    assert spool._file is not None
    descriptor = spool._file.fileno()
    written = os.pread(descriptor, 1_000_000, 0)

    assert len(written) > 100 * len(HIDDEN)
    for shown in (HIDDEN.encode(), "é050".encode()):
        assert [form for form in forms_of(shown) if form in written] == []
    assert list(tmp_path.iterdir()) == []
    assert HIDDEN not in repr(spool)
    del spool
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.usefixtures("small")
def test_a_changed_file_is_refused() -> None:
    """What somebody has written into it opens no more, and the error keeps nothing of it."""
    spool = filled(Spool())
    assert spool._file is not None
    os.pwrite(spool._file.fileno(), b"\0\0\0\0", 8)

    with pytest.raises(SecretStoreError, match="changed by someone") as caught:
        list(spool)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.usefixtures("small")
def test_a_disk_that_takes_no_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says why and what to do."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")

    with pytest.raises(SecretStoreError, match=r"No such file or directory; .*TMPDIR") as caught:
        filled(Spool())
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.usefixtures("small")
@pytest.mark.skipif(not FULL.exists(), reason="only Linux has such a device")
def test_a_full_disk_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no second time when the file is closed."""
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda buffering: FULL.open("r+b", buffering=buffering))

    with pytest.raises(SecretStoreError, match="No space left on device; make room"):
        filled(Spool())
    gc.collect()


@pytest.mark.usefixtures("small")
def test_what_secrets_are_to_be_comes_back() -> None:
    """Texts to the byte, labels and times, with and without."""
    values = {
        Key("b"): NewValue(b'{"a":1.10}', {"team": "é\n"}, AT),
        Key("a"): NewValue(b'"\\n"'),
        Key("é" * 99): NewValue(b"null", {}),
    }
    secrets = GivenSecrets()
    for key, value in values.items():
        secrets.add(key, value)

    assert list(secrets) == sorted(values.items())
    assert len(secrets) == 3
    secrets.check_keys()


@pytest.mark.usefixtures("small")
def test_a_key_that_comes_twice_is_found_whatever_lies_between() -> None:
    """Also in two runs."""
    secrets = [*many(100), ExportedSecret(key="000050", value=1)]

    with pytest.raises(InvalidSecretKeyError, match="'000050' is given twice"):
        gathered(secrets, namespace=Namespace("n"), max_bytes=1000)


@pytest.mark.usefixtures("small")
def test_differences_are_a_sequence() -> None:
    """They are counted, indexed, compared and gone through like a list of the same."""
    expected = [
        SecretDifference(key=f"{place}", kind="changed", old=[None, 1.5], new={"é": place}) for place in range(50)
    ]
    found = Differences()
    for one in expected:
        found.add(one)

    assert (list(found), len(found), found[0], found[-1]) == (expected, 50, expected[0], expected[49])
    assert found[10:20] == expected[10:20]
    assert found == expected
    assert found != expected[:-1]
    assert found != [*expected[:-1], expected[0]]
    assert found != 50
    assert repr(found) == "<50 differences>"
    for outside in (50, -51):
        with pytest.raises(IndexError):
            found[outside]
    deep: Any = 1
    for _ in range(199):
        deep = [deep]
    found.add(SecretDifference(key="z", kind="added", new=deep))
    assert found[-1].new == deep


def test_memory_holds_a_part_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as many take hardly more, and far less than they are: 2 and 4 MB."""
    monkeypatch.setattr(spooling, "_BLOCK_BYTES", 4 * 1024)
    monkeypatch.setattr(spooling, "_RUN_BYTES", 256 * 1024)
    peaks = []
    for count in (5_000, 10_000):
        tracemalloc.start()
        secrets = gathered(many(count), namespace=Namespace("n"), max_bytes=1000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(secrets) == count

    # Reading has a block of each run.
    assert peaks[1] < peaks[0] * 1.5 < 1_500_000


def test_times_are_those_that_were_given() -> None:
    """An expiry in another zone is the same moment."""
    secrets = GivenSecrets()
    secrets.add(Key("a"), NewValue(b"1", None, AT))

    ((_, value),) = secrets
    assert value.expires_at == AT.astimezone(UTC)
