"""What is ready, and who waits for it. Only the controller opens and closes; the gateway only waits.

A grant is atomic with ready: `open` puts the waiters in flight in the same step in which the model becomes
ready, so nobody can look at it as idle in between. And `close` refuses while anything is in flight, so that a
sleep or stop begins in the same step in which nothing is seen in flight.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from vllama.controller import turned_away
from vllama.controller.demand import (
    NEW_COUNTS,
    USUAL_SERVICE_S,
    Endpoint,
    Failure,
    Found,
    Grant,
    Line,
    Waiter,
    WaitFailed,
)
from vllama.controller.servers.fleet import Fleet
from vllama.domain.demand import NO_DEMAND, Demand, KeepAlive
from vllama.planner.outlook import UNTOLD, Doing, Outlook

SOON_S = 5.0  # what is to rest within this time after its last use rests then, not at the next pass by time
COMES_BACK = 1.5  # who was told to come back in T seconds is expected for so many T, and for this much longer:
COMES_BACK_S = 10.0
DOUBTED_S = 2.0
MOST_REPLICAS_TRIED = 2
_HIT = Found.HIT  # in Python 3.11 a member of an enum costs more than a call


class Board:
    def __init__(
        self,
        *,
        clock: Callable[[], float],
        bell: Callable[[], None],
        ready_in: Callable[[str], Outlook] = lambda _: UNTOLD,
        servers: Fleet | None = None,
    ) -> None:
        """`bell` rings for the first waiter of a line and for the last byte of one: it carries no message.

        `ready_in(model)` is asked for what those are told who cannot wait. `servers` are where requests go that no
        engine here takes at once; those for models that only servers have wait there, too.
        """
        self.servers = servers if servers is not None else Fleet(clock=clock)
        self.servers.on_room = self._pour_to_servers
        self._clock, self._bell, self._ready_in = clock, bell, ready_in
        self._lines: dict[str, Line] = {}  # by replica; everybody waits in the first one's
        self._firsts: dict[str, Line] = {}  # by further replica
        self._shut: Failure | None = None
        self._given_up: deque[str] = deque(maxlen=64)  # engines
        self.queued_bytes = 0  # of bodies whose requests wait
        self.on_unreachable: Callable[[str, str], None] = lambda _engine_id, _why: None
        self.on_doubt: Callable[[str], None] = lambda _engine_id: None
        self.ring_when_idle = False  # somebody waits for somebody's last byte; else a pass per request is for nothing

    # what the gateway does

    def admit(self, model: str, keep_alive: KeepAlive | None = None, engine_id: str | None = None) -> Grant | None:
        """A grant at once, where the model is ready and nobody waits before; None: `wait_until_ready`.

        `engine_id`: of a server or a replica, where no other will do.
        """
        line = self._lines.get(model)
        if line is None or line.waiters or (engine_id is not None and self.servers.has_engine(engine_id)):
            return self.servers.admit(model, engine_id)
        if not line.further:
            free = line if line.can_grant else None
        else:
            free = line.least_loaded(self._clock()) if engine_id is None else self._maker(line, engine_id)
        return self.servers.admit(model, engine_id) if free is None else self._grant(free, line, None, keep_alive)

    def again(self, model: str, failed: Grant, tried: Collection[str]) -> Grant | None:
        """For a request that `tried` (engine ids) have failed before they answered: another server, or another replica
        for what a replica failed. None: there is no other, or they were enough.
        """
        if failed.server is not None:
            return self.servers.again(model, tried)
        if failed.first is None or len(tried) > MOST_REPLICAS_TRIED or self._shut is not None:
            return None
        free = failed.first.least_loaded(self._clock(), besides=tried)
        return None if free is None else self._grant(free, failed.first, None, None)

    def doubt(self, grant: Grant) -> None:
        """A connection of it was lost: should its engine be dead, it looks idle until the next pass has seen that."""
        if grant.line is not None:
            grant.line.doubted_until = self._clock() + DOUBTED_S
            self.on_doubt(grant.endpoint.engine_id)

    def unreachable(self, grant: Grant, why: str) -> None:
        """Its engine, on another machine, took no connection: nobody is sent there until it is seen to answer."""
        line = grant.line
        if line is not None and line.endpoint is not None and line.endpoint.engine_id == grant.endpoint.engine_id:
            line.open = False
            self.on_unreachable(grant.endpoint.engine_id, why)

    async def wait_until_ready(
        self,
        model: str,
        *,
        max_queue: int,
        timeout_s: float,
        max_wait_s: float | None = None,
        keep_alive: KeepAlive | None = None,
        body_bytes: int = 0,
        most_bytes: int | None = None,
        engine_id: str | None = None,
    ) -> Grant:
        """Queue for `model`. Raises WaitFailed (queue full, timed out, or what the controller says).

        `max_wait_s`: who would wait longer is told so at once. `body_bytes` are held meanwhile, of `most_bytes` by all.
        """
        if self._shut is not None:
            raise WaitFailed(self._shut)
        if (grant := self.admit(model, keep_alive, engine_id)) is not None:
            return grant
        self._check_memory(model, body_bytes, most_bytes)
        if model in self.servers.only or self._is_of_server(engine_id):
            most_s = timeout_s if max_wait_s is None else min(timeout_s, max_wait_s)
            return await self._wait_for_server(model, most_s, max_queue, engine_id, body_bytes)
        line = self._line(model)
        self._check_maker(model, line, engine_id)
        if (waiting := len(line.waiters) - self.stands_in(model)) >= max_queue:
            outlook = self.outlook(model)
            raise WaitFailed(turned_away.queue_full(model, outlook, waiting=waiting, max_queue=max_queue))
        if max_wait_s is not None:
            outlook = self.outlook(model)
            if outlook.refused:
                max_wait_s = None  # the answer comes with the next pass, and says why
            elif outlook.ready_in_s > max_wait_s:
                raise WaitFailed(self._come_back(line, model, outlook, max_wait_s))
        granted = asyncio.get_running_loop().create_future()
        waiter = Waiter(since=self._clock(), granted=granted, keep_alive=keep_alive, body_bytes=body_bytes)
        self._queue(line, waiter)
        try:
            async with asyncio.timeout(timeout_s if max_wait_s is None else min(timeout_s, max_wait_s)):
                return await self._granted(line, waiter)
        except TimeoutError:
            outlook = self.outlook(model)
            if max_wait_s is not None and max_wait_s < timeout_s:
                raise WaitFailed(self._come_back(line, model, outlook, max_wait_s)) from None
            raise WaitFailed(turned_away.queue_timeout(model, outlook, timeout_s=timeout_s)) from None

    def outlook(self, model: str) -> Outlook:
        """What one more request would wait for, and how long, about."""
        if model in self.servers.only:
            return Outlook(doing=Doing.QUEUEING, ready_in_s=USUAL_SERVICE_S)
        line = self._line(model)
        up = Outlook(doing=Doing.QUEUEING, ready_in_s=0.0) if line.is_up else self._ready_in(model)
        return replace(up, ready_in_s=up.ready_in_s + line.queue_s())

    # what the controller does

    def open(
        self, model: str, endpoint: Endpoint, *, max_concurrency: int | None = None, woken: bool = False,
        replica_of: str | None = None,
    ) -> None:  # fmt: skip
        """The engine at `endpoint` takes requests; those that wait are in flight when this returns.

        `woken`: it came up from sleep, last time. `replica_of`: a model that it is a further engine of.
        """
        line, first = self._line(model), self._line(replica_of or model)
        if line is not first and line not in first.further:
            first.further = (*first.further, line)
            self._firsts[model] = first
        if not line.open and line.closed_at is not None:
            line.closed_at, line.drain_ended_at = None, self._clock()
        if line.endpoint is None and not first.is_up:
            for waiter in first.waiters:
                waiter.found = Found.WOKEN if woken else Found.STARTED
        line.endpoint, line.open = endpoint, True
        line.max_concurrency = first.max_concurrency = max_concurrency
        self._pour(first)

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
        first = self._firsts.get(model, line)
        if all(each.endpoint is None for each in (first, *first.further)):
            first.keep_alive = None
        return True

    def fail_waiters(self, model: str, failure: Failure) -> None:
        """Everybody who waits for `model` is told `failure` now."""
        line = self._line(model)
        while line.waiters:
            waiter = self._next(line)
            if not waiter.granted.done():
                waiter.granted.set_exception(WaitFailed(failure))

    def shut(self, failure: Failure) -> None:
        """Nobody is served any more: who waits, and whoever comes, is told `failure`. What is in flight goes on."""
        self._shut = failure
        self.servers.shut(failure)
        for model, line in self._lines.items():
            line.open = False
            self.fail_waiters(model, failure)

    def give_up(self, engine_id: str) -> None:
        """It failed and is taken down, with the requests that it has: who heard nothing of it may ask another one."""
        self._given_up.append(engine_id)

    def gave_up(self, engine_id: str) -> bool:
        return engine_id in self._given_up

    def touch(self, model: str, at: float) -> None:
        """An operator's start, or an adoption, counts as a use at that moment."""
        line = self._line(model)
        line.last_used_at = max(at, line.last_used_at or at)

    def demand(self) -> Mapping[str, Demand]:
        return {model: line.demand() for model, line in self._lines.items()}

    @property
    def is_busy(self) -> bool:
        """Something is in flight, here or at a server."""
        return self.servers.is_busy or any(line.in_flight for line in self._lines.values())

    def demand_of(self, model: str) -> Demand:
        line = self._lines.get(model)
        return NO_DEMAND if line is None else line.demand()

    def engine_of(self, model: str) -> str | None:
        """The engine that requests for `model` go to; None: none."""
        line = self._lines.get(model)
        return line.endpoint.engine_id if line is not None and line.endpoint is not None else None

    def is_further(self, name: str) -> bool:
        """It is, or was, a further replica of some model."""
        return name in self._firsts

    def stands_in(self, model: str) -> bool:
        """One of those that wait is no client, but stands in for those that were told to come back."""
        line = self._lines.get(model)
        return line is not None and line.stand_in is not None and line.stand_in in line.waiters

    def is_open(self, model: str) -> bool:
        """Some replica takes requests."""
        return model in self._lines and self._lines[model].is_up

    # inside

    def _is_of_server(self, engine_id: str | None) -> bool:
        return engine_id is not None and self.servers.has_engine(engine_id)

    def _check_maker(self, model: str, line: Line, engine_id: str | None) -> None:
        """One replica has what is asked for: it is not waited for, as another may be the one that is woken."""
        if line.further and engine_id is not None:
            raise WaitFailed(turned_away.maker_away(model))

    def _check_memory(self, model: str, body_bytes: int, most_bytes: int | None) -> None:
        if most_bytes is not None and self.queued_bytes + body_bytes > most_bytes:
            held, outlook = self.queued_bytes, self.outlook(model)
            failure = turned_away.queue_memory_full(model, outlook, held_bytes=held, most_bytes=most_bytes)
            raise WaitFailed(failure)

    async def _wait_for_server(
        self, model: str, timeout_s: float, max_queue: int, engine_id: str | None, body_bytes: int
    ) -> Grant:
        self.queued_bytes += body_bytes
        try:
            return await self.servers.wait(model, max_queue=max_queue, timeout_s=timeout_s, engine_id=engine_id)
        finally:
            self.queued_bytes -= body_bytes

    def _line(self, model: str) -> Line:
        return self._lines.setdefault(model, Line())

    def _maker(self, first: Line, engine_id: str) -> Line | None:
        """The replica that has what is asked for, where it takes requests."""
        found = (line for line in (first, *first.further) if line.can_grant and line.endpoint is not None)
        return next((line for line in found if line.endpoint and line.endpoint.engine_id == engine_id), None)

    def _grant(self, line: Line, first: Line, waiter: Waiter | None, keep_alive: KeepAlive | None) -> Grant:
        """By one replica's line, of those whose requests wait in `first`."""
        if (endpoint := line.endpoint) is None:
            raise AssertionError("granted by a line without an endpoint")
        line.last_used_at = now = self._clock()
        line.in_flight += 1
        first.asked.append(now)
        if keep_alive is not None:
            first.keep_alive = keep_alive
        return Grant(
            endpoint=endpoint, at=now, line=line, first=first, give_back=self._give_back,
            waited_s=0.0 if waiter is None else now - waiter.since, found=_HIT if waiter is None else waiter.found,
        )  # fmt: skip

    def _give_back(self, grant: Grant) -> None:
        line, first = grant.line, grant.first
        if line is None or first is None:
            raise AssertionError("not granted here")
        line.last_used_at = now = self._clock()
        line.in_flight -= 1
        took_s, mean_s = now - grant.at, first.service_s
        first.service_s = took_s if mean_s is None else mean_s + NEW_COUNTS * (took_s - mean_s)
        if first.waiters:
            self._pour(first)
        said = first.keep_alive
        if line.in_flight == 0 and (self.ring_when_idle or (said is not None and _is_soon(said))):
            self._bell()

    def _pour(self, line: Line) -> None:
        while line.waiters and (free := line.least_loaded(self._clock())) is not None:
            waiter = self._next(line)
            if not waiter.granted.done():
                waiter.granted.set_result(self._grant(free, line, waiter, waiter.keep_alive))

    def _pour_to_servers(self, models: Collection[str]) -> None:
        """Who waits for an engine here goes to a server that has room first."""
        for model in models:
            line = self._lines.get(model)
            while line is not None and line.waiters and (grant := self.servers.admit(model)) is not None:
                waiter = self._next(line)
                if waiter.granted.done():
                    grant.release()
                else:
                    grant.waited_s, grant.found = self._clock() - waiter.since, Found.QUEUED
                    waiter.granted.set_result(grant)

    def _queue(self, line: Line, waiter: Waiter) -> None:
        line.waiters.append(waiter)
        self.servers.waiting_here += 1
        self.queued_bytes += waiter.body_bytes
        if len(line.waiters) == 1:
            self._bell()

    def _next(self, line: Line) -> Waiter:
        waiter = line.waiters.popleft()
        self.servers.waiting_here -= 1
        self.queued_bytes -= waiter.body_bytes
        return waiter

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
            self.servers.waiting_here -= 1
            self.queued_bytes -= waiter.body_bytes
            if not line.waiters:
                line.left_at = self._clock()
                self._bell()
        elif waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
            waiter.granted.result().release()

    def _come_back(self, line: Line, model: str, outlook: Outlook, max_wait_s: float) -> Failure:
        """Who is told to come back is stood in for till then: else nobody waits, and it would not be ready."""
        if line.stand_in is None and not line.is_up:
            loop = asyncio.get_running_loop()
            waiter = Waiter(since=self._clock(), granted=loop.create_future())
            goes = loop.call_later(COMES_BACK * outlook.ready_in_s + COMES_BACK_S, waiter.granted.cancel)

            def over(granted: asyncio.Future[Grant]) -> None:
                goes.cancel()
                line.stand_in = None
                self._leave(line, waiter)
                if not granted.cancelled():
                    granted.exception()  # it was looked at

            waiter.granted.add_done_callback(over)
            line.stand_in = waiter
            self._queue(line, waiter)
        return turned_away.max_wait(model, outlook, max_wait_s=max_wait_s)


def _is_soon(said: KeepAlive) -> bool:
    """It rests so soon after its last request that a pass that comes by itself may be too late for it."""
    return said.idle_s is not None and said.idle_s <= SOON_S
