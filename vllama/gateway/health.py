"""What load balancers, Kubernetes and people ask first.

/livez    the loop answers: a restart would not help
/readyz   and /health: requests can be served; else 503 with the condition that says not
"""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from vllama.controller.control import Control
from vllama.gateway.admin import condition_json

# A models.yaml that cannot be read leaves the last good one in force, and a GPU that is lost leaves the others: worth a
# look, no reason to send traffic away.
_SERVES_ALL_THE_SAME = frozenset({"ManifestValid", "DevicesSound"})


def health_router(control: Control, *, version: str) -> APIRouter:
    router = APIRouter()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def root() -> JSONResponse:
        return JSONResponse({"name": "vllama", "version": version, "models": len(control.statuses())})

    @router.api_route("/livez", methods=["GET", "HEAD"])
    async def livez() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.api_route("/readyz", methods=["GET", "HEAD"])
    @router.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> JSONResponse:
        status, content = health_of(control)
        return JSONResponse(content, status_code=status)

    return router


def health_of(control: Control) -> tuple[int, dict[str, Any]]:
    """An HTTP status, and `ok`, `degraded` (serves, but look) or `unavailable` with all conditions."""
    conditions = control.conditions()
    wrong = {condition.type for condition in conditions if not condition.ok}
    word = "unavailable" if wrong - _SERVES_ALL_THE_SAME else "degraded" if wrong else "ok"
    content = {
        "status": word,
        "models": len(control.statuses()),
        "conditions": [condition_json(condition) for condition in conditions],
    }
    return 503 if word == "unavailable" else 200, content
