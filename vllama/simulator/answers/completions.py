"""POST /v1/completions."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from vllama.simulator.answers.generation import (
    Generated,
    Prompt,
    collect_all,
    how_many,
    make_id,
    make_prompt,
    short_usage,
    until_done,
    usage,
    wants_usage,
)
from vllama.simulator.server_state import FINGERPRINT, ServerState, now
from vllama.simulator.web import Answer, Request, Stream, answer_json, bad_value, read_json, refused, to_json


async def completions(request: Request, state: ServerState) -> Answer | Stream:
    return await answer_completions(read_json(request), request, state)


async def answer_completions(body: Mapping[str, Any], request: Request, state: ServerState) -> Answer | Stream:
    wants = wants_usage(body)
    asked = _prompts(body.get("prompt"))
    model = state.check_model(body.get("model"), generates=True)
    several = [make_prompt(state, prompt, body, "max_tokens", unlimited="length") for prompt in asked]
    number = how_many(body)
    state.check_capacity()
    head: dict[str, Any] = {
        "id": make_id(request, "cmpl"),
        "object": "text_completion",
        "created": now(),
        "model": model,
    }
    # Each prompt has a name of its own, which its `number` answers share.
    prompts = [(prompt, f"{head['id']}-{index}") for index, prompt in enumerate(several) for _ in range(number)]
    prompt_tokens = sum(prompt.tokens for prompt in several)
    if body.get("stream"):
        return Stream(events=until_done(_chunks(prompts, prompt_tokens, head, wants, state)))
    answers = await collect_all(prompts, state)
    return answer_json(
        {
            **head,
            "choices": [_choice(index, answer) for index, answer in enumerate(answers)],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": usage(prompt_tokens, sum(answer.tokens for answer in answers)),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
    )


def _prompts(asked: Any) -> list[Any]:
    if asked is None or asked == "":
        raise bad_value("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    if asked == []:
        raise refused("You must pass at least one prompt")
    return asked if isinstance(asked, list) and not isinstance(asked[0], int) else [asked]


def _choice(index: int, answer: Generated) -> dict[str, Any]:
    return {
        "index": index,
        "text": answer.text,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "routed_experts": None,
    }


async def _chunks(
    prompts: Sequence[tuple[Prompt, str]],
    prompt_tokens: int,
    head: Mapping[str, Any],
    wants: tuple[bool, bool],
    state: ServerState,
) -> AsyncGenerator[str, None]:
    usage_at_end, usage_always = wants
    generated = 0
    for index, (prompt, request_id) in enumerate(prompts):
        done = 0
        async for output in prompt.outputs(state, request_id):
            done += output.tokens
            choice = {
                "index": index,
                "text": output.text,
                "logprobs": None,
                "finish_reason": output.finish_reason,
                "stop_reason": output.stop_reason,
                "prompt_token_ids": None,
                "token_ids": None,
            }
            counted = {"usage": short_usage(prompt.tokens, done)} if usage_always else {}
            stamp = {"system_fingerprint": FINGERPRINT} if output.finish_reason and not usage_at_end else {}
            yield to_json({**head, "choices": [choice], **counted, **stamp})
        generated += done
    if usage_at_end:
        counted = {"usage": short_usage(prompt_tokens, generated)}
        yield to_json({**head, "choices": [], **counted, "system_fingerprint": FINGERPRINT})
