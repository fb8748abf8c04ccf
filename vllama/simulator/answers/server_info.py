"""The small routes that every engine has: /health, /ping, /version, /load, /v1/models."""

import time
import uuid

from vllama.simulator.server_state import ServerState, now
from vllama.simulator.web import Answer, ApiError, Request, answer_json


async def health(_request: Request, state: ServerState) -> Answer:
    faults = state.settings.faults
    flap = faults.health_flaps and int(time.monotonic()) % 2
    return Answer(status=503 if state.core.died.is_set() or faults.health_never or flap else 200)


async def version(_request: Request, _state: ServerState) -> Answer:
    return answer_json({"version": "0.32.0"})


async def server_load(_request: Request, state: ServerState) -> Answer:
    return answer_json({"server_load": state.load if state.command.load_tracking else 0})


async def models(_request: Request, state: ServerState) -> Answer:
    cards: list[dict[str, object]] = [
        {
            "id": name,
            "object": "model",
            "created": now(),
            "owned_by": "vllm",
            "root": state.command.model,
            "parent": None,
            "max_model_len": state.max_model_len,
            "permission": [_permission()],
        }
        for name in state.command.served_model_names
    ]
    cards += [
        {
            "id": name,
            "object": "model",
            "created": now(),
            "owned_by": "vllm",
            "root": path,
            "parent": state.first_name,
            "max_model_len": None,
            "permission": [_permission()],
        }
        for name, path in state.command.lora_modules.items()
    ]
    return answer_json({"object": "list", "data": cards})


async def kv_event_sources(_request: Request, _state: ServerState) -> Answer:
    return answer_json({})


async def is_scaling_elastic_ep(_request: Request, _state: ServerState) -> Answer:
    return answer_json({"is_scaling_elastic_ep": False})


async def not_simulated(request: Request, _state: ServerState) -> Answer:
    """A route that vLLM has, so that it exists here too; what it does, nobody here needed yet."""
    raise ApiError(501, f"The simulator does not answer {request.path}.", type_="NotImplementedError")


def _permission() -> dict[str, object]:
    return {
        "id": f"modelperm-{uuid.uuid4().hex}",
        "object": "model_permission",
        "created": now(),
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
