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
from vllama.simulator.answers.tools import Call, make_call_id, planned_call
from vllama.simulator.server_state import FINGERPRINT, ServerState, now
from vllama.simulator.web import Answer, Request, Stream, answer_json, read_json, required, to_json


async def chat_completions(request: Request, state: ServerState) -> Answer | Stream:
    return await answer_chat(read_json(request), request, state)


async def answer_chat(body: Mapping[str, Any], request: Request, state: ServerState) -> Answer | Stream:
    messages = required(body, "messages")
    wants = wants_usage(body)
    model = state.check_model(body.get("model"), generates=True)
    call = planned_call(body, state)
    text = render_messages(messages)
    prompt = make_prompt(state, text, body, "max_completion_tokens", "max_tokens", unlimited="stop")
    prompt = prompt if call is None else call.over(prompt)
    number = how_many(body)
    state.check_capacity()
    head: dict[str, Any] = {
        "id": make_id(request, "chatcmpl"),
        "object": "chat.completion",
        "created": now(),
        "model": model,
    }
    if body.get("stream"):
        return Stream(events=until_done(_chunks(prompt, number, head, wants, state, call=call)))
    answers = await collect_all([(prompt, head["id"])] * number, state)
    choices = [_choice(index, answer, call) for index, answer in enumerate(answers)]
    counted = usage(prompt.tokens, sum(answer.tokens for answer in answers))
    middle = {"choices": choices, "service_tier": None, "system_fingerprint": FINGERPRINT, "usage": counted}
    return answer_json({**head, **middle, **_TAIL})


def _choice(index: int, answer: Generated, call: Call | None) -> dict[str, Any]:
    called = call is not None and answer.finish_reason == "stop"
    return {
        "index": index,
        "message": _message(answer, call, called=called),
        "logprobs": None,
        "finish_reason": answer.finish_reason if call is None else call.reason(answer.finish_reason),
        "stop_reason": answer.stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }


def _message(answer: Generated, call: Call | None, *, called: bool) -> dict[str, Any]:
    content: str | None = answer.text
    calls: dict[str, Any] = {}
    if call is not None and called:
        content = None if call.chosen else ""
        function = {"name": call.name, "arguments": call.arguments}
        calls = {"tool_calls": [{"id": make_call_id(), "type": "function", "function": function}]}
    elif call is not None:
        content = call.unfinished(answer)
    head = {"role": "assistant", "content": content, "refusal": None, "annotations": None, "audio": None}
    return {**head, "function_call": None, **calls, "reasoning": None}


_TAIL = {
    "prompt_logprobs": None,
    "prompt_token_ids": None,
    "prompt_text": None,
    "kv_transfer_params": None,
    "ec_transfer_params": None,
    "metrics": None,
}


async def _chunks(
    prompt: Prompt,
    number: int,
    head: Mapping[str, Any],
    wants: tuple[bool, bool],
    state: ServerState,
    *,
    call: Call | None,
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
            for delta in () if call is None else _pieces(call, done):
                choice = _delta(index, {"content": None, "tool_calls": [delta]}, None) | {"token_ids": None}
                yield chunk([choice], done + 1 if usage_always else None)
            done += output.tokens
            last = output.finish_reason is not None
            if call is not None and not last:
                continue
            said = {"content": output.text} if call is None else {}
            reason = output.finish_reason if call is None else call.reason(output.finish_reason)
            choice = _delta(index, said, reason)
            choice |= {"stop_reason": output.stop_reason} if last else {}
            stamp = {"system_fingerprint": FINGERPRINT} if last and not usage_at_end else {}
            yield chunk([choice | {"token_ids": None}], done if usage_always else None, **stamp)
        generated += done
    if usage_at_end:
        yield chunk([], generated, system_fingerprint=FINGERPRINT)


def _delta(index: int, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _pieces(call: Call, done: int) -> list[dict[str, Any]]:
    """The next one; the first has the name before it."""
    head = {"id": make_call_id(), "type": "function", "index": 0, "function": {"name": call.name}}
    piece = {"index": 0, "function": {"arguments": call.pieces[done]}}
    return [piece] if done else [head, piece]
