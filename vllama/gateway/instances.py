"""The older tool's management paths, for the scripts that call them: /instances, /reload.

They answer when it is done, in the older tool's words and shapes (errors as `{"detail": ...}`), under the rules of the
admin API. What is new is found under /admin only.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, assert_never

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from vllama.controller.control import Control, Unresolved
from vllama.controller.demand import WaitFailed
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.status import ModelStatus, Phase, one_per_model

START_WITHIN_S, STOP_WITHIN_S = 300.0, 60.0  # how long the older commands wait
LOOK_EVERY_S = 0.1


def instances_router(control: Control) -> APIRouter:
    router = APIRouter()

    @router.get("/instances")
    async def instances() -> JSONResponse:
        totals = _memory(control)
        found = [status for status in one_per_model(control.statuses()) if status.phase is not Phase.STOPPED]
        return JSONResponse({"instances": [_instance(status, totals) for status in found]})

    @router.post("/instances/{name:path}/start")
    async def start(name: str) -> Response:
        return await _of(control, name, lambda spec: _start(control, spec))

    @router.post("/instances/{name:path}/stop")
    async def stop(name: str) -> Response:
        async def work(spec: ModelSpec) -> Response:
            control.stop(spec.model)
            return await _down(control, spec, {Phase.STOPPED}, {})

        return await _of(control, name, work)

    @router.post("/instances/{name:path}/sleep")
    async def sleep(name: str, level: Annotated[int, Query(ge=1, le=3)] = 2) -> Response:
        async def work(spec: ModelSpec) -> Response:
            status = _status(control, spec)
            if status is None or status.phase is Phase.STOPPED:
                return _refused(400, f"Failed to sleep {spec.model}: it is not running")
            control.sleep(spec.model, SleepLevel(level))
            return await _down(control, spec, {Phase.ASLEEP, Phase.STOPPED}, {"level": level})

        return await _of(control, name, work)

    @router.post("/reload")
    async def reload() -> JSONResponse:
        await control.rescan()
        count = len(one_per_model(control.statuses()))
        return JSONResponse({"status": "success", "models_count": count, "offline_mode": control.offline})

    return router


async def _of(control: Control, name: str, work: Callable[[ModelSpec], Awaitable[Response]]) -> Response:
    found = control.resolve(name)
    return _refused(404, found.message) if isinstance(found, Unresolved) else await work(found)


async def _start(control: Control, spec: ModelSpec) -> Response:
    """As one request that is let in and sends nothing."""
    control.start(spec.model)
    try:
        grant = await control.board.wait_until_ready(spec.model, max_queue=spec.max_queue, timeout_s=START_WITHIN_S)
    except WaitFailed as failed:
        return _refused(500, failed.failure.message)
    grant.release()
    return _done(spec, _status(control, spec), {})


async def _down(control: Control, spec: ModelSpec, goals: set[Phase], more: dict[str, Any]) -> Response:
    """Wait until it is down. What was called again meanwhile comes back, and is told as a failure."""
    deadline, gone_down = time.monotonic() + STOP_WITHIN_S, False
    while (status := _status(control, spec)) is not None and status.phase not in goals:
        gone_down = gone_down or status.phase in {Phase.DRAINING, Phase.STOPPING}
        if gone_down and status.phase in {Phase.STARTING, Phase.WAKING}:
            return _refused(400, f"{spec.model} is wanted again: {status.message}")
        if time.monotonic() > deadline:
            return _refused(400, f"{spec.model} is {status.phase} after {STOP_WITHIN_S:g} s: {status.message}")
        await asyncio.sleep(LOOK_EVERY_S)
    return JSONResponse({"status": "success", "model_id": spec.model, **more})


def _done(spec: ModelSpec, status: ModelStatus | None, more: dict[str, Any]) -> Response:
    port, pid = (None, None) if status is None else (status.port, status.pid)
    return JSONResponse({"status": "success", "model_id": spec.model, "port": port, "pid": pid, **more})


def _refused(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status_code=status)


def _status(control: Control, spec: ModelSpec) -> ModelStatus | None:
    return next((status for status in one_per_model(control.statuses()) if status.model == spec.model), None)


def _instance(status: ModelStatus, memory: dict[int, tuple[int, dict[str, int | None]]]) -> dict[str, Any]:
    devices = {device: memory[device] for device in status.devices if device in memory}
    return {
        "model_id": status.model,
        "status": _word(status),
        "port": status.port,
        "pid": status.pid,
        "devices": list(status.devices),
        "start_time": status.started,
        "last_request_time": status.last_used,
        "sleep_level": status.sleep_level,
        "memory_delta": {},
        "gpu_memory_info": {
            str(device): {"usedGpuMemory": held.get(status.model), "totalGpuMemory": total}
            for device, (total, held) in devices.items()
        },
    }


def _word(status: ModelStatus) -> str:
    match status.phase:
        case Phase.READY | Phase.DRAINING:
            return "running"
        case Phase.STARTING | Phase.WAKING:
            return "starting"
        case Phase.ASLEEP:
            return f"sleeping_l{status.sleep_level}"
        case Phase.STOPPING:
            return "stopping"
        case Phase.STOPPED:
            return "stopped"
        case Phase.FAILED | Phase.LOST | Phase.UNKNOWN:
            return "error"
        case _:
            assert_never(status.phase)


def _memory(control: Control) -> dict[int, tuple[int, dict[str, int | None]]]:
    """Device -> its total, and what each model is seen to hold there."""
    return {
        page.index: (page.total_bytes, {entry.model: entry.measured_bytes for entry in page.engines})
        for node in control.memory().nodes
        for page in node.devices
    }
