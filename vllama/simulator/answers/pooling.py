"""POST /v1/embeddings, /pooling and /classify: one vector or one class for each input."""

import base64
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

from vllama.simulator.answers.generation import make_id, usage
from vllama.simulator.server_state import ServerState, now
from vllama.simulator.settings import Task
from vllama.simulator.text import render_chat, score, unit_vector
from vllama.simulator.web import Answer, Request, answer_json, missing, read_json, refused
from vllama.simulator.wire import Add

# The fields that a body may lack, in vLLM's order: it names those of each kind of body that a route takes.
_EMBEDDING_FIELDS = ("input", "messages", "messages", "messages", "input", "messages", "input")
_POOLING_FIELDS = ("input", "messages", "data")
_CLASSIFY_FIELDS = ("input", "messages")


async def embeddings(request: Request, state: ServerState) -> Answer:
    return await answer_embeddings(read_json(request), request, state)


async def pooling(request: Request, state: ServerState) -> Answer:
    return await answer_pooling(read_json(request), request, state)


async def classify(request: Request, state: ServerState) -> Answer:
    return await answer_classes(read_json(request), request, state)


async def answer_embeddings(body: dict[str, Any], request: Request, state: ServerState) -> Answer:
    inputs = _inputs(body, _EMBEDDING_FIELDS)
    head = _head(request, body, state, "embd")
    if (dimensions := body.get("dimensions")) is not None:
        what = f"Model '{state.first_name}' does not support Matryoshka embeddings"
        raise refused(f"{what}; dimensions must be unset (received dimensions={dimensions}).")
    return await _vectors(head, inputs, body, state, kind="embedding", key="embedding")


async def answer_pooling(body: dict[str, Any], request: Request, state: ServerState) -> Answer:
    inputs = _inputs(body, _POOLING_FIELDS)
    head = _head(request, body, state, "pooling")
    return await _vectors(head, inputs, body, state, kind="pooling", key="data")


async def answer_classes(body: dict[str, Any], request: Request, state: ServerState) -> Answer:
    inputs = _inputs(body, _CLASSIFY_FIELDS)
    head, data, prompt_tokens = _head(request, body, state, "classify"), [], 0
    async for index, text, tokens in _pooled(head["id"], inputs, body, state):
        prompt_tokens += tokens
        probability = score(state.command.model, "", text)
        data.append({"index": index, "label": "LABEL_0", "probs": [probability], "num_classes": 1})
    return answer_json({**head, "data": data, "usage": usage(prompt_tokens, 0)})


async def _vectors(
    head: dict[str, Any], inputs: list[Any], body: dict[str, Any], state: ServerState, *, kind: str, key: str
) -> Answer:
    data, prompt_tokens = [], 0
    async for index, text, tokens in _pooled(head["id"], inputs, body, state):
        prompt_tokens += tokens
        vector = _vector(text, state)
        packed = struct.pack(f"<{len(vector)}f", *vector)
        encoded = base64.b64encode(packed).decode() if body.get("encoding_format") == "base64" else vector
        data.append({"index": index, "object": kind, key: encoded})
    return answer_json({**head, "data": data, "usage": usage(prompt_tokens, 0)})


def _head(request: Request, body: dict[str, Any], state: ServerState, prefix: str) -> dict[str, Any]:
    model = state.check_model(body.get("model"), generates=False)
    state.check_capacity()
    return {"id": make_id(request, prefix), "object": "list", "created": now(), "model": model}


def _vector(text: str, state: ServerState) -> list[float]:
    """A model that classifies pools to one number."""
    if state.settings.task is Task.CLASSIFY:
        return [score(state.command.model, "", text)]
    return unit_vector(state.command.model, text)


def _inputs(body: dict[str, Any], fields: Sequence[str]) -> list[Any]:
    if body.get("messages"):
        return [render_chat(body["messages"])]
    asked = body.get("input")
    if asked is None:
        raise missing(body, *fields)
    several = isinstance(asked, list) and bool(asked) and not isinstance(asked[0], int)
    return asked if several else [asked]


async def _pooled(
    request_id: str, inputs: list[Any], body: dict[str, Any], state: ServerState
) -> AsyncIterator[tuple[int, str, int]]:
    """Each input through the core: index, text, number of tokens."""
    truncate = body.get("truncate_prompt_tokens") == -1
    checked = [state.check_prompt(prompt, truncate=truncate) for prompt in inputs]
    for index, (text, tokens) in enumerate(checked):
        yield index, await pool(f"{request_id}-{index}", text, tokens, state), tokens


async def pool(request_id: str, text: str, tokens: int, state: ServerState) -> str:
    """The text that the answer is derived from: not what was asked if the weights are garbage."""
    async for output in state.core.generate(Add(request_id, text, 0, "stop"), prompt_tokens=tokens):
        text = output.text + text
    return text
