"""GET /admin/nodes: the machines that engines run on."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from vllama.controller.control import Control
from vllama.controller.nodes import NodeStatus
from vllama.gateway.enquiry_json import plain
from vllama.gateway.render import iso


def nodes_router(control: Control) -> APIRouter:
    router = APIRouter(prefix="/admin")

    @router.get("/nodes")
    async def nodes() -> JSONResponse:
        return JSONResponse({"nodes": nodes_json(control.nodes())})

    return router


def nodes_json(nodes: Sequence[NodeStatus]) -> list[dict[str, Any]]:
    """The fields of NodeStatus; `read_at` as ISO 8601 in UTC, or null."""
    return [plain(node) | {"read_at": None if node.read_at is None else iso(node.read_at)} for node in nodes]
