"""POST /v1/completions."""

from collections.abc import AsyncGenerator, Mapping, Sequence
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
from vllama.simulator.web import Answer, Request, Stream, answer_json, read_json, required, to_json


async def completions(request: Request, state: ServerState) -> Answer | Stream:
    body = read_json(request)
    asked = required(body, "prompt")
    model = state.check_model(body.get("model"), generates=True)
    several = isinstance(asked, list) and bool(asked) and not isinstance(asked[0], int)
    prompts = [
        make_prompt(state, prompt, body.get("max_tokens"), unlimited="length")
        for prompt in (asked if several else [asked])
    ]
    state.check_capacity()
    head: dict[str, Any] = {
        "id": make_id(request, "cmpl"),
        "object": "text_completion",
        "created": now(),
        "model": model,
    }
    if body.get("stream"):
        return Stream(events=until_done(_chunks(prompts, head, body, state)))
    choices, generated = [], 0
    for index, prompt in enumerate(prompts):
        text, tokens, finish_reason = await collect(prompt.outputs(state, f"{head['id']}-{index}"))
        generated += tokens
        choices.append(_choice(index, text, finish_reason))
    counted = usage(sum(prompt.tokens for prompt in prompts), generated)
    return answer_json(
        {
            **head,
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": counted,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
    )


def _choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {
        "index": index,
        "text": text,
        "logprobs": None,
        "finish_reason": finish_reason,
        "stop_reason": None,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "routed_experts": None,
    }


async def _chunks(
    prompts: Sequence[Prompt], head: Mapping[str, Any], body: Mapping[str, Any], state: ServerState
) -> AsyncGenerator[str, None]:
    usage_at_end, usage_always = wants_usage(body)
    generated = 0
    for index, prompt in enumerate(prompts):
        done = 0
        async for output in prompt.outputs(state, f"{head['id']}-{index}"):
            done += output.tokens
            choice = {
                "index": index,
                "text": output.text,
                "logprobs": None,
                "finish_reason": output.finish_reason,
                "stop_reason": None,
                "prompt_token_ids": None,
                "token_ids": None,
            }
            counted = {"usage": short_usage(prompt.tokens, done)} if usage_always else {}
            stamp = {"system_fingerprint": FINGERPRINT} if output.finish_reason and not usage_at_end else {}
            yield to_json({**head, "choices": [choice], **counted, **stamp})
        generated += done
    if usage_at_end:
        counted = {"usage": short_usage(sum(prompt.tokens for prompt in prompts), generated)}
        yield to_json({**head, "choices": [], **counted, "system_fingerprint": FINGERPRINT})
