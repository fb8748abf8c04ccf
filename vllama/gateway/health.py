"""What load balancers, Kubernetes and people ask first.

/livez    200: the process and its loop live, so that a restart would not help; else 503
/health   200: requests can be served; else 503 with the condition that says not
/readyz   the same, and requests should be sent here: planned once, and not about to go

All are open to everybody. What exactly is wrong (with models.yaml, say) only those are told who may use the admin API.
"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from vllama.controller.condition import Condition
from vllama.controller.control import Control
from vllama.domain.status import one_per_model
from vllama.gateway.admin import condition_json
from vllama.gateway.dashboard import to_dashboard, wants_page
from vllama.gateway.guard import Guard
from vllama.gateway.servers import health_json

# A file that cannot be read leaves the last good one in force, and a GPU that is lost leaves the others: worth a look,
# no reason to send traffic away.
_SERVES_ALL_THE_SAME = frozenset({
    "ManifestValid", "DevicesSound", "KeysValid", "CertificateValid", "ServersWell", "TasksRun", "LoopFree",
    "OperationsEnd", "ProcessesStart", "StateKept", "HistoryKept",
})  # fmt: skip


def health_router(control: Control, *, version: str, guard: Guard) -> APIRouter:
    router = APIRouter()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def root(request: Request) -> Response:
        if wants_page(request):
            return to_dashboard()
        models = len(one_per_model(control.statuses()))
        return JSONResponse({"name": "vllama", "version": version, "models": models}, headers={"vary": "accept"})

    @router.api_route("/livez", methods=["GET", "HEAD"])
    async def livez() -> JSONResponse:
        stuck = control.vitals().stuck is not None
        return JSONResponse({"status": "stuck" if stuck else "ok"}, status_code=503 if stuck else 200)

    @router.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz(request: Request) -> JSONResponse:
        in_full = guard.admin_refusal(request.scope) is None
        status, content = health_of(control, in_full=in_full)
        if (unready := control.vitals().unready) is not None:
            why = Condition(type="TakesRequests", ok=False, reason="NotReady", message=unready)
            content["conditions"].append(_shown(why, in_full=in_full))
            content["status"], status = "unavailable", 503
        return JSONResponse(content, status_code=status)

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
        "models": len(one_per_model(control.statuses())),
        "conditions": [_shown(condition, in_full=in_full) for condition in conditions],
    } | health_json(control.servers(), control.board.servers.balance, in_full=in_full)
    return 503 if word == "unavailable" else 200, content


def _shown(condition: Condition, *, in_full: bool) -> dict[str, Any]:
    return condition_json(condition) if in_full else {"type": condition.type, "ok": condition.ok}
