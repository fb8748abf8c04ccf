"""The few things that we need of ASGI: the path as it came, and an error as the answer."""

from starlette.types import Scope, Send

from vllama.gateway.dialects import Dialect, render
from vllama.gateway.errors import ErrorAnswer


def raw_path(scope: Scope) -> bytes:
    """As it came over the wire, without the query string."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw


async def send_error(send: Send, answer: ErrorAnswer, dialect: Dialect = Dialect.OPENAI) -> None:
    headers, body = render(answer, dialect)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
