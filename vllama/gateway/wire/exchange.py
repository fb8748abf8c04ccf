"""One inference request, from its last byte to the last byte of its answer.

WAITING    for the model to be ready, for a long body to be renamed, for a connection
ASKED      the engine has it and has said nothing
ANSWERING  the head of the answer is passed on
OVER       the grant is given back; nothing happens any more
"""

import asyncio
import enum
from collections.abc import Coroutine
from typing import Protocol

import structlog

from vllama.controller.demand import Grant
from vllama.domain.units import MIB
from vllama.gateway import errors
from vllama.gateway.dialects import dialect_of, render_event
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused, Wanted, admit, find, find_maker, renamed, state_lines
from vllama.gateway.paths import CREATE_RESPONSE, Way, response_id
from vllama.gateway.wire.answer import Answer, Body
from vllama.gateway.wire.attempt import Attempt, addressed, gone, no_round, whose
from vllama.gateway.wire.early import Early
from vllama.gateway.wire.engine import Asker, EngineConnection
from vllama.gateway.wire.making import Making
from vllama.gateway.wire.request import Request
from vllama.gateway.wire.shared import Shared
from vllama.gateway.wire.stamp import date_line

log = structlog.get_logger("vllama")
_LONG_BODY_BYTES = MIB  # renaming it takes so long that everybody else would feel it


class Client(Protocol):
    transport: asyncio.Transport

    @property
    def cors(self) -> bytes:
        """Header lines that let the page which asks read the answer, each with its line break; mostly none."""
        ...

    @property
    def closing(self) -> bool:
        """Its connection ends with this answer."""
        ...

    def refuse(self, answer: ErrorAnswer) -> None:
        """The whole answer; the exchange is over."""
        ...

    def finish(self, *, close: bool) -> None:
        """The last byte is written; the exchange is over."""
        ...

    def cut(self, *, abruptly: bool) -> None:
        """What was written stays unfinished; the exchange is over. `abruptly`: else the client would not see it."""
        ...


class Stage(enum.Enum):
    WAITING = "waiting"
    ASKED = "asked"
    ANSWERING = "answering"
    OVER = "over"


class Exchange:
    __slots__ = (
        "_answer", "_body", "_client", "_closes", "_control", "_early", "_endpoint", "_engine", "_grant", "_making",
        "_pool", "_request", "_shared", "_stage", "_tail", "_task", "_transport", "_tried", "_wanted", "translator",
        "unchunked",
    )  # fmt: skip

    def __init__(self, client: Client, shared: Shared, request: Request, body: bytes | bytearray) -> None:
        self.unchunked = request.to.old
        self.translator: Asker | None = None  # hears the engine in its place
        self._client = client
        self._transport = client.transport
        self._control = shared.control
        self._pool = shared.pool
        self._shared = shared
        self._request = request
        self._body = body
        self._stage = Stage.WAITING
        self._task: asyncio.Task[None] | None = None
        self._engine: EngineConnection | None = None
        self._answer: Answer | None = None
        self._grant: Grant | None = None
        self._making: Making | None = None
        self._early: Early | None = None  # once its head is out
        self._tried: tuple[str, ...] = ()  # engine ids of servers that failed it
        self._tail = b""
        self._closes = False

    # what the client does

    def begin(self) -> None:
        try:
            self._wanted = wanted = self._find()
            grant = self._control.board.admit(wanted.spec.model, wanted.keep_alive, engine_id=wanted.engine_id)
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
        if self._stage is Stage.OVER:
            return
        self._over()
        if self._task is not None:
            self._task.cancel()
        if self._engine is not None:
            self._engine.abandon()

    def pause(self) -> None:
        if self._engine is not None and self._stage is Stage.ANSWERING:
            self._engine.pause()

    def resume(self) -> None:
        if self._engine is not None and self._stage is Stage.ANSWERING:
            self._engine.resume()

    # on the way to the engine

    def _find(self) -> Wanted:
        request = self._request
        if request.to.way is Way.RESPONSE:
            return find_maker(self._control, self._shared.makers, request.to.path)
        return find(self._control, request.to.path, request.forward, self._body)

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
        if every_s is None or not wanted.streams or self.translator is not None:
            return None

        def words() -> str:
            outlook = self._control.board.outlook(wanted.spec.model)
            return f"vllama {outlook.doing} {wanted.spec.model}, about {max(1, round(outlook.ready_in_s))}s"

        def write(data: bytes) -> None:
            if self._early is None:
                self._early, self._closes, self.unchunked = early, self._client.closing, True
            self._write(data)

        to = self._request.to
        early = Early(
            write, words, every_s=every_s, chunked=not to.old, close=self._client.closing, dialect=dialect_of(to.path)
        )  # fmt: skip
        early.begin()
        return early

    def _admitted(self, grant: Grant) -> None:
        self._grant, self._endpoint = grant, grant.endpoint
        if self._wanted.engine_id not in {None, self._endpoint.engine_id}:
            raise Refused(errors.unknown_response(response_id(self._request.to.path)))
        no_round(grant, self._request.forward, self._wanted.spec.model)
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
            if self._grant is not None and self._grant.server is not None:
                self._grant.server.went_wrong(why)
            if self.move():
                self._ask()
            else:
                self.refuse(gone(self._grant, self._wanted.spec.model, why))
        else:
            self._send(engine)

    def move(self) -> bool:
        """Another server is to be asked, and is as good as asked; False: none is, or it was tried often enough."""
        if self._grant is None or self._grant.server is None or self._wanted.engine_id is not None:
            return False
        self._tried = (*self._tried, self._endpoint.engine_id)
        grant = self._control.board.servers.again(self._wanted.spec.model, self._tried)
        if grant is None:
            return False
        self._grant.release()
        self._grant, self._endpoint = grant, grant.endpoint
        return True

    def ask_again(self) -> None:
        """Whoever it has moved to. Nothing of an answer was passed on yet."""
        self._stage, self._engine = Stage.WAITING, None
        self._ask()

    def _send(self, engine: EngineConnection) -> None:
        forward = self._request.forward
        if self._grant is not None and self._grant.server is not None:
            forward = addressed(forward, self._endpoint)
        head = b"%bhost: %b\r\ncontent-length: %d\r\n\r\n" % (forward, engine.host, len(self._body))
        self._engine, self._stage = engine, Stage.ASKED
        engine.ask(self._asker(), head, self._body)

    def _asker(self) -> Asker:
        asker = self.translator or self
        if self._request.to.path == CREATE_RESPONSE:
            model = self._wanted.spec.model
            self._making = asker = Making(self, self._shared.makers, self._endpoint, model=model, body=self._body)
        grant = self._grant
        return asker if grant is None or grant.server is None else Attempt(asker, grant.server, self)

    # what the engine does

    def answered(self, head: Answer, length: int, data: bytes) -> None:
        grant = self._grant
        if grant is None:
            raise AssertionError("an answer to what was not granted")
        self._answer, self._stage = head, Stage.ANSWERING
        self._body = b""
        if self._early is not None:
            self._early.answered(head)
            self.piece(data)
            return
        self._closes = self._client.closing or head.body is Body.UNTIL_CLOSE
        lines = [head.lines, state_lines(grant)]
        if not head.dated:
            lines.append(date_line())
        if head.body is Body.COUNTED:
            lines.append(b"content-length: %d" % length)
        elif head.body is Body.CHUNKED and not self.unchunked:
            lines.append(b"transfer-encoding: chunked")
        if self._closes:
            lines.append(b"connection: close")
        lines += (self._client.cors, data)
        self.piece(b"\r\n".join(lines))

    def piece(self, data: bytes) -> None:
        if self._early is not None:
            data = self._early.piece(data)
        self._tail = data
        self._write(data)

    def complete(self) -> None:
        if self._early is not None:
            self._write(self._early.complete())
        self._over()
        self._client.finish(close=self._closes)

    def broken(self, why: str, *, stale: bool) -> None:
        model = self._wanted.spec.model
        if self._stage is Stage.ASKED and stale:
            self._stage, self._engine = Stage.WAITING, None
            self._later(self._dial())
        elif self._stage is Stage.ASKED:
            self.refuse(gone(self._grant, self._wanted.spec.model, why))
        elif self._early is not None:
            self.refuse(errors.engine_broke_off(model, why, whose=whose(self._grant)))
        elif self._takes_events:
            self._over()
            dialect = dialect_of(self._request.to.path)
            event = render_event(
                errors.engine_broke_off(model, why, whose=whose(self._grant)), dialect, _end_of_events(self._tail)
            )
            self.piece(event if self.unchunked else b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
            self._client.finish(close=self._closes)
        else:
            self._over()
            answer = self._answer
            self._client.cut(abruptly=answer is not None and answer.body is Body.UNTIL_CLOSE)

    def silent(self, limit_s: float) -> None:
        self.refuse(errors.engine_silent(self._wanted.spec.model, limit_s, whose=whose(self._grant)))

    # what a translator does beside that

    @property
    def model(self) -> str:
        return self._wanted.spec.model

    @property
    def waited_s(self) -> float:
        return 0.0 if self._grant is None else self._grant.waited_s

    def refuse(self, answer: ErrorAnswer) -> None:
        self._over()
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
        if not self._transport.is_closing():  # else the client's going is about to be told
            self._transport.write(data)

    def _over(self) -> None:
        self._stage = Stage.OVER
        if self._grant is None:
            return
        goes_on = self._making.goes_on if self._making is not None else None
        if goes_on is not None:
            self._shared.background.hold(self._grant, goes_on)
        else:
            self._grant.release()

    def _failed(self) -> None:
        """A fault of ours. Its client is told no more than that, the log has it all."""
        log.exception("request failed", path=self._request.to.path.decode())  # noqa: LOG004  # called where one is handled
        begun, engine = self._stage is Stage.ANSWERING or self._early is not None, self._engine
        self._over()
        if engine is not None:
            engine.abandon()
        if begun:
            self._client.cut(abruptly=True)
        else:
            self._client.refuse(errors.internal())


def _end_of_events(tail: bytes) -> bytes:
    """What the last chunk of `tail` ends with, as far as that tells whether an event is complete."""
    if not tail:
        return b""
    whole = tail.endswith(b"\n\n\r\n") and tail[-5:-4] != b"\r"  # else the first \n may be that of a chunk's size
    return b"\n\n" if whole else b"?"
