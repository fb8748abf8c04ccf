"""Requests that are vllama's own to answer: uvicorn calls the application for them, on the same connection.

uvicorn's own protocol class is kept behind ours. It never sees what the client sent, only one whole request at a time
that was read and written anew here, so the two cannot disagree about where a request ends.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from vllama.gateway.guard import KEY
from vllama.gateway.keys.key import Key
from vllama.gateway.wire.request import Request
from vllama.gateway.wire.stamp import SERVER_LINE, date_line


class AppConnection(HttpToolsProtocol):
    """`done` is called with the last byte of each answer; `failed` instead where uvicorn does not take the request."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any],
                 *, done: Callable[[], None], failed: Callable[[str], None]) -> None:  # fmt: skip
        own = ServerState()  # the server knows of the connection already, and of its end
        own.tasks = server_state.tasks
        super().__init__(config=config, server_state=own, app_state=app_state, _loop=asyncio.get_running_loop())
        self._done, self._failed = done, failed
        self._common_state = app_state

    def serve(self, request: Request, body: bytes | bytearray, *, key: Key | None, cors: bytes, close: bool) -> None:
        self.app_state = {**self._common_state, KEY: key}
        lines = (date_line(), SERVER_LINE, *filter(None, cors.split(b"\r\n")))
        self.server_state.default_headers = [_split(line) for line in lines]
        parts = [request.forward]
        if request.host is not None:
            parts.append(b"host: %b\r\n" % request.host)
        if request.origin is not None:
            parts.append(b"origin: %b\r\n" % request.origin)
        if body:
            parts.append(b"content-length: %d\r\n" % len(body))
        if close:
            parts.append(b"connection: close\r\n")
        self.data_received(b"".join((*parts, b"\r\n", body)))

    def send_400_response(self, msg: str) -> None:
        self._failed(msg)

    def on_response_complete(self) -> None:
        self.flow.resume_reading()
        self._done()


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.strip()
