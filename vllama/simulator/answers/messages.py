"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's dialect, as vLLM speaks it."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from vllama.simulator.answers.generation import Prompt, collect, make_id, make_prompt, render_messages
from vllama.simulator.answers.tools import Call, make_call_id, planned_call
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
        call = planned_call(_openai_tools(body), state)
        prompt = prompt if call is None else call.over(prompt)
        state.check_capacity()
        head = {"id": make_id(request, "chatcmpl"), "type": "message", "role": "assistant"}
        if body.get("stream"):
            return Stream(events=_events(prompt, call, head, model, state))
        answer = await collect(prompt.outputs(state, head["id"]))
    except ApiError as error:
        return _error(error.status, error.type, error.message)
    except EngineDeadError as error:
        return _error(500, "InternalServerError", str(error))
    used = _usage(prompt.tokens, answer.tokens)
    stopped = _stop(answer.finish_reason, answer.stop_reason, call)
    stop = {key: value for key, value in stopped.items() if value is not None}
    if call is not None and answer.finish_reason == "stop":
        content = [_tool_use(call) | {"input": json.loads(call.arguments)}]
    else:
        content = [{"type": "text", "text": answer.text if call is None else call.unfinished(answer)}]
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


async def _events(
    prompt: Prompt, call: Call | None, head: Mapping[str, Any], model: str, state: ServerState
) -> AsyncGenerator[str, None]:
    done = 0
    stop = _stop(None, None)
    try:
        async for output in prompt.outputs(state, str(head["id"])):
            if done == 0:
                empty = {**head, "content": [], "model": model, **_stop(None, None)}
                message = {**empty, "usage": _usage(prompt.tokens, 0)}
                yield named_event({"type": "message_start", "message": message})
                block = {"type": "text", "text": ""} if call is None else _tool_use(call)
                yield named_event({"type": "content_block_start", "content_block": block, "index": 0})
            if call is None:
                delta = {"type": "text_delta", "text": output.text}
            else:
                delta = {"type": "input_json_delta", "partial_json": call.pieces[done]}
            done += output.tokens
            stop = _stop(output.finish_reason, output.stop_reason, call)
            if output.text:
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


def _openai_tools(body: Mapping[str, Any]) -> dict[str, Any]:
    """Its tools and what is said of them, as the rest of vLLM has it."""
    tools = [
        {"type": "function", "function": {"name": tool["name"], "parameters": tool.get("input_schema")}}
        for tool in body.get("tools") or ()
    ]
    if not tools:
        return {}
    choice = body.get("tool_choice") or {"type": "auto"}
    named = {"type": "function", "function": {"name": choice.get("name")}}
    chosen = {"auto": "auto", "any": "required", "none": "none"}.get(choice["type"], named)
    content = body["messages"][-1].get("content")
    results = isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)
    return {"tools": tools, "tool_choice": chosen, "messages": [{"role": "tool" if results else "user"}]}


def _tool_use(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": make_call_id(), "name": call.name, "input": {}}


def _stop(finish_reason: str | None, stop_reason: str | None, call: Call | None = None) -> dict[str, str | None]:
    """`abort` has no name in this dialect."""
    if call is not None and finish_reason == "stop":
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if stop_reason:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_reason}
    names = {"stop": "end_turn", "length": "max_tokens"}
    return {"stop_reason": names.get(finish_reason or ""), "stop_sequence": None}


def _usage(prompt_tokens: int, tokens: int) -> dict[str, int]:
    return {"input_tokens": prompt_tokens, "output_tokens": tokens}


def _error(status: int, kind: str, message: str) -> Answer:
    return answer_json({"type": "error", "error": {"type": kind, "message": message}}, status)
