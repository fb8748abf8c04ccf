"""GET /admin/watch: the whole state, and from then on what changes of it, for a page that stays open.

Nothing is queued for anybody. Whoever reads slowly is told later, and then of the state of that moment; so a client
costs one frame at a time, and what happened meanwhile costs nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse

from vllama.controller.control import Control
from vllama.gateway import errors
from vllama.gateway.admin import condition_json
from vllama.gateway.enquiry_json import books_json
from vllama.gateway.history import event_json
from vllama.gateway.info import ServerFacts
from vllama.gateway.render import iso, status_json
from vllama.gateway.replies import reply
from vllama.gateway.servers import load_json

MOST_WATCHERS = 64
EVERY_S = 1.0
HELD_S = 0.5  # so long one frame does for all who watch
LOOK_EVERY_S = 0.25  # whether the server stops
QUIET_S = 15.0  # then a word, so that both sides see that the other is there
EVENTS = 300  # of those that happened before

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The state at one moment. `parts` change as a whole, `models` one by one (by name, each replica its own);
    `event` is the number of the latest.
    """

    parts: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    event: int


class Feed:
    def __init__(self, control: Control, about: Mapping[str, Any], *, clock: Clock, wall: Clock) -> None:
        self._control, self._about, self._clock, self._wall = control, about, clock, wall
        self._frame: tuple[float, Frame] | None = None
        self.watchers = 0

    def latest(self) -> Frame:
        """At most HELD_S old."""
        now = self._clock()
        if self._frame is None or now >= self._frame[0] + HELD_S:
            self._frame = now, self._look()
        return self._frame[1]

    async def follow(self) -> AsyncIterator[bytes]:
        """Server-sent events, until the server stops: `state` first, then `change`s."""
        self.watchers += 1
        try:
            frame = self.latest()
            yield _event(b"state", self._whole(frame))
            told_at = self._clock()
            async for _ in self._ticks():
                before, frame = frame, self.latest()
                if news := self._news(before, frame):
                    told_at = self._clock()
                    yield _event(b"change", news)
                elif self._clock() >= told_at + QUIET_S:
                    told_at = self._clock()
                    yield b": nothing new\n\n"
        finally:
            self.watchers -= 1

    async def _ticks(self) -> AsyncIterator[None]:
        while True:
            until = self._clock() + EVERY_S
            while self._clock() < until:
                if self._control.events.closed:
                    return
                await asyncio.sleep(LOOK_EVERY_S)
            yield

    def _look(self) -> Frame:
        control, ready_in = self._control, self._control.outlooks()
        models = {}
        for status in control.statuses():
            outlook = ready_in.get(status.model)
            at = None if outlook is None else iso(self._wall() + outlook.ready_in_s)
            told = status_json(status) | {"ready_at": at, "doing": None if outlook is None else outlook.doing.value}
            del told["ready_in_s"]  # a time that comes nearer would be news every second
            models[status.model] = told
        parts = {
            "about": self._about,
            "conditions": [condition_json(condition) for condition in control.conditions()],
            "memory": books_json(control.memory()),
            "servers": load_json(control.servers()),
        }
        return Frame(parts=parts, models=models, event=max((e.number for e in control.events), default=0))

    def _whole(self, frame: Frame) -> Mapping[str, Any]:
        return {**frame.parts, "models": list(frame.models.values()), "events": self._events(0)[-EVENTS:]}

    def _news(self, before: Frame, frame: Frame) -> Mapping[str, Any]:
        """What of `frame` is other than `before`; empty: nothing."""
        news: dict[str, Any] = {name: part for name, part in frame.parts.items() if part != before.parts[name]}
        changed = [status for model, status in frame.models.items() if before.models.get(model) != status]
        gone = [model for model in before.models if model not in frame.models]
        happened = self._events(before.event) if frame.event > before.event else []
        said = {"models": changed, "gone": gone, "events": happened}
        return news | {name: value for name, value in said.items() if value}

    def _events(self, after: int) -> list[dict[str, Any]]:
        return [event_json(event) for event in self._control.events if event.number > after]


def watch_router(control: Control, *, version: str, facts: ServerFacts | None) -> APIRouter:
    router = APIRouter(prefix="/admin")
    about: dict[str, Any] = {"version": version}
    if facts is not None:
        about |= {"started_at": iso(facts.started_at), "runs_on": facts.runs_on, "simulated": facts.simulated}
    feed = Feed(control, about, clock=time.monotonic, wall=time.time)

    @router.get("/watch")
    async def watch() -> Response:
        if feed.watchers >= MOST_WATCHERS:
            return reply(errors.too_many_watchers(MOST_WATCHERS))
        return StreamingResponse(
            feed.follow(), media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )  # fmt: skip

    return router


def _event(name: bytes, data: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, msgspec.json.encode(data))
