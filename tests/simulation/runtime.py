"""How a manager gets at the machine: the Runtime, and what an EngineClient asks over HTTP. One of each per manager."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial

from tests.simulation import checks
from tests.simulation.engines import Engine, Stage
from tests.simulation.machine import Machine, Refusal
from vllama.domain.action import Start
from vllama.domain.observed import Footprint, Node
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import GIB
from vllama.engine.address import Address
from vllama.engine.canary import Answer
from vllama.engine.client import (
    EngineRefused,
    EngineUnanswered,
    Health,
    Healthy,
    Refused,
    SleepMode,
    Unanswered,
    Unhealthy,
)
from vllama.engine.command import EngineCommand
from vllama.engine.logs import LogMark, LogPart, read_part, read_tail
from vllama.engine.metrics import NoLevel
from vllama.engine.progress import Progress
from vllama.runtime.base import LOCAL, EngineProcess, LogFile, NoProcess, Reading, RuntimeFailed
from vllama.runtime.local.settling import memory_settles

NODE = "here"
SIGTERM_LOST = 0.3  # while loading
KILLED_WITHIN_S = 10.0


class VirtualRuntime:
    """`footprints` is what is known of models before they ever ran. `visible`: memory is told per process, too."""

    def __init__(
        self, machine: Machine, *, manager: str, footprints: Mapping[str, Footprint], visible: bool, host_budget: int
    ) -> None:  # fmt: skip
        self._machine, self._manager, self._footprints = machine, manager, footprints
        self._visible, self._host_budget = visible, host_budget
        self._newest = 0.0
        self.reads_fail = False
        self.reads_are_slow = False
        self.forks_fail = False

    async def engines(self) -> tuple[EngineProcess, ...]:
        return tuple(engine.as_process(self._manager) for engine in self._machine.engines.values())

    async def read(self) -> Reading:
        machine, began = self._machine, self._machine.loop.now
        if self.reads_fail:
            raise RuntimeFailed("NVML: Unknown Error")
        devices = tuple(gpu.as_device(machine.used(gpu.index)) for gpu in machine.gpus)
        measured = {engine.engine_id: engine.held for engine in machine.engines.values()} if self._visible else {}
        foreign = {gpu.index: gpu.foreign if gpu.readable else None for gpu in machine.gpus}
        slow = self.reads_are_slow and machine.fate.strikes(0.5)
        await asyncio.sleep(machine.fate.between(0.5, 3.0) if slow else 0.002)
        if began >= self._newest and self._manager == machine.now_managed_by:
            self._newest = began
            machine.readings = [*machine.readings[-4:], (machine.loop.now, foreign)]
        node = Node(
            name=NODE, devices=devices, host_budget_bytes=self._host_budget, sleep_frees_memory=machine.sleep_frees
        )
        resident = {engine.engine_id: engine.pinned_host + GIB for engine in machine.engines.values()}
        return Reading(nodes=(node,), measured_bytes=measured, host_bytes=resident)

    async def settled(self, node: str, devices: Collection[int]) -> bool:
        return await memory_settles(self._used, devices, clock=lambda: self._machine.loop.now)

    async def _used(self) -> dict[int, int | None]:
        await asyncio.sleep(0.001)
        return {gpu.index: self._machine.used(gpu.index) if gpu.readable else None for gpu in self._machine.gpus}

    async def start(self, engine_id: str, spec: ModelSpec, action: Start) -> EngineProcess:
        machine, known, expected = self._machine, self._machine.known_foreign(), self._footprints.get(spec.served_name)
        await asyncio.sleep(0.005)
        if self.forks_fail or machine.fate.strikes(machine.fate.rates.spawn):
            machine.story.tell("fault", f"spawn of {spec.model} fails")
            raise NoProcess("fork: Resource temporarily unavailable")
        if engine_id not in machine.engines:
            asleep = expected.asleep_bytes if expected else action.memory_bytes // 10
            machine.spawn(
                engine_id, model=spec.served_name, replica=spec.replica, spec_hash=action.spec_hash, node=action.node,
                devices=action.devices,
                planned=action.memory_bytes, share=action.gpu_memory_utilization,
                told_residue=asleep, weights=expected.weights_bytes if expected else 0, known=known,
            )  # fmt: skip
        return machine.engines[engine_id].as_process(self._manager)

    async def stop(self, engine_id: str, *, deadline_s: float) -> None:
        machine = self._machine
        engine = machine.engines.get(engine_id)
        if engine is None:
            return
        if not engine.stopping:
            checks.before_stop(machine, engine)
            if engine.operation is None:
                machine.begin(engine, "stop")
            else:  # its own start, sleep or wake ends with it
                machine.story.tell("action", f"stop {engine} amid its {engine.operation}")
            engine.stopping, engine.operation, engine.operated_by = True, "stop", self._manager
        await self._ask_to_end(engine, deadline_s)
        await self._kill(engine)
        while engine.held:  # noqa: ASYNC110  # as the real one looks until the driver gave it back
            await asyncio.sleep(0.05)
        machine.engines.pop(engine_id, None)

    async def _ask_to_end(self, engine: Engine, deadline_s: float) -> None:
        machine, told = self._machine, False
        end = machine.loop.now + deadline_s
        while not engine.leader_gone and machine.loop.now < end:
            lost = engine.stage is Stage.LOADING and machine.fate.between(0, 1) < SIGTERM_LOST
            deaf = engine.hung or engine.stops_slowly_s is not None
            if not (lost or deaf or told):
                told = True
                machine.loop.call_later(machine.fate.between(0.3, 2.5), machine.end, engine, 0)
            for _ in range(10):
                if not engine.leader_gone:
                    await asyncio.sleep(min(0.1, max(0.0, end - machine.loop.now)))

    async def _kill(self, engine: Engine) -> None:
        machine = self._machine
        if engine.stage is Stage.GONE:
            return
        if engine.stops_slowly_s is not None and machine.fate.strikes(0.3) and not engine.immortal_until:
            engine.immortal_until = machine.loop.now + engine.stops_slowly_s
        end = machine.loop.now + KILLED_WITHIN_S
        while machine.loop.now < engine.immortal_until:
            await asyncio.sleep(0.5)
            if machine.loop.now >= end:
                engine.stopping, engine.operation, engine.excuse = False, None, "survives SIGKILL"
                raise RuntimeFailed(f"Process {engine.pid} survives SIGKILL; the kernel holds it.")
        machine.end(engine, -9)

    async def listening(self, engine_id: str) -> bool:
        engine = self._machine.engines.get(engine_id)
        return engine is not None and engine.listens

    async def moved_bytes(self, engine_id: str) -> int:
        return 0  # its log says all

    async def footprint(self, spec: ModelSpec) -> Footprint | None:
        return self._footprints.get(spec.model)

    def log_of(self, model: str) -> LogFile:
        return LogFile(node=LOCAL, path=self._machine.logs / f"{model.replace('/', '_')}.log")

    async def read_log(self, log: LogFile, after: LogMark) -> LogPart:
        return read_part(log.path, after)

    async def log_tail(self, log: LogFile, *, limit_bytes: int) -> tuple[str, ...]:
        return read_tail(log.path, limit_bytes=limit_bytes)

    async def preview(self, spec: ModelSpec, action: Start, *, port: int | None) -> EngineCommand:
        if self.reads_fail:
            raise RuntimeFailed("NVML: Unknown Error")
        return EngineCommand(argv=("vllm", "serve", spec.model, "--port", str(port or "PORT")), env=())

    async def cached_models(self) -> tuple[str, ...]:
        return ()

    def watch(self, bell: Callable[[], None]) -> None:
        self._machine.rings = [bell]  # a dead manager's ears hear nothing

    async def close(self) -> None:
        return


class VirtualClient:
    """Answers as EngineClient's: what it raises and returns is documented there."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def _engine(self, at: Address) -> Engine | None:
        port = int(at.base_url.rpartition(":")[2])
        return next((each for each in self._machine.engines.values() if each.port == port and each.listens), None)

    async def health(self, at: Address, *, timeout_s: float) -> Health:
        engine, fate = self._engine(at), self._machine.fate
        if engine is None:
            return Refused()
        if not engine.answers or fate.strikes(fate.rates.probe):
            await asyncio.sleep(timeout_s)
            return Unanswered(error="no answer in time")
        await asyncio.sleep(fate.between(0.001, 0.01))
        if not engine.listens:
            return Unanswered(error="connection reset by peer")
        if engine.core_dead or fate.strikes(fate.rates.probe):
            return Unhealthy(status=503)
        return Healthy()

    async def _reach(self, step: str, at: Address, timeout_s: float, *, of_core: bool = False) -> Engine:
        engine, fate = self._engine(at), self._machine.fate
        if engine is None:
            raise EngineUnanswered(step, "connection refused")
        if not engine.answers or fate.strikes(fate.rates.probe):
            await asyncio.sleep(timeout_s)
            raise EngineUnanswered(step, "no answer in time")
        await asyncio.sleep(fate.between(0.001, 0.01))
        if not engine.listens:
            raise EngineUnanswered(step, "connection reset by peer")
        if engine.core_dead:
            raise EngineRefused(step, 500, "EngineDeadError")
        if of_core and engine.still:
            await asyncio.sleep(timeout_s)
            raise EngineUnanswered(step, "no answer in time")
        return engine

    async def served_models(self, at: Address, *, timeout_s: float) -> tuple[str, ...]:
        return ((await self._reach("GET /v1/models", at, timeout_s)).model,)

    async def is_sleeping(self, at: Address, *, timeout_s: float) -> bool:
        engine = await self._reach("GET /is_sleeping", at, timeout_s, of_core=True)
        end = self._machine.loop.now + timeout_s
        while engine.operation in {"sleep", "wake"} and engine.listens:  # its core is at it, and answers nobody else
            if self._machine.loop.now >= end:
                raise EngineUnanswered("GET /is_sleeping", "no answer in time")
            await asyncio.sleep(0.05)
        sleeps = engine.stage in {Stage.ASLEEP, Stage.WAKING, Stage.FALLING_ASLEEP}
        return sleeps is not engine.lies

    async def sleep_level(self, at: Address, *, timeout_s: float) -> SleepLevel | NoLevel | None:
        engine = await self._reach("GET /metrics", at, timeout_s)
        return engine.level if engine.tells_level else NoLevel.UNTOLD

    async def canary(
        self, at: Address, model: str, tasks: Collection[str], *, timeout_s: float
    ) -> Answer | None:  # fmt: skip
        engine = await self._reach("POST /v1/completions", at, timeout_s, of_core=True)
        checks.before_canary(self._machine, engine)
        return Answer(text="!!!!!!!!" if engine.discarded else f"9 10 11 {model}") if "generate" in tasks else None

    async def progress(self, at: Address, *, timeout_s: float) -> Progress | None:
        engine = await self._reach("GET /metrics", at, timeout_s)
        return self._machine.progress_of(engine) if engine.tells_level else None

    async def one_token(self, at: Address, model: str, tasks: Collection[str], *, timeout_s: float) -> Answer | None:
        if "generate" not in tasks:
            return None
        engine = await self._reach("POST /v1/completions", at, timeout_s, of_core=True)
        self._machine.story.tell("question", f"{engine} answers")
        return Answer(text="9")

    async def sleep(self, at: Address, level: SleepLevel, mode: SleepMode, *, timeout_s: float) -> None:
        step = f"POST /sleep?level={int(level)}&mode={mode}"
        engine = await self._reach(step, at, timeout_s)
        await self._answered(engine, step, partial(self._machine.fall_asleep, level=level), timeout_s)

    async def wake(self, at: Address, level: SleepLevel, *, timeout_s: float) -> None:
        known = self._machine.known_foreign()
        engine = await self._reach("POST /wake_up", at, timeout_s)
        reload = level is SleepLevel.DISCARDED
        await self._answered(
            engine, "POST /wake_up", partial(self._machine.wake_up, reload=reload, known=known), timeout_s
        )

    async def _answered(self, engine: Engine, step: str, work: Callable, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._machine.ask(engine, work)
        except TimeoutError:
            raise EngineUnanswered(step, "no answer in time") from None
        except ConnectionResetError as error:
            raise EngineUnanswered(step, str(error)) from None
        except Refusal as refusal:
            raise EngineRefused(step, 500, str(refusal)) from None
