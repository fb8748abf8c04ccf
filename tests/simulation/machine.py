"""A machine with devices and engines on them, in virtual time. It shares no code with those who plan for it.

Memory is in bytes per device. Engines load, sleep, wake and end by themselves once told to; whoever told them may
be gone by then. What must not happen is found in checks.py, at the moment at which it happens.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from tests.simulation import checks
from tests.simulation.engines import Engine, Gpu, Running, Stage
from tests.simulation.fate import Fate
from tests.simulation.hosts import Hosts
from tests.simulation.story import Story
from tests.simulation.virtual import VirtualLoop
from vllama.domain.spec import SleepLevel
from vllama.domain.units import MIB
from vllama.engine.progress import Progress

LAST_LOOK_S = 0.02
NOTICED_BYTES = 64 * MIB  # a change of a neighbour's memory that ruins a profile run
CONTEXT_BYTES = 400 * MIB


class Machine:
    """`now_managed_by` names the manager that lives; `ending`: it shuts down.

    `may_cut(engine)`: whether its requests may be cut now. `visible`: the driver tells memory per process.
    """

    def __init__(
        self, *, loop: VirtualLoop, fate: Fate, story: Story, gpus: tuple[Gpu, ...], reserve: int, host_budget: int,
        visible: bool, sleep_frees: bool, load_s: tuple[float, float], copy_bytes_per_s: int, logs: Path,
        hosts: int = 1,
    ) -> None:  # fmt: skip
        self.loop, self.fate, self.story, self.gpus, self.reserve = loop, fate, story, gpus, reserve
        self.visible = visible
        self.host_budget, self.sleep_frees, self.load_s, self.logs = host_budget, sleep_frees, load_s, logs
        self.copy_bytes_per_s = copy_bytes_per_s
        self.engines: dict[str, Engine] = {}
        self.hosts = Hosts(self, hosts)
        self.now_managed_by = ""
        self.ending = False
        self.rings: list[Callable[[], None]] = []
        self.may_cut: Callable[[Engine], bool] = lambda _: False
        self.readings: list[tuple[float, dict[int, int | None]]] = []  # what others held, as it reached the manager
        self._context = contextvars.copy_context()
        self._next_pid, self._next_port, self._next_request = 4000, 33000, 0
        self._tasks: set[asyncio.Task[None]] = set()

    # memory

    def on_device(self, index: int) -> list[Engine]:
        return [engine for engine in self.engines.values() if index in engine.devices]

    def used(self, index: int) -> int:
        return self.gpus[index].foreign + sum(engine.held for engine in self.on_device(index))

    def free(self, index: int) -> int:
        return self.gpus[index].total - self.used(index)

    def known_foreign(self) -> dict[int, int | None]:
        """What was planned with now, or less: the last look, at the moment of the deed, may have told of more."""
        old = [known for at, known in self.readings if at < self.loop.now - LAST_LOOK_S][-1:]
        seen = [*old, *(known for at, known in self.readings if at >= self.loop.now - LAST_LOOK_S)]
        told = {
            index: [known[index] for known in seen if known.get(index) is not None] for index in range(len(self.gpus))
        }
        return {index: min(sizes) if sizes else None for index, sizes in told.items()}

    def hold(self, engine: Engine, held: int) -> None:
        change, engine.held = abs(held - engine.held), held
        self._changed(engine.devices, change, besides=engine)

    def set_foreign(self, index: int, foreign: int) -> None:
        """At most what is free: other programs run out of memory, too."""
        gpu = self.gpus[index]
        foreign = max(0, min(foreign, gpu.foreign + self.free(index)))
        change, gpu.foreign = abs(foreign - gpu.foreign), foreign
        self._changed((index,), change)

    def _changed(self, devices: Iterable[int], change: int, besides: Engine | None = None) -> None:
        if change <= NOTICED_BYTES:
            return
        for engine in self.engines.values():
            if engine is not besides and engine.profiling_since is not None and set(engine.devices) & set(devices):
                engine.profiling_since = -1.0  # ruined

    # engines come and go

    def launch(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """What goes on whoever asked for it: no manager's end ends it."""
        task = self.loop.create_task(coroutine, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def spawn(self, engine_id: str, *, model: str, spec_hash: str, devices: tuple[int, ...], planned: int,
              share: float, told_residue: int, weights: int, known: dict[int, int | None],
              replica: int = 1) -> Engine:  # fmt: skip
        self._next_pid += 1
        self._next_port += 1
        log = self.logs / f"{model.replace('/', '_')}.log"
        with log.open("a") as file:
            file.write(f"--- engine {engine_id}\n")
            offset = file.tell()
        full = int(planned * self.fate.between(0.95, 1.0))
        residue = int(told_residue * self.fate.between(0.7, 1.2))
        engine = Engine(
            engine_id=engine_id, model=model, spec_hash=spec_hash, devices=devices, planned=planned,
            share=share, full=full, residue=min(residue, full), told_residue=told_residue, weights=weights,
            pid=self._next_pid, port=self._next_port, started_at=self.loop.now, log=log, log_offset=offset,
            manager=self.now_managed_by, replica=replica,
        )  # fmt: skip
        checks.before_start(self, engine, known)
        self.engines[engine_id] = engine
        self.begin(engine, "start")
        engine.tells_level = not self.fate.strikes(0.02)
        if self.fate.strikes(self.fate.rates.stop):
            engine.stops_slowly_s = self.fate.between(20.0, 90.0)
        fault = self._load_fault()
        if fault is not None:
            self.story.tell("fault", f"load of {engine}: {fault}")
        self.launch(self._load(engine, fault, known))
        self.ring()
        return engine

    def _load_fault(self) -> str | None:
        if not self.fate.strikes(self.fate.rates.load):
            return None
        return self.fate.one_of("exit early", "exit late", "hang early", "hang late", "out of memory", "mute")

    def begin(self, engine: Engine, operation: str) -> None:
        checks.before_operation(self, engine, operation)
        engine.operation, engine.operated_by = operation, self.now_managed_by
        self.story.tell("action", f"{operation} {engine} on {engine.devices}")

    async def _load(self, engine: Engine, fault: str | None, known: dict[int, int | None]) -> None:  # noqa: C901  a straight line of what may go wrong
        whole_s = self.fate.between(*self.load_s)
        await asyncio.sleep(self.fate.between(1.0, 3.0))
        if not engine.alive or fault == "hang early":
            return
        if fault == "exit early":
            self.end(engine, 1, "ModuleNotFoundError: No module named 'flash_attn'")
            return
        if any(self.free(index) < engine.share * self.gpus[index].total - MIB for index in engine.devices):
            checks.out_of_memory(self, engine, known, "start")
            self.end(engine, 1, "ValueError: Free memory on device is less than desired GPU memory utilization")
            return
        self.hold(engine, min(CONTEXT_BYTES, engine.full))
        await self._progress(engine, whole_s * 0.2)
        if not engine.alive or fault == "hang late":
            return
        self.hold(engine, max(engine.held, engine.full // 2))
        engine.profiling_since = self.loop.now
        await self._progress(engine, whole_s * 0.5)
        ruined, engine.profiling_since = engine.profiling_since == -1.0, None
        if not engine.alive:
            return
        if fault == "exit late" or ruined:
            self.end(engine, 1, "AssertionError: Error in memory profiling. Initial free memory changed")
            return
        short = any(self.free(index) < engine.full - engine.held for index in engine.devices)
        if short or fault == "out of memory":
            if fault is None:
                checks.out_of_memory(self, engine, known, "load")
            self.end(engine, 1, "torch.OutOfMemoryError: CUDA out of memory.")
            return
        self.hold(engine, engine.full)
        if not self.fate.strikes(0.1):  # else nobody can ask whether it came back right
            engine.say("INFO 11-21 12:00:00 [api_server.py:1] Supported tasks: ['generate']")
        await self._progress(engine, whole_s * 0.3)
        if engine.alive:
            engine.stage, engine.operation, engine.mute = Stage.AWAKE, None, fault == "mute"
            if engine.mute:
                engine.excuse = "never answered"

    async def _progress(self, engine: Engine, seconds: float) -> None:
        engine.say(f"INFO 11-21 12:00:00 [core.py:1] at {self.loop.now:.0f}")
        await asyncio.sleep(seconds)

    def end(self, engine: Engine, code: int, cause: str | None = None, *, orphans: bool = False) -> None:
        """The leader is gone; with `orphans` the rest of it stays, and keeps its memory."""
        if engine.stage is Stage.GONE:
            return
        first = not engine.leader_gone
        if cause is not None:
            engine.say(f"ERROR 11-21 12:00:00 [core.py:1] {cause}")
        engine.leader_gone, engine.profiling_since = True, None
        if not engine.stopping:
            engine.operation, engine.excuse = None, engine.excuse or "ended by itself"
        if first:
            engine.exit_code = code
            self.story.tell("exit", f"{engine} {code} {cause or ''}{' with orphans' if orphans else ''}")
        for request in list(engine.running.values()):
            self.finish(engine, request, "broken")
        for caller in engine.hanging:
            if not caller.done():
                caller.set_exception(ConnectionResetError("connection reset by peer"))
        engine.hanging.clear()
        if not orphans:
            engine.stage = Stage.GONE
            self.loop.call_later(self.fate.between(0.02, 0.3), self.hold, engine, 0)
        self.ring()

    def ring(self) -> None:
        """Now and then nobody hears it."""
        if not self.fate.strikes(0.05):
            for ring in self.rings:
                self.loop.call_soon(ring)

    # requests

    def begin_request(self, port: int, duration_s: float) -> tuple[Engine, Running] | None:
        """None: nobody listens there, or nobody gets there."""
        engine = next((each for each in self.engines.values() if each.port == port and each.listens), None)
        if engine is None or not self.hosts.reached(engine):
            return None
        self._next_request += 1
        request = Running(
            number=self._next_request, began=self.loop.now, duration_s=duration_s, ended=self.loop.create_future()
        )  # fmt: skip
        engine.running[request.number] = request
        checks.before_request(self, engine)
        if engine.core_dead:
            self.finish(engine, request, "broken")
        elif engine.stage is Stage.AWAKE and not engine.hung:
            request.timer = self.loop.call_later(duration_s, self.finish, engine, request, "finished")
        return engine, request

    def progress_of(self, engine: Engine) -> Progress:
        """A token for every second of a request, as long as it moves."""
        now = engine.still_since if engine.still else self.loop.now
        begun = sum(max(0, int(now - request.began)) for request in engine.running.values())
        return Progress(generation_tokens=begun, finished=engine.finished)

    def stand_still(self, engine: Engine) -> None:
        engine.still, engine.still_since = True, self.loop.now

    def finish(self, engine: Engine, request: Running, how: str) -> None:
        if how == "finished" and (engine.hung or engine.still):
            return  # its answer never comes
        engine.finished += how == "finished"
        engine.running.pop(request.number, None)
        if request.timer is not None:
            request.timer.cancel()
        if not request.ended.done():
            request.ended.set_result(how)

    # sleep and wake: the answer comes to whoever waits for it

    def ask(self, engine: Engine, work: Callable[[Engine, asyncio.Future[None]], Coroutine[Any, Any, None]],
            ) -> asyncio.Future[None]:  # fmt: skip
        answer: asyncio.Future[None] = self.loop.create_future()
        engine.hanging.append(answer)
        self.launch(work(engine, answer))
        return answer

    async def fall_asleep(self, engine: Engine, answer: asyncio.Future[None], *, level: SleepLevel) -> None:
        checks.before_sleep(self, engine)
        self.begin(engine, "sleep")
        fault = self.fate.one_of("frees nothing", "hangs", "fails", "exits", "lies")
        if not self.fate.strikes(self.fate.rates.sleep):
            fault = ""
        while engine.running and engine.alive:  # noqa: ASYNC110  # as its scheduler does, step by step
            await asyncio.sleep(0.1)
        engine.stage = Stage.FALLING_ASLEEP if engine.alive else engine.stage
        await asyncio.sleep(0.2 + engine.planned / self.copy_bytes_per_s)
        if not engine.alive or engine.hung or engine.still:
            return
        if fault:
            engine.excuse = f"its sleep {fault}"
            self.story.tell("fault", f"sleep of {engine} {fault}")
        if fault == "exits":
            self.end(engine, 0, "RuntimeError: CUDA error: an illegal memory access was encountered")
            return
        if fault == "hangs":
            engine.hung = True
            return
        if fault == "fails":
            engine.stage, engine.operation = Stage.AWAKE, None
            _refuse(answer, "500 sleep failed")
            return
        engine.stage, engine.level, engine.lies = Stage.ASLEEP, level, fault == "lies"
        engine.discarded = level is SleepLevel.DISCARDED
        if level is SleepLevel.WEIGHTS_OFFLOADED:
            engine.pinned_host, engine.pinned_by = engine.weights + engine.weights // 2, engine.operated_by
            checks.host_memory(self)
        engine.residue = min(engine.full, engine.residue + int(self.fate.between(0, 24)) * MIB)
        if fault != "frees nothing" and self.sleep_frees:
            self.hold(engine, engine.residue)
        engine.operation = None
        _accept(answer)

    def _may_leak(self, engine: Engine) -> None:
        if self.fate.strikes(self.fate.rates.leak):
            engine.residue = min(engine.full, 2 * engine.residue + 256 * MIB)
            self.story.tell("fault", f"wake of {engine} leaks")

    async def wake_up(
        self, engine: Engine, answer: asyncio.Future[None], *, reload: bool, known: dict[int, int | None]
    ) -> None:  # fmt: skip
        checks.before_wake(self, engine, known)
        self.begin(engine, "wake")
        fault = self.fate.one_of("fails", "hangs", "exits")
        if not self.fate.strikes(self.fate.rates.wake):
            fault = ""
        if fault:
            engine.excuse = f"its wake {fault}"
            self.story.tell("fault", f"wake of {engine} {fault}")
        await asyncio.sleep(0.01)
        if not engine.alive or engine.hung or engine.still:
            return
        short = any(self.free(index) < engine.full - engine.held for index in engine.devices)
        if short or fault == "fails":
            if not fault:
                checks.out_of_memory(self, engine, known, "wake")
            engine.operation, engine.excuse = None, "its wake failed"
            _refuse(answer, "CUDA Error: out of memory at cumem_allocator.cpp:62")
            return
        engine.stage = Stage.WAKING
        self.hold(engine, engine.full)
        await asyncio.sleep(0.1 + engine.planned / self.copy_bytes_per_s * (8 if engine.discarded else 1))
        if not engine.alive or engine.hung or engine.still:
            return
        if fault == "exits":
            self.end(engine, 0, "RuntimeError: CUDA error: an illegal memory access was encountered")
        elif fault == "hangs":
            engine.hung = True
        else:
            engine.stage, engine.level, engine.operation = Stage.AWAKE, None, None
            garbled = engine.discarded and self.fate.strikes(self.fate.rates.wake)
            engine.discarded, engine.lies = engine.discarded and not (reload and not garbled), False
            self._may_leak(engine)
            for request in engine.running.values():  # who came while it slept is answered now
                request.timer = self.loop.call_later(request.duration_s, self.finish, engine, request, "finished")
            _accept(answer)


class Refusal(Exception):
    """The engine answered 500."""


def _accept(answer: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_result(None)


def _refuse(answer: asyncio.Future[None], text: str) -> None:
    if not answer.done():
        answer.set_exception(Refusal(text))
