"""The operator's API. It changes only what is desired, and answers with the state of that moment."""

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from vllama.controller.condition import Condition
from vllama.controller.control import Control, Unresolved
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.status import one_per_model
from vllama.gateway import errors
from vllama.gateway.render import iso, plan_json, status_json
from vllama.gateway.replies import reply


class SleepRequest(BaseModel):
    """Level null: vllama chooses. Level 3 is the older tool's word for stopped."""

    model_config = ConfigDict(extra="forbid")

    level: Literal[1, 2, 3] | None = None


def admin_router(control: Control, *, version: str) -> APIRouter:
    router = APIRouter(prefix="/admin")

    @router.get("/status")
    async def status() -> JSONResponse:
        return JSONResponse(
            {
                "version": version,
                "conditions": [condition_json(condition) for condition in control.conditions()],
                "nodes": [node.name for node in control.nodes()],
                "models": [status_json(status) for status in control.statuses()],
            }
        )

    @router.get("/plan")
    async def plan(*, settle: bool = False) -> JSONResponse:
        return JSONResponse({"plans": [plan_json(plan) for plan in await control.plans(settle=settle)]})

    @router.post("/reload")
    async def reload() -> JSONResponse:
        await control.rescan()
        return JSONResponse(
            {
                "models": [status.model for status in one_per_model(control.statuses())],
                "conditions": [condition_json(condition) for condition in control.conditions()],
            }
        )

    @router.post("/models/{name:path}/start")
    async def start(name: str) -> Response:
        found = control.resolve_here(name)
        if isinstance(found, Unresolved):
            return reply(errors.unresolved(found))
        control.start(found.model)
        return _accepted(control, found)

    @router.post("/models/{name:path}/stop")
    async def stop(name: str) -> Response:
        found = control.resolve_here(name)
        if isinstance(found, Unresolved):
            return reply(errors.unresolved(found))
        control.stop(found.model)
        return _accepted(control, found)

    @router.post("/models/{name:path}/sleep")
    async def sleep(name: str, body: SleepRequest | None = None) -> Response:
        found = control.resolve_here(name)
        if isinstance(found, Unresolved):
            return reply(errors.unresolved(found))
        level = body.level if body is not None else None
        control.sleep(found.model, None if level is None else SleepLevel(level))
        return _accepted(control, found)

    return router


def condition_json(condition: Condition) -> dict[str, Any]:
    """`status` is Kubernetes' word for `ok`; `lastTransitionTime` is null where nobody keeps it."""
    return {
        "type": condition.type,
        "ok": condition.ok,
        "status": "True" if condition.ok else "False",
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": None if condition.since is None else iso(condition.since),
    }


def _accepted(control: Control, spec: ModelSpec) -> Response:
    for status in one_per_model(control.statuses()):
        if status.model == spec.model:
            return JSONResponse(status_json(status), status_code=202)
    return reply(errors.unresolved(Unresolved(name=spec.model, ambiguous=False, candidates=())))
