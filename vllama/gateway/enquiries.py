"""The part of the operator's API that only tells: memory, models, what would happen if. Nothing is changed."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse, Response

from vllama.controller.control import Control, Unresolved
from vllama.gateway import errors
from vllama.gateway.enquiry_json import card_json, foreseen_json, matrix_json, memory_json, rehearsal_json
from vllama.gateway.replies import reply
from vllama.gateway.supposing import SupposedModel

_VERBS = ("start", "stop", "sleep")  # of POST /admin/models/NAME/VERB


def enquiries_router(control: Control) -> APIRouter:
    """Include it last: a model's name may have slashes, so `/admin/models/NAME` takes whatever no other route took."""
    router = APIRouter(prefix="/admin")

    @router.get("/memory")
    async def memory() -> JSONResponse:
        return JSONResponse(memory_json(control.memory(), control.figures()))

    @router.get("/plan/request")
    async def request(model: Annotated[list[str], Query(min_length=1)]) -> Response:
        found = [control.resolve_here(name) for name in model]
        for spec in found:
            if isinstance(spec, Unresolved):
                return reply(errors.unresolved(spec))
        models = [spec.model for spec in found if not isinstance(spec, Unresolved)]
        return JSONResponse(rehearsal_json(await control.rehearse(models)))

    @router.get("/plan/matrix")
    async def matrix() -> JSONResponse:
        return JSONResponse(matrix_json(await control.matrix()))

    @router.post("/plan/suppose")
    async def suppose(body: SupposedModel) -> JSONResponse:
        return JSONResponse(foreseen_json(await control.suppose(body.supposed())))

    @router.get("/models/{name:path}")
    async def show(name: str) -> Response:
        found = control.resolve_here(name)
        if isinstance(found, Unresolved):
            if name.rpartition("/")[2] in _VERBS:
                raise HTTPException(405, headers={"Allow": "POST"})
            return reply(errors.unresolved(found))
        return JSONResponse(card_json(await control.show(found)))

    return router
