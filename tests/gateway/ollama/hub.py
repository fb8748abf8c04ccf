"""A hub on a loopback port, as far as huggingface_hub asks it: one model, told and fetched file by file."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "1234567890abcdef1234567890abcdef12345678"


class Hub:
    """`files`: name -> bytes. Until `gate` is set no file comes beyond its first bytes."""

    def __init__(self, model: str, files: dict[str, bytes]) -> None:
        self.model, self.files = model, files
        self.gate = threading.Event()
        self.gate.set()
        self.fetched: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.answer(self, head=True)

            def do_GET(self) -> None:
                hub.answer(self, head=False)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, *, head: bool) -> None:
        path = request.path.partition("?")[0]
        name = path.rpartition(f"/{SHA}/")[2]
        if path.startswith(f"/api/models/{self.model}"):
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": etag(data)} for name, data in self.files.items()
            ]
            said = {"id": self.model, "sha": SHA, "siblings": siblings}
            _send(request, 200, json.dumps(said).encode(), {"content-type": "application/json"}, head=head)
        elif path.startswith(f"/{self.model}/resolve/") and name in self.files:
            data = self.files[name]
            headers = {"etag": f'"{etag(data)}"', "x-repo-commit": SHA, "accept-ranges": "bytes"}
            if not head:
                self.fetched.append(name)
            _send(request, 200, data, headers, head=head, gate=self.gate)
        else:
            _send(request, 404, b"{}", {"x-error-code": "RepoNotFound"}, head=head)


def etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _send(request, status, body, headers, *, head, gate=None) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    if head:
        return
    half = len(body) // 2
    request.wfile.write(body[:half])
    request.wfile.flush()
    if gate is not None:
        gate.wait(20)
    request.wfile.write(body[half:])
