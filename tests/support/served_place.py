"""A place for secrets that speaks HTTP, and a provider for it: the smallest that keep what providers promise."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

from secretstore import ProvidedInfo, ProvidedSecret
from secretstore.domain.providers import Ability, Version
from secretstore.providers.base import Provider

PAGE = 10


class Place(ThreadingHTTPServer):
    """Keeps values by key; a list has ten keys on a page."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.values: dict[str, bytes] = {}


class _Request(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer a value, or a page of keys."""
        if self._key:
            value = self._values.get(self._key)
            self._answer({} if value is None else {"value": value.decode()})
        else:
            after = parse_qs(urlsplit(self.path).query).get("after", [""])[0]
            self._answer({"keys": sorted(key for key in self._values if key > after)[:PAGE]})

    def do_PUT(self) -> None:
        """Keep a value."""
        self._values[self._key] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({})

    def do_DELETE(self) -> None:
        """Keep it no longer."""
        self._answer({"was": self._values.pop(self._key, None) is not None})

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path[1:])

    @property
    def _values(self) -> dict[str, bytes]:
        return cast("Place", self.server).values

    def _answer(self, answer: Mapping[str, object]) -> None:
        body = json.dumps(answer).encode()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running_place() -> Iterator[Place]:
    """Start a place, and end it."""
    with Place() as place:
        thread = threading.Thread(target=place.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield place
        place.shutdown()
        thread.join()


class PlaceProvider(Provider):
    """Asks once, waits half a second, and keeps no connection."""

    abilities = frozenset({Ability.WRITE, Ability.DELETE, Ability.CACHE})

    def __init__(self, port: int, *, timeout: float = 0.5) -> None:
        self.name = f"place://127.0.0.1:{port}"
        self._port = port
        self._timeout = timeout

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret."""
        found = self._ask("read a secret", "GET", quote(key, safe=""))
        if "value" not in found:
            return None
        return ProvidedSecret(value_json=str(found["value"]).encode(), info=self._info(key))

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys, page by page."""
        keys: list[str] = []
        while page := self._page(keys[-1] if keys else after or ""):
            keys += page
        return [key for key in keys if key.startswith(prefix)][:limit]

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret."""
        found = self.read(key)
        return None if found is None else found.info

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret."""
        self.require_what_a_write_needs(expected_version, labels)
        self._ask("write a secret", "PUT", quote(key, safe=""), value_json)
        return self._info(key)

    def delete(self, key: str) -> bool:
        """Delete a secret."""
        return bool(self._ask("delete a secret", "DELETE", quote(key, safe=""))["was"])

    def _page(self, after: str) -> list[str]:
        return cast("list[str]", self._ask("list keys", "GET", f"?after={quote(after)}")["keys"])

    def _info(self, key: str) -> ProvidedInfo:
        return ProvidedInfo(provider=self.name, key=key)

    def _ask(self, operation: str, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=self._timeout)
        status, answered, problem = 0, None, "it cannot be reached"
        try:
            connection.request(method, f"/{path}", body)
            response = connection.getresponse()
            status, answered = response.status, json.loads(response.read())
        except (OSError, HTTPException):
            pass
        except ValueError:
            problem = "it answered what is no JSON"
        finally:
            connection.close()
        if status == 200 and isinstance(answered, dict):
            return answered
        raise self.failed(operation, problem, is_temporary=status in {0, 429, 503} or answered is None)
