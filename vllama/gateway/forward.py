"""The data path: a user's bytes to the engine, and the engine's bytes back as they come.

The only file that touches them, on httpx for now. A request is sent to an engine once; it is sent a second time only
where the connection was an old one that the engine had closed meanwhile and nothing came back over it.
"""

import ssl

import httpx
from starlette.types import Receive, Scope, Send

from vllama.controller.control import Control
from vllama.controller.demand import Endpoint
from vllama.gateway import errors
from vllama.gateway.asgi import BodyTooLarge, ClientGone, raw_path, read_body, send_error, while_client_stays
from vllama.gateway.headers import Header, from_engine, to_engine
from vllama.gateway.inference import Admission, Refused, admit, body_for_engine, find

# vLLM closes a connection that was idle for 5 s; one that is nearly that old is not used again.
_IDLE_CONNECTION_S = 4.0
_MAX_CONNECTIONS = 100_000
_KEPT_CONNECTIONS = 64  # httpcore's work per request grows with the square of the connections that lie idle
_TIMEOUT = httpx.Timeout(None, connect=5.0)  # an answer may take hours; a listening loopback port accepts at once
_BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class Forward:
    """The ASGI application behind the inference paths."""

    def __init__(self, control: Control, *, max_body_bytes: int) -> None:
        self._control = control
        self._max_body_bytes = max_body_bytes
        self._pooled = _client(_KEPT_CONNECTIONS)
        self._fresh = _client(0)

    async def aclose(self) -> None:
        await self._pooled.aclose()
        await self._fresh.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(scope, receive, limit_bytes=self._max_body_bytes)
        except BodyTooLarge:
            await send_error(send, errors.too_large(self._max_body_bytes))
        except ClientGone:
            return
        else:
            await while_client_stays(receive, self._serve(scope, body, send))

    async def _serve(self, scope: Scope, body: bytes, send: Send) -> None:
        try:
            wanted = find(self._control, body)
            admission = await admit(self._control.board, wanted.spec)
        except Refused as refused:
            await send_error(send, refused.answer)
            return
        try:
            endpoint = admission.grant.endpoint
            body = await body_for_engine(body, name=wanted.name, served=endpoint.served_name)
            await self._pass(scope, body, admission, wanted.spec.model, send)
        finally:
            admission.grant.release()

    async def _pass(self, scope: Scope, body: bytes, admission: Admission, model: str, send: Send) -> None:
        target = raw_path(scope) + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        try:
            response = await self._ask(admission.grant.endpoint, target, to_engine(scope["headers"]), body)
        except httpx.LocalProtocolError as error:
            await send_error(send, errors.invalid(f"This request cannot be passed on: {error}."))
            return
        except httpx.TransportError as error:
            await send_error(send, errors.engine_gone(model, _words(error)))
            return
        try:
            headers = from_engine(response.headers.raw) + admission.headers
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            if not await _pump(response, model, send):
                return  # unfinished: the server closes the connection, so that the client sees it cut short
        finally:
            await response.aclose()
        await send({"type": "http.response.body"})

    async def _ask(self, endpoint: Endpoint, target: bytes, headers: list[Header], body: bytes) -> httpx.Response:
        """The engine's answer as far as its headers. Raises httpx.TransportError."""
        dialled = False

        async def trace(event: str, _: object) -> None:
            nonlocal dialled
            dialled = dialled or event == "connection.connect_tcp.started"

        # A request made by hand has no header that the client did not send, and a target that nobody re-encodes.
        url = f"http://{endpoint.host}:{endpoint.port}"
        extensions = {"target": target, "trace": trace}
        try:
            request = httpx.Request("POST", url, headers=headers, content=body, extensions=extensions)
            return await self._pooled.send(request, stream=True)
        except _BROKEN:
            if dialled:
                raise
        request = httpx.Request("POST", url, headers=headers, content=body, extensions={"target": target})
        return await self._fresh.send(request, stream=True)


async def _pump(response: httpx.Response, model: str, send: Send) -> bool:
    """False: the answer ended early, and the client cannot be told within it."""
    tail = b""
    try:
        async for chunk in response.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            tail = (tail + chunk)[-4:] if len(chunk) < 4 else chunk[-4:]
    except httpx.TransportError as error:
        if not _takes_events(response):
            return False
        event = errors.sse_event(errors.engine_broke_off(model, _words(error)), tail)
        await send({"type": "http.response.body", "body": event, "more_body": True})
    return True


def _takes_events(response: httpx.Response) -> bool:
    headers = response.headers
    plain = "content-encoding" not in headers and "content-length" not in headers
    return plain and headers.get("content-type", "").lower().startswith("text/event-stream")


def _client(kept: int) -> httpx.AsyncClient:
    limits = httpx.Limits(
        max_connections=_MAX_CONNECTIONS,
        max_keepalive_connections=kept,
        keepalive_expiry=_IDLE_CONNECTION_S,
    )
    # No certificates: engines speak plain HTTP over loopback, and httpx would read a whole bundle of them for nothing.
    verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT, limits=limits, verify=verify)


def _words(error: httpx.TransportError) -> str:
    return str(error).rstrip(".") or type(error).__name__
