"""How a manager gets at the machine: the Runtime, and what an EngineClient asks over HTTP. One of each per manager."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

from tests.simulation import checks
from tests.simulation.engines import Engine, Stage
from tests.simulation.hosts import SILENT_S, Host, names
from tests.simulation.machine import Machine, Refusal
from vllama.domain.action import Start
from vllama.domain.observed import Footprint, Node, NodeState
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
from vllama.runtime.base import LOCAL, EngineProcess, LogFile, NoProcess, ProcessExit, Reading, RuntimeFailed
from vllama.runtime.local.settling import memory_settles

ASKED_FOR_S = 1.0  # until an agent that says nothing counts as failed
LAST_WORD_S = 1.5  # a plan that is made is carried out
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
        self._known: dict[str, EngineProcess] = {}
        self._nodes: dict[str, Node] = {}
        self._measured: dict[str, int] = {}
        self._foreign: dict[int, int | None] = {}
        self.lost_since: dict[str, float] = {}  # as the manager has been told
        self.reads_fail = False
        self.reads_are_slow = False
        self.forks_fail = False

    async def engines(self) -> tuple[EngineProcess, ...]:
        """Of hosts that do not answer what was seen last."""
        hosts, known = self._machine.hosts, dict(self._known)
        for engine in self._machine.engines.values():
            before, away = known.pop(engine.engine_id, None), hosts.away(engine)
            if not away:
                self._known[engine.engine_id] = self._process(engine)
            elif before is None:
                continue  # nobody has told this manager of it
        for engine_id, process in known.items():
            left = [place for place in process.places if not hosts.named(place.node).answers]
            if left:
                first, *further = left
                gone = process.exit or ProcessExit(code=None)  # the rest of it has ended
                self._known[engine_id] = replace(
                    process, node=first.node, devices=first.devices, further=tuple(further),
                    exit=gone if len(left) < len(process.places) else process.exit,
                )  # fmt: skip
            else:
                del self._known[engine_id]
        return tuple(self._known.values())

    def _process(self, engine: Engine) -> EngineProcess:
        hosts = self._machine.hosts
        host = f"10.0.0.{1 + hosts.of(engine)[0].numbers[0]}" if hosts.several else "127.0.0.1"
        return engine.as_process(self._manager, hosts.places(engine), host)

    async def read(self) -> Reading:
        machine, began = self._machine, self._machine.loop.now
        if self.reads_fail:
            raise RuntimeFailed("NVML: Unknown Error")
        nodes = tuple(self._node(host) for host in machine.hosts.all)
        if self._visible:
            there = [engine for engine in machine.engines.values() if machine.hosts.asked(engine)]
            self._measured |= {engine.engine_id: engine.held for engine in there}
        self._foreign |= {
            gpu.index: gpu.foreign if gpu.readable else None
            for host in machine.hosts.all
            if host.answers
            for gpu in (machine.gpus[number] for number in host.numbers)
        }
        lost = {number for host in machine.hosts.all if self._told(host) for number in host.numbers}
        foreign = {number: None if number in lost else size for number, size in self._foreign.items()}
        measured = {id_: held for id_, held in self._measured.items() if id_ in machine.engines or id_ in self._known}
        self._measured = dict(measured)
        resident = {engine.engine_id: engine.pinned_host + GIB for engine in machine.engines.values()}
        slow = self.reads_are_slow and machine.fate.strikes(0.5)
        await asyncio.sleep(machine.fate.between(0.5, 3.0) if slow else 0.002)
        if began >= self._newest and self._manager == machine.now_managed_by:
            self._newest = began
            machine.readings = [*machine.readings[-4:], (machine.loop.now, foreign)]
        for node in nodes:
            if node.state is NodeState.READY:
                self.lost_since.pop(node.name, None)
            else:
                self.lost_since.setdefault(node.name, machine.loop.now)
        return Reading(nodes=nodes, measured_bytes=measured, host_bytes=resident)

    def _told(self, host: Host) -> NodeState | None:
        """As what it is told of where it is not ready."""
        now, since = self._machine.loop.now, host.silent_since
        if since is not None and (now >= since + SILENT_S or host.name not in self._nodes):
            return NodeState.LOST
        return NodeState.FENCED if since is None and host.fenced else None

    def _node(self, host: Host) -> Node:
        """As it is, or as it was when it was heard of last."""
        machine, state = self._machine, self._told(host) or NodeState.READY
        gpus = [machine.gpus[number] for number in host.numbers]
        if host.answers or host.name not in self._nodes:
            devices = tuple(
                gpu.as_device(machine.used(gpu.index), index, readable=host.answers) for index, gpu in enumerate(gpus)
            )
            self._nodes[host.name] = Node(
                name=host.name, devices=devices, host_budget_bytes=self._host_budget,
                sleep_frees_memory=machine.sleep_frees, seen_at=machine.loop.now if machine.hosts.several else None,
            )  # fmt: skip
        return replace(self._nodes[host.name], state=state, said="" if state is NodeState.READY else "no word")

    async def settled(self, node: str, devices: Collection[int]) -> bool:
        numbers = [self._machine.hosts.named(node).numbers[device] for device in devices]
        return await memory_settles(self._used, numbers, clock=lambda: self._machine.loop.now)

    async def _may_ask(self, nodes: Collection[str], what: str) -> None:
        """Raises where one of them does not answer. Whoever was told so before should not have tried."""
        machine, hosts = self._machine, [self._machine.hosts.named(name) for name in nodes]
        told = [h for h in hosts if machine.loop.now > self.lost_since.get(h.name, float("inf")) + LAST_WORD_S]
        if told and not machine.ending and self._manager == machine.now_managed_by:
            machine.story.wrong("asked of a lost node", f"{what} on {names(told)}")
        if any(not host.answers for host in hosts):
            await asyncio.sleep(ASKED_FOR_S)
            raise RuntimeFailed(f"{names(hosts)} does not answer")

    async def _used(self) -> dict[int, int | None]:
        await asyncio.sleep(0.001)
        return {gpu.index: self._machine.used(gpu.index) if gpu.readable else None for gpu in self._machine.gpus}

    async def start(self, engine_id: str, spec: ModelSpec, action: Start) -> EngineProcess:
        machine, known, expected = self._machine, self._machine.known_foreign(), self._footprints.get(spec.served_name)
        await asyncio.sleep(0.005)
        await self._may_ask(action.nodes, f"start of {spec.model}")
        if self.forks_fail or machine.fate.strikes(machine.fate.rates.spawn):
            machine.story.tell("fault", f"spawn of {spec.model} fails")
            raise NoProcess("fork: Resource temporarily unavailable")
        if engine_id not in machine.engines:
            asleep = expected.asleep_bytes if expected else action.memory_bytes // 10
            machine.spawn(
                engine_id, model=spec.served_name, replica=spec.replica, spec_hash=action.spec_hash,
                devices=machine.hosts.numbers(action),
                planned=action.memory_bytes, share=action.gpu_memory_utilization,
                told_residue=asleep, weights=expected.weights_bytes if expected else 0, known=known,
            )  # fmt: skip
        self._known[engine_id] = process = self._process(machine.engines[engine_id])
        return process

    async def stop(self, engine_id: str, *, deadline_s: float) -> None:
        machine = self._machine
        known, engine = self._known.get(engine_id), machine.engines.get(engine_id)
        if engine is None or machine.hosts.away(engine):
            await self._may_ask(known.nodes if known else (), f"stop of {engine_id}")
        if engine is None:
            return
        if not machine.hosts.asked(engine):
            engine.excuse = engine.excuse or "has lost a part"
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
        if not self._machine.hosts.reached(engine) or not engine.answers or fate.strikes(fate.rates.probe):
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
        if not self._machine.hosts.reached(engine) or not engine.answers or fate.strikes(fate.rates.probe):
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
        self._by_agent(engine, step)
        await self._answered(engine, step, partial(self._machine.fall_asleep, level=level), timeout_s)

    async def wake(self, at: Address, level: SleepLevel, *, timeout_s: float) -> None:
        known = self._machine.known_foreign()
        engine = await self._reach("POST /wake_up", at, timeout_s)
        self._by_agent(engine, "POST /wake_up")
        reload = level is SleepLevel.DISCARDED
        await self._answered(
            engine, "POST /wake_up", partial(self._machine.wake_up, reload=reload, known=known), timeout_s
        )

    def _by_agent(self, engine: Engine, step: str) -> None:
        if not self._machine.hosts.asked(engine):
            raise EngineUnanswered(step, "its agent does not answer")

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
