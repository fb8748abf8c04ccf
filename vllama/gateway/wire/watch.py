"""One timer for all deadlines of all connections: setting one costs an assignment."""

import asyncio
from typing import Protocol


class Watched(Protocol):
    """`deadline` is of the loop's clock; None: none."""

    deadline: float | None

    def overdue(self) -> None: ...


class Watch:
    def __init__(self, *, tick_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick_s = tick_s
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, one: Watched) -> None:
        self._watched.add(one)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._look)

    def discard(self, one: Watched) -> None:
        self._watched.discard(one)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._loop.time()
        for one in [one for one in self._watched if one.deadline is not None and one.deadline <= now]:
            if one.deadline is not None:  # what happened to the ones before may have ended its wait
                one.deadline = None
                one.overdue()
        self._timer = self._loop.call_later(self._tick_s, self._look) if self._watched else None
