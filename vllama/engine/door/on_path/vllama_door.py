"""The door of an engine that other hosts can reach: `vllm serve --middleware vllama_door.Door`.

vLLM's own --api-key leaves many paths open, the development ones among them. Here nothing passes without the key, and
from another host only what belongs to serving. This file is loaded into vLLM's environment, where vllama is not:
it needs nothing but Python's own library.
"""  # noqa: INP001  # found by PYTHONPATH, in no package

import hmac
import ipaddress
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY = "VLLAMA_ENGINE_KEY"
SHORTEST_KEY = 32

# What an engine's manager and its gateway ask for over the network. Paths that are not here, those of later versions of
# vLLM included, are answered to the engine's own host only.
_FROM_ANYWHERE = frozenset((
    "/health", "/metrics", "/version", "/v1/models",
    "/v1/chat/completions", "/v1/chat/completions/batch", "/v1/completions", "/v1/responses",
    "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings", "/v2/embed",
    "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/realtime",
    "/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/classify", "/pooling",
    "/generative_scoring", "/v1/systemone", "/tokenize", "/detokenize", "/invocations",
))  # fmt: skip
_OF_RESPONSES = "/v1/responses/"  # each has a name

_NO_KEY = 401, "This engine wants a key."
_NOT_FROM_THERE = 403, "This path is answered to the engine's own host only."


class Door:
    """The key comes from the environment. Without one nothing is served: an open engine would be worse than none."""

    def __init__(self, app: App) -> None:
        key = os.environ.get(KEY, "")
        if len(key) < SHORTEST_KEY or not key.isascii():
            raise RuntimeError(f"{KEY} has no key of at least {SHORTEST_KEY} ASCII characters, so nothing is served.")
        self._app = app
        self._wanted = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
        elif kind in ("http", "websocket"):
            refused = self._refused(scope)
            if refused is None:
                await self._app(scope, receive, send)
            elif kind == "http":
                await _answer(send, "http.response", *refused)
            else:
                await _refuse_websocket(scope, receive, send, *refused)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = list(scope["headers"])
        shown = [value for name, value in headers if name == b"authorization"]
        # Each is compared in full, whatever the others say; two of them are no way to show one key.
        right = [hmac.compare_digest(value, self._wanted) for value in shown]
        if right != [True]:
            return _NO_KEY
        path = scope["path"]
        if path in _FROM_ANYWHERE or path.startswith(_OF_RESPONSES):
            return None
        # A server that believes what proxies say takes its client's address from there.
        proxied = any(name in (b"x-forwarded-for", b"forwarded") for name, _ in headers)
        return None if not proxied and _is_this_host(scope) else _NOT_FROM_THERE


def _is_this_host(scope: Scope) -> bool:
    """Loopback, or from the very address that was called: nobody else's packets come from that."""
    client, server = scope.get("client"), scope.get("server")
    if not client:
        return False
    try:
        address = ipaddress.ip_address(client[0])
        own = None if not server else ipaddress.ip_address(server[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(own, ipaddress.IPv6Address) and own.ipv4_mapped is not None:
        own = own.ipv4_mapped
    return address.is_loopback or address == own


async def _answer(send: Send, kind: str, status: int, message: str) -> None:
    """In the shape of vLLM's own errors. The body of the request was not read, so the connection ends."""
    error = {"message": message, "type": "AuthenticationError", "param": None, "code": status}
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send, status: int, message: str) -> None:
    """Before it is one: as an answer where the server can give one, else by its own 403."""
    await receive()  # websocket.connect
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await _answer(send, "websocket.http.response", status, message)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": message})
