"""The few things that we need of ASGI: a whole body, an error as the answer, work that ends when its client goes."""

import asyncio
from collections.abc import Coroutine

from starlette.types import Receive, Scope, Send

from vllama.gateway.errors import ErrorAnswer


class BodyTooLarge(Exception):
    """Larger than the limit, as announced or as counted."""


class ClientGone(Exception):
    """The client closed its connection before its request was complete."""


def raw_path(scope: Scope) -> bytes:
    """As it came over the wire, without the query string."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw


async def read_body(scope: Scope, receive: Receive, *, limit_bytes: int) -> bytes:
    """Raises BodyTooLarge, before the first byte where the length is announced; ClientGone."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limit_bytes:
            raise BodyTooLarge
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise BodyTooLarge
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def send_error(send: Send, answer: ErrorAnswer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


async def while_client_stays(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Runs `work`, and cancels it the moment the client goes. On return it has ended, whatever happened."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait({task, gone})
    if not task.cancelled():
        task.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
