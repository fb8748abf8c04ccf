"""POST /rerank and /score, with all their aliases."""

from typing import Any

from vllama.simulator.answers.generation import make_id, usage
from vllama.simulator.answers.pooling import pool
from vllama.simulator.server_state import ServerState, now
from vllama.simulator.text import score
from vllama.simulator.web import Answer, Request, answer_json, missing, read_json, refused, require

# Any of these two make a question; vLLM names them in this order when none is there.
_PAIRS = (("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2"))


async def rerank(request: Request, state: ServerState) -> Answer:
    return await answer_rerank(read_json(request), request, state)


async def score_pairs(request: Request, state: ServerState) -> Answer:
    return await answer_scores(read_json(request), request, state)


async def answer_rerank(body: dict[str, Any], request: Request, state: ServerState) -> Answer:
    require(body, "query", "documents")
    query, documents = body["query"], [_text(document) for document in body["documents"]]
    model = state.check_model(body.get("model"), generates=False)
    state.check_capacity()
    request_id = make_id(request, "score")
    scores, tokens = await _scores(request_id, [(query, document) for document in documents], state)
    ranked = sorted(zip(scores, range(len(scores)), documents, strict=True), key=lambda entry: (-entry[0], entry[1]))
    results = [
        {"index": index, "document": {"text": document, "multi_modal": None}, "relevance_score": relevance}
        for relevance, index, document in ranked
    ]
    counted = {"prompt_tokens": tokens, "total_tokens": tokens}
    top = results[: body.get("top_n") or len(results)]
    return answer_json({"id": request_id, "model": model, "usage": counted, "results": top})


async def answer_scores(body: dict[str, Any], request: Request, state: ServerState) -> Answer:
    pair = next((pair for pair in _PAIRS if body.keys() >= set(pair)), None)
    if pair is None:
        raise missing(body, *(name for pair in _PAIRS for name in pair))
    left, right = (_texts(body[name]) for name in pair)
    model = state.check_model(body.get("model"), generates=False)
    if len(left) not in {1, len(right)}:
        raise refused("Input lengths must be either 1:1, 1:N or N:N")
    state.check_capacity()
    request_id = make_id(request, "score")
    pairs = list(zip(left * len(right) if len(left) == 1 else left, right, strict=True))
    scores, tokens = await _scores(request_id, pairs, state)
    data = [{"index": index, "object": "score", "score": value} for index, value in enumerate(scores)]
    head = {"id": request_id, "object": "list", "created": now(), "model": model}
    return answer_json({**head, "data": data, "usage": usage(tokens, 0)})


async def _scores(request_id: str, pairs: list[tuple[str, str]], state: ServerState) -> tuple[list[float], int]:
    scores, total = [], 0
    for index, (query, document) in enumerate(pairs):
        _, tokens = state.check_prompt(query + document)
        total += tokens
        scored = await pool(f"{request_id}-{index}", document, tokens, state)
        scores.append(score(state.command.model, query, scored))
    return scores, total


def _texts(value: Any) -> list[str]:
    return [_text(part) for part in value] if isinstance(value, list) else [_text(value)]


def _text(value: Any) -> str:
    return value["text"] if isinstance(value, dict) else str(value)
