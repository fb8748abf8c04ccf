"""What can be asked of an engine core besides requests: pause, sleep, wake up, reload weights, and their answers."""

import asyncio
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from vllama.simulator.changes import Collided
from vllama.simulator.devices import OutOfMemory
from vllama.simulator.log import GIB, gib, log
from vllama.simulator.memory import DeviceMemory
from vllama.simulator.scheduler import Pause, Scheduler
from vllama.simulator.settings import Settings
from vllama.simulator.state import SleepState, fall_asleep, reload_weights, tags_to_wake, wake

_say = partial(log, "EngineCore")


class CoreDied(Exception):
    """The core cannot go on after this."""


class Methods:
    def __init__(self, *, scheduler: Scheduler, memory: DeviceMemory, settings: Settings, sleep_mode: bool) -> None:
        self._scheduler = scheduler
        self._memory = memory
        self._settings = settings
        self._sleep_mode = sleep_mode  # without the flag nothing was allocated where sleep could free it
        self._state = SleepState()
        self._one_at_a_time = asyncio.Lock()
        self._sleeps = 0
        self._spoilt = False

    async def call(self, method: str, arguments: dict[str, Any]) -> Any:
        """Raises what the caller shall be told, or CoreDied."""
        match method:
            case "sleep":
                return await self._sleep(**arguments)
            case "wake_up":
                async with self._one_at_a_time:
                    with self._alone("wake"):
                        return await self._wake_up(**arguments)
            case "is_sleeping":
                async with self._one_at_a_time:
                    return self._says_it_sleeps()
            case "pause_scheduler":
                return await self._pause(**arguments)
            case "resume_scheduler":
                self._become(replace(self._state, paused=False))
            case "is_scheduler_paused":
                return self._scheduler.pause is not Pause.UNPAUSED
            case "collective_rpc":
                return self._collective_rpc(**arguments)
            case "reset_prefix_cache":
                return True
            case "abort_all":
                return self._scheduler.abort_all()
            case _:
                raise NotImplementedError(method)
        return None

    async def _pause(self, mode: str) -> None:
        if mode == "abort":
            self._scheduler.abort_all()
        self._scheduler.set_pause(Pause.PAUSED_ALL if mode == "keep" else Pause.PAUSED_NEW)
        _say("scheduler.py:2756", f"setting pause state to {self._scheduler.pause.name}")
        self._state = fall_asleep(self._state, 0)
        if mode == "wait":
            await self._scheduler.drained()

    async def _sleep(self, level: int, mode: str) -> None:
        await self._pause(mode)
        if level == 0:
            return
        async with self._one_at_a_time:
            if "weights" in self._state.sleeping_tags:
                _say("abstract.py:384", "Executor is already sleeping.", level="WARNING")
                return
            started = time.monotonic()
            with self._alone("sleep"):
                if self._settings.faults.sleep_exits:
                    os._exit(1)
                if self._settings.faults.sleep_hangs:
                    _stand_still()
                await asyncio.sleep(self._settings.sleep_s)
                self._sleeps += 1
                held_bytes = self._memory.held_bytes
                self._become(fall_asleep(self._state, level))
                self._memory.hold(self._resident_bytes())
            self._say_slept(held_bytes - self._memory.held_bytes, level)
            _say("abstract.py:390", f"It took {time.monotonic() - started:.6f} seconds to fall asleep.")

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """CoreDied if a neighbour's memory changed at the same time."""
        try:
            with self._memory.changing(what):
                yield
        except Collided as collision:
            error = f"CUDA error: an illegal memory access was encountered ({collision})"
            _say("core.py:1750", f"Invocation of {what} method failed\nRuntimeError: {error}", level="ERROR")
            raise CoreDied(error) from None

    def _says_it_sleeps(self) -> bool:
        faults = self._settings.faults
        if faults.denies_sleep:
            return False
        return self._state.is_sleeping or (faults.denies_wake and self._sleeps > 0)

    async def _wake_up(self, tags: list[str] | None) -> bool:
        sleeping = self._state.sleeping_tags
        if not sleeping:
            _say("abstract.py:396", "Executor is not sleeping.", level="WARNING")
        elif restored := tags_to_wake(self._state, tags):
            started = time.monotonic()
            await asyncio.sleep(self._settings.wake_s)
            self._restore(wake(self._state, tags))
            took_s = time.monotonic() - started
            _say("abstract.py:409", f"It took {took_s:.6f} seconds to wake up tags {sorted(restored, reverse=True)}.")
        elif unknown := sorted(set(tags or ()) - sleeping - {"scheduling"}):
            _say("abstract.py:401", f"Tag {unknown[0]} is not in sleeping tags {set(sleeping)}", level="WARNING")
        self._become(wake(self._state, tags))
        return not self._state.sleeping_tags

    def _restore(self, awake: SleepState) -> None:
        """Take the memory back. CoreDied if it is no longer free: vLLM does not survive that."""
        if self._settings.faults.wake_hangs:
            _stand_still()
        if self._settings.faults.wake_500 or not self._hold(self._resident_bytes(awake)):
            error = "CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:139"
            _say("core.py:1750", f"Invocation of wake_up method failed\nRuntimeError: {error}", level="ERROR")
            raise CoreDied(error)
        self._spoilt = self._settings.faults.wake_garbage

    def _hold(self, memory_bytes: int) -> bool:
        try:
            self._memory.hold(memory_bytes)
        except OutOfMemory:
            return False
        return True

    def _become(self, state: SleepState) -> None:
        """Resuming the scheduler is all that a change of the state does to it; only `_pause` pauses."""
        self._state = state
        self._scheduler.garbage = state.answers_garbage or self._spoilt
        if not state.paused and self._scheduler.pause is not Pause.UNPAUSED:
            self._scheduler.set_pause(Pause.UNPAUSED)
            _say("scheduler.py:2756", "setting pause state to UNPAUSED")

    def _resident_bytes(self, state: SleepState | None = None) -> int:
        """What this engine holds per device in a state."""
        settings = self._settings
        if not self._sleep_mode or settings.faults.sleep_frees_nothing:
            return settings.memory_bytes
        grown_bytes = max(self._sleeps - 1, 0) * settings.faults.residue_grows
        residue = min(settings.residue_bytes + grown_bytes, settings.memory_bytes)
        return residue + math.ceil((settings.memory_bytes - residue) * (state or self._state).awake_share)

    def _collective_rpc(self, method: str) -> list[None]:
        if method != "reload_weights":
            # What an engine with one worker says; several workers say `Worker failed with error '...'`.
            raise RuntimeError(f"Method '{method}' is not implemented.")
        if "weights" in self._state.sleeping_tags:
            raise RuntimeError("Worker failed with error 'CUDA error: an illegal memory access was encountered'")
        self._become(reload_weights(self._state))
        return [None]

    def _say_slept(self, freed_bytes: int, level: int) -> None:
        backed_up = freed_bytes * 2 // 3 if level == 1 else 0
        used_bytes = sum(reading.total_bytes - reading.free_bytes for reading in self._memory.readings())
        _say(
            "cumem.py:283",
            f"CuMemAllocator: sleep freed {freed_bytes / GIB:.2f} GiB memory in total, of which "
            f"{backed_up / GIB:.2f} GiB is backed up in CPU and the rest {(freed_bytes - backed_up) / GIB:.2f} GiB "
            "is discarded directly.",
        )
        _say(
            "gpu_worker.py:326",
            f"Sleep mode freed {gib(freed_bytes)} GiB memory, {gib(used_bytes)} GiB memory is still in use.",
        )


def _stand_still() -> None:
    """For ever: the whole core, signals included, until it is killed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
