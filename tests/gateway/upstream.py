"""A real HTTP server on a loopback port that does, byte by byte, what a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast


@dataclass(eq=False)
class Exchange:
    """One request as it arrived, and the way to answer it. `gone` is set when the other side has closed."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    transport: asyncio.Transport
    gone: asyncio.Event
    connection: int

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def answer(self, body: bytes, *, status: int = 200, headers: str = "content-type: application/json\r\n") -> None:
        self.send(f"HTTP/1.1 {status} X\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body)

    def start_events(self) -> None:
        self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n")
        self.send(b"transfer-encoding: chunked\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def end_chunks(self) -> None:
        self.send(b"0\r\n\r\n")

    def close(self) -> None:
        self.transport.close()


Script = Callable[[Exchange], Awaitable[None]]


async def echo(exchange: Exchange) -> None:
    exchange.answer(exchange.body)


@dataclass(eq=False)
class Upstream:
    script: Script = echo
    port: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    transports: set[asyncio.Transport] = field(default_factory=set)

    def take(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        task = asyncio.get_running_loop().create_task(self.script(exchange))  # type: ignore[arg-type]
        self.tasks.add(task)


class Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.received = b""
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.upstream.connections += 1
        self.number = self.upstream.connections
        self.upstream.transports.add(self.transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = [(key, value.strip()) for key, _, value in pairs]
        size = next((int(value) for key, value in headers if key.lower() == "content-length"), 0)
        if len(rest) < size:
            return
        self.received = rest[size:]
        self.upstream.take(Exchange(first, headers, rest[:size], self.transport, self.gone, self.number))

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self.upstream.transports.discard(self.transport)


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """On the way out an exception of a script is raised, so that none goes unseen."""
    up = Upstream()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(up), "127.0.0.1", 0, backlog=2048)
    up.port = server.sockets[0].getsockname()[1]
    try:
        yield up
    finally:
        server.close()
        for transport in list(up.transports):
            transport.abort()
        for task in up.tasks:
            task.cancel()
        outcomes = await asyncio.gather(*up.tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
