"""What all routes that generate have in common: limits, usage, and a stream that ends well whatever happens."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vllama.simulator.core_client import EngineDeadError
from vllama.simulator.server_state import ServerState
from vllama.simulator.text import render_chat
from vllama.simulator.web import Request, bad_value, data_event, invalid, refused
from vllama.simulator.wire import Add, Output

_DEFAULT_STEPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    text: str
    tokens: int
    steps: int
    finish_reason: str
    stop: tuple[str, ...]

    def outputs(self, state: ServerState, request_id: str) -> AsyncIterator[Output]:
        request = Add(request_id, self.text, self.steps, self.finish_reason, list(self.stop))
        return state.core.generate(request, prompt_tokens=self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    text: str
    tokens: int
    finish_reason: str | None
    stop_reason: str | None


def make_prompt(
    state: ServerState, prompt: object, body: Mapping[str, Any], *limits: str, stop: str = "stop", unlimited: str
) -> Prompt:
    """`limits` are the fields that may limit the answer, the first one that is given wins; `unlimited` says how
    generation ends when there is none. `stop` is the field of the stop strings.
    """
    text, tokens = state.check_prompt(prompt)
    longest = state.max_model_len
    name, limit = next(((name, body[name]) for name in limits if body.get(name) is not None), ("", None))
    if limit is None:
        steps, finish_reason = _DEFAULT_STEPS, unlimited
    elif not isinstance(limit, int):
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise invalid("int_parsing", f"body.{name}", {"msg": message, "input": limit})
    elif limit < 1:
        raise bad_value(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    elif limit > longest:
        message = f"{name}={limit} cannot be greater than max_model_len={longest}. Please request fewer output tokens."
        raise bad_value(message, name, limit)
    else:
        steps, finish_reason = limit, "length"
    return Prompt(
        text=text,
        tokens=tokens,
        steps=min(steps, max(1, longest - tokens)),
        finish_reason=finish_reason,
        stop=_stop_strings(body.get(stop)),
    )


def render_messages(messages: object) -> str:
    """The chat template's text. ApiError for messages that it cannot take."""
    if not isinstance(messages, list):
        raise refused(f"'{type(messages).__name__}' object is not iterable")
    if not messages:
        raise refused("Cannot apply chat template to an empty conversation. Provide at least one message.")
    try:
        return render_chat(messages)
    except (AttributeError, TypeError) as error:
        raise refused(f"validation errors for ValidatorIterator: {error}") from error


def how_many(body: Mapping[str, Any]) -> int:
    """`n`: answers per prompt."""
    number = body.get("n")
    if number is None:
        return 1
    if not isinstance(number, int) or number < 1:
        raise refused(f"n must be at least 1, got {number}.")
    if number > 1 and body.get("temperature") == 0:
        raise refused(f"n must be 1 when using greedy sampling, got {number}.")
    return number


def make_id(request: Request, prefix: str) -> str:
    """`prefix` and the caller's X-Request-Id, or a random one."""
    return f"{prefix}-{request.headers.get('x-request-id') or random_id()}"


def random_id() -> str:
    return uuid.uuid4().hex[:16]


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return short_usage(prompt_tokens, completion_tokens) | {
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


def short_usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """As in streams, where vLLM leaves the nulls out."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }


def wants_usage(body: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether a stream ends with a usage chunk, and whether every chunk carries usage."""
    options = body.get("stream_options") or {}
    if options and not body.get("stream"):
        raise bad_value("Stream options can only be defined when `stream=True`.", "stream_options")
    at_end = bool(options.get("include_usage"))
    return at_end, at_end and bool(options.get("continuous_usage_stats"))


async def collect_all(requests: Iterable[tuple[Prompt, str]], state: ServerState) -> list[Generated]:
    """The answers to prompts, each with its request id, at once."""
    return await asyncio.gather(*(collect(prompt.outputs(state, request_id)) for prompt, request_id in requests))


async def collect(outputs: AsyncIterator[Output]) -> Generated:
    pieces: list[str] = []
    tokens, finish_reason, stop_reason = 0, None, None
    async for output in outputs:
        pieces.append(output.text)
        tokens += output.tokens
        finish_reason, stop_reason = output.finish_reason, output.stop_reason
    return Generated(text="".join(pieces), tokens=tokens, finish_reason=finish_reason, stop_reason=stop_reason)


async def until_done(chunks: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """The chunks as events, an error in place of those that a dead core owes, and [DONE]."""
    try:
        async for chunk in chunks:
            yield data_event(chunk)
    except EngineDeadError as error:
        details = {"message": str(error), "type": "InternalServerError", "param": None, "code": 500}
        yield data_event(json.dumps({"error": details}))
    yield data_event("[DONE]")


def _stop_strings(stop: object) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(map(str, stop)) if isinstance(stop, list) else ()
