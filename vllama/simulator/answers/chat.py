"""POST /v1/chat/completions."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from vllama.simulator.answers.generation import (
    Generated,
    Prompt,
    collect_all,
    how_many,
    make_id,
    make_prompt,
    render_messages,
    short_usage,
    until_done,
    usage,
    wants_usage,
)
from vllama.simulator.server_state import FINGERPRINT, ServerState, now
from vllama.simulator.web import Answer, Request, Stream, answer_json, read_json, refused, required, to_json


async def chat_completions(request: Request, state: ServerState) -> Answer | Stream:
    return await answer_chat(read_json(request), request, state)


async def answer_chat(body: Mapping[str, Any], request: Request, state: ServerState) -> Answer | Stream:
    messages = required(body, "messages")
    wants = wants_usage(body)
    model = state.check_model(body.get("model"), generates=True)
    _check_tools(body, state)
    text = render_messages(messages)
    prompt = make_prompt(state, text, body, "max_completion_tokens", "max_tokens", unlimited="stop")
    number = how_many(body)
    state.check_capacity()
    head: dict[str, Any] = {
        "id": make_id(request, "chatcmpl"),
        "object": "chat.completion",
        "created": now(),
        "model": model,
    }
    if body.get("stream"):
        return Stream(events=until_done(_chunks(prompt, number, head, wants, state)))
    answers = await collect_all([(prompt, head["id"])] * number, state)
    choices = [_choice(index, answer) for index, answer in enumerate(answers)]
    counted = usage(prompt.tokens, sum(answer.tokens for answer in answers))
    middle = {"choices": choices, "service_tier": None, "system_fingerprint": FINGERPRINT, "usage": counted}
    return answer_json({**head, **middle, **_TAIL})


def _check_tools(body: Mapping[str, Any], state: ServerState) -> None:
    if body.get("tools") and body.get("tool_choice", "auto") == "auto" and not state.command.tool_parser:
        raise refused('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')


def _choice(index: int, answer: Generated) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": answer.text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }


_TAIL = {
    "prompt_logprobs": None,
    "prompt_token_ids": None,
    "prompt_text": None,
    "kv_transfer_params": None,
    "ec_transfer_params": None,
    "metrics": None,
}


async def _chunks(
    prompt: Prompt, number: int, head: Mapping[str, Any], wants: tuple[bool, bool], state: ServerState
) -> AsyncGenerator[str, None]:
    """One answer after the other; vLLM mixes them."""
    usage_at_end, usage_always = wants
    model_last = {"id": head["id"], "object": "chat.completion.chunk", "created": head["created"]}

    def chunk(choices: list[dict[str, Any]], tokens: int | None, **more: Any) -> str:
        counted: dict[str, Any] = {} if tokens is None else {"usage": short_usage(prompt.tokens, tokens)}
        if counted and choices:
            counted["usage"] |= {"completion_tokens_details": None}
        return to_json({**model_last, "model": head["model"], "choices": choices, **counted, **more})

    generated = 0
    for index in range(number):
        done = 0
        async for output in prompt.outputs(state, head["id"]):
            for begun in range(number) if index == done == 0 else ():
                choice = _delta(begun, {"role": "assistant", "content": ""}, None)
                yield chunk([choice], 0 if usage_always else None, prompt_token_ids=None, prompt_text=None)
            done += output.tokens
            last = output.finish_reason is not None
            choice = _delta(index, {"content": output.text}, output.finish_reason)
            choice |= {"stop_reason": output.stop_reason} if last else {}
            stamp = {"system_fingerprint": FINGERPRINT} if last and not usage_at_end else {}
            yield chunk([choice | {"token_ids": None}], done if usage_always else None, **stamp)
        generated += done
    if usage_at_end:
        yield chunk([], generated, system_fingerprint=FINGERPRINT)


def _delta(index: int, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
