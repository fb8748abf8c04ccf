"""Sleep and wake, believed only when everybody says so: the engine, the device, and what it answers afterwards."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vllama.controller.events import Events
from vllama.controller.observer import Observer
from vllama.controller.probe import Probe
from vllama.controller.profiles import Profiles
from vllama.domain.action import Sleep, Wake
from vllama.domain.observed import Asleep, Awake, Footprint
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import format_bytes
from vllama.engine.canary import agree
from vllama.engine.client import EngineClient, EngineRefused, EngineUnanswered
from vllama.planner.ledger import host_copy_bytes
from vllama.runtime.base import RuntimeFailed

CANARY_WITHIN_S = 60.0
FREED_WITHIN_S = 5.0  # the driver gives memory back when it gets to it
LOOK_AGAIN_S = 0.05
AT_LEAST_S = 1.0  # for a question after a long answer
MOST_OF_IT_MAY_STAY = 0.6  # of a tiny model the context is most of what there is
ALL_BUT_A_LITTLE = 0.9  # of what was planned, where it cannot be seen how much of that an engine took


class Outdated(Exception):
    """Things are not as they were planned with, so nothing was done: the next plan knows better."""


class Untrue(EngineRefused):
    """It said that it did, and did not."""


@dataclass(slots=True, kw_only=True)
class VerifiedSleep:
    """Both raise EngineRefused, EngineUnanswered or RuntimeFailed; the engine is then not to be used again. Or
    Outdated: nothing was done to it.

    `within_s` bounds what the engine may take for it. A level that it says to be at and is not, that it comes back
    from otherwise than it was, or that leaves it without an answer, is not tried again with this model. A plain refusal
    is no such thing: memory that somebody else took makes a wake fail, and may be there the next time.
    """

    client: EngineClient
    observer: Observer
    profiles: Profiles
    events: Events
    clock: Callable[[], float]

    async def put_to_sleep(
        self, action: Sleep, spec: ModelSpec, footprint: Footprint | None, *, within_s: float
    ) -> None:
        probe = self._probe(action.engine_id)
        at = probe.engine.address
        await self._keep_canary(probe)
        if action.level is SleepLevel.DISCARDED and probe.canary is None:
            why = "nothing could tell whether it came back right from level 2"
            self.profiles.refuse(spec, action.level, why)
            raise Outdated(f"N{why[1:]}: it sleeps otherwise, or stops.")
        if probe.canary is not None:
            self.profiles.keep_canary(spec, action.engine_id, probe.canary)
            await asyncio.to_thread(self.profiles.save)  # should this manager die, the next one needs it
        await self.observer.look()  # the last reading may be from before it had loaded
        held, used = self.observer.measured_bytes(action.engine_id), self._used(action)
        if action.level is SleepLevel.WEIGHTS_OFFLOADED:
            probe.host_copy_bytes = max(probe.host_copy_bytes, host_copy_bytes(footprint))
        with self._held_against(spec, action.level):
            began = self.clock()
            # `wait`: should a request have reached the engine by another way, it is finished, not aborted
            await self.client.sleep(at, action.level, "wait", timeout_s=within_s)
            if not await self.client.is_sleeping(at, timeout_s=max(AT_LEAST_S, began + within_s - self.clock())):
                raise Untrue("POST /sleep", 200, "and is awake")
            self.profiles.note(spec, sleep_s=round(self.clock() - began, 3))
            if held is not None:
                self._learn_fixed(probe, spec, held)
            await self._see_freed(action, spec, probe.engine.memory_bytes if held is None else held, used)
        probe.become(Asleep(level=action.level))

    def _learn_fixed(self, probe: Probe, spec: ModelSpec, held: int) -> None:
        """Beside its KV cache an engine may hold more than its log counts (contexts, NCCL): the device knows."""
        cache, known = probe.learned.kv_cache_bytes, self.profiles.of(spec).fixed_bytes
        if cache is not None and known is not None and held - cache > known:
            self.profiles.note(spec, fixed_bytes=held - cache)

    async def _see_freed(self, action: Sleep, spec: ModelSpec, held: int, used: tuple[int | None, ...]) -> None:
        """The device must say so too: vLLM has answered 200 and freed nothing.

        Where it does not tell what a process holds (in containers), by how much less of it is `used` than before.
        """
        end = self.clock() + FREED_WITHIN_S
        while True:
            await self.observer.look()
            measured = self.observer.measured_bytes(action.engine_id)
            left = _left(held, used, self._used(action)) if measured is None else measured
            if left is None:
                return  # not to be seen any more; the next plan takes what should be true
            if left <= held * (MOST_OF_IT_MAY_STAY if measured is not None else ALL_BUT_A_LITTLE):
                if measured is not None:
                    self.profiles.note(spec, asleep_bytes=measured)
                    self._probe(action.engine_id).slept_with(measured)
                return
            if self.clock() >= end:
                said = f"and still holds {format_bytes(left)} of {format_bytes(held)}"
                raise Untrue(f"POST /sleep?level={action.level}", 200, said)
            await asyncio.sleep(LOOK_AGAIN_S)

    async def wake(self, action: Wake, spec: ModelSpec, *, within_s: float) -> None:
        probe, began = self._probe(action.engine_id), self.clock()
        at = probe.engine.address
        if action.level is SleepLevel.DISCARDED and probe.canary is None:
            raise RuntimeFailed("nothing can tell any more whether it comes back right from level 2")
        with self._held_against(spec, action.level):
            await self.client.wake(at, action.level, timeout_s=within_s)
            if await self.client.is_sleeping(at, timeout_s=max(AT_LEAST_S, began + within_s - self.clock())):
                raise Untrue("POST /wake_up", 200, "and still sleeps")
            self.profiles.note(spec, wake_s=round(self.clock() - began, 3))
            await self._hear_canary(probe, action)
        probe.become(Awake(ready_at=self.clock()))

    @contextmanager
    def _held_against(self, spec: ModelSpec, level: SleepLevel) -> Iterator[None]:
        try:
            yield
        except (Untrue, EngineUnanswered) as error:
            self.profiles.refuse(spec, level, str(error))
            raise

    async def _keep_canary(self, probe: Probe) -> None:
        """Before the first sleep, and alone: what it answers now it must answer after a wake. Warms it up as well.

        Asked twice, as an answer that changes by itself proves nothing.
        """
        tasks = probe.learned.supported_tasks
        if probe.canary is not None or not tasks:
            return
        engine = probe.engine
        try:
            first = await self.client.canary(engine.address, engine.model, tasks, timeout_s=CANARY_WITHIN_S)
            again = await self.client.canary(engine.address, engine.model, tasks, timeout_s=CANARY_WITHIN_S)
            probe.canary = first if first is not None and again is not None and agree(first, again) else None
        except (EngineRefused, EngineUnanswered) as error:
            self.events.record("NoCanary", f"Its wakes cannot be checked: {error}", model=engine.model)

    async def _hear_canary(self, probe: Probe, action: Wake) -> None:
        """After every wake from level 2, and an engine's first from level 1."""
        probe.wakes += 1
        if probe.canary is None or (probe.wakes > 1 and action.level is SleepLevel.WEIGHTS_OFFLOADED):
            return
        engine, tasks = probe.engine, probe.learned.supported_tasks
        heard = await self.client.canary(engine.address, engine.model, tasks, timeout_s=CANARY_WITHIN_S)
        if heard is None or not agree(probe.canary, heard):
            said = f"and answers otherwise than before it slept at level {action.level}"
            raise Untrue("POST /wake_up", 200, said)

    def _used(self, action: Sleep) -> tuple[int | None, ...]:
        devices = (self.observer.device(*key) for key in action.keys)
        return tuple(None if device is None else device.used_bytes for device in devices)

    def _probe(self, engine_id: str) -> Probe:
        probe = self.observer.probes.get(engine_id)
        if probe is None:
            raise RuntimeFailed("the engine is gone")
        return probe


def _left(held: int, before: tuple[int | None, ...], now: tuple[int | None, ...]) -> int | None:
    """The most that is left of `held` on any device, by what became free; None: a device does not tell."""
    left = 0
    for then, at_last in zip(before, now, strict=True):
        if then is None or at_last is None:
            return None
        left = max(left, held - (then - at_last))
    return left
