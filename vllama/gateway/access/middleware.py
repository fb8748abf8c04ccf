"""The requests that vllama answers itself have a line each too."""

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vllama.gateway.access.line import Line, plain
from vllama.gateway.access.log import AccessLog
from vllama.gateway.asgi import raw_path
from vllama.gateway.guard import KEY
from vllama.gateway.metrics.finished import CLIENT_GONE, Outcome
from vllama.gateway.metrics.pulls import ENDED, Ended


class Logged:
    def __init__(self, app: ASGIApp, *, log: AccessLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._app, self._log, self._clock = app, log, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, size = self._clock(), CLIENT_GONE, 0

        async def told(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            self._log.write(self._line(scope, status, size, self._clock() - began))

    def _line(self, scope: Scope, status: int, size: int, duration_s: float) -> Line:
        headers = dict(scope["headers"])
        head = b"".join(b"\r\n%b: %b" % header for header in scope["headers"])
        state = scope.get("state", {})
        agent, client, key = headers.get(b"user-agent"), scope.get("client"), state.get(KEY)
        ended: Ended | None = state.get(ENDED)
        return Line(
            method=scope["method"],
            path=plain(raw_path(scope)),
            model="" if ended is None else plain(ended.name.encode()),
            status=status if ended is None else ended.status,
            outcome=_outcome(status) if ended is None else ended.outcome,
            duration_ms=round(duration_s * 1e3, 1),
            bytes_in=0 if ended is None else ended.request_bytes,
            bytes_out=size,
            client=self._log.lines.client(client[0] if client else "", head),
            key=None if key is None else key.name,
            user_agent=None if agent is None else plain(agent),
        )


def _outcome(status: int) -> Outcome:
    if status == CLIENT_GONE:
        return "client_gone"
    if status == 500:
        return "internal_error"
    return "ok" if status < 400 else "refused"
