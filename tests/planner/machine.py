"""A machine in virtual time: carries plans out, serves requests, opens and closes doors as the controller does.

Everything is deterministic. Every plan goes through the second opinion.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.decision import Plan
from vllama.domain.demand import LATEST, Demand
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, Awake, EngineObservation, Footprint, Loading, Node, Operation, Snapshot, Verb
from vllama.domain.spec import ModelSpec, Policy, SleepLevel
from vllama.planner import plan
from vllama.planner.check import check

VERBS = {Start: Verb.START, Sleep: Verb.SLEEP, Wake: Verb.WAKE, Stop: Verb.STOP}
SECONDS = {Start: 1.0, Sleep: 1.0, Wake: 2.0, Stop: 3.0}  # a start: until the process is there
LOAD_S = 25.0


@dataclass
class Line:
    waiting: list[tuple[float, float]] = field(default_factory=list)  # (since, how long it will take)
    in_flight: int = 0
    last_used_at: float | None = None
    open: bool = False
    closed_at: float | None = None
    drain_ended_at: float | None = None
    asked: tuple[float, ...] = ()


@dataclass
class Machine:
    node: Node
    models: dict[str, ModelSpec]
    footprints: dict[str, Footprint]
    policy: Policy = field(default_factory=Policy)
    now: float = 0.0
    lines: dict[str, Line] = field(default_factory=dict)
    engines: dict[str, EngineObservation] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    waits: list[tuple[str, float]] = field(default_factory=list)  # (model, seconds) of every request served
    refused: set[str] = field(default_factory=set)
    actions: list[tuple[float, Action]] = field(default_factory=list)
    passes: int = 0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: itertools.count = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.lines = {name: Line() for name in self.models}

    def at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._count), event))

    def request(self, model: str, at: float, takes: float) -> None:
        self.at(at, lambda: self.lines[model].waiting.append((self.now, takes)))

    def run(self, until: float = float("inf"), most_passes: int = 20_000) -> None:
        """Pass after pass, at every event and whenever a plan says to look again."""
        wake_at = None
        while self._events or wake_at is not None:
            times = [self._events[0][0]] if self._events else []
            self.now = min([*times, *([] if wake_at is None else [wake_at])])
            if self.now > until:
                return
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            self._pour()
            after_s = self._pass().requeue_after_s
            nobody = not any(line.waiting or line.in_flight for line in self.lines.values())
            wake_at = None if after_s is None or (nobody and not self._events) else self.now + after_s
            self.passes += 1
            assert self.passes < most_passes

    def _pass(self) -> Plan:
        desired, snapshot = self._states()
        made = plan(desired, snapshot, self.now)
        assert check(desired, snapshot, self.now, made) == ()
        for decision in made.decisions:
            line = self.lines[decision.model]
            if decision.refused:
                line.waiting.clear()
                self.refused.add(decision.model)
            if decision.action is not None:
                self._begin(decision.action)
            elif decision.drain and line.open:
                line.open, line.closed_at = False, self.now
            elif not decision.drain and line.closed_at is not None:
                line.open, line.closed_at, line.drain_ended_at = True, None, self.now
        self._pour()
        return made

    def _states(self) -> tuple[DesiredState, Snapshot]:
        demand = {
            name: Demand(
                waiting=len(line.waiting), oldest_waiting_at=line.waiting[0][0] if line.waiting else None,
                in_flight=line.in_flight, last_used_at=line.last_used_at, admission_closed_at=line.closed_at,
                drain_ended_at=line.drain_ended_at, asked=line.asked,
            )
            for name, line in self.lines.items()
        }  # fmt: skip
        used = {device.index: 0 for device in self.node.devices}
        for engine in self.engines.values():
            for device in engine.devices:
                used[device] += self._holds(engine)
        devices = tuple(replace(device, used_bytes=used[device.index]) for device in self.node.devices)
        return (
            DesiredState(generation=1, models=self.models, demand=demand, policy=self.policy),
            Snapshot(
                taken_at=self.now, nodes=(replace(self.node, devices=devices),), engines=tuple(self.engines.values()),
                operations=tuple(self.operations.values()), footprints=self.footprints,
            ),
        )  # fmt: skip

    def _holds(self, engine: EngineObservation) -> int:
        sleeps = isinstance(engine.state, Asleep)
        return self.footprints[engine.model].asleep_bytes if sleeps else engine.memory_bytes

    def _begin(self, action: Action) -> None:
        line, engine_id = self.lines[action.model], getattr(action, "engine_id", f"{action.model}@{self.now}")
        assert not (line.in_flight and isinstance(action, Sleep | Stop))
        line.open, line.closed_at = False, None
        self.actions.append((self.now, action))
        self.operations[action.model] = Operation(
            verb=VERBS[type(action)], engine_id=engine_id, model=action.model, node=action.node,
            devices=action.devices, started_at=self.now, memory_bytes=getattr(action, "memory_bytes", 0),
            level=getattr(action, "level", None),
        )  # fmt: skip
        self.at(self.now + SECONDS[type(action)], lambda: self._end(action, engine_id))

    def _end(self, action: Action, engine_id: str) -> None:
        del self.operations[action.model]
        match action:
            case Start():
                self.engines[engine_id] = EngineObservation(
                    engine_id=engine_id, model=action.model, spec_hash=action.spec_hash, node=action.node,
                    devices=action.devices, memory_bytes=action.memory_bytes, state=Loading(progress_at=self.now),
                    started_at=self.now,
                )  # fmt: skip
                self.at(self.now + LOAD_S, lambda: self._ready(engine_id))
            case Stop():
                del self.engines[engine_id]
            case Sleep(level=level):
                kept = int(1.5 * self.footprints[action.model].weights_bytes) if level is SleepLevel(1) else 0
                kept = max(kept, self.engines[engine_id].host_copy_bytes)
                state = Asleep(level=level)
                self.engines[engine_id] = replace(self.engines[engine_id], state=state, host_copy_bytes=kept)
            case Wake():
                self._ready(engine_id)

    def _ready(self, engine_id: str) -> None:
        self.engines[engine_id] = replace(self.engines[engine_id], state=Awake(ready_at=self.now))
        self.lines[self.engines[engine_id].model].open = True

    def _pour(self) -> None:
        """Who waits at an open door is in flight."""
        for model, line in self.lines.items():
            while line.open and line.waiting:
                since, takes = line.waiting.pop(0)
                line.in_flight, line.last_used_at = line.in_flight + 1, self.now
                line.asked = (*line.asked, self.now)[-LATEST:]
                self.waits.append((model, self.now - since))
                self.at(self.now + takes, lambda line=line: self._last_byte(line))

    def _last_byte(self, line: Line) -> None:
        line.in_flight, line.last_used_at = line.in_flight - 1, self.now
