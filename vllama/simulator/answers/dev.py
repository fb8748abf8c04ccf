"""The routes of VLLM_SERVER_DEV_MODE=1: sleep, wake up, pause, and the rest of that family."""

import json
from typing import Any

from vllama.simulator.core_client import CallFailed
from vllama.simulator.log import log
from vllama.simulator.server_state import ServerState
from vllama.simulator.web import Answer, ApiError, Request, answer_json, invalid

_MODES = ("abort", "wait", "keep")


async def sleep(request: Request, state: ServerState) -> Answer:
    level, mode = _level(request), _mode(request)
    await state.core.call("sleep", level=level, mode=mode)
    state.sleep_level = level  # what was asked for, even if the engine slept already
    return answer_json({"status": "sleeping", "level": level})


async def wake_up(request: Request, state: ServerState) -> Answer:
    tags = request.all("tags") or None
    log("APIServer", "api_router.py:54", f"wake up the engine with tags: {tags}")
    awake = await state.core.call("wake_up", tags=tags)
    if awake:
        state.sleep_level = None
    return answer_json({"status": "awake" if awake else "sleeping", "tags": tags})


async def is_sleeping(_request: Request, state: ServerState) -> Answer:
    return answer_json({"is_sleeping": await state.core.call("is_sleeping")})


async def pause(request: Request, state: ServerState) -> Answer:
    await state.core.call("pause_scheduler", mode=_mode(request))
    return answer_json({"status": "paused"})


async def resume(_request: Request, state: ServerState) -> Answer:
    await state.core.call("resume_scheduler")
    return answer_json({"status": "resumed"})


async def is_paused(_request: Request, state: ServerState) -> Answer:
    return answer_json({"is_paused": await state.core.call("is_scheduler_paused")})


async def abort_requests(request: Request, state: ServerState) -> Answer:
    request_ids = _read_object(request, "Invalid JSON format").get("request_ids")
    if request_ids:
        state.core.abort(request_ids)
        return answer_json({"status": "aborted", "aborted": len(request_ids)})
    return answer_json({"status": "aborted", "aborted": await state.core.call("abort_all")})


async def collective_rpc(request: Request, state: ServerState) -> Answer:
    body = _read_object(request, "JSON decode error: {}")
    if body.get("method") is None:
        raise _bad_request("Missing 'method' in request body")
    return answer_json({"results": await state.core.call("collective_rpc", method=body["method"])})


async def reset_prefix_cache(_request: Request, state: ServerState) -> Answer:
    return answer_json({"success": await state.core.call("reset_prefix_cache")})


async def reset_cache(_request: Request, _state: ServerState) -> Answer:
    return Answer()


async def weight_info(_request: Request, _state: ServerState) -> Answer:
    return answer_json({"weight_version": "default"})


async def get_world_size(_request: Request, state: ServerState) -> Answer:
    return answer_json({"world_size": state.command.tensor_parallel_size})


async def release_kv_cache_memory(_request: Request, state: ServerState) -> Answer:
    if not await state.core.call("is_scheduler_paused"):
        raise CallFailed(
            "Call to release_kv_cache_memory method failed: release_kv_cache_memory() requires a completed pause first"
        )
    return answer_json({"status": "kv_cache_released"})


def _level(request: Request) -> int:
    text = request.last("level", "1")
    if not text.lstrip("-").isdigit():
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise invalid("int_parsing", "query.level", {"msg": message, "input": text})
    level = int(text)
    if level > 2:
        message = "Input should be less than or equal to 2"
        raise invalid("less_than_equal", "query.level", {"msg": message, "input": text, "ctx": {"le": 2}})
    if level < 0:
        message = "Input should be greater than or equal to 0"
        raise invalid("greater_than_equal", "query.level", {"msg": message, "input": text, "ctx": {"ge": 0}})
    return level


def _mode(request: Request) -> str:
    mode = request.last("mode", "abort")
    if mode not in _MODES:
        expected = "'abort', 'wait' or 'keep'"
        details = {"msg": f"Input should be {expected}", "input": mode, "ctx": {"expected": expected}}
        raise invalid("literal_error", "query.mode", details)
    return mode


def _read_object(request: Request, complaint: str) -> dict[str, Any]:
    """`complaint` may have a place for what is wrong."""
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise _bad_request(complaint.format(error)) from error
    if not isinstance(body, dict):
        raise _bad_request("Request body must be a JSON object")
    return body


def _bad_request(message: str) -> ApiError:
    return ApiError(400, message, type_="Bad Request")
