"""POST /rerank and /score, with all their aliases."""

from typing import Any

from vllama.simulator.answers.generation import make_id, usage
from vllama.simulator.answers.pooling import pool
from vllama.simulator.server_state import ServerState, now
from vllama.simulator.text import score
from vllama.simulator.web import Answer, Request, answer_json, bad_value, read_json, required


async def rerank(request: Request, state: ServerState) -> Answer:
    body = read_json(request)
    query, documents = required(body, "query"), [_text(document) for document in required(body, "documents")]
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


async def score_pairs(request: Request, state: ServerState) -> Answer:
    body = read_json(request)
    older = "text_1" in body
    left, right = (
        _texts(required(body, name)) for name in (("text_1", "text_2") if older else ("queries", "documents"))
    )
    model = state.check_model(body.get("model"), generates=False)
    if len(left) not in {1, len(right)}:
        raise bad_value("Input lengths must be either 1:1, 1:N or N:N", "queries", len(left))
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
