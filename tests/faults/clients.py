"""Clients that trust nobody: one request on one connection, read by the letter of HTTP, and what became of it."""

import asyncio
import contextlib
import json
import socket
import time
from dataclasses import dataclass
from enum import StrEnum

import h11

from vllama.simulator.text import words

DEADLINE_S = 100.0
PROMPT = "hello"


class Kind(StrEnum):
    WHOLE = "whole"  # all of the right answer
    TOLD = "told"  # an error with its status and reason
    BROKE_OFF = "broke off"  # a stream whose last event is an error
    CUT = "cut"  # shorter than announced: whoever reads it sees that it is not all
    REFUSED = "refused"  # no connection, or closed without a byte
    PASSED = "passed"  # well-formed HTTP around what a broken engine said
    LEFT = "left"  # the client went of its own will
    # what may never be
    WRONG = "wrong"  # a whole answer to something else
    MALFORMED = "malformed"
    SILENT = "silent"  # nothing more came before the deadline


NEVER = frozenset({Kind.WRONG, Kind.MALFORMED, Kind.SILENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`began` and `ended` are seconds of time.monotonic()."""

    request_id: str
    model: str
    kind: Kind
    began: float
    ended: float
    status: int = 0
    said: str = ""  # the text, or what was wrong
    code: str = ""  # of an error

    def __str__(self) -> str:
        return f"{self.request_id} {self.model}: {self.kind} {self.status} {self.code} {self.said[:300]!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    request_id: str
    model: str
    stream: bool = False
    tokens: int = 4
    served_name: str | None = None  # where `model` is an alias
    deadline_s: float = DEADLINE_S
    junk: bool = False  # its engine answers rubbish: only HTTP is held to
    reads_after: asyncio.Event | None = None  # and until then nothing, into as little as the kernel allows

    @property
    def body(self) -> bytes:
        content = {"model": self.model, "prompt": PROMPT, "max_tokens": self.tokens, "stream": self.stream}
        return json.dumps(content).encode()

    @property
    def text(self) -> str:
        return "".join(words(self.served_name or self.model, PROMPT, self.tokens))


async def ask(url: str, asking: Asking) -> Outcome:
    """Never raises but for cancellation, which is the client's leaving."""
    began = time.monotonic()
    status, body, problem = 0, b"", ""
    try:
        async with asyncio.timeout(asking.deadline_s):
            status, body, problem = await _exchange(url, asking)
        kind, said, code = _judge(asking, status, body, problem)
    except TimeoutError:
        kind, said, code = Kind.SILENT, f"after {asking.deadline_s:g} s", ""
    return Outcome(
        request_id=asking.request_id, model=asking.model, kind=kind, began=began, ended=time.monotonic(),
        status=status, said=said, code=code,
    )  # fmt: skip


async def _exchange(url: str, asking: Asking) -> tuple[int, bytes, str]:
    """Status (0: none came), body, and what was wrong with the HTTP of it ("": nothing)."""
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        reader, writer = await _connect(host, int(port), narrow=asking.reads_after is not None)
    except OSError:
        return 0, b"", "refused"
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    headers = [("host", "x"), ("content-type", "application/json"), ("x-request-id", asking.request_id),
               ("content-length", str(len(asking.body))), ("connection", "close")]  # fmt: skip
    try:
        request = h11.Request(method="POST", target="/v1/completions", headers=headers)
        writer.write((connection.send(request) or b"") + (connection.send(h11.Data(data=asking.body)) or b""))
        connection.send(h11.EndOfMessage())
        if asking.reads_after is not None:
            await asking.reads_after.wait()
        return await _read(reader, connection)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader, connection: h11.Connection) -> tuple[int, bytes, str]:
    status, body, ended = 0, b"", False
    try:
        while True:
            match connection.next_event():
                case h11.NEED_DATA:
                    data = await reader.read(1 << 16)
                    ended = not data
                    connection.receive_data(data)
                case h11.Response(status_code=status):
                    pass
                case h11.Data(data=data):
                    body += data
                case h11.EndOfMessage():
                    behind = connection.trailing_data[0] + await reader.read()
                    return status, body, "something comes behind the answer" if behind else ""
                case h11.ConnectionClosed():
                    return status, body, "closed"
    except h11.RemoteProtocolError as error:
        return status, body, "closed" if ended else str(error)  # what came was right, as far as it went
    except OSError:
        return status, body, "closed"


async def _connect(host: str, port: int, *, narrow: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not narrow:
        return await asyncio.open_connection(host, port)
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    taken.setblocking(False)
    await asyncio.get_running_loop().sock_connect(taken, (host, port))
    return await asyncio.open_connection(sock=taken, limit=1024)


def _judge(asking: Asking, status: int, body: bytes, problem: str) -> tuple[Kind, str, str]:
    if problem in {"closed", "refused"}:
        return (Kind.CUT, body[-300:].decode(errors="replace"), "") if status else (Kind.REFUSED, problem, "")
    if problem:
        return Kind.MALFORMED, problem, ""
    if status >= 400:
        return _told(body)
    if asking.junk:
        return Kind.PASSED, f"{len(body)} bytes", ""
    return _streamed(asking, body) if asking.stream else _plain(asking, body)


def _told(body: bytes) -> tuple[Kind, str, str]:
    try:
        error = json.loads(body)["error"]
        return Kind.TOLD, str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError):
        return Kind.MALFORMED, body[:300].decode(errors="replace"), ""


def _plain(asking: Asking, body: bytes) -> tuple[Kind, str, str]:
    try:
        answer = json.loads(body)
        text, name = answer["choices"][0]["text"], answer["id"]
    except (ValueError, KeyError, TypeError, IndexError):
        return Kind.MALFORMED, body[:300].decode(errors="replace"), ""
    return (Kind.WHOLE if (text, name) == (asking.text, f"cmpl-{asking.request_id}") else Kind.WRONG), text, ""


def _streamed(asking: Asking, body: bytes) -> tuple[Kind, str, str]:
    """Whole events to [DONE], or to an error. One event may be cut off, where the error stands right behind it."""
    *events, rest = body.split(b"\n\n")
    found, cut_off, done = [], False, False
    for event in (event for event in events if not event.startswith(b":")):
        if done or rest:
            return Kind.MALFORMED, f"more behind the end: {event[:200]!r} {rest[:100]!r}", ""
        if event == b"data: [DONE]":
            done = True
            continue
        try:
            found.append(json.loads(event.removeprefix(b"data: ")))
        except ValueError:
            cut_off = True
            continue
        if cut_off and "error" not in found[-1]:
            return Kind.MALFORMED, "an event in the middle is cut off", ""
    if found and "error" in found[-1]:
        error = found[-1]["error"]
        return Kind.BROKE_OFF, str(error["message"]), str(error["code"])
    if not done or cut_off:
        return Kind.MALFORMED, f"a stream without an end: {body[-200:]!r}", ""
    text = "".join(event["choices"][0]["text"] for event in found)
    right = text == asking.text and all(event["id"] == f"cmpl-{asking.request_id}" for event in found)
    return (Kind.WHOLE if right else Kind.WRONG), text, ""
