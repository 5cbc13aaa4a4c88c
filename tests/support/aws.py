"""A server that answers as AWS does, in threads of this process."""

import json
import re
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from secretstore.domain.providers import SecretProvider
from secretstore.errors import PermissionDeniedError
from tests.support.key_servers import REGION

_REFUSAL = re.compile(rb"\A<\?xml.*<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", re.DOTALL)
_CODES = {"AccessDenied": "AccessDeniedException", "InvalidClientTokenId": "UnrecognizedClientException"}

Call = Callable[[SecretProvider], object]
_Start = Callable[[str, list[tuple[str, str]]], object]


class Aws:
    """The running server; what it was asked for is written down by the names of actions."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        self.actions: list[str] = []
        self._answers: list[tuple[int, str]] = []
        self._clients: dict[str, Any] = {}
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=MotoRequestHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def at(self, place: str, **options: str) -> str:
        """Return a provider's URL that leads here; `place` is one without options."""
        return f"{place}?{urlencode({'endpoint': self.url, **options})}"

    def client(self, service: str) -> Any:
        """Return the SDK's client of a service, with all rights as long as none are checked."""
        import boto3

        if service not in self._clients:
            session = boto3.session.Session("testing", "testing", region_name=REGION)
            self._clients[service] = session.client(service, endpoint_url=self.url)
        return self._clients[service]

    def refuse(self, code: str, *, status: int = 400, times: int = 1) -> None:
        """Answer the next calls with an error, instead of what they ask for."""
        self._answers += [(status, code)] * times

    def reset(self) -> None:
        """Forget everything, and ask nobody for rights."""
        self.check_rights(from_now=False)
        self._post("reset", b"")
        self.actions.clear()
        self._answers.clear()

    def check_rights(self, *, from_now: bool) -> None:
        """Whether it checks credentials and policies."""
        self._post("reset-auth", b"0" if from_now else b"inf")

    def user(self) -> dict[str, str]:
        """Return the credentials of a new user, called `tried`, as the SDK's environment takes them."""
        iam = self.client("iam")
        iam.create_user(UserName="tried")
        made = iam.create_access_key(UserName="tried")["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}

    def allow(self, actions: Iterable[str]) -> None:
        """Let that user do this and nothing else, from now on.

        The server knows no resources in what it checks, so that everything is allowed for all of them.
        """
        self.check_rights(from_now=False)
        statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client("iam").put_user_policy(UserName="tried", PolicyName="tried", PolicyDocument=document)
        self.check_rights(from_now=True)

    def stop(self) -> None:
        """End it."""
        for client in self._clients.values():
            client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET")
        if target is None:
            return self._moto(environ, start)  # type: ignore[no-any-return]
        self.actions.append(target.rpartition(".")[2])
        if self._answers:
            status, code = self._answers.pop(0)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _refused(start, status, code, "told by a test")
        told: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(self._moto(environ, lambda *first: told.append(first)))
        if found := _REFUSAL.search(body):
            # AWS answers in the protocol of the service, and this server in that of others.
            return _refused(start, 400, _CODES.get(found[1].decode(), found[1].decode()), found[2].decode())
        start(*told[0])
        return [body]

    def _post(self, path: str, body: bytes) -> None:
        kind = {"Content-Type": "text/plain"}
        asked = urllib.request.Request(f"{self.url}/moto-api/{path}", data=body, headers=kind, method="POST")
        with urllib.request.urlopen(asked, timeout=30) as answer:
            answer.read()


def _refused(start: _Start, status: int, code: str, message: str) -> Iterable[bytes]:
    start(f"{status} Refused", [("Content-Type", "application/x-amz-json-1.1")])
    return [json.dumps({"__type": code, "message": message}).encode()]


@contextmanager
def running_aws_here() -> Iterator[Aws]:
    """Start a server, and end it."""
    aws = Aws()
    try:
        yield aws
    finally:
        aws.stop()


def policies(page: Path) -> list[list[dict[str, Any]]]:
    """Return the statements of each policy that stands in a page."""
    blocks = re.findall(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [json.loads(block)["Statement"] for block in blocks]


def actions_of(statements: Iterable[dict[str, Any]]) -> set[str]:
    """Return the actions of a policy."""
    return {
        action
        for each in statements
        for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
    }


def reads_by(*, read: str, read_many: str, list_keys: str, list_versions: str, describe: str) -> dict[str, Call]:
    """Return a call for each right to read, which fails without it."""
    return {
        read: lambda provider: provider.read("a"),
        read_many: lambda provider: provider.read_many(["a"]),
        list_keys: lambda provider: provider.list_keys(),
        list_versions: lambda provider: provider.list_versions("a"),
        describe: lambda provider: provider.describe("a"),
    }


def assert_each_is_missed(cloud: Aws, limited: SecretProvider, calls: Mapping[str, Call]) -> None:
    """Each right that is taken away from all the others is missed by its call, and the error names it."""
    for action, call in calls.items():
        cloud.allow(calls.keys() - {action})
        with pytest.raises(PermissionDeniedError, match=f"allow {action}$") as caught:
            call(limited)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
