"""POST /invocations (SageMaker): the shape of the body chooses the route. Not guarded by --api-key."""

import json

from vllama.simulator.answers.chat import answer_chat
from vllama.simulator.answers.completions import answer_completions
from vllama.simulator.answers.pooling import answer_classes, answer_embeddings, answer_pooling
from vllama.simulator.answers.scoring import answer_rerank, answer_scores
from vllama.simulator.server_state import ServerState
from vllama.simulator.settings import Task
from vllama.simulator.web import Answer, ApiError, Request, Stream, check_media_type, refused


async def invocations(request: Request, state: ServerState) -> Answer | Stream:
    check_media_type(request)
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise ApiError(400, f"JSON decode error: {error}", type_="Bad Request") from error
    task = state.settings.task
    if task in {Task.GENERATE, Task.LISTEN}:
        chats = isinstance(body.get("messages"), list)
        return await (answer_chat if chats else answer_completions)(body, request, state)
    if "input" in body or "messages" in body:
        return await (answer_classes if task is Task.CLASSIFY else answer_embeddings)(body, request, state)
    if "query" in body and "documents" in body:
        return await answer_rerank(body, request, state)
    if body.keys() & {"queries", "text_1", "data_1"}:
        return await answer_scores(body, request, state)
    if "data" in body:
        return await answer_pooling(body, request, state)
    raise refused("Cannot find suitable handler for request. Expected one of: ['RerankRequest']")
