"""Both ends of a websocket, each written by its own hand: an engine that listens, and a client."""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.gateway.house import MODEL, House
from vllama.controller.demand import Endpoint
from vllama.simulator.websocket import Message, MessageReader, frame

CREATED = b'{"type":"session.created","id":"sess-1"}'


@dataclass
class Ear:
    """An engine. `answer`: instead of the handshake's. What it hears is in `messages`, in order."""

    port: int = 0
    answer: bytes | None = None
    greets: bool = True
    heads: list[bytes] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    reads: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.listen(reader, writer)
        self.gone.set()
        writer.close()

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        writer.write(self.answer if self.answer is not None else self.handshake(head))
        messages = MessageReader()
        while True:
            await self.reads.wait()
            data = await reader.read(65_536)
            if not data:
                break
            self.raw += data
            self.messages += messages.feed(data)

    def handshake(self, head: bytes, further: bytes = b"") -> bytes:
        key = next(line for line in head.split(b"\r\n") if line.startswith(b"sec-websocket-key: "))[19:]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        greeting = frame(1, CREATED) if self.greets else b""
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n%b\r\n%b" % (accept, further, greeting)
        )

    def say(self, text: bytes, opcode: int = 1) -> None:
        if not self.writers[-1].is_closing():
            self.writers[-1].write(frame(opcode, text))

    def events(self) -> list[dict]:
        return [json.loads(message.payload) for message in self.messages if message.opcode == 1]


@asynccontextmanager
async def an_ear(here: House, *, served: str = MODEL, opened: bool = True) -> AsyncIterator[Ear]:
    ear = Ear()
    ear.reads.set()
    server = await asyncio.start_server(ear.serve, "127.0.0.1", 0)
    ear.port = server.sockets[0].getsockname()[1]
    if opened:
        open_to(here, ear, served=served)
    try:
        yield ear
    finally:
        server.close()
        for writer in ear.writers:
            writer.transport.abort()


def open_to(here: House, ear: Ear, *, served: str = MODEL) -> None:
    endpoint = Endpoint(engine_id="ear", host="127.0.0.1", port=ear.port, served_name=served)
    here.control.board.open(MODEL, endpoint)


def offer(query: str = "", *, more: str = "", key: str | None = None) -> bytes:
    key = key or base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /v1/realtime{query} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n"
    ).encode()


def masked(opcode: int, payload: bytes, *, first: int = 0x80, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else bytes((0xFE,)) + size.to_bytes(2) if size < 65_536 else (
        bytes((0xFF,)) + size.to_bytes(8)
    )  # fmt: skip
    key = (mask * (size // 4 + 1))[:size]
    hidden = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size) if size else b""
    return bytes((first | opcode,)) + length + mask + hidden


@dataclass
class Mouth:
    """A client, whose offer was accepted."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes

    def say(self, event: dict | bytes, opcode: int = 1) -> None:
        if not self.writer.is_closing():
            self.writer.write(masked(opcode, event if isinstance(event, bytes) else json.dumps(event).encode()))

    async def hear(self) -> tuple[int, bytes]:
        """One frame: its opcode and what is in it."""
        first, second = await asyncio.wait_for(self.reader.readexactly(2), 10)
        assert not second & 0x80
        size = second
        if second > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if second == 126 else 8))
        return first & 15, await asyncio.wait_for(self.reader.readexactly(size), 10)

    async def hear_event(self) -> dict:
        opcode, payload = await self.hear()
        assert opcode == 1, (opcode, payload)
        return json.loads(payload)

    async def hear_end(self) -> bytes:
        """All to the end of the connection, which is closed then."""
        rest = await asyncio.wait_for(self.reader.read(), 10)
        self.writer.close()
        return rest


async def a_mouth(here: House, query: str = "", *, more: str = "") -> Mouth:
    reader, writer = await here.raw(offer(query, more=more))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return Mouth(reader, writer, head)
