"""What is ready, and who waits for it. Only the controller opens and closes; the gateway only waits.

A grant is atomic with ready: `open` puts the waiters in flight in the same step in which the model becomes
ready, so nobody can look at it as idle in between. And `close` refuses while anything is in flight, so that a
sleep or stop begins in the same step in which nothing is seen in flight.
"""

import asyncio
from collections.abc import Callable, Mapping

from vllama.controller.demand import Endpoint, Failure, Grant, Line, Waiter, WaitFailed
from vllama.domain.demand import NO_DEMAND, Demand


class Board:
    def __init__(self, *, clock: Callable[[], float], bell: Callable[[], None]) -> None:
        """`bell` rings for the first waiter of a line and for the last byte of one: it carries no message."""
        self._clock = clock
        self._bell = bell
        self._lines: dict[str, Line] = {}
        self._shut: Failure | None = None
        self.ring_when_idle = False  # somebody waits for somebody's last byte; else a pass per request is for nothing

    # what the gateway does

    def admit(self, model: str) -> Grant | None:
        """A grant at once, where the model is ready and nobody waits before; None: `wait_until_ready`."""
        line = self._lines.get(model)
        if line is None or line.waiters or not line.can_grant:
            return None
        return self._grant(line, since=None)

    async def wait_until_ready(self, model: str, *, max_queue: int, timeout_s: float) -> Grant:
        """Queue for `model`. Raises WaitFailed (queue full, timed out, or what the controller says)."""
        if self._shut is not None:
            raise WaitFailed(self._shut)
        line = self._line(model)
        if (grant := self.admit(model)) is not None:
            return grant
        if len(line.waiters) >= max_queue:
            message = f"{len(line.waiters)} requests already wait for {model!r} and its max_queue is {max_queue}."
            raise WaitFailed(Failure(status=429, code="queue_full", message=message, retry_after_s=5.0))
        waiter = Waiter(since=self._clock(), granted=asyncio.get_running_loop().create_future())
        line.waiters.append(waiter)
        if len(line.waiters) == 1:
            self._bell()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._granted(line, waiter)
        except TimeoutError:
            message = f"{model!r} was not ready within {timeout_s:.0f} s (queue_timeout)."
            raise WaitFailed(Failure(status=503, code="queue_timeout", message=message, retry_after_s=30.0)) from None

    # what the controller does

    def open(self, model: str, endpoint: Endpoint, *, max_concurrency: int | None = None) -> None:
        """The engine at `endpoint` takes requests; those that wait are in flight when this returns."""
        line = self._line(model)
        if not line.open and line.closed_at is not None:
            line.closed_at, line.drain_ended_at = None, self._clock()
        line.endpoint, line.max_concurrency, line.open = endpoint, max_concurrency, True
        self._pour(line)

    def drain(self, model: str) -> None:
        """Arrivals queue from now on; what is in flight goes on."""
        line = self._line(model)
        if line.open:
            line.open, line.closed_at = False, self._clock()

    def pause(self, model: str) -> None:
        """Arrivals queue while it is not known how the engine is; that is no drain for anybody's sake."""
        self._line(model).open = False

    def close(self, model: str, *, cut: bool = False) -> bool:
        """No requests until `open`. False, and nothing happens, when some are in flight and may not be cut."""
        line = self._line(model)
        if line.in_flight and not cut:
            return False
        line.open, line.endpoint, line.closed_at = False, None, None
        return True

    def fail_waiters(self, model: str, failure: Failure) -> None:
        """Everybody who waits for `model` is told `failure` now."""
        line = self._line(model)
        waiters = list(line.waiters)
        line.waiters.clear()
        for waiter in waiters:
            if not waiter.granted.done():
                waiter.granted.set_exception(WaitFailed(failure))

    def shut(self, failure: Failure) -> None:
        """Nobody is served any more: who waits, and whoever comes, is told `failure`. What is in flight goes on."""
        self._shut = failure
        for model, line in self._lines.items():
            line.open = False
            self.fail_waiters(model, failure)

    def touch(self, model: str, at: float) -> None:
        """An operator's start, or an adoption, counts as a use at that moment."""
        line = self._line(model)
        line.last_used_at = max(at, line.last_used_at or at)

    def demand(self) -> Mapping[str, Demand]:
        return {model: line.demand() for model, line in self._lines.items()}

    def demand_of(self, model: str) -> Demand:
        line = self._lines.get(model)
        return NO_DEMAND if line is None else line.demand()

    def engine_of(self, model: str) -> str | None:
        """The engine that requests for `model` go to; None: none."""
        line = self._lines.get(model)
        return line.endpoint.engine_id if line is not None and line.endpoint is not None else None

    def is_open(self, model: str) -> bool:
        return model in self._lines and self._lines[model].open

    # inside

    def _line(self, model: str) -> Line:
        return self._lines.setdefault(model, Line())

    def _grant(self, line: Line, *, since: float | None) -> Grant:
        if line.endpoint is None:
            raise AssertionError("granted by a line without an endpoint")
        now = self._clock()
        line.in_flight += 1
        line.last_used_at = now

        def release() -> None:
            line.in_flight -= 1
            line.last_used_at = self._clock()
            self._pour(line)
            if line.in_flight == 0 and self.ring_when_idle:
                self._bell()

        return Grant(endpoint=line.endpoint, waited_s=0.0 if since is None else now - since, _release=release)

    def _pour(self, line: Line) -> None:
        while line.waiters and line.can_grant:
            waiter = line.waiters.popleft()
            if not waiter.granted.done():
                waiter.granted.set_result(self._grant(line, since=waiter.since))

    async def _granted(self, line: Line, waiter: Waiter) -> Grant:
        try:
            return await waiter.granted
        except BaseException:
            self._leave(line, waiter)
            raise

    def _leave(self, line: Line, waiter: Waiter) -> None:
        """Whoever goes leaves no trace in the queue, and gives back a grant that no longer reached it."""
        if waiter in line.waiters:
            line.waiters.remove(waiter)
            if not line.waiters:
                self._bell()
        elif waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
            waiter.granted.result().release()
