"""A terse way to write a cluster down: sizes in GiB, times in seconds before NOW, models by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vllama.domain.action import Action
from vllama.domain.decision import Decision, Plan
from vllama.domain.demand import NO_DEMAND, Demand, Override
from vllama.domain.desired import DesiredState
from vllama.domain.observed import (
    Asleep,
    Awake,
    Crashes,
    Device,
    EngineObservation,
    EngineState,
    Footprint,
    Node,
    NodeState,
    Operation,
    Snapshot,
    Verb,
)
from vllama.domain.replicas import expanded
from vllama.domain.spec import ModelSpec, Policy, SleepLevel
from vllama.domain.units import GIB
from vllama.planner import plan
from vllama.planner.check import check
from vllama.planner.project import apply

NOW = 10_000.0
LONG_AGO = 600.0


@dataclass
class Cluster:
    """`gpus`: GiB of each device of the node `here`, `more` those of further nodes. Engines are added awake; what they
    hold counts as used. `away`: nodes that are lost, or fenced; `read_at`: when memory was read, by node.
    """

    gpus: tuple[float, ...] = (8.0,)
    residue: float = 0.4
    reserve: float = 0.0
    host: float = 64.0
    sleep_frees_memory: bool = True
    unified: bool = False
    now: float = NOW
    foreign: dict[int, float] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    policy: Policy = field(default_factory=Policy)
    models: dict[str, ModelSpec] = field(default_factory=dict)
    demand: dict[str, Demand] = field(default_factory=dict)
    overrides: dict[str, Override] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    available: float | None = None  # GiB of the host's memory
    linked: tuple[tuple[int, ...], ...] = ()
    discardable: set[str] = field(default_factory=set)
    refused: dict[str, set[int]] = field(default_factory=dict)
    load_s: dict[str, float] = field(default_factory=dict)
    more: dict[str, tuple[float, ...]] = field(default_factory=dict)
    away: dict[str, NodeState] = field(default_factory=dict)
    read_at: dict[str, float] = field(default_factory=dict)
    crashes: dict[str, Crashes] = field(default_factory=dict)
    engines: list[EngineObservation] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    def model(
        self, name: str, gib: float | None = 3.5, *, weights: float = 2.0, load_s: float | None = None, **spec
    ) -> "Cluster":  # fmt: skip
        size = None if gib is None else int(gib * GIB)
        for each, one in expanded([ModelSpec(model=name, memory_bytes=size, **spec)]).items():
            self.models[each] = one
            self.weights[each] = weights
            if load_s is not None:
                self.load_s[each] = load_s
        return self

    def engine(
        self, name: str, *devices: int, state: EngineState | None = None, unused: float = LONG_AGO, **fields
    ) -> "Cluster":
        """Awake on gpu0 and last used 10 minutes ago, unless told otherwise."""
        spec = self.models.get(name)
        made = EngineObservation(
            engine_id=f"{name}-{len(self.engines)}", model=name, node="here", devices=devices or (0,),
            spec_hash=spec.spec_hash if spec else "removed", state=state or Awake(ready_at=self.now - unused),
            memory_bytes=spec.memory_bytes if spec and spec.memory_bytes else 2 * GIB, started_at=self.now - unused,
        )  # fmt: skip
        self.engines.append(replace(made, **fields))
        return self.wants(name, last_used_at=self.now - unused)

    def asleep(self, name: str, *devices: int, unused: float = LONG_AGO, level: int = 1, **fields) -> "Cluster":
        copy = int(1.5 * self.weights.get(name, 2.0) * GIB) if level == 1 else 0
        state = Asleep(level=SleepLevel(level))
        return self.engine(name, *devices, unused=unused, state=state, host_copy_bytes=copy, **fields)

    def wants(self, name: str, **fields) -> "Cluster":
        self.demand[name] = replace(self.demand.get(name, NO_DEMAND), **fields)
        return self

    def waits(self, name: str, since: float = 1.0, requests: int = 1) -> "Cluster":
        return self.wants(name, waiting=requests, oldest_waiting_at=self.now - since)

    def busy(self, name: str, *devices: int, requests: int = 1, unused: float = 1.0) -> "Cluster":
        return self.engine(name, *devices, unused=unused).wants(name, in_flight=requests)

    def operation(self, verb: Verb, name: str, *devices: int) -> "Cluster":
        engine = next((engine for engine in self.engines if engine.model == name), None)
        spec = self.models[name]
        self.operations.append(
            Operation(
                verb=verb, engine_id=engine.engine_id if engine else f"{name}-new", model=name,
                node=engine.node if engine else "here", further=engine.further if engine else (),
                devices=engine.devices if engine else devices, started_at=self.now - 1,
                memory_bytes=spec.memory_bytes or 0, level=SleepLevel(1) if verb is Verb.SLEEP else None,
            )
        )  # fmt: skip
        return self

    def orders(self, name: str, override: Override) -> "Cluster":
        self.overrides[name] = override
        return self

    # the two states, and what becomes of them

    def footprint(self, name: str) -> Footprint:
        spec = self.models[name]
        return Footprint(
            awake_bytes=spec.memory_bytes or 4 * GIB, asleep_bytes=int(self.residue * GIB),
            weights_bytes=int(self.weights[name] * GIB), discardable=name in self.discardable,
            refused_levels=frozenset(SleepLevel(level) for level in self.refused.get(name, ())),
            load_s=self.load_s.get(name),
        )  # fmt: skip

    @property
    def gpus_of(self) -> dict[str, tuple[float, ...]]:
        return {"here": self.gpus, **self.more}

    def _node(self, name: str, gpus: tuple[float, ...], used: dict[tuple[str, int], int]) -> Node:
        here = name == "here"
        devices = tuple(
            Device(
                index=i, name=f"GPU {i}", total_bytes=int(gib * GIB), reserve_bytes=int(self.reserve * GIB),
                used_bytes=None if here and i in self.unknown else used[name, i], unified=self.unified,
            )
            for i, gib in enumerate(gpus)
        )  # fmt: skip
        return Node(
            name=name, devices=devices, host_budget_bytes=int(self.host * GIB),
            sleep_frees_memory=self.sleep_frees_memory, linked=self.linked,
            host_available_bytes=None if self.available is None else int(self.available * GIB),
            state=self.away.get(name, NodeState.READY), seen_at=self.read_at.get(name),
            said="no word for 4s" if name in self.away else "",
        )  # fmt: skip

    def states(self) -> tuple[DesiredState, Snapshot]:
        used = {
            (name, index): int(self.foreign.get(index, 0) * GIB) if name == "here" else 0
            for name, gpus in self.gpus_of.items()
            for index in range(len(gpus))
        }
        for engine in self.engines:
            sleeps = isinstance(engine.state, Asleep) and self.sleep_frees_memory
            known = engine.node in self.gpus_of
            for key in engine.keys if known else (("here", device) for device in engine.devices):
                used[key] += int(self.residue * GIB) if sleeps else engine.memory_bytes
        nodes = tuple(self._node(name, gpus, used) for name, gpus in self.gpus_of.items())
        desired = DesiredState(
            generation=1, models=dict(self.models), demand=dict(self.demand), overrides=dict(self.overrides),
            policy=self.policy,
        )  # fmt: skip
        snapshot = Snapshot(
            taken_at=self.now, nodes=nodes, engines=tuple(self.engines), operations=tuple(self.operations),
            footprints={name: self.footprint(name) for name in self.models}, crashes=dict(self.crashes),
        )  # fmt: skip
        return desired, snapshot

    def plan(self, *, after: float = 0.0) -> "Answer":
        """The plan `after` seconds from now, checked by the second opinion."""
        desired, snapshot = self.states()
        return Answer.of(desired, snapshot, self.now + after)

    def settle(self) -> list["Answer"]:
        """The plans that act, each carried out at once, and the last one, after which nothing changes."""
        (desired, snapshot), answers = self.states(), []
        for _ in range(50):
            answer = Answer.of(desired, snapshot, self.now)
            then = apply(answer.plan, desired, snapshot, self.now)
            if then == (desired, snapshot):
                return [*answers, answer]
            answers += [answer] if answer.actions else []
            desired, snapshot = then
        raise AssertionError("never at rest")


@dataclass(frozen=True)
class Answer:
    plan: Plan

    @classmethod
    def of(cls, desired: DesiredState, snapshot: Snapshot, now: float) -> "Answer":
        made = plan(desired, snapshot, now)
        assert check(desired, snapshot, now, made) == ()
        return cls(made)

    def __getitem__(self, name: str) -> Decision:
        return next(decision for decision in self.plan.decisions if decision.model == name)

    @property
    def actions(self) -> dict[str, Action]:
        return {action.model: action for action in self.plan.actions}

    @property
    def does(self) -> Mapping[str, str]:
        """`{"a": "Sleep 1", "b": "Start"}`: the verb, and the level where there is one."""
        return {name: f"{type(a).__name__} {getattr(a, 'level', '')}".strip() for name, a in self.actions.items()}


def does(answers: list[Answer]) -> list[Mapping[str, str]]:
    return [answer.does for answer in answers]
