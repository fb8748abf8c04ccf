"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's dialect, as vLLM speaks it."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from vllama.simulator.answers.generation import Prompt, collect, make_id, make_prompt, render_messages
from vllama.simulator.core_client import EngineDeadError
from vllama.simulator.server_state import ServerState
from vllama.simulator.web import (
    Answer,
    ApiError,
    Request,
    Stream,
    answer_json,
    invalid,
    named_event,
    read_json,
    require,
)


async def messages(request: Request, state: ServerState) -> Answer | Stream:
    body = read_json(request)
    require(body, "model", "messages", "max_tokens")
    _check_max_tokens(body["max_tokens"])
    try:
        model = state.check_model(body["model"], generates=True)
        limited = {**body, "max_completion_tokens": body["max_tokens"]}  # the name that vLLM complains of
        prompt = make_prompt(
            state, _render(body), limited, "max_completion_tokens", stop="stop_sequences", unlimited="stop"
        )
        state.check_capacity()
        head = {"id": make_id(request, "chatcmpl"), "type": "message", "role": "assistant"}
        if body.get("stream"):
            return Stream(events=_events(prompt, head, model, state))
        answer = await collect(prompt.outputs(state, head["id"]))
    except ApiError as error:
        return _error(error.status, error.type, error.message)
    except EngineDeadError as error:
        return _error(500, "InternalServerError", str(error))
    content = [{"type": "text", "text": answer.text}]
    used = _usage(prompt.tokens, answer.tokens)
    stop = {key: value for key, value in _stop(answer.finish_reason, answer.stop_reason).items() if value is not None}
    return answer_json({**head, "content": content, "model": model, **stop, "usage": used})


async def count_tokens(request: Request, state: ServerState) -> Answer:
    body = read_json(request)
    require(body, "model", "messages")
    try:
        state.check_model(body["model"], generates=True)
        _, tokens = state.check_prompt(_render(body))
    except ApiError as error:
        return _error(error.status, error.type, error.message)
    return answer_json({"input_tokens": tokens, "context_management": {"original_input_tokens": tokens}})


async def _events(prompt: Prompt, head: Mapping[str, Any], model: str, state: ServerState) -> AsyncGenerator[str, None]:
    done = 0
    stop = _stop(None, None)
    try:
        async for output in prompt.outputs(state, str(head["id"])):
            if done == 0:
                empty = {**head, "content": [], "model": model, **_stop(None, None)}
                message = {**empty, "usage": _usage(prompt.tokens, 0)}
                yield named_event({"type": "message_start", "message": message})
                block = {"type": "text", "text": ""}
                yield named_event({"type": "content_block_start", "content_block": block, "index": 0})
            done += output.tokens
            stop = _stop(output.finish_reason, output.stop_reason)
            if output.text:
                delta = {"type": "text_delta", "text": output.text}
                yield named_event({"type": "content_block_delta", "delta": delta, "index": 0})
    except EngineDeadError:
        # vLLM stumbles over its own error event, says so in these words, and ends without message_stop.
        said = "2 validation errors for ChatCompletionStreamResponse\nmodel\n  Field required"
        yield named_event({"type": "error", "error": {"type": "internal_error", "message": said}})
        return
    yield named_event({"type": "content_block_stop", "index": 0})
    yield named_event({"type": "message_delta", "delta": stop, "usage": _usage(prompt.tokens, done)})
    yield named_event({"type": "message_stop"})


def _check_max_tokens(limit: object) -> None:
    if isinstance(limit, int) and limit < 1:
        why = "max_tokens must be positive"
        details = {"msg": f"Value error, {why}", "input": str(limit), "ctx": {"error": ValueError(why)}}
        raise invalid("value_error", "body.max_tokens", details)


def _render(body: Mapping[str, Any]) -> str:
    system = body.get("system")
    first = [{"role": "system", "content": system}] if system else []
    return render_messages([*first, *body["messages"]] if isinstance(body["messages"], list) else body["messages"])


def _stop(finish_reason: str | None, stop_reason: str | None) -> dict[str, str | None]:
    """`abort` has no name in this dialect."""
    if stop_reason:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_reason}
    names = {"stop": "end_turn", "length": "max_tokens"}
    return {"stop_reason": names.get(finish_reason or ""), "stop_sequence": None}


def _usage(prompt_tokens: int, tokens: int) -> dict[str, int]:
    return {"input_tokens": prompt_tokens, "output_tokens": tokens}


def _error(status: int, kind: str, message: str) -> Answer:
    return answer_json({"type": "error", "error": {"type": kind, "message": message}}, status)
