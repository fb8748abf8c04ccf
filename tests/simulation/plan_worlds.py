"""Clusters drawn at random, and what plans see of them: demand that comes and goes, drivers that say little."""

import random
from dataclasses import dataclass, field, replace

from tests.simulation.plan_machine import Engine, Gpu, PlanMachine, Stage, share_of, taken
from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.decision import Decision
from vllama.domain.demand import LATEST, Demand, Override, WantAsleep, WantReady, WantStopped
from vllama.domain.desired import DesiredState
from vllama.domain.observed import (
    Asleep,
    Awake,
    Broken,
    Crashes,
    Device,
    EngineObservation,
    EngineState,
    Exited,
    Footprint,
    Loading,
    Node,
    Operation,
    Snapshot,
    Unknown,
    Verb,
)
from vllama.domain.spec import (
    DEFAULT_RESIDUE_BYTES,
    DEFAULT_RESIDUE_PARALLEL_BYTES,
    IdleSpec,
    LaunchSpec,
    ModelSpec,
    OnConflict,
    Policy,
    SleepLevel,
    VictimPolicy,
)
from vllama.domain.units import GIB, MIB

NODE = "here"
VERBS = {Start: Verb.START, Sleep: Verb.SLEEP, Wake: Verb.WAKE, Stop: Verb.STOP}
STEPS_S = (0.1, 0.1, 1.0, 5.0, 30.0, 200.0)


@dataclass(slots=True)
class Truth:
    """Of one model, what nobody was told: bytes beside the KV cache, what stays asleep, the copy in host memory."""

    fixed: int
    residue: int
    copy: int


@dataclass(slots=True)
class PlanWorld:
    dice: random.Random
    machine: PlanMachine = field(init=False)
    models: dict[str, ModelSpec] = field(init=False, default_factory=dict)
    footprints: dict[str, Footprint] = field(init=False, default_factory=dict)
    truths: dict[str, Truth] = field(init=False, default_factory=dict)
    demand: dict[str, Demand] = field(init=False, default_factory=dict)
    overrides: dict[str, Override] = field(init=False, default_factory=dict)
    crashes: dict[str, Crashes] = field(init=False, default_factory=dict)
    now: float = field(init=False, default=1000.0)
    _tells: float = field(init=False)
    _leaks: bool = field(init=False)
    _tells_host: bool = field(init=False)
    _victims: VictimPolicy = field(init=False)
    _number: int = field(init=False, default=0)
    _dark: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        dice = self.dice
        self._tells, self._leaks = dice.choice([1.0, 1.0, 0.7, 0.0]), dice.random() < 0.3
        self._tells_host = dice.random() < 0.5
        count, mixed = dice.choice([1, 1, 2, 2, 3, 4]), dice.random() < 0.2
        withheld, reserve = dice.choice([0, 0, dice.randrange(600 * MIB)]), dice.choice([64, 256, 512, 512]) * MIB
        size = _size(dice)
        totals = [_size(dice) if mixed else size for _ in range(count)]
        self.machine = PlanMachine(
            tuple(Gpu(index=i, total=total, withheld=withheld, reserve=reserve) for i, total in enumerate(totals)),
            dice, host_budget=dice.randrange(8, 200) * GIB, sleep_frees=dice.random() < 0.95,
        )  # fmt: skip
        for number in range(dice.randint(2, 8)):
            self._invent(f"m{number}", min(totals))
        self._victims = dice.choice(list(VictimPolicy))

    # the file

    def _invent(self, model: str, smallest: int) -> None:
        dice, count = self.dice, len(self.machine.gpus)
        devices = dice.choice([1, 1, 1, 2, 2, 4]) if count > 1 else 1
        parallel = min(devices, count)
        near = max(GIB // 4, smallest // dice.randint(1, 4) - dice.choice([0, dice.randrange(2 * GIB)]))
        awake = dice.choice([near, near, int(smallest * dice.uniform(0.05, 1.02))])
        settings, memory = (), None
        match dice.choice(["declared", "declared", "share", "auto", "auto"]):
            case "declared":
                memory = awake
            case "share":
                settings = (("gpu_memory_utilization", round(awake / smallest, 3)),)
        weights = int(awake * dice.uniform(0.2, 0.7)) * parallel
        residue = min(int(dice.uniform(0.2, 2.5 if parallel > 1 else 1.5) * GIB), awake)
        fixed = max(weights // parallel, int(awake * dice.uniform(0.3, 0.8)))
        self.models[model] = ModelSpec(
            model=model, launch=LaunchSpec(settings=settings), memory_bytes=memory, device_count=parallel,
            devices=tuple(sorted(dice.sample(range(count), parallel))) if dice.random() < 0.1 else None,
            idle=IdleSpec(sleep_after_s=dice.choice([None, 10.0, 60.0]), stop_after_s=dice.choice([None, None, 300.0])),
            eviction_level=dice.choice([None, None, None, SleepLevel(1), SleepLevel(2), SleepLevel(3)]),
            pin=dice.random() < 0.05, priority=dice.choice([0, 0, 0, 1, -1]),
            on_conflict=OnConflict.REFUSE if dice.random() < 0.05 else OnConflict.QUEUE,
        )  # fmt: skip
        self.truths[model] = Truth(fixed=fixed, residue=residue, copy=int(weights * dice.uniform(1.0, 1.5)))
        if dice.random() < 0.9:
            known = dice.random() < 0.3
            self.footprints[model] = Footprint(
                awake_bytes=awake, asleep_bytes=int(residue * dice.uniform(0.6, 1.6)), weights_bytes=weights,
                fixed_bytes=fixed + 128 * MIB if known else None, discardable=dice.random() < 0.5,
            )  # fmt: skip
        else:
            self.truths[model].copy = 0  # of what nothing is known nothing can be counted

    # what happens by itself

    def elapse(self) -> None:
        dice, machine = self.dice, self.machine
        self.now += dice.choice(STEPS_S)
        machine.elapse(self.now)
        self.disturb(0.1)
        self._dark = {gpu.index for gpu in machine.gpus if dice.random() < 0.02}
        for model in self.models:
            old = self.demand.get(model, Demand())
            if old.in_flight and dice.random() < 0.5:
                old = replace(old, in_flight=0, last_used_at=self.now)
            if dice.random() < 0.15:
                oldest = self.now if old.oldest_waiting_at is None else old.oldest_waiting_at
                old = replace(old, waiting=old.waiting + 1, oldest_waiting_at=oldest)
            elif old.waiting and dice.random() < 0.03:  # they went away
                old = replace(old, waiting=0, oldest_waiting_at=None)
            self.demand[model] = old
        if dice.random() < 0.03:
            self._operate(dice.choice(list(self.models)))

    def disturb(self, chance: float) -> None:
        """Other people's programs come, grow, and go."""
        dice, machine = self.dice, self.machine
        if dice.random() < chance:
            gpu = dice.choice(machine.gpus)
            spec = self.models[dice.choice(list(self.models))]
            just = gpu.total - (spec.memory_bytes or gpu.total // 2) - dice.randrange(3 * GIB)  # leaves it just room
            machine.foreign(gpu.index, dice.choice([0, 0, gpu.total // 50, just, dice.randrange(gpu.total)]))

    def _operate(self, model: str) -> None:
        match self.dice.choice(["start", "stop", "sleep", "edit", "forget"]):
            case "start":
                self.overrides[model] = WantReady(at=self.now)
            case "stop":
                self.overrides[model] = WantStopped(at=self.now)
            case "sleep":
                self.overrides[model] = WantAsleep(at=self.now, level=self.dice.choice([None, SleepLevel(1)]))
            case "edit" if (memory := self.models[model].memory_bytes) is not None:
                self.models[model] = replace(self.models[model], memory_bytes=int(memory * self.dice.uniform(0.5, 1.1)))
            case _:
                self.overrides.pop(model, None)

    # what is seen

    def desired(self) -> DesiredState:
        return DesiredState(
            generation=1, models=dict(self.models), demand=dict(self.demand), overrides=dict(self.overrides),
            policy=Policy(drain_deadline_s=60.0, victims=self._victims), since=0.0,
        )  # fmt: skip

    def snapshot(self) -> Snapshot:
        machine = self.machine
        devices = tuple(
            Device(
                index=gpu.index, name="x", total_bytes=gpu.total, reserve_bytes=gpu.reserve,
                used_bytes=None if gpu.index in self._dark else machine.used(gpu.index),
            )
            for gpu in machine.gpus
        )  # fmt: skip
        available = machine.host_budget * 2 - machine.pinned() if self._tells_host else None
        node = Node(
            name=NODE, devices=devices, host_budget_bytes=machine.host_budget, host_available_bytes=available,
            sleep_frees_memory=machine.sleep_frees,
        )  # fmt: skip
        engines = tuple(self._observe(engine) for engine in machine.engines.values())
        operations = tuple(self._operation(change.action, change.engine) for change in machine.changes.values())
        return Snapshot(
            taken_at=self.now, nodes=(node,), engines=engines, operations=operations,
            footprints=dict(self.footprints), crashes=dict(self.crashes),
        )  # fmt: skip

    def _observe(self, engine: Engine) -> EngineObservation:
        tells = self.dice.random() < self._tells and not self._dark & set(engine.devices)
        if engine.stage is Stage.ASLEEP and tells:
            if engine.first_residue is None:
                engine.first_residue = engine.held
            self._learn(engine)
        weights = self.footprints[engine.model].weights_bytes if engine.model in self.footprints else 0
        return EngineObservation(
            engine_id=engine.engine_id, model=engine.model, spec_hash=engine.spec_hash, node=NODE,
            devices=engine.devices, memory_bytes=engine.planned, state=self._state(engine),
            started_at=engine.started_at, measured_bytes=engine.held if tells else None,
            first_residue_bytes=engine.first_residue, host_copy_bytes=3 * weights // 2 if engine.pinned else 0,
        )  # fmt: skip

    def _learn(self, engine: Engine) -> None:
        known = self.footprints.get(engine.model)
        if known is not None and known.asleep_bytes != engine.held:
            self.footprints[engine.model] = replace(known, asleep_bytes=engine.held)

    def _state(self, engine: Engine) -> EngineState:
        if engine.stage in {Stage.AWAKE, Stage.ASLEEP} and self.dice.random() < 0.01:
            return Unknown(since=self.now - 1.0, error="no answer")
        match engine.stage:
            case Stage.SPAWNED | Stage.LOADING:
                return Loading(progress_at=self.now)
            case Stage.AWAKE:
                return Awake(ready_at=engine.ready_at)
            case Stage.ASLEEP:
                return Asleep(level=SleepLevel(engine.level))
            case Stage.FAILED:
                return Broken(cause=engine.cause) if engine.held else Exited(code=1, cause=engine.cause)

    def _operation(self, action: Action, engine: Engine) -> Operation:
        return Operation(
            verb=VERBS[type(action)], engine_id=engine.engine_id, model=engine.model, node=NODE,
            devices=engine.devices, started_at=self.now,
            memory_bytes=engine.planned if isinstance(action, Start) else 0,
            level=action.level if isinstance(action, Sleep) else None,
        )  # fmt: skip

    # what is done

    def act(self, decision: Decision, snapshot: Snapshot, foreign: dict[int, int]) -> None:
        """`foreign`: what others held by device when the snapshot was taken."""
        model, action = decision.model, decision.action
        old = self.demand.get(model, Demand())
        engine = next((each for each in self.machine.engines.values() if each.model == model), None)
        if decision.refused:
            old = replace(old, waiting=0, oldest_waiting_at=None)
            self._beaten(model)
        if action is not None:
            old = replace(old, admission_closed_at=None)
            self._begin(action, snapshot, foreign)
        elif engine is not None and engine.stage is Stage.AWAKE and engine.engine_id not in self.machine.changes:
            old = self._door(old, drain=decision.drain)
            if not decision.drain:
                self._beaten(model)
        self.demand[model] = old

    def _beaten(self, model: str) -> None:
        if isinstance(self.overrides.get(model), WantReady):
            del self.overrides[model]

    def _door(self, old: Demand, *, drain: bool) -> Demand:
        closed = old.admission_closed_at is not None
        if drain:
            return old if closed else replace(old, admission_closed_at=self.now)
        if closed:
            old = replace(old, admission_closed_at=None, drain_ended_at=self.now)
        if not old.waiting:
            return old
        return replace(
            old, waiting=0, oldest_waiting_at=None, in_flight=old.in_flight + old.waiting, last_used_at=self.now,
            asked=(*old.asked, *[self.now] * old.waiting)[-LATEST:]
        )  # fmt: skip

    def _begin(self, action: Action, snapshot: Snapshot, foreign: dict[int, int]) -> None:
        engine = self._made(action) if isinstance(action, Start) else self.machine.engines[action.engine_id]
        engine.seen = {index: foreign[index] for index in engine.devices}
        if isinstance(action, Wake):
            seen = next(each for each in snapshot.engines if each.engine_id == engine.engine_id)
            engine.tells, engine.told = seen.measured_bytes is not None, self._told(engine)
        elif isinstance(action, Sleep) and self._leaks and engine.level:
            engine.leak = min(engine.leak + self.dice.randrange(600 * MIB), engine.held - engine.residue)
        elif isinstance(action, Stop) and engine.stage is Stage.FAILED:
            before = self.crashes.get(engine.model)
            count = 1 if before is None else before.count + 1
            self.crashes[engine.model] = Crashes(count=count, last_at=self.now, cause=engine.cause)
        self.machine.begin(action, engine, self.now)

    def _told(self, engine: Engine) -> int:
        footprint = self.footprints.get(engine.model)
        if footprint is not None:
            return footprint.asleep_bytes
        return DEFAULT_RESIDUE_BYTES if len(engine.devices) == 1 else DEFAULT_RESIDUE_PARALLEL_BYTES

    def _made(self, start: Start) -> Engine:
        self._number += 1
        truth = self.truths[start.model]
        smallest = min((self.machine.gpus[index] for index in start.devices), key=lambda gpu: gpu.total)
        full = taken(smallest, start, truth.fixed)
        return Engine(
            engine_id=f"{start.model}-{self._number}", model=start.model, spec_hash=start.spec_hash,
            devices=start.devices, planned=start.memory_bytes, share=share_of(start.gpu_memory_utilization), full=full,
            residue=min(truth.residue, full), told=0, copy=truth.copy, started_at=self.now,
        )  # fmt: skip


def _size(dice: random.Random) -> int:
    return dice.choice([8, 24, 40, 80]) * GIB - dice.choice([0, dice.randrange(256 * MIB)])
