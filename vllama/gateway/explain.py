"""The part of the operator's API that explains: why a model is where it is."""

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from vllama.controller.control import Control, Unresolved
from vllama.controller.why import Past, Why
from vllama.gateway import errors
from vllama.gateway.enquiry_json import plain
from vllama.gateway.render import decision_json, iso
from vllama.gateway.replies import reply
from vllama.planner.otherwise import Otherwise


def explain_router(control: Control) -> APIRouter:
    """To be mounted before what has /admin/models/{name}: a name may have slashes."""
    router = APIRouter(prefix="/admin")

    @router.get("/models/{name:path}/why")
    async def why(name: str) -> Response:
        """`engines`: one for each replica, with the present `decision`, its `numbers` (null: it needs none), what would
        change it (`otherwise`), and the latest `decisions` with theirs, oldest first.
        """
        found = control.resolve_here(name)
        if isinstance(found, Unresolved):
            return reply(errors.unresolved(found))
        each = await control.why(found)
        said = await asyncio.to_thread(lambda: [why_json(one) for one in each])
        return JSONResponse({"model": found.served_name, "aliases": list(found.aliases), "engines": said})

    return router


def why_json(why: Why) -> dict[str, Any]:
    return {
        "decision": decision_json(why.decision) | {"sentence": why.decision.reason.sentence},
        "numbers": None if why.numbers is None else plain(why.numbers),
        "otherwise": [_otherwise_json(each) for each in why.otherwise],
        "decisions": [_past_json(each) for each in why.decisions],
    }


def _otherwise_json(each: Otherwise) -> dict[str, Any]:
    return {"change": each.change.value, "model": each.model, "if": each.if_, "then": decision_json(each.then)}


def _past_json(past: Past) -> dict[str, Any]:
    numbers = None if past.numbers is None else plain(past.numbers)
    return {"at": iso(past.at), **plain(past.decided), "numbers": numbers, "whole": past.whole}
