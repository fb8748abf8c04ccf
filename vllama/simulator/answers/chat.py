"""POST /v1/chat/completions."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from vllama.simulator.answers.generation import (
    Prompt,
    collect,
    make_id,
    make_prompt,
    short_usage,
    until_done,
    usage,
    wants_usage,
)
from vllama.simulator.server_state import FINGERPRINT, ServerState, now
from vllama.simulator.text import render_chat
from vllama.simulator.web import (
    Answer,
    ApiError,
    Request,
    Stream,
    answer_json,
    invalid,
    read_json,
    required,
    to_json,
)


async def chat_completions(request: Request, state: ServerState) -> Answer | Stream:
    body = read_json(request)
    messages = required(body, "messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        details = {"msg": "Input should be a valid list", "input": f"<{type(messages).__name__}>"}
        raise invalid("list_type", "body.messages", details)
    model = state.check_model(body.get("model"), generates=True)
    _check_tools(body, state)
    limit = body.get("max_completion_tokens")
    prompt = make_prompt(
        state, render_chat(messages), body.get("max_tokens") if limit is None else limit, unlimited="stop"
    )
    state.check_capacity()
    head: dict[str, Any] = {
        "id": make_id(request, "chatcmpl"),
        "object": "chat.completion",
        "created": now(),
        "model": model,
    }
    if body.get("stream"):
        return Stream(events=until_done(_chunks(prompt, head, body, state)))
    text, tokens, finish_reason = await collect(prompt.outputs(state, head["id"]))
    return answer_json({**head, **_completion(text, finish_reason), "usage": usage(prompt.tokens, tokens), **_TAIL})


def _check_tools(body: Mapping[str, Any], state: ServerState) -> None:
    if body.get("tools") and body.get("tool_choice", "auto") == "auto" and not state.command.tool_parser:
        message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        raise ApiError(400, message, type_="BadRequestError")


def _completion(text: str, finish_reason: str | None) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_reason,
        "stop_reason": None,
        "token_ids": None,
        "routed_experts": None,
    }
    return {"choices": [choice], "service_tier": None, "system_fingerprint": FINGERPRINT}


_TAIL = {
    "prompt_logprobs": None,
    "prompt_token_ids": None,
    "prompt_text": None,
    "kv_transfer_params": None,
    "ec_transfer_params": None,
    "metrics": None,
}


async def _chunks(
    prompt: Prompt, head: Mapping[str, Any], body: Mapping[str, Any], state: ServerState
) -> AsyncGenerator[str, None]:
    usage_at_end, usage_always = wants_usage(body)
    model_last = {"id": head["id"], "object": "chat.completion.chunk", "created": head["created"]}

    def chunk(choices: list[dict[str, Any]], tokens: int | None, **more: Any) -> str:
        counted = {} if tokens is None else {"usage": short_usage(prompt.tokens, tokens)}
        return to_json({**model_last, "model": head["model"], "choices": choices, **counted, **more})

    done = 0
    async for output in prompt.outputs(state, head["id"]):
        if done == 0:
            choice = _delta({"role": "assistant", "content": ""}, None)
            yield chunk([choice], 0 if usage_always else None, prompt_token_ids=None, prompt_text=None)
        done += output.tokens
        last = output.finish_reason is not None
        choice = _delta({"content": output.text}, output.finish_reason) | ({"stop_reason": None} if last else {})
        stamp = {"system_fingerprint": FINGERPRINT} if last and not usage_at_end else {}
        yield chunk([choice | {"token_ids": None}], done if usage_always else None, **stamp)
    if usage_at_end:
        yield chunk([], done, system_fingerprint=FINGERPRINT)


def _delta(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
