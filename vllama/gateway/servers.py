"""What users of mvllm ask a load balancer: its servers' load, models and health, in the shapes that they know."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from vllama.controller.control import Control
from vllama.controller.manifest.servers import BalanceSpec, balance_keys
from vllama.controller.servers.status import ServerStatus


def servers_router(control: Control) -> APIRouter:
    router = APIRouter()

    @router.get("/load-stats")
    async def load_stats() -> JSONResponse:
        return JSONResponse(load_json(control.servers()))

    @router.get("/server-models")
    async def server_models() -> JSONResponse:
        return JSONResponse({server.url: list(server.models) for server in control.servers()})

    return router


def load_json(servers: Sequence[ServerStatus]) -> dict[str, Any]:
    well = [server for server in servers if server.wrong is None]
    load, capacity = sum(map(_load, well)), sum(server.capacity for server in well)
    return {
        "servers": [_load_of_one(server) for server in servers],
        "summary": {
            "total_servers": len(servers),
            "healthy_servers": len(well),
            "total_active_load": load,
            "total_capacity": capacity,
            "overall_utilization_percent": _percent(load, capacity),
        },
    }


def health_json(servers: Sequence[ServerStatus], balance: BalanceSpec, *, in_full: bool) -> dict[str, Any]:
    """`in_full`: which servers, what is wrong with them, and what is in force. Nothing at all where there are none."""
    if not servers:
        return {}
    well = sum(server.wrong is None for server in servers)
    counts = {
        "health_score": _percent(well, len(servers)),
        "total_servers": len(servers),
        "healthy_servers": well,
        "unhealthy_servers": len(servers) - well,
    }
    if not in_full:
        return counts
    return counts | {"servers": [_health_of_one(server) for server in servers], "config": balance_keys(balance)}


def _load_of_one(server: ServerStatus) -> dict[str, Any]:
    load, said = _load(server), server.load
    return {
        "url": server.url,
        "current_load": load,
        "max_capacity": server.capacity,
        "available_capacity": max(0, server.capacity - load),
        "utilization_percent": _percent(load, server.capacity),
        "status": _word(server),
        "health_status": server.wrong or "healthy",
        "last_updated": _time(server.load_at),
        "in_flight": server.in_flight,
        "supported_models": list(server.models),
        "detailed_metrics": {
            "num_requests_running": said.running if said else None,
            "num_requests_waiting": said.waiting if said else None,
            "kv_cache_usage_perc": said.kv_cache_usage if said else None,
            "gpu_cache_usage_perc": said.kv_cache_usage if said else None,  # what it was called
            "process_max_fds": said.max_fds if said else None,
        },
    }


def _health_of_one(server: ServerStatus) -> dict[str, Any]:
    return {
        "url": server.url,
        "healthy": server.wrong is None,
        "health_status": server.wrong or "healthy",
        "last_check": _time(server.checked_at),
        "consecutive_failures": server.failed_checks,
        "success_rate": server.success_rate,
        "avg_response_time": server.mean_s,
        "last_response_time": server.last_s,
        "total_checks": server.checks,
        "supported_models": list(server.models),
        "models_last_updated": _time(server.models_at),
    }


def _load(server: ServerStatus) -> int:
    """What it said, or else what we sent."""
    said = server.load.running + server.load.waiting if server.load is not None else 0
    return max(said, server.in_flight)


def _word(server: ServerStatus) -> str:
    return "healthy" if server.wrong is None else "unhealthy"


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _time(at: float | None) -> str | None:
    """ISO 8601 in UTC."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
