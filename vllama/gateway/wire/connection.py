"""One client's connection: its requests are read one after the other, and answered in that order.

While an answer is awaited the connection is still read, since only that shows that the client has gone. What comes
belongs to the next request and is kept; of that only so much is taken. `state` has its states.
"""

import asyncio
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from vllama.gateway import errors
from vllama.gateway.cors import preflight_lines
from vllama.gateway.dialects import Dialect, dialect_of, rendered
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused
from vllama.gateway.metrics.finished import refused
from vllama.gateway.ollama.exchange import OllamaExchange
from vllama.gateway.paths import Way
from vllama.gateway.wire.answer import STATUS_LINES
from vllama.gateway.wire.body import CountedBody
from vllama.gateway.wire.client import address_of
from vllama.gateway.wire.delegate import AppConnection
from vllama.gateway.wire.entry import cors_lines, keep_out, let_in
from vllama.gateway.wire.exchange import Exchange
from vllama.gateway.wire.heads import Heads
from vllama.gateway.wire.limits import is_crowd
from vllama.gateway.wire.request import Request
from vllama.gateway.wire.shared import Shared
from vllama.gateway.wire.stamp import own_head
from vllama.gateway.wire.state import State
from vllama.gateway.wire.tunnel import Tunnel
from vllama.gateway.wire.uploads import LargeBody

# In Python 3.11 a member of an enum costs more than a call.
_IDLE, _HEAD, _BODY, _EXCHANGE, _TUNNEL, _APP, _LEAVING = State
_ENGINE, _RESPONSE = Way.ENGINE, Way.RESPONSE


class Connection(asyncio.Protocol):
    def __init__(self, shared: Shared, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        self.deadline: float | None = None
        self._shared = shared
        self._limits = shared.limits
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._state = _IDLE
        self._heads = Heads(shared.limits)
        self._ahead = bytearray()  # of the next requests
        self._request: Request | None = None
        self._entered: Request | None = None  # was let in where no key is needed: none that is alike is judged anew
        self._body: CountedBody | LargeBody | None = None
        self._exchange: Exchange | OllamaExchange | Tunnel | None = None
        self._app: AppConnection | None = None
        self._taking = self._full = self._stalled = self.shutting_down = self._came_late = False
        self._leave_until = 0.0

    # what the loop and the server call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = cast("asyncio.Transport", transport)
        self.address = address_of(transport.get_extra_info("peername"))
        self._server_state.connections.add(cast("Any", self))  # it lists uvicorn's own classes
        self._shared.watch.add(self)
        self._set_deadline(self._limits.head_s)
        self._came_late = is_crowd(self._server_state.connections, self._limits)
        if is_crowd(self._server_state.connections, self._limits, spare=True):
            self._leave_with(errors.too_many_connections())

    def data_received(self, data: bytes) -> None:
        """Also what was kept for later."""
        self._taking = True
        try:
            while data:
                state = self._state
                if (state is _IDLE or state is _HEAD) and not self._stalled:
                    data = self._take_head(data)
                elif state is _BODY:
                    data = self._take_body(data)
                elif state is _LEAVING:
                    break
                elif state is _TUNNEL:
                    self._pass_on(data)
                    break
                else:
                    self._keep(data)
                    break
        except Refused as refused:
            self._leave_with(refused.answer)
        finally:
            self._taking = False

    def eof_received(self) -> None:
        """Who stops sending has left, whatever is still to come from us; the transport closes itself."""
        self._shared.outbox.flush()
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(cast("Any", self))
        self._shared.watch.discard(self)
        self._leave()
        if self._app is not None:
            self._app.connection_lost(exc)

    def pause_writing(self) -> None:
        self._stalled = True
        if self._state is _LEAVING:
            return
        self._set_deadline(self._shared.control.policy.stalled_client_s)
        if self._exchange is not None:
            self._exchange.pause()
        elif self._app is not None:
            self._app.pause_writing()

    def resume_writing(self) -> None:
        self._stalled = False
        if self._state is _LEAVING:
            return
        self.deadline = None
        if self._exchange is not None:
            self._exchange.resume()
        elif self._app is not None:
            self._app.resume_writing()
        if self._state is _IDLE:
            self._set_deadline(self._limits.keep_alive_s)
            self._next()

    def shutdown(self) -> None:
        """The server stops: what is under way is finished."""
        self.shutting_down = True
        if self._state is _APP and self._app is not None:
            self._app.shutdown()
        elif isinstance(self._exchange, Tunnel):
            self._exchange.go_away()
        elif self._state is not _EXCHANGE:
            self._leave()
            self.transport.close()

    def overdue(self) -> None:
        if self._state is _LEAVING:
            self._overdue_to_leave()
        elif self._stalled:
            self.transport.abort()
        elif self._state is _HEAD:
            self._leave_with(errors.too_slow("The head of the request", self._limits.head_s))
        elif self._state is _BODY:
            self._leave_with(errors.too_slow("More of the body", self._limits.body_idle_s))
        else:
            self._leave()
            self.transport.close()

    # what an exchange calls

    @property
    def transport(self) -> asyncio.Transport:
        """Whatever is done with it is done behind what is to be written when this turn of the loop ends."""
        self._shared.outbox.flush()
        return self.wire

    @property
    def cors(self) -> bytes:
        origins = self._shared.origins
        return b"" if origins is None or self._request is None else cors_lines(self._request, origins)

    @property
    def closing(self) -> bool:
        return self.shutting_down or self._request is None or self._request.last

    def refuse(self, answer: ErrorAnswer) -> None:
        close = self.closing
        self._write_error(answer, close=close)
        self.finish(close=close)

    def finish(self, *, close: bool) -> None:
        self._exchange = self._request = None
        self._state = _IDLE
        if close:
            self._close()
            return
        self.deadline = self._shared.loop.time() + self._limits.keep_alive_s
        if self._ahead or self._full:
            self._next()

    def cut(self, *, abruptly: bool) -> None:
        self._exchange = None
        self._leave()
        if abruptly:
            self.transport.abort()
        else:
            self.transport.close()

    # requests, one after the other

    def _next(self) -> None:
        if self._full:
            self._full = False
            self.transport.resume_reading()
        if self._ahead and not self._taking:
            data = bytes(self._ahead)
            self._ahead.clear()
            self.data_received(data)

    def _pass_on(self, data: bytes) -> None:
        if isinstance(self._exchange, Tunnel):
            self._exchange.received(data)

    def _keep(self, data: bytes) -> None:
        self._ahead += data
        if len(self._ahead) > self._limits.ahead_bytes:
            self._full = True
            self.transport.pause_reading()

    def _take_head(self, data: bytes) -> bytes:
        """Returns what is behind it, or behind its whole body. Raises Refused."""
        alike = self._heads.alike
        if alike is not None and (length := alike.match(data)) >= 0:
            request, start = alike.read, alike.end
        else:
            found, length, start, data = self._heads.take(data)
            if found is None:
                if self._heads.begun and self._state is _IDLE:
                    self._state = _HEAD
                    self._set_deadline(self._limits.head_s)
                return data
            request = found
        self._request, shared = request, self._shared
        if request is not self._entered or shared.keyring.ring is not None:
            let_in(request, shared.keyring, shared.origins, peer=self.address)
            self._entered = request if shared.keyring.ring is None else None
        if length > self._limits.body_bytes:
            raise Refused(errors.too_large(self._limits.body_bytes))
        end = start + length
        if request.chunked or end > len(data):
            self._begin_body(request, length, all_to_come=start == len(data))
            return data[start:]
        self._dispatch(request, data[start:end])  # all is there, as nearly always
        return data[end:]

    def _begin_body(self, request: Request, length: int, *, all_to_come: bool) -> None:
        self._body = self._shared.uploads.body(length, chunked=request.chunked)
        self._state = _BODY
        self._set_deadline(self._limits.body_idle_s)
        if request.expects and all_to_come:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_body(self, data: bytes) -> bytes:
        """Returns what is behind it. Raises Refused."""
        request, body = self._request, self._body
        if request is None or body is None:
            raise AssertionError("a body without a head")
        behind = body.feed(data)
        if body.done:
            self._body = None
            self._dispatch(request, body.whole())
        else:
            self._set_deadline(self._limits.body_idle_s)
        return behind

    def _dispatch(self, request: Request, body: bytes | bytearray) -> None:
        self.deadline = None
        self._state = _EXCHANGE
        if self._came_late:
            keep_out(request, self._server_state.connections, self._limits)
        way = request.to.way
        if way is _ENGINE or way is _RESPONSE:
            self._exchange = exchange = Exchange(self, self._shared, request, body)
            exchange.begin()
        elif way is Way.OLLAMA:
            self._exchange = translated = OllamaExchange(self, self._shared, request, body)
            translated.begin()
        elif request.preflight is not None and (cors := self.cors):
            self._write(STATUS_LINES[204], cors + preflight_lines(request.preflight), close=self.closing)
            self.finish(close=self.closing)
        elif way is Way.REALTIME:
            self._open_tunnel(request)
        else:
            self._state = _APP
            self._shared.outbox.flush()  # the application knows nothing of it
            key = self._shared.keyring.key(request.key)
            self._app_connection().serve(request, body, key=key, cors=self.cors, close=self.closing)

    def _open_tunnel(self, request: Request) -> None:
        if request.websocket_key is None:
            answer = errors.no_websocket()
            self._shared.finished(refused(request, self.address, answer))
            self.refuse(answer)
            return
        self._state = _TUNNEL
        self._exchange = tunnel = Tunnel(self, self._shared, request)
        tunnel.begin()

    def _app_connection(self) -> AppConnection:
        if self._app is None:
            self._app = AppConnection(
                self._config, self._server_state, self._app_state, done=self._app_done, failed=self._app_failed
            )
            self._app.connection_made(self.transport)
        return self._app

    def _app_done(self) -> None:
        self.finish(close=self.transport.is_closing())

    def _app_failed(self, why: str) -> None:
        self._leave_with(errors.malformed(why))

    # the end

    def _leave(self) -> None:
        """Nothing is answered any more; what is written already may still be read."""
        self._state = _LEAVING
        self._leave_until = self._shared.loop.time() + self._shared.control.policy.stalled_client_s
        self._set_deadline(self._limits.linger_s)
        body, self._body = self._body, None
        if isinstance(body, LargeBody):
            body.drop()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()

    def _leave_with(self, answer: ErrorAnswer) -> None:
        """The last answer on this connection, of which nothing more can be understood."""
        self._shared.finished(refused(self._request, self.address, answer))
        self._write_error(answer, close=True)
        self._close()

    def _close(self) -> None:
        """What was read is forgotten. Closed with bytes unread, the client might never see our answer."""
        self._leave()
        self._heads.forget()
        self._ahead.clear()
        if not self.transport.is_closing():
            self.transport.resume_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()  # TLS has no half-close; but this reads on until the client has closed too

    def _overdue_to_leave(self) -> None:
        if self.transport.get_write_buffer_size() and self._shared.loop.time() < self._leave_until:
            self._set_deadline(self._limits.linger_s)
        else:
            self.transport.abort()

    def _write_error(self, answer: ErrorAnswer, *, close: bool) -> None:
        request = self._request
        lines, body = rendered(answer, Dialect.OPENAI if request is None else dialect_of(request.to.path))
        lines += self.cors
        bodiless = request is not None and request.to.method == b"HEAD"
        self._write(STATUS_LINES[answer.status], lines, close=close, body=b"" if bodiless else body)

    def _write(self, status_line: bytes, headers: bytes, *, close: bool, body: bytes = b"") -> None:
        self.transport.write(own_head(status_line, headers, close=close) + body)

    def _set_deadline(self, after_s: float) -> None:
        self.deadline = self._shared.loop.time() + after_s
