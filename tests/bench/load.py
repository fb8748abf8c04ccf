"""Requests and streams, as fast as they are answered: by wrk where it is installed, else by a loop of our own.

python -m tests.bench.load URL CONNECTIONS SECONDS BODY_FILE [--streams]      prints how many answers, or events
"""

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

_SCRIPT = """
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer bench"
done = function(summary)
  local errors = summary.errors
  io.write(string.format("answers %d failed %d\\n", summary.requests, errors.status + errors.read + errors.timeout))
end
"""


class WentWrong(Exception):
    """Not every request was answered with a 200."""


def answers(url: str, connections: int, seconds: float, body: Path, *, cpu: str | None) -> int:
    """How many came. Raises WentWrong where one failed."""
    pinned = ["taskset", "-c", cpu] if cpu else []
    if shutil.which("wrk"):
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(_SCRIPT)
            script.flush()
            wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", script.name, url]
            said = subprocess.run(
                [*pinned, *wrk], env={**os.environ, "BENCH_BODY": str(body)}, capture_output=True, text=True, check=True
            ).stdout
    else:
        said = _ours(url, connections, seconds, body, pinned)
    return _count(said)


def events(url: str, streams: int, body: Path, *, cpu: str | None) -> int:
    """Of so many streams at once, each read to its end. Raises WentWrong where one failed."""
    return _count(_ours(url, streams, 0, body, ["taskset", "-c", cpu] if cpu else [], "--streams"))


def _ours(url: str, connections: int, seconds: float, body: Path, pinned: list[str], *more: str) -> str:
    command = [sys.executable, "-m", "tests.bench.load", url, str(connections), str(seconds), str(body), *more]
    return subprocess.run([*pinned, *command], capture_output=True, text=True, check=True).stdout


def _count(said: str) -> int:
    found = re.search(r"answers (\d+) failed (\d+)", said)
    if found is None or found[2] != "0" or found[1] == "0":
        raise WentWrong(f"the load went wrong: {said.strip()[-300:]}")
    return int(found[1])


class Client(asyncio.Protocol):
    """One connection that asks again when it was answered, or once for a stream."""

    def __init__(self, request: bytes, *, streams: bool) -> None:
        self._request, self._streams = request, streams
        self._came = bytearray()
        self.over = asyncio.get_running_loop().create_future()
        self.count = self.failed = 0
        self.stopping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._came += data
        if self._streams:
            self.count += data.count(b"data: {")
            if b"[DONE]" in data:
                self._end()
            return
        head = self._came.find(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", self._came[: max(head, 0)], re.IGNORECASE)
        if head < 0 or length is None or len(self._came) < head + 4 + int(length[1]):
            return
        self.failed += not self._came.startswith(b"HTTP/1.1 200 ")
        self.count += 1
        self._came.clear()
        if self.stopping:
            self._end()
        else:
            self.transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.failed += 1
            self.over.set_result(None)

    def _end(self) -> None:
        self.over.set_result(None)
        self.transport.close()


async def run(url: str, connections: int, seconds: float, body: bytes, *, streams: bool) -> None:
    parts = urlsplit(url)
    request = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer bench\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: Client(request, streams=streams), parts.hostname, parts.port))[1]
        for _ in range(connections)
    ]
    if not streams:
        await asyncio.sleep(seconds)
        for client in made:
            client.stopping = True
    await asyncio.wait([client.over for client in made], timeout=60)
    failed = sum(client.failed + (not client.over.done()) for client in made)
    print(f"answers {sum(client.count for client in made)} failed {failed}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name, kind in (("url", str), ("connections", int), ("seconds", float), ("body", Path)):
        parser.add_argument(name, type=kind)
    parser.add_argument("--streams", action="store_true")
    options = parser.parse_args()
    uvloop.run(
        run(options.url, options.connections, options.seconds, options.body.read_bytes(), streams=options.streams)
    )
