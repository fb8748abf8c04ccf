"""The two states, indexed once per plan: what every step looks things up in."""

from collections import defaultdict
from dataclasses import dataclass, field

from vllama.domain.demand import NO_DEMAND, Demand, Override, WantReady
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, Awake, EngineObservation, Loading, Node, Operation, Snapshot, Verb
from vllama.domain.spec import ModelSpec, Policy
from vllama.domain.status import Phase, phase_of
from vllama.planner.replicas import Names, gathered, groups, lead_of

DeviceKey = tuple[str, int]


def _worth(engine: EngineObservation) -> tuple[int, float, str]:
    """Of two engines of one model the better one first: awake, asleep, loading, the rest; then the older."""
    kinds: dict[type, int] = {Awake: 0, Asleep: 1, Loading: 2}
    return kinds.get(type(engine.state), 3), engine.started_at, engine.engine_id


def best_engines(snapshot: Snapshot) -> dict[str, EngineObservation]:
    """By model the engine that its requests go to, where it has several."""
    return {engine.model: engine for engine in sorted(snapshot.engines, key=_worth, reverse=True)}


@dataclass(slots=True)
class View:
    desired: DesiredState
    snapshot: Snapshot
    now: float
    nodes: dict[str, Node] = field(init=False)
    engines: dict[str, list[EngineObservation]] = field(init=False)
    operations: dict[str, Operation] = field(init=False)  # by model
    held: dict[DeviceKey, dict[str, bool]] = field(init=False)  # device -> model whose change holds it -> see `hold`
    groups: list[Names] = field(init=False)  # of models with several replicas
    leads: dict[str, str] = field(init=False)  # of those, by replica
    used: dict[str, float] = field(init=False)  # when each engine was used last, by its id
    as_of: float = field(init=False)  # when anything was last asked for

    def __post_init__(self) -> None:
        self.nodes = {node.name: node for node in sorted(self.snapshot.nodes, key=lambda node: node.name)}
        by_age = sorted(self.snapshot.operations, key=lambda op: (op.started_at, op.engine_id, op.verb))
        self.operations = {op.model: op for op in by_age}
        engines: dict[str, list[EngineObservation]] = defaultdict(list)
        for engine in sorted(self.snapshot.engines, key=_worth):
            engines[engine.model].append(engine)
        self.engines = dict(engines)
        self.groups = groups(self.desired.models)
        found = {names: lead_of(names, self.desired, self.engines, self.operations) for names in self.groups}
        self.leads = {name: lead for names, lead in found.items() for name in names}
        self.desired = gathered(self.desired, self.leads, self.groups)
        each = self.desired.demand.values()
        news = (at for one in each for at in (*one.asked[-1:], one.oldest_waiting_at) if at is not None)
        self.used = {engine.engine_id: self._last_used(engine) for engine in self.snapshot.engines}
        self.as_of = max([*news, *self.used.values()], default=0.0)
        self.held = {}
        for engine in self.snapshot.engines:
            if isinstance(engine.state, Loading):
                self.hold(engine.node, engine.devices, engine.model, freeing=False)
        for op in by_age:
            self.hold(op.node, op.devices, op.model, freeing=op.verb in (Verb.SLEEP, Verb.STOP))

    @property
    def policy(self) -> Policy:
        return self.desired.policy

    def hold(self, node: str, devices: tuple[int, ...], model: str, *, freeing: bool) -> None:
        """`freeing`: the change gives memory back, and is over soon."""
        for device in devices:
            self.held.setdefault((node, device), {})[model] = freeing

    def holders(self, node: str, devices: tuple[int, ...], *, besides: str = "") -> tuple[str, ...]:
        """The models, other than `besides`, whose change holds any of these devices."""
        found = {model for device in devices for model in self.held.get((node, device), ())}
        return tuple(sorted(found - {besides}))

    def loading(self, node: str, devices: tuple[int, ...], *, besides: tuple[str, ...] = ()) -> bool:
        """Something other than `besides` starts or wakes on one of these devices: that may take minutes."""
        held = (self.held.get((node, device), {}) for device in devices)
        return any(not freeing for changes in held for model, freeing in changes.items() if model not in besides)

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
        closed = self.demand(model).admission_closed_at is not None
        return phase_of(self.engine(model), self.operations.get(model), draining=closed)
