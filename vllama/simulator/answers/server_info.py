"""The small routes that every engine has: /health, /ping, /version, /load, /v1/models."""

import time
import uuid

from vllama.simulator.server_state import ServerState, now
from vllama.simulator.web import Answer, Request, answer_json


async def health(_request: Request, state: ServerState) -> Answer:
    faults = state.settings.faults
    flap = faults.health_flaps and int(time.monotonic()) % 2
    return Answer(status=503 if state.core.died.is_set() or faults.health_never or flap else 200)


async def version(_request: Request, _state: ServerState) -> Answer:
    return answer_json({"version": "0.32.0"})


async def server_load(_request: Request, state: ServerState) -> Answer:
    return answer_json({"server_load": state.load if state.command.load_tracking else 0})


async def models(_request: Request, state: ServerState) -> Answer:
    cards = [
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
    return answer_json({"object": "list", "data": cards})


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
