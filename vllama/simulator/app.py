"""The ASGI application: find the route, let it answer, put errors into vLLM's shapes, stop when the client leaves."""

import asyncio
import re
from contextlib import aclosing
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from vllama.simulator.bad_answers import answer_badly, until_death
from vllama.simulator.core_client import CallFailed, EngineDeadError
from vllama.simulator.log import log_traceback
from vllama.simulator.middleware import Receive, Scope, Send
from vllama.simulator.routes import Route, find_route, routes_of
from vllama.simulator.server_state import ServerState
from vllama.simulator.web import Answer, ApiError, Request, Stream, answer_json

_GUARDED = ("/v1", "/v2", "/inference", "/cohere")
_FILE_PATH = re.compile(r"(?:/[\w\-]+)+/[\w\-]+\.\w+")  # vLLM hides those from its clients


class App:
    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._routes = routes_of(state.settings.task, dev_mode=state.settings.dev_mode)
        keys = state.command.api_keys or tuple(filter(None, (state.settings.api_key,)))
        self._authorizations = {f"bearer {key}" for key in keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        request = await _read_request(scope, receive)
        if request is None:
            return
        answering = asyncio.create_task(self._answer(request, send))
        leaving = asyncio.create_task(_client_leaves(receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            answering.cancel()  # without effect if it is done
        await asyncio.gather(answering, leaving, return_exceptions=True)
        if not answering.cancelled():
            answering.result()

    async def _answer(self, request: Request, send: Send) -> None:
        route = find_route(self._routes, request.path)
        counted = route is not None and route.counted
        self._state.load += counted
        if counted and self._state.settings.served is not None:
            _note(request, self._state.settings.served)
        try:
            if counted and await answer_badly(self._state.settings.faults, send):
                return
            answer = await self._ask(route, request)
            if isinstance(answer, Stream):
                await _send_stream(until_death(answer, self._state), send)
            else:
                await _send_answer(answer, send)
        finally:
            self._state.load -= counted

    async def _ask(self, route: Route | None, request: Request) -> Answer | Stream:
        if self._authorizations and request.path.startswith(_GUARDED):
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            if f"{scheme.lower()} {key}" not in self._authorizations:
                return answer_json({"error": "Unauthorized"}, 401)
        if route is None and (shorter := request.path.removesuffix("/")) in self._routes:
            query = f"?{urlencode(request.query)}" if request.query else ""
            location = f"http://{request.headers.get('host', '')}{shorter}{query}"
            return Answer(status=307, headers={"location": location})
        if route is None:
            return answer_json({"detail": "Not Found"}, 404)
        if request.method not in route.methods:
            answer = answer_json({"detail": "Method Not Allowed"}, 405)
            return Answer(
                status=405,
                body=answer.body,
                content_type=answer.content_type,
                headers={"allow": route.methods[0]},  # one, even where there are two
            )
        try:
            return await route.handler(request, self._state)
        except ApiError as error:
            return answer_json(error.body(), error.status)
        except (EngineDeadError, CallFailed) as error:
            message = _FILE_PATH.sub("<path>", str(error))
            return answer_json(ApiError(500, message, type_="InternalServerError").body(), 500)
        except Exception as error:  # noqa: BLE001 - an odd request ends in an answer, as it does in vLLM
            log_traceback("APIServer", f"{type(error).__name__}: {error}")
            return answer_json(ApiError(500, str(error), type_="InternalServerError").body(), 500)


def _note(request: Request, served: Path) -> None:
    """In one write, as other engines add to the same file."""
    with served.open("ab", buffering=0) as file:
        file.write(request.headers.get("x-request-id", "-").encode("latin-1") + b"\n")


async def _read_request(scope: Scope, receive: Receive) -> Request | None:
    """None if the client left before its body was complete."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=tuple(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
    )


async def _client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_answer(answer: Answer, send: Send) -> None:
    headers = {**answer.headers, "content-length": str(len(answer.body))}
    if answer.content_type:
        headers["content-type"] = answer.content_type
    headers["vary"] = "Origin"
    await send({"type": "http.response.start", "status": answer.status, "headers": _encode(headers)})
    await send({"type": "http.response.body", "body": answer.body})


async def _send_stream(stream: Stream, send: Send) -> None:
    headers = {"content-type": "text/event-stream; charset=utf-8", "vary": "Origin"}
    await send({"type": "http.response.start", "status": 200, "headers": _encode(headers)})
    async with aclosing(stream.events) as events:
        async for event in events:
            body = event if isinstance(event, bytes) else f"{event}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _encode(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
