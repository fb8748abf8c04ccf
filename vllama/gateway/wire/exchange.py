"""One inference request, from its last byte to the last byte of its answer.

WAITING    for the model to be ready, for a long body to be renamed, for a connection
ASKED      the engine has it and has said nothing
ANSWERING  the head of the answer is passed on
OVER       the grant is given back; nothing happens any more
"""

import asyncio
from collections import deque
from collections.abc import Coroutine

import structlog

from vllama.controller.demand import Grant
from vllama.domain.units import MIB
from vllama.gateway import errors
from vllama.gateway.dialects import dialect_of, render_event
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused, Wanted, admit, continuing, find, find_maker, renamed, state_lines
from vllama.gateway.metrics.finished import CLIENT_GONE, Finished, Outcome, outcome_of
from vllama.gateway.metrics.usage import LOOKED_AT_BYTES, usage_of
from vllama.gateway.paths import CREATE_RESPONSE, Way, response_id
from vllama.gateway.wire.answer import Answer, Body, framing_lines
from vllama.gateway.wire.attempt import Attempt, addressed, died, gone, lost, no_round, taken_down, whose
from vllama.gateway.wire.client import Client
from vllama.gateway.wire.early import Early, words_of
from vllama.gateway.wire.engine import Asker, EngineConnection
from vllama.gateway.wire.framing import end_of_events, says_done
from vllama.gateway.wire.making import Making
from vllama.gateway.wire.request import Request
from vllama.gateway.wire.shared import Shared
from vllama.gateway.wire.stage import Stage

log = structlog.get_logger("vllama")
_LONG_BODY_BYTES = MIB  # renaming it takes so long that everybody else would feel it

# In Python 3.11 a member of an enum costs more than a call.
_WAITING, _ASKED, _ANSWERING, _OVER = Stage
_UNTIL_CLOSE = Body.UNTIL_CLOSE
_RESPONSE = Way.RESPONSE

_LAST = 4  # pieces: the last event, [DONE] and the end of the chunks may come one by one
_NOTHING: deque[bytes] = deque(maxlen=0)


class Exchange:
    __slots__ = (
        "_answer", "_answer_bytes", "_arrived_at", "_asked_at", "_body", "_client", "_closes", "_control", "_early",
        "_endpoint", "_engine", "_first_byte_at", "_grant", "_last", "_making", "_pool", "_request",
        "_request_bytes", "_shared", "_stage", "_status", "_task", "_told", "_transport", "_tried", "_wanted",
        "model", "translator", "unchunked",
    )  # fmt: skip

    def __init__(
        self, client: Client, shared: Shared, request: Request, body: bytes | bytearray, *, told: Request | None = None
    ) -> None:
        """`told`: what the client sent, where `request` is a translation of it."""
        self.unchunked = request.to.old
        self.translator: Asker | None = None  # hears the engine in its place
        self._client = client
        self._transport = client.transport
        self._control = shared.control
        self._pool = shared.pool
        self._shared, self._request = shared, request
        self._told = told or request
        self._body = body
        self._request_bytes, self._answer_bytes = len(body), 0
        self._arrived_at = self._asked_at = shared.clock()
        self._first_byte_at: float | None = None
        self.model = ""  # of those that there are
        self._stage = _WAITING
        self._task: asyncio.Task[None] | None = None
        self._engine: EngineConnection | None = None
        self._answer: Answer | None = None
        self._status = 0  # not answered yet
        self._grant: Grant | None = None
        self._making: Making | None = None
        self._early: Early | None = None  # once its head is out
        self._tried: tuple[str, ...] = ()  # engine ids of those that failed it
        self._last = _NOTHING
        self._closes = False

    # what the client does

    def begin(self) -> None:
        try:
            self._wanted = wanted = self._find()
            self.model = wanted.spec.model
            grant = self._control.board.admit(self.model, wanted.keep_alive, engine_id=wanted.engine_id)
            if grant is None:
                self._later(self._wait(wanted))
            else:
                self._admitted(grant)
        except Refused as refused:
            self.refuse(refused.answer)
        except Exception:  # noqa: BLE001  # whatever it is, its client gets an answer
            self._failed()

    def leave(self) -> None:
        """The client is gone: nothing waits for it, nothing is generated for it."""
        if self._stage is _OVER:
            return
        self._over("client_gone", CLIENT_GONE)
        if self._task is not None:
            self._task.cancel()
        if self._engine is not None:
            self._engine.abandon()

    def pause(self) -> None:
        if self._engine is not None and self._stage is _ANSWERING:
            self._engine.pause()

    def resume(self) -> None:
        if self._engine is not None and self._stage is _ANSWERING:
            self._engine.resume()

    # on the way to the engine

    def _find(self) -> Wanted:
        request = self._request
        if request.to.way is _RESPONSE:
            return find_maker(self._control, self._shared.makers, request.to.path)
        wanted = find(self._control, request.to.path, request.forward, self._body)
        return continuing(self._control, self._shared.makers, wanted) if request.to.path == CREATE_RESPONSE else wanted

    def _later(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._task.add_done_callback(lambda _: work.close())  # cancelled before it began, it would never be

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Refused as refused:
            self.refuse(refused.answer)
        except Exception:  # noqa: BLE001  # whatever it is, its client gets an answer
            self._failed()

    async def _wait(self, wanted: Wanted) -> None:
        signs = self._signs_of_life(wanted)
        try:
            grant = await admit(
                self._control, wanted, max_wait_s=self._request.max_wait_s, body_bytes=len(self._body)
            )  # fmt: skip
        finally:
            if signs is not None:
                signs.hush()
        self._admitted(grant)

    def _signs_of_life(self, wanted: Wanted) -> Early | None:
        every_s = self._request.comments_s
        if self._early is not None:
            self._early.begin()
            return self._early
        if every_s is None or not wanted.streams or self.translator is not None:
            return None

        def write(data: bytes) -> None:
            if self._early is None:
                self._early, self._closes, self.unchunked = early, self._client.closing, True
            self._write(data)

        to, words = self._request.to, words_of(self._control, wanted)
        early = Early(
            write, words, every_s=every_s, chunked=not to.old, close=self._client.closing, dialect=dialect_of(to.path)
        )  # fmt: skip
        early.begin()
        return early

    def _admitted(self, grant: Grant) -> None:
        self._grant, self._endpoint = grant, grant.endpoint
        only = self._wanted.engine_id
        if only is not None and only != self._endpoint.engine_id and not self._wanted.names_model:
            raise Refused(errors.unknown_response(response_id(self._request.to.path)))
        if grant.server is not None:
            no_round(self._request.forward, self._endpoint, self.model)
        served = self._endpoint.served_name
        if self._wanted.passes_as_it_is(served):
            self._ask()
        elif len(self._body) <= _LONG_BODY_BYTES:
            self._body = renamed(self._wanted, self._body, served)
            self._ask()
        else:
            self._later(self._rename(served))

    async def _rename(self, served: str) -> None:
        self._body = await asyncio.to_thread(renamed, self._wanted, self._body, served)
        self._ask()

    def _ask(self) -> None:
        engine = self._pool.take(self._endpoint.engine_id)
        if engine is None:
            self._later(self._dial())
        else:
            self._send(engine)

    async def _dial(self) -> None:
        try:
            engine = await self._pool.dial(self._endpoint)
        except OSError as error:
            why = "it does not take connections" if isinstance(error, TimeoutError) else error.strerror or str(error)
            lost(self._control.board, self._grant, why)
            if self.move():
                self._ask()
            elif not self._waits_again(unsent=True):
                self.refuse(gone(self._grant, self.model, why))
        else:
            self._send(engine)

    def move(self) -> bool:
        """Another one is to be asked, and is as good as asked; False: none is, or it was tried often enough."""
        if self._grant is None or self._wanted.engine_id is not None:
            return False
        tried = (*self._tried, self._endpoint.engine_id)
        grant = self._control.board.again(self.model, self._grant, tried)
        if grant is None:
            return False
        self._grant.release()
        self._grant, self._endpoint, self._tried = grant, grant.endpoint, tried
        return True

    def ask_again(self) -> None:
        """Whoever it has moved to. Nothing of an answer was passed on yet."""
        self._stage, self._engine = _WAITING, None
        self._ask()

    def _send(self, engine: EngineConnection) -> None:
        forward = self._request.forward
        if self._grant is not None and self._grant.server is not None:
            forward = addressed(forward, self._endpoint)
        head = b"%bhost: %b\r\ncontent-length: %d\r\n\r\n" % (forward, engine.host, len(self._body))
        self._engine, self._stage = engine, _ASKED
        if self._task is not None:  # else nothing was waited for
            self._asked_at = self._shared.clock()
        engine.ask(self._asker(), head, self._body)

    def _asker(self) -> Asker:
        asker = self.translator or self
        if self._request.to.path == CREATE_RESPONSE:
            model = self.model
            self._making = asker = Making(self, self._shared.makers, self._endpoint, model=model, body=self._body)
        grant = self._grant
        return asker if grant is None or grant.server is None else Attempt(asker, grant.server, self)

    # what the engine does

    def answered(self, head: Answer, length: int, data: bytes) -> None:
        grant = self._grant
        if grant is None:
            raise AssertionError("an answer to what was not granted")
        self._answer, self._status, self._stage = head, head.status, _ANSWERING
        self._body = b""
        if self._early is not None:
            self._early.answered(head)
            self._last = deque((b"",), _LAST)
            if data:
                self.piece(data)
            return
        closes = self._closes = self._client.closing or head.body is _UNTIL_CLOSE
        framing = framing_lines(head, length, unchunked=self.unchunked)
        last = b"connection: close\r\n\r\n" if closes else b"\r\n"
        data = b"".join((head.lines, state_lines(grant), framing, self._client.cors, last, data))
        self._last = deque((data,), _LAST)
        self._write(data)

    def piece(self, data: bytes) -> None:
        if self._first_byte_at is None:
            self._first_byte_at = self._shared.clock()
        if self._early is not None:
            data = self._early.piece(data)
        size = len(data)
        self._answer_bytes += size
        self._last.append(data if size <= LOOKED_AT_BYTES else data[-LOOKED_AT_BYTES:])
        if self._shared.outbox.collects():  # as in `_write`, which would be one more call for every token
            self._client.write_soon(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def complete(self) -> None:
        if self._early is not None:
            self._write(self._early.complete())
        self._over("ok", self._status)
        self._client.finish(close=self._closes)

    def broken(self, why: str, *, stale: bool) -> None:
        model = self.model
        if self._stage is _ASKED and stale and not self._endpoint.far:
            self._stage, self._engine = _WAITING, None
            self._later(self._dial())
        elif died(self._control.board, self._grant) and self._stage is _ASKED and self.move():
            self.ask_again()
        elif self._stage is _ASKED:
            if not self._waits_again():
                self.refuse(gone(self._grant, model, why))
        elif self._takes_events and says_done(b"".join(self._last)):  # nothing is missing but the end
            self._write(b"" if self._early is not None or self.unchunked else b"0\r\n\r\n")
            self.complete()
        elif self._early is not None:
            self.refuse(errors.engine_broke_off(model, why, whose=whose(self._grant)))
        elif self._takes_events:
            self._over("engine_error", self._status)
            error = errors.engine_broke_off(model, why, whose=whose(self._grant))
            event = render_event(error, dialect_of(self._request.to.path), end_of_events(self._last[-1]))
            self.piece(event if self.unchunked else b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
            self._client.finish(close=self._closes)
        else:
            self._over("engine_error", self._status)
            self._client.cut(abruptly=(answer := self._answer) is not None and answer.body is _UNTIL_CLOSE)

    def _waits_again(self, *, unsent: bool = False) -> bool:
        """Where its engine was taken down since it hung. Once: it may be this very request that made it hang.

        What no engine on another machine was sent (`unsent`) waits till one can be reached, as long as it may at all.
        """
        if unsent and self._endpoint.far:
            waited_s = self._shared.clock() - self._arrived_at
            if self._wanted.engine_id is not None or waited_s >= self._wanted.spec.queue_timeout_s:
                return False
            self._tried = ()
        else:
            if self._tried or self._early is not None or not taken_down(self._control, self._grant, self._wanted):
                return False
            self._tried = (self._endpoint.engine_id,)
        self._wanted = self._wanted.as_named(self._endpoint.served_name)  # so does the body by now
        if self._grant is not None:
            self._grant.release()
        self._stage, self._engine, self._making = _WAITING, None, None
        self._later(self._wait(self._wanted))
        return True

    def silent(self, limit_s: float) -> None:
        self.refuse(errors.engine_silent(self.model, limit_s, whose=whose(self._grant)))

    # what a translator does beside that

    @property
    def waited_s(self) -> float:
        return 0.0 if self._grant is None else self._grant.waited_s

    def refuse(self, answer: ErrorAnswer) -> None:
        self._over(outcome_of(answer), answer.status)
        if self._early is None:
            self._client.refuse(answer)
        else:
            self._write(self._early.error(answer))
            self._client.finish(close=self._closes)

    def finish_with(self, work: Coroutine[None, None, None]) -> None:
        """The engine has said all; `work` tells it to the client."""
        self._engine = None  # it answers somebody else by now
        self._later(work)

    def abandon_engine(self) -> None:
        """Not a byte more of its answer is wanted."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.abandon()

    # inside

    @property
    def _takes_events(self) -> bool:
        """What was passed on so far is whole chunks of a stream of events, so that one more can follow."""
        answer, engine = self._answer, self._engine
        return answer is not None and answer.events and engine is not None and engine.between_chunks

    def _write(self, data: bytes) -> None:
        self._answer_bytes += len(data)
        if self._shared.outbox.collects():
            self._client.write_soon(data)
        elif not self._transport.is_closing():  # else the client's going is about to be told
            self._transport.write(data)

    def _over(self, outcome: Outcome, status: int) -> None:
        """The grant goes back, and what happened is told. Once: a fault of ours may come behind the end."""
        if self._stage is _OVER:
            return
        self._stage = _OVER
        shared, grant = self._shared, self._grant
        now = shared.clock()
        duration_s = now - self._arrived_at
        told = Finished(
            request=self._told, client=self._client.address, model=self.model, status=status,
            outcome="engine_error" if outcome == "ok" and status >= 500 else outcome,
            wait_s=duration_s if grant is None else grant.waited_s, duration_s=duration_s,
            first_byte_s=(self._first_byte_at or now) - self._asked_at if self._status else None,
            request_bytes=self._request_bytes, answer_bytes=self._answer_bytes,
            usage=usage_of(self._last) if status == 200 else None,
            elsewhere=grant is not None and grant.server is not None,
        )  # fmt: skip
        shared.finished(told)
        if grant is None:
            return
        goes_on = self._making.goes_on if self._making is not None else None
        if goes_on is not None:
            shared.background.hold(grant, goes_on)
        else:
            grant.release()

    def _failed(self) -> None:
        """A fault of ours. Its client is told no more than that, the log has it all."""
        log.exception("request failed", path=self._request.to.path.decode())  # noqa: LOG004  # called where one is handled
        begun, engine = self._stage is _ANSWERING or self._early is not None, self._engine
        self._over("internal_error", 500)
        if engine is not None:
            engine.abandon()
        if begun:
            self._client.cut(abruptly=True)
        else:
            self._client.refuse(errors.internal())
