"""An admin API that plays a script: real HTTP on a real port, made-up answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.cli.answers import an_answer


class ScriptedServer(ThreadingHTTPServer):
    """GET /admin/status plays `statuses` (lists of models) one by one and stays at the last."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[list[dict[str, Any]]] = [[]]
        self.conditions: tuple[dict[str, Any], ...] = ()
        self.plans: list[dict[str, Any]] = []
        self.pages: dict[str, Any] = {}  # path with its query -> what a GET of it is answered
        self.asked: tuple[int, Any] = (202, None)  # what a POST is answered
        self.requests: list[tuple[str, str, Any]] = []
        self.shown: list[str | None] = []  # the Authorization of each request
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        with self.lock:
            self.requests.append((method, path, body))
            if method == "POST":
                return self.asked
            if path == "/admin/status":
                models = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                return 200, an_answer(*models, conditions=self.conditions)
            if path in self.pages:
                return 200, self.pages[path]
            if path.startswith("/admin/plan"):
                return 200, {"plans": self.plans}
            return 404, "<html>not here</html>"


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.shown.append(self.headers.get("Authorization"))
        status, answer = self.server.answer(self.command, self.path, body)
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815  # http.server's names

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
