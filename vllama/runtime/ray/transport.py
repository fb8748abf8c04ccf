"""httpx to engines by way of their agents: agent://NODE/ENGINE_ID/path is asked on the engine's own host."""

import re
from collections.abc import Mapping
from typing import Protocol

import httpx

from vllama.runtime.base import RuntimeFailed
from vllama.runtime.ray.messages import Forwarded

SCHEME = "agent"
_OURS = frozenset({"host", "connection", "accept-encoding", "content-length", "transfer-encoding", "authorization"})


class Forwards(Protocol):
    async def forward(
        self, engine_id: str, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Forwarded:
        """RuntimeFailed: there is no such engine, or its agent does not answer."""
        ...


def control_url(node: str, engine_id: str) -> str:
    """The node is for people to read, in the letters that a host may have; the engine says where it is."""
    return f"{SCHEME}://{re.sub(r'[^a-z0-9.]+', '-', node.lower()).strip('-.') or 'node'}/{engine_id}"


class AgentTransport(httpx.AsyncBaseTransport):
    """To be mounted for `agent://`. Who asks has a deadline of its own, and is given up when it gives up."""

    def __init__(self, runtime: Forwards) -> None:
        self._runtime = runtime

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode()
        _, engine_id, path = target.split("/", 2)
        headers = {name: value for name, value in request.headers.items() if name not in _OURS}
        body = await request.aread()
        try:
            answer = await self._runtime.forward(engine_id, request.method, f"/{path}", headers, body)
        except RuntimeFailed as error:
            raise httpx.ConnectError(str(error), request=request) from error
        if answer.refused:
            raise httpx.ConnectError("connection refused", request=request) from ConnectionRefusedError(111, "refused")
        if answer.error:
            raise httpx.ReadError(answer.error, request=request)
        kept = {k: v for k, v in answer.headers.items() if k not in {"content-encoding", "content-length", "date"}}
        return httpx.Response(answer.status, headers=kept, content=answer.body, request=request)
