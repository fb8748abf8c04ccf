"""What this server is: for `vllama info`, and for whoever finds one running and wants to know whose it is."""

import asyncio
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from vllama.controller.control import Control
from vllama.domain.status import one_per_model
from vllama.runtime import clock

ENDPOINTS: Mapping[str, str] = {
    "openai": "/v1", "anthropic": "/v1/messages", "health": "/health", "dashboard": "/ui/",
    "admin": "/admin/status",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What stays as it is while the server runs. `started_at`: of the wall clock; `engine_ports`: first and last."""

    host: str
    port: int
    started_at: float
    config_dir: str
    models_yaml: str
    logs: str
    model_cache: str
    engine_ports: tuple[int, int]
    runs_on: str
    simulated: bool


def info_router(control: Control, facts: ServerFacts, *, version: str) -> APIRouter:
    router = APIRouter(prefix="/admin")
    began = clock.now()

    @router.get("/info")
    async def info() -> JSONResponse:
        idle = control.defaults().idle
        started = datetime.fromtimestamp(facts.started_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        said: dict[str, Any] = {
            "version": version,
            "pid": os.getpid(),
            "host": facts.host,
            "port": facts.port,
            "started_at": started,
            "uptime_s": round(clock.now() - began, 1),
            "rss_bytes": await asyncio.to_thread(_rss_bytes),
            "config_dir": facts.config_dir,
            "models_yaml": facts.models_yaml,
            "logs": facts.logs,
            "model_cache": facts.model_cache,
            "engine_ports": list(facts.engine_ports),
            "runs_on": facts.runs_on,
            "simulated": facts.simulated,
            "idle": {
                "sleep_after_s": idle.sleep_after_s,
                "level": None if idle.level is None else int(idle.level),
                "stop_after_s": idle.stop_after_s,
            },
            "models": len(one_per_model(control.statuses())),
            "endpoints": dict(ENDPOINTS),
        }
        return JSONResponse(said)

    return router


def _rss_bytes() -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None
