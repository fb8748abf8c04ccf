"""A real HTTP server on a free loopback port that answers from a script and remembers what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Answer = tuple[int, bytes]


@dataclass
class ScriptedServer:
    """`answers`: "METHOD /path?query" -> the answer, or several, the last of which stays. Unknown: 404, as vLLM."""

    answers: dict[str, Answer | list[Answer]]
    base_url: str = ""
    asked: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)  # of each request, its Authorization

    def answer_to(self, line: str) -> Answer:
        answer = self.answers.get(line, (404, b'{"detail":"Not Found"}'))
        if isinstance(answer, list):
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *headers = head.decode().split("\r\n")
                lengths = [int(h.split(":")[1]) for h in headers if h.lower().startswith("content-length:")]
                self.bodies.append(await reader.readexactly(lengths[0] if lengths else 0))
                keys = [h.partition(": ")[2] for h in headers if h.lower().startswith("authorization:")]
                self.shown.append(keys[0] if keys else None)
                line = first.removesuffix(" HTTP/1.1")
                self.asked.append(line)
                status, body = self.answer_to(line)
                if status == 0:  # says nothing, ever
                    await reader.read()
                    return
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted(answers: dict[str, Answer | list[Answer]]) -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer(answers)
    server = await asyncio.start_server(script.serve_one, "127.0.0.1", 0)
    script.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()


def ok(value: object) -> Answer:
    return 200, json.dumps(value).encode()
