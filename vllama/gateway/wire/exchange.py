"""One inference request, from its last byte to the last byte of its answer; `stage` says how far it is."""

import asyncio
from collections import deque
from collections.abc import Coroutine

import structlog

from vllama.controller.demand import Grant
from vllama.controller.servers.server import Server
from vllama.domain.units import MIB
from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused, Wanted, admit, renamed, state_lines
from vllama.gateway.metrics.finished import CLIENT_GONE, Finished, Outcome, outcome_of
from vllama.gateway.metrics.usage import LOOKED_AT_BYTES, usage_of
from vllama.gateway.paths import CREATE_RESPONSE, response_id
from vllama.gateway.wire.answer import Answer, Body, beginning
from vllama.gateway.wire.attempt import Attempt, died, gone, lost, may_wait, whose
from vllama.gateway.wire.client import Client
from vllama.gateway.wire.early import Early, last_event, signs_of_life
from vllama.gateway.wire.engine import Asker, EngineConnection
from vllama.gateway.wire.framing import says_done
from vllama.gateway.wire.later import later
from vllama.gateway.wire.making import Making
from vllama.gateway.wire.passing import no_round
from vllama.gateway.wire.pool import why_not
from vllama.gateway.wire.request import Request
from vllama.gateway.wire.shared import Shared
from vllama.gateway.wire.stage import Stage

log = structlog.get_logger("vllama")
_LONG_BODY_BYTES = MIB  # renaming it takes so long that everybody else would feel it

# In Python 3.11 a member of an enum costs more than a call.
_WAITING, _ASKED, _ANSWERING, _OVER = Stage
_UNTIL_CLOSE = Body.UNTIL_CLOSE

_LAST = 4  # pieces: the last event, [DONE] and the end of the chunks may come one by one
_NOTHING: deque[bytes] = deque(maxlen=0)
_CLOSE = b"connection: close\r\n\r\n"


class Exchange:
    __slots__ = (
        "_answer", "_answer_bytes", "_arrived_at", "_asked_at", "_body", "_client", "_closes", "_early", "_endpoint",
        "_engine", "_first_byte_at", "_grant", "_last", "_making", "_request", "_request_bytes", "_server", "_shared",
        "_stage", "_status", "_task", "_transport", "_tried", "_wanted", "model", "told", "translator", "unchunked",
    )  # fmt: skip

    def __init__(self, client: Client, shared: Shared, request: Request, body: bytes | bytearray) -> None:
        """`told`: what the client sent, where `request` is a translation of it. `model`: of those that there are.
        `translator`: hears the engine in its place. `_server`: hears from here how it went. `_early`: once its head is
        out. `_tried`: engine ids of those that failed it.
        """
        self._client, self._transport = client, client.wire
        self._shared, self._request, self.told = shared, request, request
        self._body, self._request_bytes, self._answer_bytes = body, len(body), 0
        self._arrived_at = self._asked_at = shared.clock()
        self.unchunked, self._closes = request.to.old, False
        self._stage, self._status = _WAITING, 0  # not answered yet
        self._last, self.model = _NOTHING, ""
        self._tried: tuple[str, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._engine: EngineConnection | None = None
        self._server: Server | None = None
        self._answer: Answer | None = None
        self._grant: Grant | None = None
        self._making: Making | None = None
        self._early: Early | None = None
        self._first_byte_at: float | None = None
        self.translator: Asker | None = None

    # what the client does

    def begin(self) -> None:
        shared, request = self._shared, self._request
        try:
            wanted = shared.finder.find(request.to.path, request.forward, self._body)
            self._wanted, self.model = wanted, wanted.spec.model
            grant = shared.control.board.admit(self.model, wanted.keep_alive, wanted.engine_id)
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
        self.abandon_engine()

    def pause(self) -> None:
        if self._engine is not None and self._stage is _ANSWERING:
            self._engine.pause()

    def resume(self) -> None:
        if self._engine is not None and self._stage is _ANSWERING:
            self._engine.resume()

    # on the way to the engine

    def _later(self, work: Coroutine[None, None, None]) -> None:
        self._task = later(work, refuse=self.refuse, failed=self._failed)

    async def _wait(self, wanted: Wanted) -> None:
        control, request, signs = self._shared.control, self._request, self._early
        if signs is not None:
            signs.begin()
        elif self.translator is None:
            signs = signs_of_life(control, wanted, request, self._sign, close=self._client.closing)
        try:
            grant = await admit(control, wanted, max_wait_s=request.max_wait_s, body_bytes=len(self._body))
        finally:
            if signs is not None:
                signs.hush()
        self._admitted(grant)

    def _sign(self, early: Early, data: bytes) -> None:
        if self._early is None:
            self._early, self._closes, self.unchunked = early, self._client.closing, True
        self._write(data)

    def _admitted(self, grant: Grant) -> None:
        self._grant, self._endpoint = grant, grant.endpoint
        wanted, served = self._wanted, grant.endpoint.served_name
        if wanted.engine_id is not None and wanted.engine_id != grant.endpoint.engine_id and not wanted.names_model:
            raise Refused(errors.unknown_response(response_id(self._request.to.path)))
        if self._request.passed:
            no_round(self._request, grant.endpoint, self.model)
        if wanted.passes_as_it_is(served):
            self._ask()
        elif len(self._body) <= _LONG_BODY_BYTES:
            self._body = renamed(wanted, self._body, served)
            self._ask()
        else:
            self._later(self._rename(served))

    async def _rename(self, served: str) -> None:
        self._body = await asyncio.to_thread(renamed, self._wanted, self._body, served)
        self._ask()

    def _ask(self, engine: EngineConnection | None = None) -> None:
        """By `engine`, which was dialled for it, or one that waits."""
        request, asker, shared = self._request, self.translator or self, self._shared
        if engine is None and (engine := shared.pool.take(self._endpoint.engine_id)) is None:
            self._later(self._dial())
            return
        self._engine, self._stage = engine, _ASKED
        if self._task is not None:  # else nothing was waited for
            self._asked_at = shared.clock()
        if request.to.path == CREATE_RESPONSE:
            making = Making(asker, shared.makers, self._endpoint, model=self.model, body=self._body)
            self._making = asker = making
        server = None if self._grant is None else self._grant.server
        if asker is self:
            self._server = server
        elif server is not None:
            asker = Attempt(asker, server, self)
        engine.ask(asker, self._endpoint, request.forward, self._body)

    async def _dial(self) -> None:
        try:
            engine = await self._shared.pool.dial(self._endpoint)
        except OSError as error:
            why = why_not(error)
            lost(self._shared.control.board, self._grant, why)
            if self.move():
                self._ask()
            elif not self._waits_again(unsent=True):
                self.refuse(gone(self._grant, self.model, why))
        else:
            self._ask(engine)

    def move(self) -> bool:
        """Another one is to be asked, and is as good as asked; False: none is, or it was tried often enough."""
        if self._grant is None or self._wanted.engine_id is not None:
            return False
        tried = (*self._tried, self._endpoint.engine_id)
        grant = self._shared.control.board.again(self.model, self._grant, tried)
        if grant is None:
            return False
        self._grant.release()
        self._grant, self._endpoint, self._tried = grant, grant.endpoint, tried
        return True

    def ask_again(self) -> None:
        """Whoever it has moved to. Nothing of an answer was passed on yet."""
        self._stage, self._engine = _WAITING, None
        self._ask()

    def _attempt(self, server: Server) -> Attempt:
        """From the first sign of trouble it is between a server and this."""
        self._server = None
        return Attempt(self, server, self, answered=self._stage is _ANSWERING)

    # what the engine does

    def whole(self, head: Answer, length: int, data: bytes) -> None:
        grant, server, status = self._grant, self._server, head.status
        self._engine = None  # it answers somebody else by now
        if server is not None and status >= 400:
            self._attempt(server).whole(head, length, data)
            return
        if self._early is not None or grant is None:
            self.answered(head, length, data)
            self.complete()
            return
        answer = self._begun(head, length, data, grant)
        self._answer_bytes += len(answer)
        self._shared.outbox.write(self._transport, answer)
        if server is not None:
            server.went_well()
        self._over("ok", status, answer)
        self._client.finish(close=self._closes)

    def answered(self, head: Answer, length: int, data: bytes) -> None:
        grant, server = self._grant, self._server
        if server is not None and head.status >= 400 and self._engine is not None:
            attempt = self._attempt(server)
            self._engine.heard_by(attempt)
            attempt.answered(head, length, data)
            return
        if grant is None:
            raise AssertionError("an answer to what was not granted")
        self._answer, self._body = head, b""
        if self._early is None:
            begun = self._begun(head, length, data, grant)
            self._last = deque((begun,), _LAST)
            self._write(begun)
            return
        self._status, self._stage = head.status, _ANSWERING
        self._early.answered(head)
        self._last = deque((b"",), _LAST)
        if data:
            self.piece(data)

    def _begun(self, head: Answer, length: int, data: bytes, grant: Grant) -> bytes:
        """An answer as its client gets it, as far as it is there."""
        self._status, self._stage = head.status, _ANSWERING
        client, request = self._client, self._request
        closes = self._closes = request.last or client.shutting_down or head.body is _UNTIL_CLOSE
        last = _CLOSE if closes else b"\r\n"
        if request.origin is not None:
            last = client.cors + last
        return beginning(head, length, state_lines(grant), last, unchunked=self.unchunked) + data

    def piece(self, data: bytes) -> None:
        if self._first_byte_at is None:
            self._first_byte_at = self._shared.clock()
            if (engine := self._engine) is not None and not self.unchunked:
                engine.pass_chunks(self)
        if self._early is not None:
            data = self._early.piece(data)
        if len(data) <= LOOKED_AT_BYTES:
            self.chunk(data, len(data))
        else:
            self._last.append(data[-LOOKED_AT_BYTES:])
            self._answer_bytes += len(data)
            if not self._transport.is_closing():  # else the client's going is about to be told
                self._client.transport.write(data)  # at once, so that it shows whether it is taken

    def chunk(self, data: bytes, size: int) -> None:
        """What `piece` does with all but the first, for every token."""
        self._answer_bytes += size
        self._last.append(data)
        self._shared.outbox.write(self._transport, data)

    def complete(self) -> None:
        if self._early is not None:
            self._write(self._early.complete())
        if self._server is not None:
            self._server.went_well()
        self._over("ok", self._status, b"".join(self._last))
        self._client.finish(close=self._closes)

    def broken(self, why: str, *, stale: bool) -> None:
        model, server = self.model, self._server
        if self._stage is _ASKED and stale and not self._endpoint.far:
            self._stage, self._engine = _WAITING, None
            self._later(self._dial())
        elif server is not None:
            self._attempt(server).broken(why, stale=stale)
        elif died(self._shared.control.board, self._grant) and self._stage is _ASKED and self.move():
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
            self._over("engine_error", self._status, b"".join(self._last))
            error = errors.engine_broke_off(model, why, whose=whose(self._grant))
            self.piece(last_event(error, self._request.to.path, self._last[-1], unchunked=self.unchunked))
            self._client.finish(close=self._closes)
        else:
            self._over("engine_error", self._status, b"".join(self._last))
            self._client.cut(abruptly=(answer := self._answer) is not None and answer.body is _UNTIL_CLOSE)

    def _waits_again(self, *, unsent: bool = False) -> bool:
        wanted, endpoint, waited_s = self._wanted, self._endpoint, self._shared.clock() - self._arrived_at
        again = bool(self._tried) or self._early is not None
        if not may_wait(self._shared.control, self._grant, wanted, unsent=unsent, again=again, waited_s=waited_s):
            return False
        self._tried = () if unsent and endpoint.far else (endpoint.engine_id,)
        self._wanted = wanted.as_named(endpoint.served_name)  # so does the body by now
        if self._grant is not None:
            self._grant.release()
        self._stage, self._engine, self._making = _WAITING, None, None
        self._later(self._wait(self._wanted))
        return True

    def silent(self, limit_s: float) -> None:
        if self._server is not None:
            self._attempt(self._server).silent(limit_s)
        else:
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
        self._shared.outbox.write(self._transport, data)

    def _over(self, outcome: Outcome, status: int, tail: bytes = b"") -> None:
        """The grant goes back, and what happened is told. `tail`: the end of the answer, where it was one."""
        if self._stage is _OVER:
            return  # a fault of ours came behind it
        self._stage = _OVER
        shared, grant = self._shared, self._grant
        now = shared.clock()
        duration_s = now - self._arrived_at
        shared.finished(Finished(
            request=self.told, client=self._client.address, model=self.model, status=status,
            outcome="engine_error" if outcome == "ok" and status >= 500 else outcome,
            wait_s=duration_s if grant is None else grant.waited_s, duration_s=duration_s,
            first_byte_s=(self._first_byte_at or now) - self._asked_at if self._status else None,
            request_bytes=self._request_bytes, answer_bytes=self._answer_bytes,
            usage=usage_of(tail) if status == 200 else None,
            elsewhere=grant is not None and grant.server is not None,
        ))  # fmt: skip
        if grant is not None and self._making is not None:
            shared.background.hold(grant, self._making.goes_on)
        elif grant is not None:
            grant.release()

    def _failed(self) -> None:
        """A fault of ours. Its client is told no more than that, the log has it all."""
        log.exception("request failed", path=self._request.to.path.decode())  # noqa: LOG004  # called where one is handled
        begun = self._stage is _ANSWERING or self._early is not None
        self._over("internal_error", 500)
        self.abandon_engine()
        if begun:
            self._client.cut(abruptly=True)
        else:
            self._client.refuse(errors.internal())
