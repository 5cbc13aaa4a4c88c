"""How much memory long work takes: the peak of a child process that does nothing else, for fewer and for many secrets."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import secretstore
from benchmarks.harness import Goal, Measured, Row, Timing, WrongAnswer
from benchmarks.stage import Stage, migrated
from benchmarks.values import NAMESPACE, key_of, value_of
from secretstore import SecretClient
from secretstore.cli.files import pieces_of
from secretstore.cli.formats import FileFormat, read_secrets

ROOT = Path(__file__).parents[1]
_KIB_OF_MIB = 1024


def _import(store: SecretClient, count: int) -> int:
    """As `secretstore import FILE` does it."""
    with tempfile.TemporaryDirectory(prefix="secretstore-bench-") as folder:
        path = Path(folder) / "secrets.json"
        with path.open("w", encoding="utf-8") as file:
            for number in range(count):
                file.write(f"{',' if number else '{'}\n{json.dumps(key_of(number))}: {json.dumps(value_of(number))}")
            file.write("}")
        return len(store.import_secrets(read_secrets(pieces_of(path), FileFormat.JSON)))


def _export(store: SecretClient, _: int) -> int:
    return sum(1 for _ in store.export_secrets())


def _rotate(store: SecretClient, count: int) -> int:
    rewritten = store.keys.rotate().values
    # Of each secret the value that is current, and its one version.
    return count if rewritten == 2 * count else rewritten


WORK: dict[str, Callable[[SecretClient, int], int]] = {"import": _import, "export": _export, "rotate": _rotate}


def main(work: str, count: int) -> None:
    """Do the work of a child process: print how many secrets it was done for, and the most memory that it took."""
    with secretstore.connect() as store:
        before = peak_mib()
        done = WORK[work](store, count)
    print(json.dumps({"done": done, "before": before, "peak": peak_mib()}))  # noqa: T201 - the parent reads it


def peak_mib() -> float:
    """Return the most memory that this process has had."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        import resource  # noqa: PLC0415 - not on Windows

        # Bytes on macOS.  On Linux it would also count what the parent had.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_OF_MIB**2
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / _KIB_OF_MIB


def measure(stage: Stage, work: str) -> Measured:
    """Run the work for fewer and for many secrets."""
    small, large = (_run(stage, work, count) for count in stage.size.memory)
    peaks = tuple(
        Timing(f"{count:,} secrets", peak, peak)
        for count, peak in zip(reversed(stage.size.memory), (large["peak"], small["peak"]), strict=True)
    )
    remark = f"of it {large['before']:.0f} MiB before it begins"
    return Measured(peaks, large["peak"], large["peak"], small["peak"], large["peak"], (remark,))


def _run(stage: Stage, work: str, count: int) -> dict[str, float]:
    with _prepared(stage, work, count) as url:
        environment = os.environ | {
            "SECRETSTORE_DATABASE_URL": url,
            "SECRETSTORE_NAMESPACE": NAMESPACE,
            "SECRETSTORE_KEYS": stage.keyring_text,
        }
        command = [sys.executable, "-m", "benchmarks.memory", work, str(count)]
        child = subprocess.run(  # noqa: S603 - this very module
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True
        )
    report: dict[str, float] = json.loads(child.stdout)
    if report["done"] != count:
        raise WrongAnswer(f"{work} of {count} secrets was done for {report['done']}")
    return report


@contextmanager
def _prepared(stage: Stage, work: str, count: int) -> Iterator[str]:
    if work == "import":
        with stage.empty_database("imported") as url:
            migrated(url)
            yield url
    else:
        yield stage.url_of(stage.filled(f"memory_{count}", count, with_history=True))


def _row(work: str, title: str) -> Row:
    return Row(f"memory-{work}", title, Goal(300, "MiB"), measure=partial(measure, work=work))


ROWS = (
    _row("import", "memory: import of 1,000,000 secrets from a JSON file, peak"),
    _row("export", "memory: export of 1,000,000 secrets, peak"),
    _row("rotate", "memory: rotation over 1,000,000 secrets, peak"),
)

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
