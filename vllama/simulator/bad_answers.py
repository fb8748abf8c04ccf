"""Faults of what goes over the wire: bytes that are no HTTP, headers and lines without measure, a sudden end."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

from vllama.simulator.faults import Faults
from vllama.simulator.server_state import ServerState
from vllama.simulator.web import Stream

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HUGE_BYTES = 10_000_000
_FLUSH_S = 0.05  # for the loop to hand to the kernel what was written
_NOT_HTTP = b"SSH-2.0-OpenSSH_9.6\r\n\x00\x00\x01\x0c\xff\xfe\r\n\r\n"


async def answer_badly(faults: Faults, send: Send) -> bool:
    """Whether a fault has answered the request."""
    if faults.not_http:
        transport = send.__self__.transport  # type: ignore[attr-defined]  # below ASGI, which can only speak HTTP
        transport.write(_NOT_HTTP)
        transport.close()
        return True
    if not (faults.huge_header or faults.long_line):
        return False
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    if faults.huge_header:
        headers.append((b"x-huge", b"A" * _HUGE_BYTES))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    line = b"data: " + b"A" * _HUGE_BYTES if faults.long_line else b"data: [DONE]"
    await send({"type": "http.response.body", "body": line + b"\n\n"})
    return True


def until_death(stream: Stream, state: ServerState) -> Stream:
    """The stream, up to where a fault kills the engine."""
    faults = state.settings.faults
    if faults.die_mid_utf8 is None and not faults.die_after_done:
        return stream
    return Stream(events=_dying(stream.events, faults, state))


async def _dying(
    events: AsyncGenerator[str | bytes, None], faults: Faults, state: ServerState
) -> AsyncGenerator[str | bytes, None]:
    count = 0
    async for event in events:
        if count == faults.die_mid_utf8:
            yield 'data: {"choices":[{"index":0,"delta":{"content":"café'.encode()[:-1]
            await _die(state)
        yield event
        count += 1
    if faults.die_after_done:
        await _die(state)


async def _die(state: ServerState) -> None:
    await asyncio.sleep(_FLUSH_S)
    state.core.kill()
    os.kill(os.getpid(), signal.SIGKILL)
