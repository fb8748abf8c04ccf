"""One websocket of /v1/realtime between a client and an engine, which it keeps in flight.

ASKED    it names its model in the URL, and its handshake is answered when the engine's is
GREETED  it names none yet: it is greeted as vLLM greets, and what it sends is kept until a `session.update` names one
OPEN     bytes pass both ways, frame by frame only so that an alias is renamed and the end is seen
OVER     the grant is given back; nothing happens any more
"""

import asyncio
import enum
from typing import Protocol

import structlog

from vllama.controller.control import Unresolved
from vllama.controller.demand import Grant
from vllama.engine.tasks import LISTENS
from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused, Wanted, admit, resolved, state_lines
from vllama.gateway.metrics.finished import CLIENT_GONE, Finished, Outcome, outcome_of
from vllama.gateway.names import rewrite
from vllama.gateway.paths import REALTIME
from vllama.gateway.wire.engine_socket import EngineSocket
from vllama.gateway.wire.passing import no_round
from vllama.gateway.wire.pool import why_not
from vllama.gateway.wire.realtime import (
    error_frame,
    is_session_created,
    model_in_query,
    model_in_update,
    session_created,
)
from vllama.gateway.wire.request import Request
from vllama.gateway.wire.shared import Shared
from vllama.gateway.wire.stamp import SERVER_LINE, date_line
from vllama.gateway.wire.websocket import (
    BROKEN,
    CLOSE,
    GOING_AWAY,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    BadFrames,
    Frame,
    Frames,
    accept_of,
    close_frame,
    frame,
)

log = structlog.get_logger("vllama")
_SHORT_BYTES = 16_384  # no event but those with sound is longer
_MOST_HELD_BYTES = 1 << 20  # of what comes before the engine is there


class Client(Protocol):
    address: str

    @property
    def transport(self) -> asyncio.Transport: ...

    def refuse(self, answer: ErrorAnswer) -> None:
        """The whole answer, instead of a websocket; the tunnel is over."""
        ...

    def finish(self, *, close: bool) -> None:
        """The last byte is written; the tunnel is over."""
        ...


class Stage(enum.Enum):
    ASKED = "asked"
    GREETED = "greeted"
    OPEN = "open"
    OVER = "over"


class Tunnel:
    def __init__(self, client: Client, shared: Shared, request: Request) -> None:
        self.deadline: float | None = None
        self._arrived_at = shared.clock()
        self._heard_bytes = self._said_bytes = 0
        self._is_told = False
        self._client = client
        self._shared = shared
        self._request = request
        self._stage = Stage.ASKED
        self._task: asyncio.Task[None] | None = None
        self._wanted: Wanted | None = None
        self._grant: Grant | None = None
        self._engine: EngineSocket | None = None
        self._greeted = False
        self._held: list[Frame | bytes] = []
        self._held_bytes = 0
        self._update: Frame | None = None  # the one that an engine is looked for
        self._from_client = Frames(masked=True, short_bytes=_SHORT_BYTES)
        self._from_engine = Frames(masked=False, short_bytes=_SHORT_BYTES)

    def begin(self) -> None:
        self._shared.tunnels.add(self)
        self._shared.watch.add(self)
        model = model_in_query(self._request.to.target)
        if model is not None:
            self._look_for(model)
            return
        self._stage, self._greeted = Stage.GREETED, True
        self._accept(b"", None)
        self._client.transport.write(session_created())
        self._touch()

    # what the client does

    def received(self, data: bytes) -> None:
        self._heard_bytes += len(data)
        try:
            came = self._from_client.feed(data)
        except BadFrames as error:
            self._end(PROTOCOL_ERROR, f"{error}.")
            return
        for one in came:
            if self._stage is Stage.OPEN:
                self._pass_to_engine(one)
            elif self._stage is not Stage.OVER:
                self._hold(one)

    def leave(self) -> None:
        """The client is gone."""
        if self._stage is not Stage.OVER:
            if self._stage is not Stage.OPEN:
                self._tell("client_gone", CLIENT_GONE)
            self._over(GOING_AWAY, "The client is gone.")

    def pause(self) -> None:
        if self._engine is not None and self._stage is Stage.OPEN:
            self._engine.pause()

    def resume(self) -> None:
        if self._engine is not None and self._stage is Stage.OPEN:
            self._engine.resume()

    def go_away(self) -> None:
        """The server stops. Who still waits for a model is told by the board."""
        if self._stage in {Stage.GREETED, Stage.OPEN}:
            self._end(GOING_AWAY, "vllama is shutting down.")

    def overdue(self) -> None:
        if self._stage is not Stage.OPEN and self._wanted is not None and self._grant is not None:
            self._refuse(errors.engine_silent(self._wanted.spec.model, self._shared.limits.head_s))
        elif self._stage is not Stage.OVER:
            self._end(GOING_AWAY, f"Nothing was said for {self._shared.limits.tunnel_idle_s:g} s.")

    # on the way to the engine

    def _look_for(self, model: str) -> None:
        self.deadline = None  # the queue has its own
        self._task = asyncio.get_running_loop().create_task(self._open(model))

    async def _open(self, model: str) -> None:
        try:
            self._wanted = wanted = resolved(self._shared.control, model, REALTIME, LISTENS)
            while self._engine is None:
                self._engine = await self._reach(wanted)
        except Refused as refused:
            self._refuse(refused.answer)
        except OSError as error:
            if self._grant is not None and self._grant.server is not None:
                self._grant.server.went_wrong(why_not(error))
            self._refuse(errors.engine_gone(model, why_not(error)))
        except Exception:
            log.exception("websocket failed")  # and its client is told, whatever it is
            self._refuse(errors.internal())

    async def _reach(self, wanted: Wanted) -> EngineSocket | None:
        """None: an engine on another machine took no connection, so another one is asked, or it is waited for."""
        shared, request = self._shared, self._request.forward
        self._grant = grant = await admit(
            shared.control, wanted, max_wait_s=self._request.max_wait_s, body_bytes=self._held_bytes
        )  # fmt: skip
        self.deadline = shared.loop.time() + shared.limits.head_s
        no_round(self._request, grant.endpoint, wanted.spec.model)
        try:
            return await EngineSocket.dial(grant.endpoint, self, request, limits=shared.limits)
        except OSError as error:
            if not grant.endpoint.far or shared.clock() - self._arrived_at >= wanted.spec.queue_timeout_s:
                raise
            shared.control.board.unreachable(grant, why_not(error))
            self._grant = self.deadline = None
            grant.release()
            return None

    def _hold(self, one: Frame | bytes) -> None:
        """What comes before the engine is there."""
        opcode = one.opcode if isinstance(one, Frame) else None
        if isinstance(one, Frame) and opcode == PING and self._greeted:
            self._client.transport.write(frame(PONG, one.payload, masked=False))
            return
        if isinstance(one, Frame) and opcode == CLOSE and self._greeted:
            self._client.transport.write(frame(CLOSE, one.payload, masked=False))
            self._over(GOING_AWAY, "The client is gone.")
            self._client.finish(close=True)
            return
        self._held.append(one)
        self._held_bytes += len(one.raw if isinstance(one, Frame) else one)
        if self._held_bytes > _MOST_HELD_BYTES:
            self._end(TOO_BIG, "So much cannot be kept before a session.update names the model, and that is ready.")
        elif self._update is None and self._greeted and isinstance(one, Frame):
            model = model_in_update(one)
            if model is not None:
                self._update = one
                self._look_for(model)

    def _pass_to_engine(self, one: Frame | bytes) -> None:
        engine, wanted = self._engine, self._wanted
        if engine is None or wanted is None:
            raise AssertionError("open without an engine")
        if isinstance(one, bytes):
            self._touch()
            engine.write(one)
            return
        if one.is_data:
            self._touch()
        model = model_in_update(one)
        engine.write(one.raw if model is None else self._renamed(one, model, wanted))

    def _renamed(self, update: Frame, model: str, wanted: Wanted) -> bytes:
        """For the engine, which knows its model by one name only."""
        if self._grant is None:
            raise AssertionError("open without a grant")
        served = self._grant.endpoint.served_name
        found = self._shared.control.resolve(model)
        if model == served or isinstance(found, Unresolved) or found.model != wanted.spec.model:
            return update.raw
        return frame(TEXT, rewrite(update.payload, served), masked=True)

    # what the engine does

    def engine_opened(self, subprotocol: bytes | None) -> None:
        if self._grant is None or self._stage is Stage.OVER:
            return
        if not self._greeted:
            self._accept(state_lines(self._grant), subprotocol)
        self._stage = Stage.OPEN
        held, self._held = self._held, []
        for one in held:
            self._pass_to_engine(one)
        self._touch()

    def engine_refused(self, status: int | None) -> None:
        model = self._wanted.spec.model if self._wanted is not None else ""
        if status is None:
            self._refuse(errors.engine_gone(model, "it did not answer as one does who takes websockets"))
        else:
            self._refuse(errors.no_websocket_there(model, status))

    def engine_said(self, data: bytes) -> None:
        self._said_bytes += len(data)
        if self._stage is not Stage.OPEN:
            return
        try:
            came = self._from_engine.feed(data)
        except BadFrames as error:
            log.warning("an engine sent no frames", why=str(error))
            self._client.transport.abort()
            return
        passing = []
        for one in came:
            if isinstance(one, bytes) or one.is_data:
                self._touch()
                greets, self._greeted = self._greeted and is_session_created(one), False
                if greets:
                    continue  # that was said already
            passing.append(one if isinstance(one, bytes) else one.raw)
        if passing and not self._client.transport.is_closing():
            self._client.transport.write(b"".join(passing))

    def engine_closed(self) -> None:
        self._end(BROKEN, "The engine went away.")

    def engine_is_full(self, *, full: bool) -> None:
        if self._stage is not Stage.OPEN or self._client.transport.is_closing():
            return
        if full:
            self._client.transport.pause_reading()
        else:
            self._client.transport.resume_reading()

    # inside

    def _accept(self, further: bytes, subprotocol: bytes | None) -> None:
        chosen = b"sec-websocket-protocol: %b\r\n" % subprotocol if subprotocol is not None else b""
        self._client.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-accept: %b\r\n%b%b%b\r\n%b\r\n\r\n"
            % (accept_of(self._request.websocket_key or b""), chosen, further, date_line(), SERVER_LINE)
        )

    def _touch(self) -> None:
        self.deadline = self._shared.loop.time() + self._shared.limits.tunnel_idle_s

    def _refuse(self, answer: ErrorAnswer) -> None:
        """Greeted, the client may name another model; else this is its answer."""
        if self._stage is Stage.OVER:
            return
        if self._stage is Stage.ASKED:
            self._tell(outcome_of(answer), answer.status)
            self._over(GOING_AWAY, "")
            self._client.refuse(answer)
            return
        self._give_back()
        if self._update is not None:
            self._held.remove(self._update)
            self._held_bytes -= len(self._update.raw)
            self._update = None
        self._client.transport.write(error_frame(answer.message, answer.code))
        self._touch()

    def _end(self, code: int, reason: str) -> None:
        """Both are told, where there is somebody to tell."""
        if self._stage is Stage.OVER:
            return
        greeted = self._stage is not Stage.ASKED
        self._over(code, reason)
        if greeted and self._from_engine.between and not self._from_engine.closed:
            self._client.transport.write(close_frame(code, reason, masked=False))
        self._client.finish(close=True)

    def _over(self, code: int, reason: str) -> None:
        opened = self._stage is Stage.OPEN
        self._stage = Stage.OVER
        self._tell("engine_error" if code == BROKEN else "ok", 101)
        self.deadline = None
        self._shared.watch.discard(self)
        self._shared.tunnels.discard(self)
        if self._engine is not None and opened and self._from_client.between and not self._from_client.closed:
            self._engine.write(close_frame(code, reason, masked=True))
        self._give_back()

    def _tell(self, outcome: Outcome, status: int) -> None:
        """Once, and the first word counts. Either side may end a websocket, so its end is no failure."""
        if self._is_told:
            return
        self._is_told = True
        duration_s = self._shared.clock() - self._arrived_at
        self._shared.finished(
            Finished(
                request=self._request,
                client=self._client.address,
                model="" if self._wanted is None else self._wanted.spec.model,
                outcome=outcome,
                status=status,
                wait_s=duration_s if self._grant is None else self._grant.waited_s,
                duration_s=duration_s,
                request_bytes=self._heard_bytes,
                answer_bytes=self._said_bytes,
                elsewhere=self._grant is not None and self._grant.server is not None,
            )
        )

    def _give_back(self) -> None:
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        grant, self._grant = self._grant, None
        if grant is not None:
            grant.release()
