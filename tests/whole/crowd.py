"""Many clients at once, over plain sockets: one task each."""

import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

from tests.waiting import async_wait_until
from tests.whole.server import Server


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    at: float  # when all of it was there, in seconds of the wall clock

    @property
    def error(self) -> dict:
        return json.loads(self.body)["error"]


@dataclass
class Crowd:
    """Clients of one server, each with a connection of its own, in the order in which they were asked to come."""

    server: Server
    clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def ask(self, count: int, body: dict, headers: str = "") -> None:
        host, port = self.server.url.removeprefix("http://").split(":")
        content = json.dumps(body).encode()
        headers += f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(content)}\r\n"
        request = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode() + content
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request)
            self.clients.append((reader, writer))

    async def answers(self) -> list[Answer]:
        return list(await asyncio.gather(*(_read(*client) for client in self.clients)))

    def leave(self) -> None:
        for _, writer in self.clients:
            writer.transport.abort()

    async def until(self, model: str, deadline_s: float = 20, **status: object) -> None:
        """Until the server says so of `model`."""

        async def so() -> bool:
            ps = (await asyncio.to_thread(self.server.ps))[model]
            return all(ps[key] == value for key, value in status.items())

        await async_wait_until(so, deadline_s=deadline_s, what=f"{model} to be {status}")


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
    whole, at = await asyncio.wait_for(reader.read(), 60), time.time()
    writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, body, at)


def crowd(server: Server, test: Callable[[Crowd], Awaitable[None]]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(Crowd(server)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
