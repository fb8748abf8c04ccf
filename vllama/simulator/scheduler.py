"""Who is served when: requests run as tasks that produce one word per pause; a paused scheduler lets them wait."""

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto

from vllama.simulator.faults import Faults
from vllama.simulator.text import cut_at_stop, words
from vllama.simulator.wire import Add, Event, Output, Stats


class Pause(Enum):
    UNPAUSED = auto()
    PAUSED_NEW = auto()  # what runs may finish, what comes waits
    PAUSED_ALL = auto()  # nothing moves


class Scheduler:
    def __init__(
        self, *, model: str, token_s: float, max_running: int, faults: Faults, emit: Callable[[Event], None]
    ) -> None:
        self.pause = Pause.UNPAUSED
        self.garbage = False  # answer with what weights that are not there would say
        self._model = model
        self._token_s = token_s
        self._max_running = max_running
        self._faults = faults
        self._emit = emit
        self._waiting: deque[Add] = deque()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._moving = asyncio.Event()
        self._moving.set()
        self._drained = asyncio.Event()

    def add(self, request: Add) -> None:
        self._waiting.append(request)
        self._admit()

    def abort(self, request_ids: Iterable[str]) -> int:
        """Finish requests early, as `abort`. Returns how many there were."""
        chosen = set(request_ids)
        found = [request.request_id for request in self._waiting if request.request_id in chosen]
        self._waiting = deque(request for request in self._waiting if request.request_id not in chosen)
        for request_id in chosen & self._running.keys():
            self._running[request_id].cancel()
            self._finished(request_id)
            found.append(request_id)
        for request_id in found:
            self._emit(Output(request_id, "", 0, "abort"))
        self._admit()
        return len(found)

    def abort_all(self) -> int:
        return self.abort([*self._running, *(request.request_id for request in self._waiting)])

    def set_pause(self, pause: Pause) -> None:
        self.pause = pause
        if pause is Pause.PAUSED_ALL:
            self._moving.clear()
        else:
            self._moving.set()
        self._admit()

    async def drained(self) -> None:
        """Wait until nothing runs."""
        while self._running:
            self._drained.clear()
            await self._drained.wait()

    def _admit(self) -> None:
        if self.pause is not Pause.UNPAUSED:
            return  # and say nothing: requests that wait on a sleeping engine do not show in its statistics
        while self._waiting and len(self._running) < self._max_running:
            request = self._waiting.popleft()
            self._running[request.request_id] = asyncio.create_task(self._run(request))
        self._emit(Stats(len(self._running), len(self._waiting)))

    async def _run(self, request: Add) -> None:
        if self._faults.completions_hang:
            await asyncio.Event().wait()
        pieces: Iterable[str] = words(self._model, request.prompt, request.steps) if request.steps else [""]
        finish_reason, stop_reason, last = request.finish_reason, None, max(request.steps, 1)
        if request.stop:
            pieces, stop_reason = cut_at_stop(list(pieces), request.stop)
            last = len(pieces)
        if stop_reason:
            finish_reason = "stop"
        for done, piece in enumerate(pieces, start=1):
            await asyncio.sleep(self._token_s)
            await self._moving.wait()
            if request.steps and done - 1 == self._faults.die_mid_stream:
                os.kill(os.getpid(), signal.SIGKILL)
            text = "!" if self.garbage else piece
            end = (finish_reason, stop_reason) if done == last else (None, None)
            self._emit(Output(request.request_id, text, 1, *end))
        self._finished(request.request_id)
        self._admit()

    def _finished(self, request_id: str) -> None:
        del self._running[request_id]
        if not self._running:
            self._drained.set()
        self._emit(Stats(len(self._running), len(self._waiting)))
