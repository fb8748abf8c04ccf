"""What start, stop and sleep would lead to: for whoever wants to see the plan before it is carried out."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from vllama.controller.control import Control, Unresolved, WishVerb
from vllama.domain.spec import SleepLevel
from vllama.gateway import errors
from vllama.gateway.enquiry_json import rehearsal_json
from vllama.gateway.replies import reply

Level = Annotated[int | None, Query(ge=1, le=3)]


def wish_router(control: Control) -> APIRouter:
    router = APIRouter(prefix="/admin")

    @router.get("/plan/wish")
    async def wish(model: str, verb: WishVerb, level: Level = None) -> Response:
        """Of POST /admin/models/MODEL/VERB. `level`: of a sleep."""
        found = control.resolve_here(model)
        if isinstance(found, Unresolved):
            return reply(errors.unresolved(found))
        asked = None if level is None else SleepLevel(level)
        return JSONResponse(rehearsal_json(await control.rehearse_wish(found.model, verb, asked)))

    return router
