"""What happened, and what engines said: lists, and streams for who wants to see it happen."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from vllama.controller.control import Control, Unresolved
from vllama.controller.events import KEPT, Event
from vllama.controller.history import PhaseSpan
from vllama.domain.replicas import MOST_REPLICAS, model_of
from vllama.domain.units import MIB
from vllama.engine.logs import LogLines
from vllama.gateway import errors
from vllama.gateway.render import iso
from vllama.gateway.replies import reply
from vllama.runtime.base import LogFile

MOST_LINES = 10_000
TAIL_BYTES = MIB
LOOK_EVERY_S = 0.25
_EVENT_STREAM = "text/event-stream"

Lines = Annotated[int, Query(ge=0, le=MOST_LINES)]
Replica = Annotated[int, Query(ge=1, le=MOST_REPLICAS)]
Seconds = Annotated[float, Query(gt=0, le=30 * 86400)]
Count = Annotated[int, Query(ge=0, le=KEPT)]


def history_router(control: Control) -> APIRouter:
    """To be mounted before what has /admin/models/{name}: a name may have slashes."""
    router = APIRouter(prefix="/admin")

    @router.get("/events")
    async def events(
        request: Request, *, model: str | None = None, limit: Count = 200, follow: bool = False
    ) -> Response:
        """`follow`: newline-delimited JSON, or server-sent events for who accepts those; they can go on where they
        were with Last-Event-ID.
        """
        wanted = None if model is None else _id_of(control, model)
        found = [each for each in control.events if wanted is None or each.model == wanted]
        found = found[len(found) - min(limit, len(found)) :]
        if not follow:
            return JSONResponse({"events": [event_json(event) for event in found]})
        as_sse = _EVENT_STREAM in request.headers.get("accept", "")
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isdecimal() and len(last) < 19 else found[0].number - 1 if found else _newest(control)
        stream = _events(control, wanted, after=after, as_sse=as_sse)
        kind = _EVENT_STREAM if as_sse else "application/x-ndjson"
        return StreamingResponse(stream, media_type=kind, headers={"cache-control": "no-store"})

    @router.get("/history")
    async def history(*, seconds: Seconds = 3600.0, model: str | None = None) -> JSONResponse:
        """`spans`: who was in which phase, where, since when and why, in the order in which they began; `to_s` is null
        where it is so still. Only those that reach into the last `seconds`. `began_s`: when servers began in this time.
        All times are seconds of the wall clock. A model that was never seen running has none, a further replica has
        its own, under its own name (`org/model#2`).
        """
        now = time.time()
        wanted = None if model is None else _id_of(control, model)
        spans = control.history.spans(since=now - seconds)
        return JSONResponse({
            "now_s": now, "from_s": now - seconds, "began_s": control.history.began(since=now - seconds),
            "spans": [span_json(span) for span in spans if wanted in {None, model_of(span.model)}],
        })  # fmt: skip

    @router.get("/models/{name:path}/logs")
    async def logs(name: str, *, tail: Lines = 200, follow: bool = False, replica: Replica = 1) -> Response:
        """The last lines of what the model's engines wrote, at most a mebibyte of them, as plain text. Each replica
        has a log of its own.
        """
        found = control.resolve(name)
        if isinstance(found, Unresolved):
            return reply(errors.unresolved(found))
        log = control.log_of(found.model, replica)
        if follow:
            return StreamingResponse(_lines(control, log, tail), media_type="text/plain; charset=utf-8")
        lines = await control.log_tail(log, limit_bytes=TAIL_BYTES)
        return PlainTextResponse("".join(f"{line}\n" for line in lines[len(lines) - min(tail, len(lines)) :]))

    return router


def span_json(span: PhaseSpan) -> dict[str, Any]:
    return {
        "model": span.model,
        "phase": span.phase.value,
        "node": span.node,
        "devices": list(span.devices),
        "from_s": span.from_s,
        "to_s": span.to_s,
        "reason": span.reason,
        "message": span.message,
    }


def event_json(event: Event) -> dict[str, Any]:
    """What it always was, and the same in Kubernetes' words. Each is told as it happens; `count` and `firstTimestamp`
    are of all with this reason about this object.
    """
    named = {"kind": "Server", "name": "vllama"} if event.model is None else {"kind": "Model", "name": event.model}
    return {
        "number": event.number,
        "at": iso(event.at),
        "model": event.model,
        "reason": str(event.reason),
        "message": event.message,
        "warning": event.warning,
        "type": "Warning" if event.warning else "Normal",
        "count": event.count,
        "firstTimestamp": iso(event.at if event.first_at is None else event.first_at),
        "lastTimestamp": iso(event.at),
        "involvedObject": named,
    }


def _id_of(control: Control, name: str) -> str:
    """A model that is gone has events still, under its id."""
    found = control.resolve(name)
    return name if isinstance(found, Unresolved) else found.model


def _newest(control: Control) -> int:
    return max((event.number for event in control.events), default=0)


async def _events(control: Control, model: str | None, *, after: int, as_sse: bool) -> AsyncIterator[str]:
    """A word now and then where nothing happens, so that a client that is gone is noticed."""
    quiet = 0
    async for event in control.events.follow(after=after):
        if event is None:
            quiet += 1
            if as_sse and quiet % 15 == 0:
                yield ": nothing new\n\n"
        elif model is None or event.model == model:
            text = json.dumps(event_json(event))
            yield f"id: {event.number}\ndata: {text}\n\n" if as_sse else f"{text}\n"


async def _lines(control: Control, log: LogFile, tail: int) -> AsyncIterator[str]:
    reader = LogLines()
    lines = reader.take(await control.read_log(log, reader.mark))
    lines = lines[len(lines) - min(tail, len(lines)) :]
    while True:
        if lines:
            yield "".join(f"{line}\n" for line in lines)
        if control.events.closed:
            return
        await asyncio.sleep(LOOK_EVERY_S)
        lines = reader.take(await control.read_log(log, reader.mark))
