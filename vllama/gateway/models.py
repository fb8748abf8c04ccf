"""GET /v1/models, answered by vllama itself: what can be called, whether it is ready or not."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from vllama.controller.control import Control, Unresolved
from vllama.domain.status import ModelStatus, one_per_model
from vllama.gateway import errors
from vllama.gateway.replies import reply


def model_list(statuses: Sequence[ModelStatus], *, created: int) -> dict[str, Any]:
    """OpenAI's list. An alias is an entry of its own whose `root` is the model, an adapter one whose `parent` it is.

    `created`: Unix seconds.
    """
    entries = [
        _entry(name, status, created)
        for status in statuses
        for name in (status.model, *status.aliases, *status.adapters)
    ]
    return {"object": "list", "data": entries}


def models_router(control: Control, *, created: int) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models")
    async def all_models() -> JSONResponse:
        return JSONResponse(model_list(one_per_model(control.statuses()), created=created))

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        found = control.resolve(name)
        if isinstance(found, Unresolved):
            return reply(errors.unresolved(found))
        for status in one_per_model(control.statuses()):
            if status.model == found.model:
                return JSONResponse(_entry(name, status, created))
        return reply(errors.unresolved(Unresolved(name=name, ambiguous=False, candidates=())))

    return router


def _entry(name: str, status: ModelStatus, created: int) -> dict[str, Any]:
    is_adapter = name in status.adapters
    served = {"servers": list(status.servers)} if status.servers else {}
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllama",
        "root": name if is_adapter else status.model,
        "parent": status.model if is_adapter else None,
        "status": status.phase.value,
        **served,
    }
