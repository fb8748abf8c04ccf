"""How late the event loop is: a beat that comes by itself, looked at by the loop and, from outside, by a thread."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from vllama.controller.condition import Condition
from vllama.controller.events import Events
from vllama.controller.histogram import Histogram
from vllama.controller.tally import LAG_BOUNDS_S

EVERY_S = 0.5
REMEMBERED = 120  # beats: the latest minute
BLOCKED_AFTER_S = 5.0  # nobody was served for so long
STUCK_AFTER_S = 60.0  # the loop makes a pass every few seconds, whatever happens


class Pulse:
    """Seconds are of a clock that stands still in suspend: nothing is late then. `passes` counts the loop's."""

    def __init__(
        self, *, passes: Callable[[], int], events: Events, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._passes, self._events, self._clock = passes, events, clock
        self._lags: deque[float] = deque(maxlen=REMEMBERED)
        self._seen, self._passed_at = passes(), clock()
        self.beat_at: float | None = None  # None: it does not beat
        self.lags = Histogram(LAG_BOUNDS_S)  # of all beats
        self.blocked = 0  # how often it stood still for too long

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                due = self._clock() + EVERY_S
                self.beat_at = self._clock()
                await asyncio.sleep(EVERY_S)
                self.beat(due)
        finally:
            self.beat_at = None

    def beat(self, due: float) -> None:
        now = self._clock()
        lag_s = max(0.0, now - due)
        self._lags.append(lag_s)
        self.lags.add(lag_s)
        if lag_s >= BLOCKED_AFTER_S:
            self.blocked += 1
            message = f"The event loop stood still for {lag_s:.1f} s, and nobody was served. The log says where."
            self._events.record("LoopBlocked", message, warning=True)
        if (passes := self._passes()) != self._seen or lag_s >= BLOCKED_AFTER_S:
            # after a long standstill everybody is late; the loop has its time anew
            self._seen, self._passed_at = passes, now

    @property
    def lag_s(self) -> float:
        """The longest of the latest minute."""
        return max(self._lags, default=0.0)

    @property
    def silent_s(self) -> float:
        """Since the last beat; also from another thread."""
        beat_at = self.beat_at
        return 0.0 if beat_at is None else self._clock() - beat_at

    @property
    def pass_age_s(self) -> float:
        """Since the last pass of the loop, or since the beginning."""
        return self._clock() - self._passed_at

    def condition(self) -> Condition | None:
        """None where it does not beat."""
        if self.beat_at is None:
            return None
        if self.lag_s >= BLOCKED_AFTER_S:
            text = f"Within the last minute the event loop stood still for {self.lag_s:.1f} s. The log says where."
            return Condition(type="LoopFree", ok=False, reason="Blocked", message=text)
        return Condition(type="LoopFree", ok=True, reason="Beating", message="The event loop is on time.")
