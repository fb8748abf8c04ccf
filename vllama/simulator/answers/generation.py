"""What chat and completions have in common: limits, usage, and a stream that ends well whatever happens."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from vllama.simulator.core_client import EngineDeadError
from vllama.simulator.server_state import ServerState
from vllama.simulator.web import Request, bad_value
from vllama.simulator.wire import Add, Output

_DEFAULT_STEPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    text: str
    tokens: int
    steps: int
    finish_reason: str

    def outputs(self, state: ServerState, request_id: str) -> AsyncIterator[Output]:
        request = Add(request_id, self.text, self.steps, self.finish_reason)
        return state.core.generate(request, prompt_tokens=self.tokens)


def make_prompt(state: ServerState, prompt: object, limit: object, *, unlimited: str) -> Prompt:
    """`limit` is the request's max_tokens; `unlimited` how generation ends when there is none."""
    text, tokens = state.check_prompt(prompt)
    longest = state.max_model_len
    if limit is None:
        steps, finish_reason = _DEFAULT_STEPS, unlimited
    elif not isinstance(limit, int) or limit < 1:
        raise bad_value(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    elif limit > longest:
        message = (
            f"max_tokens={limit} cannot be greater than max_model_len={longest}. Please request fewer output tokens."
        )
        raise bad_value(message, "max_tokens", limit)
    else:
        steps, finish_reason = limit, "length"
    return Prompt(text=text, tokens=tokens, steps=min(steps, max(1, longest - tokens)), finish_reason=finish_reason)


def make_id(request: Request, prefix: str) -> str:
    """`prefix` and the caller's X-Request-Id, or a random one."""
    return f"{prefix}-{request.headers.get('x-request-id') or uuid.uuid4().hex}"


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
    at_end = bool(options.get("include_usage"))
    return at_end, at_end and bool(options.get("continuous_usage_stats"))


async def collect(outputs: AsyncIterator[Output]) -> tuple[str, int, str | None]:
    """All of it: text, number of tokens, finish reason."""
    pieces: list[str] = []
    tokens, finish_reason = 0, None
    async for output in outputs:
        pieces.append(output.text)
        tokens += output.tokens
        finish_reason = output.finish_reason
    return "".join(pieces), tokens, finish_reason


async def until_done(chunks: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """The chunks, an error in place of those that a dead core owes, and [DONE]."""
    try:
        async for chunk in chunks:
            yield chunk
    except EngineDeadError as error:
        details = {"message": str(error), "type": "InternalServerError", "param": None, "code": 500}
        yield json.dumps({"error": details})
    except asyncio.CancelledError:
        raise
    yield "[DONE]"
