"""How long after a client has left its engine sees that: amid a stream, and before the first word of one."""

import contextlib
import http.client
import json
import socket
import statistics
import time
from pathlib import Path
from urllib.parse import urlsplit

_GIVES_UP_S = 2.5
_LISTENS_S = 0.3
_LOOKS_EVERY_S = 0.01


def leaving_ms(url: str, backend: int, body: Path, *, prefill: bool, times: int = 5) -> float | None:
    """The median; None: its engine did not always see it."""
    took = [_once(url, backend, body.read_bytes(), prefill=prefill) for _ in range(times)]
    seen = [one for one in took if one is not None]
    return statistics.median(seen) if len(seen) == times else None


def _once(url: str, backend: int, body: bytes, *, prefill: bool) -> float | None:
    parts = urlsplit(url)
    if prefill:
        body = body[:-1] + b', "prefill": true}'
    before = len(_lost_at_ns(backend))
    with socket.create_connection((parts.hostname, parts.port), timeout=_GIVES_UP_S) as client:
        client.sendall(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer bench\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (parts.path.encode(), len(body), body)
        )
        _listen(client)
        left_at_ns = time.time_ns()
    deadline = time.monotonic() + _GIVES_UP_S
    while time.monotonic() < deadline:
        if len(lost := _lost_at_ns(backend)) > before:
            return (lost[-1] - left_at_ns) / 1e6
        time.sleep(_LOOKS_EVERY_S)
    return None


def _listen(client: socket.socket) -> None:
    """Closed with bytes unread, a connection would be reset."""
    deadline = time.monotonic() + _LISTENS_S
    with contextlib.suppress(TimeoutError):
        while (left := deadline - time.monotonic()) > 0:
            client.settimeout(left)
            if not client.recv(65536):
                return


def _lost_at_ns(backend: int) -> list[int]:
    connection = http.client.HTTPConnection("127.0.0.1", backend, timeout=_GIVES_UP_S)
    try:
        connection.request("GET", "/lost")
        return list(json.loads(connection.getresponse().read()))
    finally:
        connection.close()
