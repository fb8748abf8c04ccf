"""models.yaml as JSON Schema, for editors and for whoever writes such files by program. Made from the keys themselves.

What it cannot say, that names are unique or that devices suffice, is checked when the file is read.
"""

from typing import Any

from pydantic import BaseModel

from vllama.controller.manifest.entry import OF_ONE_MODEL
from vllama.controller.manifest.problems import FULL_FORM
from vllama.controller.manifest.schema import BalanceKeys, IdleKeys, ModelKeys, PolicyKeys, ServerKeys
from vllama.controller.manifest.settings import VllmSettings

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Any]:
    """Both forms: a file with any key of the full form is full, any other is flat."""
    model = _mapping(VllmSettings, ModelKeys)
    model["properties"]["idle"] = _ref("idle") | {"description": model["properties"]["idle"]["description"]}
    return {
        "$schema": DIALECT,
        "title": "models.yaml of vllama",
        "if": {"type": "object", "anyOf": [{"required": [key]} for key in FULL_FORM]},
        "then": _ref("full"),
        "else": _ref("flat"),
        "$defs": {
            "full": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "version": {"enum": [1, "1", None]},
                    "defaults": _ref("defaults"),
                    "models": _ref("flat"),
                    "servers": {"type": ["array", "null"], "items": _ref("server")},
                    "policy": _ref("policy"),
                    "balance": _ref("balance"),
                },
            },
            "flat": {"type": ["object", "null"], "additionalProperties": _ref("model")},
            "model": model,
            "defaults": _ref("model") | {"properties": {key: {"type": "null"} for key in OF_ONE_MODEL}},
            "idle": _mapping(IdleKeys),
            "server": _mapping(ServerKeys),
            "policy": _mapping(PolicyKeys),
            "balance": _mapping(BalanceKeys),
        },
    }


def _mapping(*keys: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for each in keys:
        schema = each.model_json_schema()
        properties |= {name: _tidy(field) for name, field in schema["properties"].items()}
        required += schema.get("required", [])
    return {
        "type": "object" if required else ["object", "null"],
        "additionalProperties": False,
        "properties": properties,
    } | ({"required": required} if required else {})


def _tidy(field: dict[str, Any]) -> dict[str, Any]:
    """Without what pydantic adds for its own sake."""
    return {name: value for name, value in field.items() if name not in {"title", "default"}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}
