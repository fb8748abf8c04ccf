"""The two states, indexed once per plan: what every step looks things up in."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from vllama.domain.demand import NO_DEMAND, Demand, Override, WantReady
from vllama.domain.desired import DesiredState
from vllama.domain.observed import (
    Asleep,
    Awake,
    DeviceKey,
    EngineObservation,
    Loading,
    Lost,
    Node,
    NodeState,
    Operation,
    Snapshot,
    Verb,
)
from vllama.domain.spec import DEFAULT_LOAD_TIMEOUT_S, ModelSpec, Policy
from vllama.domain.status import Phase, phase_of
from vllama.planner.believed import believed
from vllama.planner.replicas import Names, gathered, groups, lead_of


def _worth(engine: EngineObservation) -> tuple[int, float, str]:
    """Of two engines of one model the better one first: awake, asleep, loading, the rest; then the older."""
    kinds: dict[type, int] = {Awake: 0, Asleep: 1, Loading: 2, Lost: 4}
    return kinds.get(type(engine.state), 3), engine.started_at, engine.engine_id


def best_engines(snapshot: Snapshot) -> dict[str, EngineObservation]:
    """By model the engine that its requests go to, where it has several. None serves on a node that is not ready."""
    return {engine.model: engine for engine in sorted(believed(snapshot), key=_worth, reverse=True)}


@dataclass(slots=True)
class View:
    """`engines` and `operations` are of nodes that answer; of what is only on others `lost` tells, by model, where."""

    desired: DesiredState
    snapshot: Snapshot
    now: float
    nodes: dict[str, Node] = field(init=False)
    ready: dict[str, Node] = field(init=False)
    seen: tuple[EngineObservation, ...] = field(init=False)  # all of them, as far as they are believed
    engines: dict[str, list[EngineObservation]] = field(init=False)
    operations: dict[str, Operation] = field(init=False)  # by model
    lost: dict[str, list[Node]] = field(init=False)
    torn: dict[str, list[Node]] = field(init=False)  # by engine that has lost a part: where that was
    held: dict[DeviceKey, dict[str, bool]] = field(init=False)  # device -> model whose change holds it -> see `hold`
    groups: list[Names] = field(init=False)  # of models with several replicas
    leads: dict[str, str] = field(init=False)  # of those, by replica
    used: dict[str, float] = field(init=False)  # when each engine was used last, by its id
    as_of: float = field(init=False)  # when anything was last asked for
    _on: dict[DeviceKey, list[EngineObservation]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = {node.name: node for node in sorted(self.snapshot.nodes, key=lambda node: node.name)}
        self.ready = {name: node for name, node in self.nodes.items() if node.state is NodeState.READY}
        self.seen = believed(self.snapshot)
        by_age = sorted(self.snapshot.operations, key=lambda op: (op.started_at, op.engine_id, op.verb))
        self.operations = {op.model: op for op in by_age if not self.is_away(op.nodes)}
        engines: dict[str, list[EngineObservation]] = defaultdict(list)
        for engine in sorted(self.seen, key=_worth):
            if not isinstance(engine.state, Lost):
                engines[engine.model].append(engine)
        self.engines = dict(engines)
        self.lost, self.torn = {}, {}
        if len(self.ready) < len(self.nodes):
            self._lose(by_age)
        self.groups = groups(self.desired.models)
        found = {names: lead_of(names, self.desired, self.engines, self.operations) for names in self.groups}
        self.leads = {name: lead for names, lead in found.items() for name in names}
        self.desired = gathered(self.desired, self.leads, self.groups)
        each = self.desired.demand.values()
        news = (at for one in each for at in (*one.asked[-1:], one.oldest_waiting_at) if at is not None)
        self.used = {engine.engine_id: self._last_used(engine) for engine in self.snapshot.engines}
        self.as_of = max([*news, *self.used.values()], default=0.0)
        self.held = {}
        for engine, as_seen in zip(self.seen, self.snapshot.engines, strict=True):
            if isinstance(as_seen.state, Loading):
                self.hold(engine.keys, engine.model, freeing=False)
        spans = {engine.engine_id: engine.keys for engine in self.seen if engine.further}
        for op in by_age:  # of an engine that spans nodes all of it: what could not be reached then may be back by now
            keys = (*op.keys, *spans.get(op.engine_id, ()))
            self.hold(keys, op.model, freeing=op.verb in (Verb.SLEEP, Verb.STOP))

    def is_away(self, nodes: Iterable[str]) -> bool:
        """None of them answers. Of a node that nobody knows that is not said."""
        return all(name in self.nodes and name not in self.ready for name in nodes)

    def _lose(self, operations: Iterable[Operation]) -> None:
        found: dict[str, set[str]] = defaultdict(set)
        for engine, as_seen in zip(self.seen, self.snapshot.engines, strict=True):
            gone = [name for name in as_seen.nodes if name in self.nodes and name not in self.ready]
            if isinstance(engine.state, Lost):
                found[engine.model].update(gone)
            elif gone:
                self.torn[engine.engine_id] = [self.nodes[name] for name in gone]
        for op in operations:
            if self.is_away(op.nodes):
                found[op.model].update(op.nodes)
        self.lost = {model: [self.nodes[name] for name in sorted(names)] for model, names in found.items()}

    def load_ends_at(self, engine: EngineObservation, loading: Loading) -> float:
        """When it counts as stalled, unless it moves before."""
        spec = self.desired.models.get(engine.model)
        return loading.progress_at + (DEFAULT_LOAD_TIMEOUT_S if spec is None else spec.load_timeout_s)

    def _is_stalled(self, model: str) -> bool:
        """It loads, with however many engines, and none of them has moved for its load_timeout."""
        found = [(each, each.state) for each in self.engines.get(model, ())]
        loads = [self.load_ends_at(each, state) for each, state in found if isinstance(state, Loading)]
        return bool(loads) and all(at <= self.now for at in loads)

    @property
    def policy(self) -> Policy:
        return self.desired.policy

    def hold(self, keys: Iterable[DeviceKey], model: str, *, freeing: bool) -> None:
        """`freeing`: the change gives memory back, and is over soon."""
        for key in keys:
            self.held.setdefault(key, {})[model] = freeing

    def holders(self, keys: Iterable[DeviceKey], *, besides: str = "") -> tuple[str, ...]:
        """The models, other than `besides`, whose change holds any of these devices."""
        found = {model for key in keys for model in self.held.get(key, ())}
        return tuple(sorted(found - {besides}))

    def holders_of(self, engine: EngineObservation) -> tuple[str, ...]:
        """The models whose change keeps this engine from one. Two loads that stalled on one device, as an earlier
        manager may leave behind, do not wait for each other: neither would ever end. What is under way does end.
        """
        found = self.holders(engine.keys, besides=engine.model)
        if not found or not self._is_stalled(engine.model):
            return found
        stalled = {model for model in found if model not in self.operations and self._is_stalled(model)}
        return tuple(model for model in found if model not in stalled or self._goes(engine.keys, model))

    def _goes(self, keys: Iterable[DeviceKey], model: str) -> bool:
        return any(self.held.get(key, {}).get(model, False) for key in keys)

    def loading(self, keys: Iterable[DeviceKey], *, besides: Collection[str] = ()) -> bool:
        """Something other than `besides` starts or wakes on one of these devices: that may take minutes."""
        held = (self.held.get(key, {}) for key in keys)
        return any(not freeing for changes in held for model, freeing in changes.items() if model not in besides)

    def on(self, key: DeviceKey) -> list[EngineObservation]:
        """The engines that have this device."""
        if not self._on:
            for engine in self.seen:
                for each in engine.keys:
                    self._on.setdefault(each, []).append(engine)
        return self._on.get(key, [])

    def engine(self, model: str) -> EngineObservation | None:
        engines = self.engines.get(model)
        return engines[0] if engines else None

    def spec(self, model: str) -> ModelSpec | None:
        return self.desired.models.get(model)

    def demand(self, model: str) -> Demand:
        return self.desired.demand.get(model, NO_DEMAND)

    def pinned(self, model: str) -> bool:
        """Pinned, and not put aside by an operator. Of several replicas it is the lead."""
        spec = self.desired.models.get(model)
        holds = spec is not None and spec.pin and self.lead(model) == model
        return holds and isinstance(self.override(model), WantReady | None)

    def lead(self, model: str) -> str:
        """Of a model's replicas the one that its demand is for; itself, where there is one."""
        return self.leads.get(model, model)

    def siblings(self, model: str) -> Names:
        """The other replicas of its model."""
        if model not in self.leads:
            return ()
        return next(tuple(name for name in names if name != model) for names in self.groups if model in names)

    def spare(self, model: str) -> bool:
        """Another engine of its model takes requests."""
        lead = self.leads.get(model, model)
        if lead == model:
            return False
        engine = self.engine(lead)
        if engine is None or not isinstance(engine.state, Awake):
            return False
        open_ = self.demand(lead).admission_closed_at is None
        operation = self.operations.get(lead)
        return open_ and (operation is None or operation.verb not in (Verb.SLEEP, Verb.STOP))

    def override(self, model: str) -> Override | None:
        """What an operator asked for, unless a later request has won over it (on a pinned model none does)."""
        override = self.desired.overrides.get(model)
        if override is None or isinstance(override, WantReady):
            return override
        spec, since = self.desired.models.get(model), self.demand(model).oldest_waiting_at
        beaten = since is not None and since > override.at and not (spec and spec.pin)
        return None if beaten else override

    def last_used(self, engine: EngineObservation) -> float:
        """When the engine was used last; one that never was counts from when it became ready, or started."""
        return self.used[engine.engine_id]

    def _last_used(self, engine: EngineObservation) -> float:
        used = self.demand(engine.model).last_used_at
        since = engine.state.ready_at if isinstance(engine.state, Awake) else engine.started_at
        return since if used is None else max(used, since)

    def phase(self, model: str) -> Phase:
        engine, operation = self.engine(model), self.operations.get(model)
        if model in self.lost and engine is None and operation is None:
            return Phase.LOST
        return phase_of(engine, operation, draining=self.demand(model).admission_closed_at is not None)
