"""What the second opinion reads: both states and the plan, and the arithmetic, worked out once more from scratch.

Memory is in bytes per device; times are seconds, monotonic. Nothing here comes from the rest of the planner.
"""

import enum
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.decision import Plan
from vllama.domain.demand import Override, WantReady, WantStopped
from vllama.domain.desired import DesiredState
from vllama.domain.observed import (
    Asleep,
    Awake,
    Broken,
    Device,
    EngineObservation,
    Exited,
    Loading,
    Node,
    NodeState,
    Place,
    Placed,
    Snapshot,
    Unknown,
    Verb,
)
from vllama.domain.spec import (
    DEFAULT_LOAD_TIMEOUT_S,
    DEFAULT_RESIDUE_BYTES,
    DEFAULT_RESIDUE_PARALLEL_BYTES,
    HOST_COPY_FACTOR,
    ModelSpec,
)


class FindingKind(enum.StrEnum):
    NOT_ONE_DECISION = "NotOneDecision"
    DEVICE_TAKEN_TWICE = "DeviceTakenTwice"
    UNDER_CHANGE = "UnderChange"
    NO_SUCH_ENGINE = "NoSuchEngine"
    WRONG_STATE = "WrongState"
    CUTS_REQUESTS = "CutsRequests"
    DRAINS_TOO_LONG = "DrainsTooLong"
    PINNED_VICTIM = "PinnedVictim"
    SECOND_START = "SecondStart"
    NOBODY_ASKED = "NobodyAsked"
    TOO_EARLY = "TooEarly"
    WRONG_PLACE = "WrongPlace"
    UNKNOWN_MEMORY = "UnknownMemory"
    OVERCOMMITTED = "Overcommitted"
    HOST_OVERCOMMITTED = "HostOvercommitted"
    EVICTED_IN_VAIN = "EvictedInVain"
    ABANDONED_WRONGLY = "AbandonedWrongly"
    REPLICA_DISPLACES = "ReplicaDisplaces"
    DEARER_GOES = "DearerGoes"
    STOPPED_IN_HASTE = "StoppedInHaste"
    NO_NUMBERS = "NoNumbers"
    NOT_READY = "NotReady"
    TORN_KEPT = "TornKept"
    BAD_REQUEUE = "BadRequeue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    kind: FindingKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`replicas`: all names of a model in the order of their numbers, by what it is called when served."""

    desired: DesiredState
    snapshot: Snapshot
    now: float
    plan: Plan
    replicas: dict[str, list[str]] = field(init=False)
    away: frozenset[str] = field(init=False)  # nodes that are not ready
    on: dict[tuple[str, int], list[EngineObservation]] = field(init=False)  # who has which device
    by_model: dict[str, list[EngineObservation]] = field(init=False)
    by_node: dict[str, list[EngineObservation]] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[str, list[str]] = {}
        for spec in sorted(self.desired.models.values(), key=lambda spec: spec.replica):
            found.setdefault(spec.replica_of or spec.model, []).append(spec.model)
        object.__setattr__(self, "replicas", found)
        away = frozenset(node.name for node in self.snapshot.nodes if node.state is not NodeState.READY)
        object.__setattr__(self, "away", away)
        on: dict[tuple[str, int], list[EngineObservation]] = {}
        by_model: dict[str, list[EngineObservation]] = {}
        by_node: dict[str, list[EngineObservation]] = {}
        for engine in self.snapshot.engines:
            by_model.setdefault(engine.model, []).append(engine)
            for name in engine.nodes:
                by_node.setdefault(name, []).append(engine)
            for key in engine.keys:
                on.setdefault(key, []).append(engine)
        object.__setattr__(self, "on", on)
        object.__setattr__(self, "by_model", by_model)
        object.__setattr__(self, "by_node", by_node)

    def engines(self, model: str) -> list[EngineObservation]:
        """Those that something can be asked of: nobody can be on nodes that are not ready."""
        there = self.by_model.get(model, [])
        return [engine for engine in there if reachable(self, engine)] if self.away else there

    def engine(self, action: Action) -> EngineObservation | None:
        wanted = None if isinstance(action, Start) else action.engine_id
        return next((engine for engine in self.snapshot.engines if engine.engine_id == wanted), None)

    def node(self, name: str) -> Node | None:
        return next((node for node in self.snapshot.nodes if node.name == name), None)


def reachable(case: Case, what: Placed) -> list[Place]:
    """Its places on nodes that are not known to be away."""
    if not case.away:
        return list(what.places)
    return [place for place in what.places if place.node not in case.away]


def whole(case: Case, what: Placed) -> bool:
    return not case.away or len(reachable(case, what)) == 1 + len(what.further)


def old_reading(case: Case, name: str) -> bool:
    """Its memory was read half a minute ago or more: what ours held then is not what they hold now."""
    node = case.node(name)
    return node is not None and node.seen_at is not None and case.snapshot.taken_at > node.seen_at + 30.0


def usable(spec: ModelSpec, node: Node) -> list[Device]:
    if spec.node not in (None, node.name):
        return []
    return [device for device in node.devices if spec.devices is None or device.index in spec.devices]


def fits(case: Case, spec: ModelSpec, room: Callable[[tuple[str, int]], int | None]) -> bool:
    """On one node, or where none has devices enough on several that are alike."""
    if any(_fits_on(case, spec, node, spec.device_count, room) for node in case.snapshot.nodes):
        return True
    for parts in range(2, len(case.snapshot.nodes) + 1 if must_span(case, spec) else 0):
        if spec.device_count % parts == 0:
            size = spec.device_count // parts
            alike = Counter(
                tuple(sorted(device.total_bytes for device in usable(spec, node)))
                for node in case.snapshot.nodes
                if _fits_on(case, spec, node, size, room)
            )
            if any(count >= parts for count in alike.values()):
                return True
    return False


def must_span(case: Case, spec: ModelSpec) -> bool:
    return all(len(usable(spec, node)) < spec.device_count for node in case.snapshot.nodes)


def _fits_on(
    case: Case, spec: ModelSpec, node: Node, size: int, room: Callable[[tuple[str, int]], int | None]
) -> bool:  # fmt: skip
    there = usable(spec, node)
    for smallest in there:
        least = need(case, spec, [smallest])
        rooms = [room((node.name, d.index)) for d in there if d.total_bytes >= smallest.total_bytes]
        if sum(left is not None and left >= least for left in rooms) >= size:
            return True
    return False


def need(case: Case, spec: ModelSpec, devices: Iterable[Device]) -> int:
    total = min(device.total_bytes for device in devices)
    if spec.memory_bytes is not None:
        return spec.memory_bytes
    share = dict(spec.launch.settings).get("gpu_memory_utilization")
    if isinstance(share, (int, float)):
        return int(share * total)
    footprint, most = case.snapshot.footprints.get(spec.model), int(0.85 * total)
    if footprint is None:
        return most
    weights = footprint.awake_bytes - footprint.cache_bytes if footprint.cache_bytes is not None else 0
    return footprint.awake_bytes if footprint.awake_bytes <= most else max(most, weights)


def residue(case: Case, engine: EngineObservation) -> int:
    node, footprint = case.node(engine.node), case.snapshot.footprints.get(engine.model)
    if node is not None and not node.sleep_frees_memory:
        return engine.memory_bytes
    if footprint is not None:
        return footprint.asleep_bytes
    return DEFAULT_RESIDUE_BYTES if len(engine.keys) == 1 else DEFAULT_RESIDUE_PARALLEL_BYTES


def holds(case: Case, engine: EngineObservation) -> int:
    if engine.measured_bytes is not None:
        return engine.measured_bytes
    return residue(case, engine) if isinstance(engine.state, Asleep) else engine.memory_bytes


def charge(case: Case, engine: EngineObservation) -> int:
    if any(old_reading(case, name) for name in engine.nodes):
        return residue(case, engine) if isinstance(engine.state, Asleep) else engine.memory_bytes
    if isinstance(engine.state, Asleep | Exited):
        return holds(case, engine)
    return max(engine.memory_bytes, engine.measured_bytes or 0)


def after(case: Case, engine: EngineObservation) -> int:
    """What it holds when the plan's action on it is done; other actions on its devices there cannot be."""
    for action in case.plan.actions:
        if not isinstance(action, Start) and action.engine_id == engine.engine_id:
            match action:
                case Sleep():
                    return residue(case, engine)
                case Wake():
                    leak = 0 if any(old_reading(case, name) for name in engine.nodes) else leaked(engine)
                    return max(engine.memory_bytes + leak, charge(case, engine))
                case Stop():
                    return 0
    return charge(case, engine)


def leaked(engine: EngineObservation) -> int:
    """By how much more than after its first sleep it holds asleep: its wake does not give that back."""
    return max(0, (engine.measured_bytes or 0) - (engine.first_residue_bytes or engine.measured_bytes or 0))


def still_loads(case: Case, engine: EngineObservation) -> bool:
    """And has moved within its load_timeout: past that it only waits for its end."""
    spec, state = case.desired.models.get(engine.model), engine.state
    patience_s = spec.load_timeout_s if spec is not None else DEFAULT_LOAD_TIMEOUT_S
    return isinstance(state, Loading) and case.now - state.progress_at < patience_s


def ends_stuck(case: Case, action: Action) -> bool:
    """It ends a load that does not move: that waits for no other such."""
    ended = [each for each in case.snapshot.engines if isinstance(action, Stop) and each.engine_id == action.engine_id]
    return any(isinstance(each.state, Loading) and not still_loads(case, each) for each in ended)


def foreign(case: Case, key: tuple[str, int], used_bytes: int) -> int:
    """Of who loads nobody knows how much of what is used was its own when that was read: up to all that it will be."""
    device = device_at(case, key)
    if device is not None and device.foreign_bytes is not None and old_reading(case, key[0]):
        return device.foreign_bytes
    ours = (
        max(engine.memory_bytes, engine.measured_bytes or 0)
        if isinstance(engine.state, Loading)
        else holds(case, engine)
        for engine in engines_on(case, key)
    )
    return max(0, used_bytes - sum(ours))


def host_copy(case: Case, engine: EngineObservation) -> int:
    footprint = case.snapshot.footprints.get(engine.model)
    return 0 if footprint is None else int(HOST_COPY_FACTOR * footprint.weights_bytes)


def share_of(engine: EngineObservation, node: str, size: int) -> int:
    """Of what all of its ranks have in host memory together, those on this node."""
    return size * sum(name == node for name, _ in engine.keys) // len(engine.keys)


def device_at(case: Case, key: tuple[str, int]) -> Device | None:
    node = case.node(key[0])
    return None if node is None else next((device for device in node.devices if device.index == key[1]), None)


def engines_on(case: Case, key: tuple[str, int]) -> list[EngineObservation]:
    return case.on.get(key, [])


def is_on(what: Placed, key: tuple[str, int]) -> bool:
    return any(place.node == key[0] and key[1] in place.devices for place in what.places)


def meet(one: Placed, action: Action) -> bool:
    return any(is_on(action, key) for key in one.keys)


def asked_for(case: Case, model: str) -> bool:
    """By a request that waits, by a pin or by an operator; whether somebody holds it down is another question.

    What is asked of one replica is asked of its model. One more beside one that serves is for a model in use.
    """
    spec, names = case.desired.models.get(model), replicas(case, model)
    wished = isinstance(override(case, model), WantReady)
    if wished or (spec is not None and spec.pin) or any(case.desired.demand_of(name).waiting for name in names):
        return True
    return any(serves(case, name) and _in_use(case, name) for name in names if name != model)


def _in_use(case: Case, model: str) -> bool:
    """`model` serves, and does not rest by time."""
    spec = case.desired.models[model]
    each = [case.desired.demand_of(name) for name in replicas(case, model)]
    kept = [demand.keep_alive for demand in each if demand.keep_alive is not None]
    after_s = kept[0].idle_s if kept else spec.idle.sleep_after_s
    if after_s is None or any(demand.in_flight for demand in each):
        return True
    there = [engine for engine in case.engines(model) if whole(case, engine)]
    awake = sorted((engine.started_at, engine.engine_id, engine.state.ready_at)
                   for engine in there if isinstance(engine.state, Awake))  # fmt: skip
    used = [demand.last_used_at for demand in each if demand.last_used_at is not None]
    return bool(case.now < max([awake[0][2], *used]) + after_s)


def replicas(case: Case, model: str) -> list[str]:
    """All names of its model, in the order of their numbers."""
    spec = case.desired.models.get(model)
    return [model] if spec is None else case.replicas[spec.replica_of or spec.model]


def override(case: Case, model: str) -> Override | None:
    """The latest word of an operator about its model."""
    said = [case.desired.overrides[name] for name in replicas(case, model) if name in case.desired.overrides]
    return max(said, key=lambda one: (one.at, isinstance(one, WantReady), repr(one)), default=None)


def serves(case: Case, model: str) -> bool:
    """One of its engines takes requests, and is not on its way down."""
    ops = sorted(
        (op.started_at, op.engine_id, op.verb)
        for op in case.snapshot.operations
        if op.model == model and reachable(case, op)
    )
    goes = bool(ops) and ops[-1][2] in (Verb.SLEEP, Verb.STOP)
    awake = any(isinstance(engine.state, Awake) and whole(case, engine) for engine in case.engines(model))
    return awake and not goes and case.desired.demand_of(model).admission_closed_at is None


def spare(case: Case, model: str) -> bool:
    """Another replica of its model serves."""
    return any(serves(case, name) for name in replicas(case, model) if name != model)


def stopped(case: Case, model: str) -> bool:
    return isinstance(override(case, model), WantStopped)


def faulty(case: Case, engine: EngineObservation) -> bool:
    if not whole(case, engine):
        return True
    if isinstance(engine.state, Unknown):
        return case.now >= engine.state.since + case.desired.policy.probe_deadline_s
    return isinstance(engine.state, Exited | Broken)


def drained_in_vain(case: Case, model: str) -> bool:
    """It is to go whatever is in flight, and had its time to finish."""
    goes = model not in case.desired.models or stopped(case, model)
    closed_at = case.desired.demand_of(model).admission_closed_at
    return goes and closed_at is not None and case.now >= closed_at + case.desired.policy.drain_deadline_s
