"""A conversation in Ollama's words -> the same in OpenAI's."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from vllama.gateway.ollama.requests import Message, ToolCall

# How the base64 of each kind of picture begins.
_BEGINNINGS = (("iVBOR", "png"), ("/9j/", "jpeg"), ("R0lGOD", "gif"), ("UklGR", "webp"), ("Qk", "bmp"))


class Untranslatable(ValueError):
    """No engine could be asked that; the text says why."""


def to_openai(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Raises Untranslatable. A call without an id gets one; a tool that names none answers the first open call."""
    pending: list[tuple[str, str]] = []  # ids and names of calls that no tool has answered yet
    return [_message(message, pending, number) for number, message in enumerate(messages)]


def _message(message: Message, pending: list[tuple[str, str]], number: int) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.thinking:
        said["reasoning"] = message.thinking
    if message.tool_calls:
        calls = list(_calls(message.tool_calls, number))
        pending += [(call["id"], call["function"]["name"]) for call in calls]
        said["tool_calls"] = calls
    if message.role == "tool":
        said["tool_call_id"] = _answered(message, pending)
        if message.tool_name:
            said["name"] = message.tool_name
    return said


def _content(message: Message) -> str | list[dict[str, Any]]:
    text = message.content or ""
    if not message.images:
        return text
    pictures = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images]
    return [{"type": "text", "text": text}, *pictures] if text else pictures


def _data_url(image: str) -> str:
    if image.startswith("data:"):
        return image
    if "://" in image[:16]:
        raise Untranslatable("an image must be base64, not an address")
    kind = next((kind for beginning, kind in _BEGINNINGS if image.startswith(beginning)), "png")
    return f"data:image/{kind};base64,{image}"


def _calls(calls: Sequence[ToolCall], number: int) -> Iterator[dict[str, Any]]:
    for position, call in enumerate(calls):
        function = {"name": call.function.name, "arguments": _arguments(bytes(call.function.arguments))}
        yield {"id": call.id or f"call_{number}_{position}", "type": "function", "function": function}


def _arguments(raw: bytes) -> str:
    """As OpenAI has them: JSON in a string. Some clients send that here, too."""
    if raw.startswith(b'"'):
        return msgspec.json.decode(raw, type=str)
    return raw.decode()


def _answered(message: Message, pending: list[tuple[str, str]]) -> str:
    given = message.tool_call_id
    matching = [
        call for call in pending if call[0] == given or (not given and message.tool_name in {None, "", call[1]})
    ]
    if matching:
        pending.remove(matching[0])
    return given or (matching[0][0] if matching else "call_unknown")
