"""What vllama says and understands over /v1/realtime. vLLM learns the model from an event, not from the URL."""

import time
import uuid
from urllib.parse import parse_qsl

import msgspec

from vllama.gateway.wire.websocket import TEXT, Frame, frame

_UPDATE = b"session.update"
_CREATED = b"session.created"


class _Event(msgspec.Struct):
    type: str | None = None
    model: str | None = None


def model_in_query(target: bytes) -> str | None:
    """`?model=`, as OpenAI's clients have it."""
    said = parse_qsl(target.partition(b"?")[2].decode("latin-1"), encoding="utf-8", errors="replace")
    return next((value for name, value in said if name == "model"), None)


def model_in_update(one: Frame) -> str | None:
    """The model that a client's `session.update` names; None: it is another event, or names none."""
    if one.opcode != TEXT or not one.final or _UPDATE not in one.payload:
        return None
    try:
        event = msgspec.json.decode(one.payload, type=_Event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event.model if event.type == _UPDATE.decode() else None


def is_session_created(one: Frame | bytes) -> bool:
    """With it an engine greets."""
    return isinstance(one, Frame) and one.opcode == TEXT and _CREATED in one.payload


def session_created() -> bytes:
    """The frame that vLLM begins with."""
    said = {"type": _CREATED.decode(), "id": f"sess-{uuid.uuid4().hex}", "created": int(time.time())}
    return frame(TEXT, msgspec.json.encode(said), masked=False)


def error_frame(message: str, code: str) -> bytes:
    """As vLLM says it; the client may try again."""
    return frame(TEXT, msgspec.json.encode({"type": "error", "error": message, "code": code}), masked=False)
