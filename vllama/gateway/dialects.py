"""The dialects that clients speak, and how each of them says that something is wrong.

Whoever asks in a dialect reads errors in no other: a client of Anthropic's finds nothing in OpenAI's shape.
"""

import enum
import math
from functools import lru_cache
from typing import Any, assert_never

import msgspec

from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.headers import Header


class Dialect(enum.Enum):
    OPENAI = "OpenAI's, which vLLM's own paths speak too"
    RESPONSES = "OpenAI's newer one, of /v1/responses: within a stream it has errors of its own"
    ANTHROPIC = "Anthropic's"
    OLLAMA = "Ollama's"


def dialect_of(raw_path: bytes) -> Dialect:
    """The dialect that whoever asks for this path understands, whether there is such a path or not."""
    if raw_path.startswith(b"/v1/messages"):
        return Dialect.ANTHROPIC
    if raw_path.startswith(b"/v1/responses"):
        return Dialect.RESPONSES
    return Dialect.OLLAMA if raw_path.startswith(b"/api/") else Dialect.OPENAI


def render(answer: ErrorAnswer, dialect: Dialect = Dialect.OPENAI) -> tuple[list[Header], bytes]:
    """The headers and the body of a whole answer."""
    body = msgspec.json.encode(_said(answer, dialect))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if answer.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(answer.retry_after_s))))
    if answer.allow is not None:
        headers.append((b"allow", answer.allow.encode()))
    if answer.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers, body


@lru_cache(16)
def rendered(answer: ErrorAnswer, dialect: Dialect) -> tuple[bytes, bytes]:
    """The same, each header with its line break. Made once for all who are told it, as a thousand may be at once."""
    headers, body = render(answer, dialect)
    return b"".join(b"%b: %b\r\n" % header for header in headers), body


def render_event(answer: ErrorAnswer, dialect: Dialect, sent: bytes) -> bytes:
    """What ends a stream that broke, with no [DONE] behind it: an event, in Ollama's case a line.

    `sent`: the last bytes before it (4 do).
    """
    match dialect:
        case Dialect.OPENAI:
            event = b"data: %b\n\n" % msgspec.json.encode(_said(answer, dialect))
        case Dialect.ANTHROPIC:
            event = b"event: error\ndata: %b\n\n" % msgspec.json.encode(_said(answer, dialect))
        case Dialect.RESPONSES:
            # Its clients want a number, and nobody counted the events that came before.
            said = {"type": "error", "code": answer.code, "message": answer.message, "param": answer.param}
            event = b"event: error\ndata: %b\n\n" % msgspec.json.encode(said | {"sequence_number": 0})
        case Dialect.OLLAMA:
            return b"%b\n" % msgspec.json.encode(_said(answer, dialect))
        case _:
            assert_never(dialect)
    if not sent or sent.endswith((b"\n\n", b"\r\n\r\n")):
        return event
    # An event that was cut off must not swallow this one.
    return (b"\n" if sent.endswith(b"\n") else b"\n\n") + event


def _said(answer: ErrorAnswer, dialect: Dialect) -> dict[str, Any]:
    match dialect:
        case Dialect.OPENAI | Dialect.RESPONSES:
            kind = _openai_type(answer.status)
            return {
                "error": {"message": answer.message, "type": kind, "param": answer.param, "code": answer.code},
            }
        case Dialect.ANTHROPIC:
            return {"type": "error", "error": {"type": _anthropic_type(answer.status), "message": answer.message}}
        case Dialect.OLLAMA:
            return {"error": answer.message}
        case _:
            assert_never(dialect)


def _openai_type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def _anthropic_type(status: int) -> str:
    return _ANTHROPIC_TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
