"""Stands between a connection to an engine and its exchange, and translates what comes into Ollama's words.

Whatever comes is passed on before the next piece is read, so a slow client still pauses the engine. Only what cannot
be told in pieces is kept: an event until it is whole, an answer that is one object.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

import msgspec

from vllama.domain.units import MIB
from vllama.gateway import errors
from vllama.gateway.dialects import Dialect, render_event
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.ollama import chunks, lines
from vllama.gateway.ollama.ask import Asked
from vllama.gateway.ollama.events import Events, TooLong
from vllama.gateway.ollama.lines import Lines, Times
from vllama.gateway.wire.answer import Answer, Body
from vllama.gateway.wire.exchange import Exchange
from vllama.gateway.wire.stamp import SERVER_LINE

LONGEST_ANSWER_BYTES = 256 * MIB  # of embeddings: 3,000 texts at 4,096 numbers each are 150 MB
_LONG_BYTES = MIB  # to translate that takes so long that everybody else would feel it
_LINES, _OBJECT = (
    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n" % (kind, SERVER_LINE)
    for kind in (b"application/x-ndjson", b"application/json; charset=utf-8")
)
_KNOWN = {status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST}


class Interpreter:
    """`model`: the name that the client used, for the engine's client is to see no other."""

    unchunked = True

    def __init__(self, exchange: Exchange, asked: Asked, *, model: str, times: Times,
                 clock: Callable[[], float], wall: Callable[[], datetime]) -> None:  # fmt: skip
        self._exchange, self._asked, self._model = exchange, asked, model
        self._times, self._clock = times, clock
        self._lines = Lines(kind=asked.kind, model=model, streamed=asked.streamed, times=times, wall=wall)
        self._events = Events()
        self._kept = bytearray()
        self._status = 0
        self._begun = self._done = self._over = False

    # what the engine's connection calls

    def answered(self, head: Answer, _length: int, data: bytes) -> None:
        self._status = head.status
        self._times.waited_s = self._exchange.waited_s
        if data:
            self.piece(data)

    def whole(self, head: Answer, length: int, data: bytes) -> None:
        self.answered(head, length, data)
        self.complete()

    def piece(self, data: bytes) -> None:
        if self._over:
            return
        if self._status == HTTPStatus.OK and self._asked.kind.generates:
            self._hear(data)
        else:
            self._kept += data
            if len(self._kept) > LONGEST_ANSWER_BYTES:
                self._fail(self._spoiled("its answer is too long to be translated"))

    def complete(self) -> None:
        if self._over:
            return
        if self._status != HTTPStatus.OK:
            self._over = True
            self._exchange.refuse(self._refusal())
        elif not self._asked.kind.generates:
            self._over = True
            self._exchange.finish_with(self._vectors())
        elif not self._done:
            self._fail(self._spoiled("it ended without saying so"))
        else:
            self._over = True
            self._end()

    def broken(self, why: str, *, stale: bool) -> None:
        if self._over:
            return
        if self._begun:
            self._fail(self._spoiled(why))
        else:
            self._exchange.broken(why, stale=stale)

    def silent(self, limit_s: float) -> None:
        self._exchange.silent(limit_s)

    # events

    def _hear(self, data: bytes) -> None:
        said: list[bytes] = []
        try:
            for event in self._events.feed(data):
                said.append(self._understand(event))  # noqa: PERF401  # those before a failure count
        except TooLong:
            failure = self._spoiled("one of its events has no end")
        except (msgspec.DecodeError, UnicodeDecodeError):
            failure = self._spoiled("one of its events cannot be read")
        except _EngineError as error:
            failure = error.answer
        else:
            self._say(b"".join(said))
            return
        self._say(b"".join(said))
        self._fail(failure)

    def _understand(self, event: bytes) -> bytes:
        now = self._clock()
        if self._done:
            return b""
        if event == b"[DONE]":
            self._done = True
            return self._lines.end(now)
        chunk = chunks.chunk_of(event)
        if chunk.error is not None:
            raise _EngineError(chunk.error)
        return self._lines.feed(chunk, now)

    def _say(self, said: bytes) -> None:
        if not said:
            return
        if not self._asked.streamed:
            self._kept += said  # only the last line, which has it all
            return
        piece = said if self._exchange.unchunked else b"%x\r\n%b\r\n" % (len(said), said)
        if self._begun:
            self._exchange.piece(piece)
        else:
            self._begun = True
            body = Body.UNTIL_CLOSE if self._exchange.unchunked else Body.CHUNKED
            head = Answer(lines=_LINES, body=body, dated=False, reusable=True, events=False)
            self._exchange.answered(head, 0, piece)

    # the end

    def _end(self) -> None:
        if self._asked.streamed:
            if not self._exchange.unchunked:
                self._exchange.piece(b"0\r\n\r\n")
            self._exchange.complete()
        else:
            self._whole(bytes(self._kept).rstrip(b"\n"))

    def _whole(self, body: bytes) -> None:
        head = Answer(lines=_OBJECT, body=Body.COUNTED, dated=False, reusable=True, events=False)
        self._exchange.answered(head, len(body), body)
        self._exchange.complete()

    def _fail(self, answer: ErrorAnswer) -> None:
        """What came so far stays said; the engine is to see that nobody listens any more."""
        self._exchange.abandon_engine()
        if self._begun:
            self._say(render_event(answer, Dialect.OLLAMA, b""))
            self._over = True
            self._end()
        else:
            self._over = True
            self._exchange.refuse(answer)

    def _spoiled(self, why: str) -> ErrorAnswer:
        return errors.engine_broke_off(self._exchange.model, why)

    def _refusal(self) -> ErrorAnswer:
        """What the engine said instead of an answer, with its status."""
        said = chunks.error_of(self._kept) or f"The engine of {self._exchange.model!r} answered {self._status}."
        return ErrorAnswer(status=self._status if self._status in _KNOWN else 502, code="engine_error", message=said)

    async def _vectors(self) -> None:
        body, self._kept = self._kept, bytearray()
        try:
            said = (
                await asyncio.to_thread(self._embeddings, body) if len(body) > _LONG_BYTES else self._embeddings(body)
            )
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._exchange.refuse(self._spoiled("its answer cannot be read"))
        else:
            self._whole(said)

    def _embeddings(self, body: bytearray) -> bytes:
        vectors = chunks.vectors_of(body)
        return lines.embeddings(self._asked.kind, vectors, model=self._model, times=self._times, now=self._clock())


class _EngineError(Exception):
    """An event that is an error."""

    def __init__(self, error: object) -> None:
        super().__init__()
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and code in _KNOWN else 500
        self.answer = ErrorAnswer(status=status, code="engine_error", message=chunks.sentence_of(error))
