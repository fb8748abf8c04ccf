"""The part of the operator's API that explains: why a model is where it is, and what it is, as Kubernetes would say."""

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from vllama.controller.control import Control, Unresolved
from vllama.controller.describe import Description, EngineState, ModelCondition
from vllama.controller.why import Past, Why
from vllama.gateway import errors
from vllama.gateway.enquiry_json import card_json, plain
from vllama.gateway.history import event_json
from vllama.gateway.render import decision_json, iso, status_json
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

    @router.get("/models/{name:path}/describe")
    async def describe(name: str) -> Response:
        found = control.resolve_here(name)
        if isinstance(found, Unresolved):
            return reply(errors.unresolved(found))
        return JSONResponse(description_json(await control.describe(found)))

    return router


def description_json(said: Description) -> dict[str, Any]:
    """An object as Kubernetes has them: `metadata`, `spec` (the settings in force), `status`, and its `events`."""
    card = card_json(said.card)
    status = card["status"]
    return {
        "apiVersion": "vllama/v1",
        "kind": "Model",
        "metadata": {"name": status["replica_of"] or status["model"], "aliases": status["aliases"],
                     "declared": status["declared"]},
        "spec": {each["name"]: each["value"] for each in card["settings"]},
        "status": {
            "phase": status["phase"], "reason": status["reason"], "message": status["message"],
            "demand": plain(said.demand), "footprint": card["figures"], "failures": card["failures"],
            "engines": [_engine_json(each) for each in said.engines], "log": card["log"],
        },
        "events": [event_json(event) for event in said.events],
    }  # fmt: skip


def _engine_json(engine: EngineState) -> dict[str, Any]:
    since = None if engine.since is None else iso(engine.since)
    return status_json(engine.status) | {"since": since, "conditions": [_condition_json(c) for c in engine.conditions]}


def _condition_json(condition: ModelCondition) -> dict[str, Any]:
    since = None if condition.since is None else iso(condition.since)
    return {
        "type": condition.type, "status": condition.status.value, "reason": condition.reason,
        "message": condition.message, "lastTransitionTime": since,
    }  # fmt: skip


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
