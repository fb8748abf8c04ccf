"""The same cluster, if something were otherwise: for questions that people ask, never for the loop. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from vllama.domain.decision import Decision
from vllama.domain.demand import Demand, Override, WantReady
from vllama.domain.desired import DesiredState
from vllama.domain.observed import (
    Asleep,
    Awake,
    EngineObservation,
    Footprint,
    Loading,
    Lost,
    Node,
    Operation,
    Snapshot,
    Verb,
)
from vllama.domain.replicas import expanded
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.planner.ledger import Ledger
from vllama.planner.plan import plan
from vllama.planner.view import View

_TICK_S = 1e-6  # between two arrivals, so that the order stands


def requested(desired: DesiredState, models: Sequence[str], now: float) -> DesiredState:
    """One more request waits for each of `models`, which arrived just now and in this order."""
    demand = dict(desired.demand)
    for place, model in enumerate(dict.fromkeys(models)):
        before = desired.demand_of(model)
        arrived = now - (len(models) - place) * _TICK_S
        oldest = arrived if before.oldest_waiting_at is None else min(arrived, before.oldest_waiting_at)
        demand[model] = replace(before, waiting=before.waiting + 1, oldest_waiting_at=oldest)
    return replace(desired, demand=demand)


def wished(desired: DesiredState, snapshot: Snapshot, model: str, wish: Override) -> tuple[DesiredState, Snapshot]:
    """As the controller takes a wish: the pause after a failure is over, and who waits is told that it goes down.

    A start is one request, which is for `requested` to add.
    """
    names = replicas_of(desired, model)
    crashes = {name: found for name, found in snapshot.crashes.items() if name not in names}
    overrides = {name: other for name, other in desired.overrides.items() if name != model}
    demand = dict(desired.demand)
    if not isinstance(wish, WantReady):
        overrides[model] = wish
        demand[model] = replace(desired.demand_of(model), waiting=0, oldest_waiting_at=None)
    return replace(desired, overrides=overrides, demand=demand), replace(snapshot, crashes=crashes)


def replicas_of(desired: DesiredState, model: str) -> set[str]:
    return {model, *(name for name, spec in desired.models.items() if spec.served_name == model)}


def answered(desired: DesiredState, models: Collection[str], now: float) -> DesiredState:
    """What is in flight at `models` has ended."""
    ended = {model: replace(desired.demand_of(model), in_flight=0, last_used_at=now) for model in models}
    return replace(desired, demand={**desired.demand, **ended})


def ended(desired: DesiredState, snapshot: Snapshot, now: float) -> Snapshot:
    """Every operation under way has succeeded, and who loads is ready."""
    ledger = Ledger(View(desired=desired, snapshot=snapshot, now=now))
    by_engine = {op.engine_id: op for op in snapshot.operations}
    lost = {engine.engine_id for engine in ledger.view.seen if isinstance(engine.state, Lost)}
    engines = [
        engine if engine.engine_id in lost else _ended(ledger, engine, by_engine.pop(engine.engine_id, None), now)
        for engine in snapshot.engines
    ]
    begun = [op for op in by_engine.values() if op.verb is Verb.START and not ledger.view.is_away(op.nodes)]
    engines += [_started(desired, op, now) for op in begun if op.engine_id not in lost]
    return replace(_with(ledger, [engine for engine in engines if engine is not None]), operations=())


def alone(
    desired: DesiredState, snapshot: Snapshot, now: float, models: Collection[str]
) -> tuple[DesiredState, Snapshot]:
    """Nothing of ours runs but what is pinned, nobody asks for anything, and nothing ever failed.

    There are no other models than `models` and the pinned ones that run, with one engine each; those are ready where
    they are. What others hold of the devices stays.
    """
    ledger = Ledger(View(desired=desired, snapshot=snapshot, now=now))
    firsts = {model: spec for model, spec in desired.models.items() if spec.replica_of is None}
    pinned = {model for model, spec in firsts.items() if spec.pin and model in ledger.view.engines}
    kept = [ledger.view.engines[model][0] for model in sorted(pinned.difference(models))]
    there = _with(ledger, [_awake(engine, now) for engine in kept])
    specs = {model: spec for model, spec in desired.models.items() if model in models or model in pinned}
    return (
        replace(desired, models=specs, demand={}, overrides={}),
        replace(there, operations=(), crashes={}),
    )


def changed(
    desired: DesiredState, snapshot: Snapshot, now: float, spec: ModelSpec, footprint: Footprint | None
) -> tuple[DesiredState, Snapshot]:
    """`spec` in place of what models.yaml says of its model. What was ready and needs a new engine comes back, as the
    loop sees to; `footprint` None: nothing is known of it.
    """
    model, engine = spec.model, View(desired=desired, snapshot=snapshot, now=now).engine(spec.model)
    overrides = dict(desired.overrides)
    if engine is not None and engine.spec_hash != spec.spec_hash and isinstance(engine.state, Awake):
        overrides.setdefault(model, WantReady(at=now))
    engines = expanded([spec])
    footprints = {name: known for name, known in snapshot.footprints.items() if name not in engines}
    if footprint is not None:
        footprints |= dict.fromkeys(engines, footprint)
    others = {name: other for name, other in desired.models.items() if other.served_name != model}
    return (
        replace(desired, models={**others, **engines}, overrides=overrides),
        replace(snapshot, footprints=footprints),
    )


def start_of(desired: DesiredState, snapshot: Snapshot, now: float, model: str) -> Decision:
    """How `model` would be started if it had the devices for itself and for what is pinned; where it runs, there."""
    engine = View(desired=desired, snapshot=snapshot, now=now).engine(model)
    empty, there = alone(desired, snapshot, now, {model})
    spec = desired.models[model]
    placed = spec if engine is None else replace(spec, devices=engine.devices)
    demand = {model: Demand(waiting=1, oldest_waiting_at=now)}
    made = plan(replace(empty, models={**empty.models, model: placed}, demand=demand), there, now)
    return next(decision for decision in made.decisions if decision.model == model)


def _ended(
    ledger: Ledger, engine: EngineObservation, operation: Operation | None, now: float
) -> EngineObservation | None:
    if operation is None:
        return _awake(engine, now) if isinstance(engine.state, Loading) else engine
    match operation.verb:
        case Verb.STOP:
            return None
        case Verb.START | Verb.WAKE:
            return _awake(engine, now)
        case Verb.SLEEP:
            level = SleepLevel.WEIGHTS_OFFLOADED if operation.level is None else operation.level
            return replace(
                engine, state=Asleep(level=level), measured_bytes=ledger.asleep(engine),
                host_copy_bytes=ledger.host_copy_after_operation(engine),
            )  # fmt: skip


def _awake(engine: EngineObservation, now: float) -> EngineObservation:
    holds = max(engine.memory_bytes, engine.measured_bytes or 0)
    ready_at = engine.state.ready_at if isinstance(engine.state, Awake) else now
    return replace(engine, state=Awake(ready_at=ready_at), measured_bytes=holds)


def _started(desired: DesiredState, op: Operation, now: float) -> EngineObservation:
    spec = desired.models.get(op.model)
    return EngineObservation(
        engine_id=op.engine_id, model=op.model, spec_hash=spec.spec_hash if spec else "", node=op.node,
        devices=op.devices, further=op.further,
        memory_bytes=op.memory_bytes, state=Awake(ready_at=now), started_at=op.started_at,
        measured_bytes=op.memory_bytes,
    )  # fmt: skip


def _with(ledger: Ledger, engines: Iterable[EngineObservation]) -> Snapshot:
    """These engines, and of each device as much used as others hold now and these engines then."""
    snapshot, there = ledger.view.snapshot, tuple(engines)
    held: dict[tuple[str, int], int] = {}
    for engine in there:
        for key in engine.keys:
            held[key] = held.get(key, 0) + ledger.actual(engine)
    nodes = tuple(_with_used(ledger, node, held) for node in snapshot.nodes)
    return replace(snapshot, nodes=nodes, engines=there)


def _with_used(ledger: Ledger, node: Node, held: dict[tuple[str, int], int]) -> Node:
    devices = []
    for device in node.devices:
        key = node.name, device.index
        foreign = device.total_bytes - device.reserve_bytes - ledger.capacity[key]
        used = None if device.used_bytes is None else foreign + held.get(key, 0)
        devices.append(replace(device, used_bytes=used))
    return replace(node, devices=tuple(devices))
