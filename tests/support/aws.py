"""A server that answers as AWS does, in threads of this process."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from tests.support.key_servers import REGION

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

    def user(self, policy: Mapping[str, object]) -> dict[str, str]:
        """Return the credentials of a new user who may do what a policy says, as the SDK takes them."""
        iam = self.client("iam")
        name = f"user-{len(iam.list_users()['Users'])}"
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="tried", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}

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
        if not self._answers:
            return self._moto(environ, start)  # type: ignore[no-any-return]
        status, code = self._answers.pop(0)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start(f"{status} Refused", [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps({"__type": code, "message": "told by a test"}).encode()]

    def _post(self, path: str, body: bytes) -> None:
        kind = {"Content-Type": "text/plain"}
        asked = urllib.request.Request(f"{self.url}/moto-api/{path}", data=body, headers=kind, method="POST")
        with urllib.request.urlopen(asked, timeout=30) as answer:
            answer.read()


@contextmanager
def running_aws_here() -> Iterator[Aws]:
    """Start a server, and end it."""
    aws = Aws()
    try:
        yield aws
    finally:
        aws.stop()
