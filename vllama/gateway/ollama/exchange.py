"""One request in Ollama's words, as its client's connection holds it: translated, then an exchange like any other."""

import asyncio
import time
from collections.abc import Coroutine
from datetime import UTC, datetime

import msgspec
import structlog

from vllama.domain.units import MIB
from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused, Wanted, admit
from vllama.gateway.keep_alive import NoDuration, keep_alive_of
from vllama.gateway.metrics.finished import CLIENT_GONE, Finished, Outcome, outcome_of
from vllama.gateway.names import NoModel, NotJson, said_in
from vllama.gateway.ollama import lines
from vllama.gateway.ollama.ask import Asked, Kind, OnlyLoad, translate
from vllama.gateway.ollama.interpreter import Interpreter
from vllama.gateway.ollama.lines import Times
from vllama.gateway.ollama.messages import Untranslatable
from vllama.gateway.ollama.names import NO_MODEL, find_named
from vllama.gateway.paths import Way
from vllama.gateway.wire.client import Client
from vllama.gateway.wire.exchange import Exchange
from vllama.gateway.wire.later import later
from vllama.gateway.wire.request import Request
from vllama.gateway.wire.shared import Shared
from vllama.gateway.wire.stamp import SERVER_LINE, date_line

log = structlog.get_logger("vllama")
_LONG_BODY_BYTES = MIB  # translating it takes so long that everybody else would feel it
# Of the client's headers an engine gets these; the others speak of a body that it never sees.
_PASSING = (b"x-request-id", b"traceparent", b"tracestate")


class OllamaExchange:
    """Until the request is translated, and where nothing is to be generated, it is its own; then `Exchange` has it."""

    def __init__(self, client: Client, shared: Shared, request: Request, body: bytes | bytearray) -> None:
        self._client, self._shared, self._control = client, shared, shared.control
        self._request, self._body = request, body
        self._times = Times(begun_at=time.perf_counter())
        self._arrived_at = shared.clock()
        self._request_bytes, self._model = len(body), ""
        self._is_told = False
        self._kind = Kind(request.to.path)
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None

    # what the client does

    def begin(self) -> None:
        if len(self._body) > _LONG_BODY_BYTES:
            self._later(self._begin_beside_the_loop())
            return
        try:
            name, wanted = self._find()
            self._ask(name, wanted, self._translated(wanted))
        except Refused as refused:
            self._refuse(refused.answer)
        except Exception:  # noqa: BLE001  # whatever it is, its client gets an answer
            self._failed()

    def leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._exchange is not None:
            self._exchange.leave()
        else:
            self._tell("client_gone", CLIENT_GONE)

    def pause(self) -> None:
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        if self._exchange is not None:
            self._exchange.resume()

    # on the way

    async def _begin_beside_the_loop(self) -> None:
        name, wanted = self._find()
        self._ask(name, wanted, await asyncio.to_thread(self._translated, wanted))

    def _find(self) -> tuple[str, Wanted]:
        """The name that the client used, and what it wants by the name that vllama knows. Raises Refused."""
        try:
            said = said_in(self._body)
            keep_alive = keep_alive_of(said)
        except NotJson as error:
            raise Refused(errors.not_json(str(error))) from None
        except NoModel:
            raise Refused(NO_MODEL) from None
        except NoDuration as error:
            raise Refused(errors.invalid(f"{error}.")) from None
        name = said.model or ""
        known, spec = find_named(self._control, name)
        self._model = spec.model
        return name, Wanted(name=known, spec=spec, keep_alive=keep_alive)

    def _translated(self, wanted: Wanted) -> Asked | OnlyLoad:
        try:
            return translate(self._kind, self._body, model=wanted.name)
        except Untranslatable as error:
            raise Refused(errors.invalid(str(error))) from None

    def _ask(self, name: str, wanted: Wanted, asked: Asked | OnlyLoad) -> None:
        self._body = b""
        if isinstance(asked, OnlyLoad):
            self._later(self._only_load(name, wanted, asked))
            return
        request = _as_to_an_engine(self._request, asked)
        self._exchange = exchange = Exchange(self._client, self._shared, request, asked.body)
        exchange.told = self._request
        exchange.translator = Interpreter(
            exchange, asked, model=name, times=self._times, clock=time.perf_counter, wall=lambda: datetime.now(UTC)
        )
        exchange.begin()

    async def _only_load(self, name: str, wanted: Wanted, asked: OnlyLoad) -> None:
        """To be let go, a model need not be woken first; and whoever uses it or waits for it goes before."""
        unload = wanted.keep_alive is not None and wanted.keep_alive.idle_s == 0
        if unload:
            grant = self._control.board.admit(wanted.spec.model, wanted.keep_alive)
        else:
            grant = await admit(self._control, wanted, max_wait_s=self._request.max_wait_s, body_bytes=0)
        if grant is not None:
            grant.release()
        self._answer(lines.only_loaded(asked.kind, model=name, unloaded=unload, at=datetime.now(UTC)))

    def _answer(self, body: bytes) -> None:
        close = self._client.closing
        head = [
            b"HTTP/1.1 200 OK", b"content-type: application/json; charset=utf-8", b"content-length: %d" % len(body),
            date_line(), SERVER_LINE, *([b"connection: close"] if close else []),
        ]  # fmt: skip
        self._client.transport.write(b"\r\n".join((*head, self._client.cors, body)))
        self._tell("ok", 200, len(body))
        self._client.finish(close=close)

    def _tell(self, outcome: Outcome, status: int, answer_bytes: int = 0) -> None:
        """Of what became no exchange."""
        if self._is_told:
            return
        self._is_told = True
        duration_s = self._shared.clock() - self._arrived_at
        self._shared.finished(
            Finished(
                request=self._request,
                client=self._client.address,
                model=self._model,
                outcome=outcome,
                status=status,
                wait_s=duration_s,
                duration_s=duration_s,
                request_bytes=self._request_bytes,
                answer_bytes=answer_bytes,
            )
        )

    # when something goes wrong

    def _later(self, work: Coroutine[None, None, None]) -> None:
        self._task = later(work, refuse=self._refuse, failed=self._failed)

    def _refuse(self, answer: ErrorAnswer) -> None:
        self._tell(outcome_of(answer), answer.status)
        self._client.refuse(answer)

    def _failed(self) -> None:
        log.exception("request failed", path=self._request.to.path.decode())  # noqa: LOG004  # called where one is handled
        self._refuse(errors.internal())


def _as_to_an_engine(request: Request, asked: Asked) -> Request:
    to = msgspec.structs.replace(request.to, target=asked.path, path=asked.path, way=Way.ENGINE)
    kept = (line for line in request.forward.split(b"\r\n")[1:] if line.partition(b":")[0].lower() in _PASSING)
    forward = b"".join(b"%b\r\n" % line for line in (to.line, b"content-type: application/json", *kept))
    return msgspec.structs.replace(request, to=to, forward=forward)
