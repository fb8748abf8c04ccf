"""POST /api/pull: told as it goes, or when it is over; counted and logged either way."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from vllama.controller.control import Control, Unresolved
from vllama.engine.listing import hub_name
from vllama.gateway import errors
from vllama.gateway.dialects import Dialect
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused
from vllama.gateway.metrics.meters import Meters
from vllama.gateway.metrics.pulls import ENDED, Ended, counted
from vllama.gateway.ollama.names import named_in
from vllama.gateway.ollama.pull import pulling
from vllama.gateway.replies import reply


def add_pull(router: APIRouter, control: Control, meters: Meters, hub: Path | None) -> None:
    @router.post("/pull")
    async def pull(request: Request) -> Response:
        try:
            body = await request.body()
            asked = named_in(body)
            name = _on_the_hub(asked.said)
        except Refused as refused:
            return _refused(refused.answer, meters)
        if hub is None:
            return _refused(errors.invalid("there is no model cache to pull into"), meters)
        ended = Ended(name=name, model=_known_as(control, name), request_bytes=len(body))
        setattr(request.state, ENDED, ended)
        lines = _as_lines(pulling(control, name, hub), control, meters, ended)
        if asked.stream is not False:
            return StreamingResponse(lines, media_type="application/x-ndjson")
        last = [line async for line in lines][-1]
        return Response(last, status_code=200 if ended.outcome == "ok" else 500, media_type="application/json")


def _refused(answer: ErrorAnswer, meters: Meters) -> Response:
    meters.of[""].requests["refused", answer.status] += 1
    return reply(answer, Dialect.OLLAMA)


def _on_the_hub(name: str) -> str:
    found = hub_name(name)
    if found is None:
        raise Refused(errors.invalid(f"{name[:100]!r} is no name of the Hugging Face hub, such as Qwen/Qwen3-8B"))
    return found


def _known_as(control: Control, name: str) -> str:
    found = control.resolve(name)
    return "" if isinstance(found, Unresolved) else found.model


async def _as_lines(
    told: AsyncGenerator[dict[str, Any]], control: Control, meters: Meters, ended: Ended
) -> AsyncIterator[bytes]:
    with counted(meters, ended):
        async with aclosing(told):
            async for each in told:
                line = msgspec.json.encode(each) + b"\n"
                ended.answer_bytes += len(line)
                yield line
        ended.outcome, ended.status = ("pull_failed", 500) if "error" in each else ("ok", 200)
        ended.model = _known_as(control, ended.name)
