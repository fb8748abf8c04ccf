"""One connection to an engine: one request at a time out, its answer back."""

import asyncio
from typing import Protocol, cast

from vllama.controller.demand import Endpoint
from vllama.domain.units import KIB
from vllama.gateway.wire import answer
from vllama.gateway.wire.alike import Alike
from vllama.gateway.wire.answer import Answer, Body, Broken
from vllama.gateway.wire.framing import LENGTHS, LINES, Chunked, Counted, Framing, Unframed, UntilClose
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.outbox import WRITTEN, Outbox
from vllama.gateway.wire.passing import addressed

_END_OF_HEAD = b"\r\n\r\n"
_LONGEST_WORDS = 100
_COPIED_BYTES = 16 * KIB  # to write two pieces costs more than to copy so much
_COUNTED = Body.COUNTED  # in Python 3.11 a member of an enum costs more than a call


class Asker(Protocol):
    """Whoever asked. Exactly one of `complete`, `whole` and `broken` is called, and nothing after it."""

    unchunked: bool  # wants the body without the framing of its chunks

    def answered(self, head: Answer, length: int, data: bytes) -> None:
        """`data`: what came of the body so far; from a connection nothing yet."""
        ...

    def whole(self, head: Answer, length: int, data: bytes) -> None:
        """All of an answer at once, as short ones come: `answered` and `complete`. The connection is free by then."""
        ...

    def piece(self, data: bytes) -> None: ...

    def complete(self) -> None: ...

    def broken(self, why: str, *, stale: bool) -> None:
        """`stale`: the connection was an old one, and not a byte came back over it."""
        ...

    def silent(self, limit_s: float) -> None: ...


class Passer(Asker, Protocol):
    def chunk(self, data: bytes, size: int) -> None:
        """A whole chunk of `size` bytes, as it came: its framing is read."""
        ...


class Home(Protocol):
    """Where connections wait."""

    def give(self, connection: "EngineConnection") -> None: ...

    def forget(self, connection: "EngineConnection") -> None: ...


class EngineConnection(asyncio.Protocol):
    def __init__(self, home: Home, endpoint: Endpoint, *, limits: Limits, outbox: Outbox) -> None:
        self.engine_id = endpoint.engine_id
        self._endpoint = endpoint
        self._forward = self._begins = b""  # of the latest request, and what that endpoint was sent
        self.deadline: float | None = None
        self.rests_s = limits.pooled_s
        self._limits = limits
        self._outbox = outbox
        self._asks_in = WRITTEN  # the turn at whose end the request is written
        self._home = home
        self._asker: Asker | None = None
        self._passer: Passer | None = None
        self._passing: Passer | None = None  # where a chunk may begin
        self._framing: Framing | None = None
        self._plain: bytearray | None = None
        self._head = bytearray()
        self._read: Answer | None = None
        self._alike: Alike[Answer] | None = None
        self._reused = self._heard = self._reusable = self._paused = False
        self._loop = asyncio.get_running_loop()

    # what its user does

    def ask(self, asker: Asker, endpoint: Endpoint, forward: bytes, body: bytes | bytearray) -> None:
        """`forward`: the first line and the headers, as the client has them. `endpoint`: as it is now."""
        if forward is not self._forward or endpoint is not self._endpoint:  # nearly always both are the same
            self._forward, self._endpoint = forward, endpoint
            self._begins = b"%bhost: %b\r\n" % (addressed(forward, endpoint), endpoint.presented)
        self._asker, self._heard = asker, False
        self._passer = self._passing = None
        self._plain = bytearray() if asker.unchunked else None
        limit_s, size = self._limits.first_byte_s, len(body)
        self.deadline = None if limit_s is None else self._loop.time() + limit_s
        head = b"%bcontent-length: %d\r\n\r\n" % (self._begins, size)
        if size > _COPIED_BYTES:
            self.transport.writelines((head, body))
        else:
            self._asks_in = self._outbox.write(self.transport, head + body)

    def heard_by(self, asker: Asker) -> None:
        """The rest of the answer, by somebody else than who asked."""
        self._asker = asker

    def pass_chunks(self, passer: Passer) -> None:
        """As long as nobody else hears the answer: the short way for events, of which each is one token."""
        self._passer = passer

    def abandon(self) -> None:
        """Nobody waits for the answer any more: the engine is to see that at once."""
        self._asker = None
        self.transport.abort()

    def pause(self) -> None:
        if self._asker is None:
            return  # all of the answer was read
        self._paused, self.deadline = True, None
        self.transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        self._listen_for_idleness()
        self.transport.resume_reading()

    def close(self) -> None:
        self.transport.close()

    @property
    def between_chunks(self) -> bool:
        """The answer so far is whole chunks."""
        return self._framing is not None and self._framing.between

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        passer = self._passing
        if (
            passer is not None
            and (size := len(data)) < LENGTHS
            and data.startswith(LINES[size])  # as `is_one_chunk`, which would be one more call for every token
            and data.endswith(b"\r\n")
            and passer is self._asker
        ):
            self._heard = True
            passer.chunk(data, size)
            return
        asker, framing = self._asker, self._framing
        self._heard = True
        if asker is None:
            self.transport.close()  # it speaks unasked
        elif framing is None:
            self._head_received(asker, data)
        else:
            self._body_received(asker, framing, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._home.forget(self)
        asker, self._asker = self._asker, None
        if asker is None:
            return
        if exc is None and isinstance(self._framing, UntilClose):
            asker.complete()
        else:
            asker.broken(_words(exc), stale=self._reused and not self._heard)

    def overdue(self) -> None:
        if self._framing is not None and self._heard and self._asker is not None:
            self._heard = False  # something came since the last look: it has another such time
            self._listen_for_idleness()
            return
        asker, self._asker = self._asker, None
        self.transport.abort()
        if asker is None:
            return  # it was idle for long enough
        limit_s = self._limits.engine_idle_s
        if self._framing is None:
            asker.silent(self._limits.first_byte_s or limit_s or 0.0)
        else:
            asker.broken(f"nothing came for {limit_s:g} s", stale=False)

    # inside

    def _head_received(self, asker: Asker, data: bytes) -> None:
        if self._head:
            self._head += data
            data = bytes(self._head)
            self._head.clear()
        alike = self._alike
        if alike is not None and (length := alike.match(data)) >= 0:
            head, start = alike.read, alike.end
        else:
            try:
                found, length, start = self._read_head(data)
            except Broken as error:
                self._fail(asker, str(error))
                return
            if found is None:
                self._listen_for_idleness()
                return
            head = found
        self._reusable = head.reusable
        if head.body is _COUNTED and length == len(data) - start:  # all is there, as with most short answers
            self._free()
            asker.whole(head, length, data[start:])
            return
        asker.answered(head, length, b"")
        self._framing = framing = _framing(head.body, length)
        if not self._paused:
            self._listen_for_idleness()
        self._body_received(self._asker or asker, framing, data[start:])

    def _read_head(self, data: bytes) -> tuple[Answer | None, int, int]:
        """The head, the length of the body, and where it begins; or None, and all is kept. Raises Broken."""
        start = 0
        while True:
            end = data.find(_END_OF_HEAD, start)
            if (end if end >= 0 else len(data)) - start > self._limits.head_bytes:
                raise Broken("its answer has too long a head")
            if end < 0:
                if not data.startswith(b"HTTP/1."[: len(data) - start], start):
                    raise Broken("what it sent is not HTTP")
                self._head += data[start:]
                return None, 0, 0
            head, length = answer.parse(data[start:end], most_headers=self._limits.headers)
            if head is not None:
                if head is self._read and not start:
                    self._alike = Alike(data[:end], head)
                self._read = head
                return head, length, end + 4
            start = end + 4

    def _body_received(self, asker: Asker, framing: Framing, data: bytes) -> None:
        plain = self._plain
        try:
            used = framing.feed(data, plain)
        except Unframed as error:
            self._fail(asker, str(error))
            return
        if plain is not None:
            data = bytes(plain)
            plain.clear()
        elif used < len(data):  # only where the answer ends before that
            data, self._reusable = data[:used], False
        if data:
            asker.piece(data)
        self._passing = self._passer if framing.between else None  # it is not, where all is done
        if framing.done:
            self._framing = None
            self._free()
            asker.complete()

    def _listen_for_idleness(self) -> None:
        limit_s = self._limits.engine_idle_s
        self.deadline = None if limit_s is None else self._loop.time() + limit_s

    def _free(self) -> None:
        """The answer is all there: somebody else may ask."""
        self._asker = None
        self._reused = True
        if self._reusable and self._asks_in != self._outbox.turn and not self.transport.get_write_buffer_size():
            if self._paused:
                self._paused = False
                self.transport.resume_reading()
            self._home.give(self)
        else:
            self.transport.abort()

    def _fail(self, asker: Asker, why: str) -> None:
        self._asker = None
        self.transport.abort()
        asker.broken(why, stale=False)


def _framing(body: Body, length: int) -> Framing:
    match body:
        case Body.NONE:
            return Counted(0)
        case Body.COUNTED:
            return Counted(length)
        case Body.CHUNKED:
            return Chunked()
        case Body.UNTIL_CLOSE:
            return UntilClose()


def _words(error: Exception | None) -> str:
    if error is None:
        return "it closed the connection"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:_LONGEST_WORDS].rstrip(".")
