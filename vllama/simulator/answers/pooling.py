"""POST /v1/embeddings, /pooling and /classify: one vector or one class for each input."""

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

from vllama.simulator.answers.generation import make_id, usage
from vllama.simulator.server_state import ServerState, now
from vllama.simulator.text import render_chat, score, unit_vector
from vllama.simulator.web import Answer, Request, answer_json, bad_value, read_json, required
from vllama.simulator.wire import Add


async def embeddings(request: Request, state: ServerState) -> Answer:
    if (body := read_json(request)).get("dimensions") is not None:
        message = (
            f'Model "{state.first_name}" does not support matryoshka representation, '
            "changing output dimensions will lead to poor results."
        )
        raise bad_value(message, "dimensions", body["dimensions"])
    return await _vectors(request, body, state, prefix="embd", kind="embedding", key="embedding")


async def pooling(request: Request, state: ServerState) -> Answer:
    return await _vectors(request, read_json(request), state, prefix="pool", kind="pooling", key="data")


async def classify(request: Request, state: ServerState) -> Answer:
    body = read_json(request)
    head, data, prompt_tokens = _head(request, body, state, "classify"), [], 0
    async for index, text, tokens in _pooled(head["id"], _inputs(body), state):
        prompt_tokens += tokens
        probability = score(state.command.model, "", text)
        data.append({"index": index, "label": "LABEL_0", "probs": [probability], "num_classes": 1})
    return answer_json({**head, "data": data, "usage": usage(prompt_tokens, 0)})


async def _vectors(
    request: Request, body: dict[str, Any], state: ServerState, *, prefix: str, kind: str, key: str
) -> Answer:
    head, data, prompt_tokens = _head(request, body, state, prefix), [], 0
    async for index, text, tokens in _pooled(head["id"], _inputs(body), state):
        prompt_tokens += tokens
        vector = unit_vector(state.command.model, text)
        packed = struct.pack(f"<{len(vector)}f", *vector)
        encoded = base64.b64encode(packed).decode() if body.get("encoding_format") == "base64" else vector
        data.append({"index": index, "object": kind, key: encoded})
    return answer_json({**head, "data": data, "usage": usage(prompt_tokens, 0)})


def _head(request: Request, body: dict[str, Any], state: ServerState, prefix: str) -> dict[str, Any]:
    model = state.check_model(body.get("model"), generates=False)
    state.check_capacity()
    return {"id": make_id(request, prefix), "object": "list", "created": now(), "model": model}


def _inputs(body: dict[str, Any]) -> list[Any]:
    if body.get("messages"):
        return [render_chat(body["messages"])]
    asked = required(body, "input")
    several = isinstance(asked, list) and bool(asked) and not isinstance(asked[0], int)
    return asked if several else [asked]


async def _pooled(request_id: str, inputs: list[Any], state: ServerState) -> AsyncIterator[tuple[int, str, int]]:
    """Each input through the core: index, text, number of tokens."""
    checked = [state.check_prompt(prompt) for prompt in inputs]
    for index, (text, tokens) in enumerate(checked):
        yield index, await pool(f"{request_id}-{index}", text, tokens, state), tokens


async def pool(request_id: str, text: str, tokens: int, state: ServerState) -> str:
    """The text that the answer is derived from: not what was asked if the weights are garbage."""
    async for output in state.core.generate(Add(request_id, text, 0, "stop"), prompt_tokens=tokens):
        text = output.text + text
    return text
