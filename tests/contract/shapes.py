"""The shape of an answer: its status, headers and keys in their order, with types in place of most values.

VLLAMA_WRITE_GOLDEN=1 writes shapes/NAME.json from what real vLLM answers; both kinds are held against that.
"""

import json
import os
import re
from difflib import unified_diff
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.engines import Kind

_HERE = Path(__file__).parent / "shapes"
_WRITES = os.environ.get("VLLAMA_WRITE_GOLDEN") == "1"  # read now: no test sees VLLAMA_*
# Keys whose values belong to the contract.
_LITERAL = {"type", "object", "role", "finish_reason", "stop_reason", "status", "reason", "owned_by", "model", "parent"}
_LITERAL |= {"stop_sequence", "output_index", "content_index", "n", "label", "organization"}
_RANDOM = re.compile(r"[0-9a-f]{16,}")


def check(name: str, kind: Kind, found: Any) -> None:
    """Against shapes/NAME.json, or into it."""
    path = _HERE / f"{name}.json"
    if _WRITES and kind is Kind.REAL:
        path.write_text(json.dumps(found, indent=1) + "\n")
    expected = path.read_text() if path.exists() else ""
    lines = json.dumps(found, indent=1).split("\n"), expected.strip().split("\n")
    if lines[0] != lines[1]:  # as text: the order of keys counts
        pytest.fail(
            "\n".join(unified_diff(lines[1], lines[0], f"shapes/{name}.json", f"the {kind} engine", lineterm=""))
        )


def shape_of(response: httpx.Response) -> dict[str, Any]:
    """For a response that has been read."""
    return {"status": response.status_code, "headers": _headers(response), "body": _body(response)}


def exact(response: httpx.Response) -> dict[str, Any]:
    """For errors, whose every word counts."""
    return {"status": response.status_code, "body": response.json()}


def _headers(response: httpx.Response) -> dict[str, str]:
    varying = {"date", "content-length"}
    return {name: "..." if name in varying else value for name, value in response.headers.items()}


def _body(response: httpx.Response) -> Any:
    if not response.content:
        return ""
    if response.headers["content-type"].startswith("text/event-stream"):
        events = [_event(block) for block in response.text.split("\n\n") if block.strip()]
        return [event for event, _ in groupby(events)]  # how many tokens make one event is vLLM's mood
    return _structure(response.json())


def _event(block: str) -> dict[str, Any]:
    fields = dict(line.split(": ", maxsplit=1) for line in block.strip().split("\n"))
    data = fields.pop("data")
    return {**fields, "data": data if data == "[DONE]" else _structure(json.loads(data))}


def _structure(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _structure(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [kind for kind, _ in groupby(_structure(inner) for inner in value)]
    if key in _LITERAL:
        return value
    if isinstance(value, str) and key.endswith("id"):
        return _RANDOM.sub("*", value)
    return value if value is None or isinstance(value, bool) else type(value).__name__
