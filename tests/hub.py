"""A hub on a loopback port that speaks what huggingface_hub and mirrors speak: real HTTP, made-up models, faults."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 64  # from here on a file is kept with Git LFS, as weights are
COMMIT = hashlib.sha1(b"first").hexdigest()
LATER = hashlib.sha1(b"second").hexdigest()


@dataclass
class Model:
    """`commits`: commit -> name -> content. `token`: whoever shows no such one is not shown the model."""

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    token: str | None = None
    gated: bool = False


@dataclass
class Faults:
    """What goes wrong next, for content only. `cut_after`: bytes until the connection breaks, one for each request."""

    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ignore_range: bool = False
    corrupt: bool = False
    gate: threading.Event = field(default_factory=threading.Event)  # unset: nothing beyond the first bytes comes

    def __post_init__(self) -> None:
        self.gate.set()


class Hub(ThreadingHTTPServer):
    """`asked` has method, path and Range of every request for content; `tokens` are those that came with any."""

    daemon_threads = True

    def __init__(self, models: Mapping[str, Model]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = dict(models)
        self.faults = Faults()
        self.asked: list[tuple[str, str, str | None]] = []
        self.tokens: list[str | None] = []
        self.tokens_elsewhere: list[str | None] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def elsewhere(self) -> str:
        """Content comes from another host, which nobody's token is meant for."""
        return f"http://localhost:{self.server_port}"

    def contents(self, name: str) -> list[str | None]:
        """The Range of each GET of this file, in order."""
        return [wanted for method, path, wanted in self.asked if method == "GET" and path.endswith(f"/{name}")]


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        with self.server.lock:
            tokens = self.server.tokens_elsewhere if path.startswith("/cdn/") else self.server.tokens
            tokens.append(self.headers.get("authorization"))
        if path.startswith("/cdn/"):
            self._content(path)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path):
            self._about(found[1], found[2], found[3] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        else:
            self._json(404, {"error": "not here"})

    do_GET = do_HEAD = _answer  # noqa: N815  # http.server's names

    def _model(self, name: str) -> Model | None:
        model = self.server.models.get(name)
        if model is None or (model.token and self.headers.get("authorization") != f"Bearer {model.token}"):
            self._json(401, {"error": "Repository not found"}, {"x-error-code": "RepoNotFound"})
            return None
        return model

    def _about(self, name: str, what: str | None, revision: str) -> None:
        if (model := self._model(name)) is None:
            return
        commit = model.refs.get(revision, revision)
        if commit not in model.commits:
            self._json(404, {"error": "Invalid rev id"}, {"x-error-code": "RevisionNotFound"})
            return
        files = model.commits[commit]
        if what == "tree":
            self._json(200, [{"type": "file", "path": each, **_entry(data)} for each, data in files.items()])
        else:
            siblings = [{"rfilename": each, "blobId": _blob(data), **_entry(data)} for each, data in files.items()]
            self._json(200, {"id": name, "sha": commit, "siblings": siblings})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        if (model := self._model(name)) is None:
            return
        if model.gated:
            self._json(403, {"error": "Access to it is restricted"}, {"x-error-code": "GatedRepo"})
            return
        commit = model.refs.get(revision, revision)
        data = model.commits.get(commit, {}).get(file)
        if data is None:
            self._json(404, {"error": "Entry not found"}, {"x-error-code": "EntryNotFound", "x-repo-commit": commit})
        elif len(data) >= LARGE_BYTES:
            self.send_response(302)
            for key, value in {
                "location": f"{self.server.elsewhere}/cdn/{name}/{commit}/{file}", "x-repo-commit": commit,
                "x-linked-etag": f'"{_sha256(data)}"', "x-linked-size": str(len(data)), "content-length": "0",
            }.items():  # fmt: skip
                self.send_header(key, value)
            self.end_headers()
        else:
            self._bytes(200, data, {"etag": f'"{_blob(data)}"', "x-repo-commit": commit})

    def _content(self, path: str) -> None:
        _, _, owner, name, commit, file = path.split("/", 5)
        data, faults = self.server.models[f"{owner}/{name}"].commits[commit][file], self.server.faults
        wanted = self.headers.get("range")
        with self.server.lock:
            self.server.asked.append((self.command, path, wanted))
            status = faults.statuses.pop(0) if faults.statuses else 0
            cut = faults.cut_after.pop(0) if faults.cut_after else None
        if status:
            self._json(status, {"error": "later"})
            return
        if faults.corrupt:
            data = data[::-1]
        if wanted is None or faults.ignore_range:
            self._bytes(200, data, {}, cut=cut)
        else:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
            said = {"content-range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
            self._bytes(206, data[first:], said, cut=cut)

    def _json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._bytes(status, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})})

    def _bytes(self, status: int, data: bytes, headers: Mapping[str, str], *, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is not None:
            self.wfile.write(data[:cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        half = len(data) // 2
        self.wfile.write(data[:half])
        self.wfile.flush()
        if self.path.startswith("/cdn/"):
            self.server.faults.gate.wait(30)
        self.wfile.write(data[half:])

    def log_message(self, *_: Any) -> None: ...


def _entry(data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"size": len(data), "oid": _blob(data)}
    if len(data) >= LARGE_BYTES:
        entry["lfs"] = {"sha256": _sha256(data), "oid": _sha256(data), "size": len(data), "pointerSize": 130}
    return entry


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def running(models: Mapping[str, Model]) -> Iterator[Hub]:
    hub = Hub(models)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.faults.gate.set()
        hub.shutdown()
        thread.join()
        hub.server_close()
