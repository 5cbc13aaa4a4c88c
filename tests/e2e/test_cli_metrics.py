"""`secretstore metrics`: what the store holds, printed or served."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families as parse_text

from secretstore import SecretClient
from tests.e2e.conftest import DEADLINE_SECONDS, PROGRAM, CommandLine


def values(page: str) -> dict[tuple[str, ...], float]:
    """What a page says, by name and labels."""
    found = [sample for family in parse_text(page) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in found}


def test_the_page_is_printed(cli: CommandLine, store: SecretClient) -> None:
    """Without a port the page goes to standard output, and nothing else does; it takes no key ring."""
    store.set_secrets({"a": 1, "b": 2})

    done = cli.with_(SECRETSTORE_KEYS=None)("metrics")

    assert (done.code, done.err) == (0, "")
    assert values(done.out)["secretstore_secrets", "live"] == 2
    assert values(done.out)["secretstore_store_up",] == 1


def test_namespaces_are_named_on_request(cli: CommandLine, store: SecretClient) -> None:
    """With `--by-namespace` each has numbers of its own."""
    store.namespace("staging").set_secret("a", 1)

    done = cli("metrics", "--by-namespace", "--expiring-within", "1h")

    assert values(done.out)["secretstore_secrets", "staging", "live"] == 1


def test_a_store_that_cannot_be_asked_is_an_error(cli: CommandLine) -> None:
    """It ends with 7 and no data, so that a timer keeps no half page."""
    done = cli("metrics", "--database-url", "postgresql://127.0.0.1:1/x?password=hunter2")

    assert (done.code, done.out) == (7, "")
    assert done.err.splitlines()[-1].startswith("error: cannot connect to PostgreSQL")
    assert "hunter2" not in done.err


def test_the_page_is_served_until_a_signal(cli: CommandLine, store: SecretClient) -> None:
    """Each request asks the store anew, and SIGTERM ends it in an orderly way."""
    command = [sys.executable, *PROGRAM, "metrics", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=cli.environment, text=True) as served:
        assert served.stderr is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/metrics", served.stderr.readline())
        try:
            assert address is not None
            before = fetched(address[0])
            store.set_secret("a", 1)
            after = fetched(address[0])
        finally:
            served.send_signal(signal.SIGTERM)
            code = served.wait(DEADLINE_SECONDS)
    assert [page["secretstore_secrets", "live"] for page in (before, after)] == [0, 1]
    assert code == 128 + signal.SIGTERM


def fetched(url: str) -> dict[tuple[str, ...], float]:
    """What the page at a URL says."""
    with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as answer:
        return values(answer.read().decode())


def test_a_port_that_is_taken_is_one_line(cli: CommandLine) -> None:
    """It says which one, and what is the matter."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = cli("metrics", "serve", "--port", port)

    assert (done.code, done.out) == (1, "")
    assert done.err == f"error: cannot serve on 127.0.0.1, port {port}: Address already in use\n"
