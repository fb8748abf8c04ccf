"""/v1/responses. Only with VLLM_ENABLE_RESPONSES_API_STORE are they kept, and made in the background."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from vllama.simulator.answers.generation import Generated, Prompt, collect, make_prompt, random_id, render_messages
from vllama.simulator.core_client import EngineDeadError
from vllama.simulator.server_state import ServerState, StoredResponse, now
from vllama.simulator.web import (
    Answer,
    ApiError,
    Request,
    Stream,
    answer_json,
    bad_value,
    missing,
    named_event,
    read_json,
)

_NO_STORE = (
    "This vLLM engine does not support `store=True` and therefore does not support the background mode. To enable "
    "these features, set the environment variable `VLLM_ENABLE_RESPONSES_API_STORE=1` when launching the vLLM server."
)


async def responses(request: Request, state: ServerState) -> Answer | Stream:
    body = read_json(request)
    name = str(body.get("request_id") or f"resp_{random_id()}")
    if body.get("background") and not body.get("store", True):
        raise bad_value("background can only be used when `store` is true", "background")
    if body.get("input") is None:
        raise missing({**body, "request_id": name}, "input")
    model = state.check_model(body.get("model"), generates=True)
    if body.get("background") and not state.settings.responses_store:
        raise ApiError(400, _NO_STORE, type_="invalid_request_error", param="background")
    prompt = make_prompt(state, _render(body), body, "max_output_tokens", unlimited="stop")
    state.check_capacity()
    frame = _Frame(body, name, model, prompt)
    if body.get("background"):
        stored = _begin_in_background(frame, prompt, state, stream=bool(body.get("stream")))
        return Stream(events=_follow(stored, 0)) if stored.events is not None else answer_json(stored.response)
    if body.get("stream"):
        return Stream(events=_events(frame, prompt, state))
    response = frame.response(await collect(prompt.outputs(state, name)))
    frame.keep(response, state)
    return answer_json(response)


async def find_response(request: Request, state: ServerState) -> Answer | Stream:
    stored = _stored(request.path.removeprefix("/v1/responses/"), state)
    if request.last("stream", "") not in {"true", "1"}:
        return answer_json(stored.response)
    return Stream(events=_follow(stored, int(request.last("starting_after", "-1")) + 1))


async def cancel_response(request: Request, state: ServerState) -> Answer:
    stored = _stored(request.path.removeprefix("/v1/responses/").removesuffix("/cancel"), state)
    if not stored.is_under_way:
        message = "Cannot cancel a synchronous response."
        raise ApiError(400, message, type_="invalid_request_error", param="response_id")
    stored.response |= {"status": "cancelled"}
    if stored.task is not None:
        stored.task.cancel()
    return answer_json(stored.response)


def _stored(name: str, state: ServerState) -> StoredResponse:
    if name in state.responses:
        return state.responses[name]
    raise ApiError(404, f"Response with id '{name}' not found.", type_="invalid_request_error", param="response_id")


def _begin_in_background(frame: "_Frame", prompt: Prompt, state: ServerState, *, stream: bool) -> StoredResponse:
    """It stays `queued` until it is done, whatever happens in between."""
    stored = StoredResponse(response=frame.response(None) | {"status": "queued"}, events=[] if stream else None)
    state.responses[frame.name] = stored
    stored.task = asyncio.create_task(_work(stored, frame, prompt, state))
    return stored


async def _work(stored: StoredResponse, frame: "_Frame", prompt: Prompt, state: ServerState) -> None:
    try:
        if stored.events is None:
            frame.keep(frame.response(await collect(prompt.outputs(state, frame.name))), state)
            return
        async for event in _events(frame, prompt, state):
            stored.events.append(event)
            stored.news.set()
    except EngineDeadError:
        return  # what it was stays


async def _follow(stored: StoredResponse, number: int) -> AsyncGenerator[str, None]:
    """Its events from `number` on, the present ones and those to come."""
    if stored.events is None:
        raise LookupError("Unknown response_id")  # in the middle of an answer, as it is in vLLM
    while True:
        stored.news.clear()
        for event in stored.events[number:]:
            number += 1
            yield event
            if event.startswith("event: response.completed"):
                return
        await stored.news.wait()


class _Frame:
    """What all events of one response, and its plain answer, say alike."""

    def __init__(self, body: Mapping[str, Any], name: str, model: str, prompt: Prompt) -> None:
        self._body, self._model, self._prompt, self.name = body, model, prompt, name
        self._created = now()
        self.item_id = f"msg_{random_id()}"

    def response(self, answer: Generated | None) -> dict[str, Any]:
        """With the answer, or while it is not there."""
        body = self._body
        cut = answer is not None and answer.finish_reason == "length"
        status = "in_progress" if answer is None else "incomplete" if cut else "completed"
        return {
            "id": self.name,
            "created_at": self._created,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": body.get("instructions"),
            "metadata": body.get("metadata"),
            "model": self._model,
            "object": "response",
            "output": [] if answer is None else [self.item("completed", [_part(answer.text)])],
            "parallel_tool_calls": True,
            "temperature": float(body.get("temperature") or 1.0),
            "tool_choice": "none",
            "tools": [],
            "top_p": float(body.get("top_p") or 1.0),
            "background": bool(body.get("background")),
            "max_output_tokens": body.get("max_output_tokens") or self._prompt.steps,
            "max_tool_calls": None,
            "previous_response_id": None,
            "prompt": None,
            "reasoning": None,
            "service_tier": "auto",
            "status": status,
            "text": None,
            "top_logprobs": None,
            "truncation": "disabled",
            "usage": None if answer is None else _usage(self._prompt.tokens, answer.tokens),
            "user": body.get("user"),
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }

    def keep(self, response: dict[str, Any], state: ServerState) -> None:
        """Unless nothing is to be kept, or it was cancelled meanwhile."""
        stored = state.responses.get(self.name)
        if stored is not None and stored.response["status"] != "cancelled":
            stored.response = response
        elif stored is None and state.settings.responses_store and self._body.get("store", True):
            state.responses[self.name] = StoredResponse(response=response)

    def item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": self.item_id, "content": content, "role": "assistant"}
        return {**head, "status": status, "type": "message", "phase": None}


async def _events(frame: _Frame, prompt: Prompt, state: ServerState) -> AsyncGenerator[str, None]:
    """Every event has its keys in the order of the alphabet. A core that dies breaks the connection off."""
    numbers = itertools.count()

    def event(kind: str, **content: Any) -> str:
        return named_event(dict(sorted({**content, "sequence_number": next(numbers), "type": kind}.items())))

    where = {"content_index": 0, "item_id": frame.item_id, "output_index": 0}
    yield event("response.created", response=frame.response(None))
    yield event("response.in_progress", response=frame.response(None))
    pieces: list[str] = []
    finish_reason: str | None = None
    async for output in prompt.outputs(state, "response"):
        if not pieces:
            yield event("response.output_item.added", item=frame.item("in_progress", []), output_index=0)
            yield event("response.content_part.added", **where, part=_part("", logprobs=[]))
        pieces.append(output.text)
        finish_reason = output.finish_reason
        yield event("response.output_text.delta", **where, delta=output.text, logprobs=[])
    text = "".join(pieces)
    answer = Generated(text=text, tokens=len(pieces), finish_reason=finish_reason, stop_reason=None)
    yield event("response.output_text.done", **where, logprobs=[], text=text)
    yield event("response.content_part.done", **where, part=_part(text))
    yield event("response.output_item.done", item=frame.item("completed", [_part(text)]), output_index=0)
    response = frame.response(answer)
    frame.keep(response, state)
    yield event("response.completed", response=response)


def _render(body: Mapping[str, Any]) -> str:
    asked = body["input"]
    turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    instructions = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    return render_messages([*instructions, *turns])


def _part(text: str, logprobs: list[Any] | None = None) -> dict[str, Any]:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}


def _usage(prompt_tokens: int, tokens: int) -> dict[str, Any]:
    cached = {"cached_tokens": 0, "cache_write_tokens": 0, "input_tokens_per_turn": [], "cached_tokens_per_turn": []}
    tools = {"reasoning_tokens": 0, "tool_output_tokens": 0}
    turns: dict[str, list[int]] = {"output_tokens_per_turn": [], "tool_output_tokens_per_turn": []}
    return {
        "input_tokens": prompt_tokens,
        "input_tokens_details": cached,
        "output_tokens": tokens,
        "output_tokens_details": {**tools, **turns},
        "total_tokens": prompt_tokens + tokens,
    }
