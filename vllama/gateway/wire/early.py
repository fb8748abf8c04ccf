"""An answer that begins before its engine's: the client of a stream asked for signs of life while its model comes up.

Its head promises a stream of events, so whatever comes must become one: events pass as they are, anything else (an
engine's error, a refusal of ours) is told in one event. How the engine frames its answer is its own affair here: what
the client gets is framed anew.
"""

import asyncio
from collections.abc import Callable

from vllama.controller.control import Control
from vllama.domain.units import MIB
from vllama.gateway.dialects import Dialect, dialect_of, render_event
from vllama.gateway.errors import ErrorAnswer, broke_off_unreadable
from vllama.gateway.inference import Wanted
from vllama.gateway.wire.answer import Answer
from vllama.gateway.wire.framing import end_of_events
from vllama.gateway.wire.request import Request
from vllama.gateway.wire.stamp import SERVER_LINE, date_line

_HEAD = (
    b"HTTP/1.1 200 OK",
    b"content-type: text/event-stream; charset=utf-8",
    b"cache-control: no-cache",
    b"x-vllama-state: queued",
    SERVER_LINE,
)
_MOST_BYTES = MIB  # of an answer that is no stream of events
_LEAST_S = 0.1


class Early:
    """`begin` it, and every `every_s` a comment is written until `hush`; the head goes before the first of them.

    `begun`: the head is out, and the rest of the answer must go through here, which gives the bytes to write.
    """

    def __init__(
        self, write: Callable[[bytes], None], words: Callable[[], str], *, every_s: float, chunked: bool, close: bool,
        dialect: Dialect,
    ) -> None:  # fmt: skip
        self._write, self._words, self._every_s = write, words, max(every_s, _LEAST_S)
        self._chunked, self._close, self._dialect = chunked, close, dialect
        self._timer: asyncio.TimerHandle | None = None
        self._passes = self._failed = False
        self._held = bytearray()
        self._tail = b""
        self.begun = False

    def begin(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._speak)

    def hush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def answered(self, head: Answer) -> None:
        self._failed = not head.lines.startswith(b"HTTP/1.1 200 ")
        self._passes = head.events and not self._failed

    def piece(self, data: bytes) -> bytes:
        """`data` without any framing of the engine's."""
        if self._passes:
            self._tail = data[-4:] or self._tail
            return self._framed(data)
        if len(self._held) <= _MOST_BYTES:
            self._held += data
        return b""

    def complete(self) -> bytes:
        if self._passes:
            return self._end
        try:
            lines = self._held.decode().splitlines() if len(self._held) <= _MOST_BYTES else []
        except UnicodeDecodeError:
            lines = []
        if not lines:
            return self.error(broke_off_unreadable())
        named = "event: error\n" if self._failed and self._dialect is not Dialect.OPENAI else ""
        event = "".join((named, *(f"data: {line}\n" for line in lines), "\n"))
        return self._framed(event.encode()) + self._end

    def error(self, answer: ErrorAnswer) -> bytes:
        """The last event, and the end."""
        return self._framed(render_event(answer, self._dialect, self._tail)) + self._end

    def _speak(self) -> None:
        words = " ".join(self._words().split())  # a line break would end the comment
        comment = self._framed(f": {words}\n\n".encode())
        if not self.begun:
            self.begun = True
            comment = self._head() + comment
        self._write(comment)
        self.begin()

    def _head(self) -> bytes:
        lines = [*_HEAD, date_line()]
        if self._chunked:
            lines.append(b"transfer-encoding: chunked")
        if self._close:
            lines.append(b"connection: close")
        return b"\r\n".join((*lines, b"", b""))

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data and self._chunked else data

    @property
    def _end(self) -> bytes:
        return b"0\r\n\r\n" if self._chunked else b""


def signs_of_life(
    control: Control, wanted: Wanted, request: Request, write: Callable[[Early, bytes], None], *, close: bool
) -> Early | None:
    """Begun, where the client asked for them and they can be told apart from what it waits for."""
    if request.comments_s is None or not wanted.streams:
        return None
    model = wanted.spec.model

    def words() -> str:
        outlook = control.board.outlook(model)
        return f"vllama {outlook.doing} {model}, about {max(1, round(outlook.ready_in_s))}s"

    early = Early(
        lambda data: write(early, data), words, every_s=request.comments_s, chunked=not request.to.old, close=close,
        dialect=dialect_of(request.to.path),
    )  # fmt: skip
    early.begin()
    return early


def last_event(answer: ErrorAnswer, path: bytes, tail: bytes, *, unchunked: bool) -> bytes:
    """An error that ends a stream of events whose last bytes, framing and all, were `tail`."""
    event = render_event(answer, dialect_of(path), end_of_events(tail))
    return event if unchunked else b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event)
