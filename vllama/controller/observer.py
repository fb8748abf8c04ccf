"""What is seen: a probe beside the loop for each engine, memory read in turns, and the snapshot of it all.

Nothing here waits for anything: a pass takes the latest that each source said.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from vllama.controller.bell import Bell
from vllama.controller.events import Events
from vllama.controller.foreign import Foreign
from vllama.controller.probe import FAR_EVERY_S, Probe
from vllama.controller.stall import Work
from vllama.controller.tending import Tending
from vllama.domain.observed import (
    Asleep,
    Awake,
    Crashes,
    Device,
    EngineObservation,
    Footprint,
    Loading,
    Node,
    NodeState,
    Operation,
    Snapshot,
)
from vllama.domain.spec import DEFAULT_RESERVE_BYTES, Policy, SleepLevel
from vllama.engine.canary import Answer
from vllama.engine.client import EngineClient
from vllama.planner.believed import why_away
from vllama.planner.ledger import host_copy_bytes
from vllama.runtime.base import EngineProcess, Reading, Runtime

MEMORY_EVERY_S = 3.0
MEMORY_EVERY_WHILE_CHANGING_S = 0.5


class Observer:
    def __init__(
        self,
        *,
        runtime: Runtime,
        client: EngineClient,
        clock: Callable[[], float],
        bell: Callable[[], None],
        events: Events,
        canary_of: Callable[[EngineProcess], Answer | None],
        tending: Tending | None = None,
        at_work: Callable[[EngineProcess], Work | None] = lambda _: None,
        far_every_s: Callable[[], float] = lambda: FAR_EVERY_S,
    ) -> None:
        """`canary_of`: what an engine answered before an earlier manager put it to sleep.

        `at_work`: what it has to do now; None: nobody can say. `far_every_s`: between two looks at an engine that
        takes requests on another machine.
        """
        self._at_work, self._far_every_s = at_work, far_every_s
        self._canary_of = canary_of
        self._tending = tending or Tending(events=events, clock=clock)
        self._runtime, self._client, self._clock, self._bell, self._events = runtime, client, clock, bell, events
        self.probes: dict[str, Probe] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reading = Reading(nodes=())
        self._foreign = Foreign()
        self._read_at = -1.0
        self._memory_error: str | None = None
        self._something_ended = Bell()
        runtime.watch(self._something_ended.ring)

    @property
    def memory_error(self) -> str | None:
        """Why memory could not be read last time; None: it could."""
        return self._memory_error

    def measured_bytes(self, engine_id: str) -> int | None:
        """What the engine held when memory was last read; None: not visible."""
        return self._reading.measured_bytes.get(engine_id)

    def away(self, nodes: Iterable[str]) -> str | None:
        """Why nothing can be done on these: one of them did not answer when memory was last read. None: all did."""
        seen = (node for node in self._reading.nodes if node.name in nodes and node.state is not NodeState.READY)
        return next(map(why_away, seen), None)

    def device(self, node: str, index: int) -> Device | None:
        """The device as it was when memory was last read."""
        devices = (device for each in self._reading.nodes if each.name == node for device in each.devices)
        return next((device for device in devices if device.index == index), None)

    @property
    def device_troubles(self) -> tuple[str, ...]:
        """What somebody should see to, when memory was last read: one sentence each that names the device."""
        return self._reading.troubles

    @property
    def read_at(self) -> float:
        """When the latest reading of memory began; negative: there was none."""
        return self._read_at

    @property
    def sees_devices(self) -> bool:
        """Whether memory was ever read: before that nothing can be planned."""
        return bool(self._reading.nodes)

    async def run(self) -> None:
        """Look for engines and read memory, for ever."""
        while True:
            await self.look()
            changing = any(isinstance(p.state, Loading) or p.paused for p in self.probes.values())
            await self._something_ended.wait(MEMORY_EVERY_WHILE_CHANGING_S if changing else MEMORY_EVERY_S)

    async def look(self) -> None:
        """One look at engines and memory. A runtime that fails leaves no memory known, and says so."""
        try:
            await self.find_engines()
            await self.read_memory()
        except Exception as error:  # noqa: BLE001  # an observer that dies blinds the loop for ever
            self._note_memory_error(f"{type(error).__name__}: {error}")
            # what was read before is of engines as they were then: planned with, it hides what others hold
            self._reading = replace(self._reading, nodes=tuple(map(_unread, self._reading.nodes)))
        else:
            self._note_memory_error(None)

    def _note_memory_error(self, error: str | None) -> None:
        if error is not None and self._memory_error is None:
            self._events.record("ObservationFailed", error, warning=True)
        self._memory_error = error

    async def find_engines(self) -> None:
        """Probe whoever is new, forget whoever is gone, and learn why the dead died."""
        found = {engine.engine_id: engine for engine in await self._runtime.engines()}
        for engine_id in self.probes.keys() - found.keys():
            self._tasks.pop(engine_id).cancel()
            del self.probes[engine_id]
            self._bell()
        for engine_id, engine in found.items():
            if engine_id not in self.probes:
                self.add(engine)
            elif engine.exit is not None:
                await self.probes[engine_id].exited(engine)

    def add(self, engine: EngineProcess) -> Probe:
        """Begin to probe an engine; one that was found dead is seen as such on the next look."""
        if engine.engine_id not in self.probes:
            probe = Probe(
                engine=engine, runtime=self._runtime, client=self._client, clock=self._clock, bell=self._changed,
                at_work=self._at_work, far_every_s=self._far_every_s,
            )  # fmt: skip
            if engine.adopted:
                probe.canary = self._canary_of(engine)
            self.probes[engine.engine_id] = probe
            kept = self._tending.keep("probe", probe.run, model=engine.name)
            self._tasks[engine.engine_id] = asyncio.create_task(kept, name=f"probe {engine.name}")
        return self.probes[engine.engine_id]

    def _changed(self) -> None:
        """An engine is something else than before: a reason to plan, and to weigh it."""
        self._something_ended.ring()
        self._bell()

    async def read_memory(self) -> None:
        started = self._clock()
        reading = await self._runtime.read()
        if started >= self._read_at:  # a slow one may end after one that began later, and tells of an older time
            self._note_troubles(_of_devices(reading))
            self._note_nodes(reading.nodes)
            self._reading, self._read_at = reading, started
            self._foreign.note(reading, (probe.engine for probe in self.probes.values()))

    def _note_nodes(self, nodes: Sequence[Node]) -> None:
        """An event for each that joins, or is lost, fenced or ready again; then its engines are asked how they are."""
        before = {node.name: node.state for node in self._reading.nodes}
        for node in nodes:
            message = f"{node.name}: {node.said}" if node.said else node.name
            if node.name not in before:
                if self._read_at >= 0 or node.state is not NodeState.READY:
                    self._events.record("NodeJoined", message)
                continue
            if node.state is before[node.name]:
                continue
            match node.state:
                case NodeState.READY:
                    self._events.record("NodeReady", message)
                    for probe in self.probes.values():
                        if probe.engine.node == node.name:
                            probe.is_heard_again()
                case NodeState.LOST:
                    self._events.record("NodeLost", message, warning=True)
                case NodeState.FENCED:
                    self._events.record("NodeFenced", message, warning=True)
            self._bell()

    def doubt(self, engine_id: str) -> None:
        if (probe := self.probes.get(engine_id)) is not None:
            probe.doubt()

    def unreachable(self, engine_id: str, why: str) -> None:
        if (probe := self.probes.get(engine_id)) is not None:
            probe.unreachable(why)

    def _note_troubles(self, troubles: Sequence[str]) -> None:
        """An event for each when it comes, and one when all are over."""
        before = _of_devices(self._reading)
        for trouble in troubles:
            if trouble not in before:
                self._events.record("DeviceTrouble", trouble, warning=True)
        if before and not troubles:
            self._events.record("DevicesSound", "All devices can be used again.")

    def snapshot(
        self,
        *,
        now: float,
        policy: Policy,
        simulated: bool,
        operations: Sequence[Operation],
        footprints: Mapping[str, Footprint],
        crashes: Mapping[str, Crashes],
    ) -> Snapshot:
        outdated = {key for probe in self.probes.values() if self._is_unweighed(probe) for key in probe.engine.keys}
        nodes = (_without(self._foreign.on(node), outdated) for node in self._reading.nodes)
        return Snapshot(
            taken_at=now,
            nodes=tuple(_under_policy(node, policy, simulated=simulated) for node in nodes),
            engines=tuple(self._observation(probe, footprints) for probe in self.probes.values()),
            operations=tuple(operations),
            footprints=footprints,
            crashes=crashes,
        )

    def _is_unweighed(self, probe: Probe) -> bool:
        """Ready since the last reading, and nobody tells what it holds: what others hold cannot be told from it."""
        known = probe.engine.engine_id in self._reading.measured_bytes
        read_at = next((node.seen_at for node in self._reading.nodes if node.name == probe.engine.node), None)
        since = self._read_at if read_at is None else read_at
        return not known and isinstance(probe.state, Awake) and probe.state.ready_at > since

    def _observation(self, probe: Probe, footprints: Mapping[str, Footprint]) -> EngineObservation:
        engine = probe.engine
        copy, footprint = 0, footprints.get(engine.name)
        if footprint is not None:
            copy = host_copy_bytes(footprint)
            if not probe.host_copy_bytes and (
                probe.state == Asleep(level=SleepLevel.WEIGHTS_OFFLOADED) or self._pins(engine, footprint.weights_bytes)
            ):
                probe.host_copy_bytes = copy  # an earlier manager put it to sleep; its copy is there all the same
        # adopted and not proven yet: it may be asleep, or on its way there
        unproven = engine.adopted and isinstance(probe.state, Loading)
        measured = self._reading.measured_bytes.get(engine.engine_id)
        if measured is None and engine.started_at > self._read_at:
            measured = 0  # the reading is older than the engine, and counts nothing of it as anybody's
        return EngineObservation(
            engine_id=engine.engine_id, model=engine.name, spec_hash=engine.spec_hash, node=engine.node,
            devices=engine.devices, memory_bytes=engine.memory_bytes, state=probe.state,
            started_at=engine.started_at, measured_bytes=measured, first_residue_bytes=probe.first_residue_bytes,
            host_copy_bytes=copy if unproven else probe.host_copy_bytes,
            host_measured_bytes=self._reading.host_bytes.get(engine.engine_id),
            pid=engine.pid, port=engine.port, further=engine.further,
        )  # fmt: skip

    def _pins(self, engine: EngineProcess, weights_bytes: int) -> bool:
        """An adopted engine that holds as much of the host's memory as its weights take slept at level 1 before."""
        held = self._reading.host_bytes.get(engine.engine_id)
        return engine.adopted and held is not None and 0 < weights_bytes <= held

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


def _of_devices(reading: Reading) -> tuple[str, ...]:
    """Its troubles but for those of whole machines, which have events of their own and say for how long already."""
    away = {f"{node.name}: {node.said}" for node in reading.nodes if node.state is not NodeState.READY}
    return tuple(trouble for trouble in reading.troubles if trouble not in away)


def _unread(node: Node) -> Node:
    return replace(node, devices=tuple(replace(device, used_bytes=None) for device in node.devices))


def _without(node: Node, outdated: Collection[tuple[str, int]]) -> Node:
    """The node with the memory of these devices unknown until it is read again."""
    if not outdated:
        return node
    devices = (replace(d, used_bytes=None) if (node.name, d.index) in outdated else d for d in node.devices)
    return replace(node, devices=tuple(devices))


def _under_policy(node: Node, policy: Policy, *, simulated: bool) -> Node:
    """What policy keeps back of each device, and of the host for sleepers."""
    reserve = policy.reserve_bytes
    if reserve is None:
        reserve = 0 if simulated else DEFAULT_RESERVE_BYTES
    budget = node.host_budget_bytes if policy.host_memory_bytes is None else policy.host_memory_bytes
    return replace(
        node,
        devices=tuple(replace(device, reserve_bytes=reserve) for device in node.devices),
        host_budget_bytes=budget if node.sleep_frees_memory else 0,
    )
