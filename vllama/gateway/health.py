"""What load balancers, Kubernetes and people ask first.

/livez    the loop answers: a restart would not help
/readyz   and /health: requests can be served; else 503 with the condition that says not

All are open to everybody. What exactly is wrong (with models.yaml, say) only those are told who may use the admin API.
"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from vllama.controller.control import Control
from vllama.gateway.admin import condition_json
from vllama.gateway.guard import Guard
from vllama.gateway.servers import health_json

# A file that cannot be read leaves the last good one in force, and a GPU that is lost leaves the others: worth a look,
# no reason to send traffic away.
_SERVES_ALL_THE_SAME = frozenset({"ManifestValid", "DevicesSound", "KeysValid", "CertificateValid", "ServersWell"})


def health_router(control: Control, *, version: str, guard: Guard) -> APIRouter:
    router = APIRouter()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def root() -> JSONResponse:
        return JSONResponse({"name": "vllama", "version": version, "models": len(control.statuses())})

    @router.api_route("/livez", methods=["GET", "HEAD"])
    async def livez() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.api_route("/readyz", methods=["GET", "HEAD"])
    @router.api_route("/health", methods=["GET", "HEAD"])
    async def health(request: Request) -> JSONResponse:
        status, content = health_of(control, in_full=guard.admin_refusal(request.scope) is None)
        return JSONResponse(content, status_code=status)

    return router


def health_of(control: Control, *, in_full: bool) -> tuple[int, dict[str, Any]]:
    """An HTTP status, and `ok`, `degraded` (serves, but look) or `unavailable` with all conditions.

    `in_full`: also their reasons and messages.
    """
    conditions = control.conditions()
    wrong = {condition.type for condition in conditions if not condition.ok}
    word = "unavailable" if wrong - _SERVES_ALL_THE_SAME else "degraded" if wrong else "ok"
    content = {
        "status": word,
        "models": len(control.statuses()),
        "conditions": [
            condition_json(condition) if in_full else {"type": condition.type, "ok": condition.ok}
            for condition in conditions
        ],
    } | health_json(control.servers(), in_full=in_full)
    return 503 if word == "unavailable" else 200, content
