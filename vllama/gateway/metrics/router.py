"""GET /metrics: vllama's own. GET /metrics/engines: what the engines say of themselves, under one roof."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from vllama.controller.control import Control
from vllama.gateway.metrics.engines import engines_exposition
from vllama.gateway.metrics.exposition import State, exposition
from vllama.gateway.telling import Telling


def metrics_router(control: Control, telling: Telling, *, version: str) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics")
    async def ours() -> Response:
        measures = await control.measures()
        state = State(
            version=version, meters=telling.meters.copy(), statuses=control.statuses(),
            conditions=control.conditions(), servers=control.servers(),
            pulls=telling.meters.pulls, dropped_lines=telling.dropped_lines(), vitals=control.vitals(),
            measures=measures,
        )  # fmt: skip
        return Response(await asyncio.to_thread(exposition, state), media_type=CONTENT_TYPE_LATEST)

    @router.get("/metrics/engines")
    async def theirs() -> Response:
        text = await engines_exposition(control.engines(), telling.client, timeout_s=telling.metrics_within_s)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return router
