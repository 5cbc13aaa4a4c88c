"""Real key servers for tests: OpenBao, and the server that the tests take for AWS."""

import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 60.0
REGION = "eu-west-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


@dataclass(frozen=True)
class Bao:
    """A running OpenBao with a transit engine."""

    address: str
    token: str
    authority: Path | None = None

    @property
    def entry(self) -> str:
        """The beginning of an entry of a key ring, up to the name of the key."""
        return self.address.replace("http://", "vault+http://") + "/transit"

    def client(self) -> Any:
        """Return a client of its SDK with all rights."""
        import hvac

        return hvac.Client(self.address, token=self.token, verify=str(self.authority) if self.authority else True)


@contextmanager
def running_bao(*, tls: Path | None = None) -> Iterator[Bao]:
    """Start an OpenBao in memory, and end it; with TLS, it puts `vault-ca.pem` into the folder that is given for that."""
    bao = Bao(
        f"{'https' if tls else 'http'}://127.0.0.1:{free_port()}", secrets.token_hex(8), tls and tls / "vault-ca.pem"
    )
    program = shutil.which("bao", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert program is not None
    address = bao.address.partition("://")[2]
    with tempfile.TemporaryDirectory() as home:
        command = [program, "server", "-dev", "-dev-no-store-token", f"-dev-listen-address={address}"]
        command += ["-dev-tls", f"-dev-tls-cert-dir={tls}"] if tls else []
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": home, "BAO_DEV_ROOT_TOKEN_ID": bao.token}
        with _running(command, environment, f"{bao.address}/v1/sys/health"):
            client = bao.client()
            client.sys.enable_secrets_engine("transit")
            client.adapter.close()
            yield bao


@contextmanager
def running_aws() -> Iterator[str]:
    """Start a server that answers as AWS does, and give its URL."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    url = f"http://127.0.0.1:{port}"
    with _running(command, {**os.environ, **CREDENTIALS}, f"{url}/moto-api/"):
        yield url


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def silent_server() -> Iterator[int]:
    """Listen on a port, take connections, and never answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


@contextmanager
def _running(command: list[str], environment: dict[str, str], ready: str) -> Iterator[None]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(ready, process)
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            # Whoever it is: what answers is not told anything.
            with urllib.request.urlopen(url, timeout=5, context=ssl._create_unverified_context()):
                return
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the key server did not start: {process.args!r}")
