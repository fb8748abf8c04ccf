"""What a plan leads to if everything in it succeeds at once: for `vllama plan --settle`, and for tests. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.decision import Decision, Plan
from vllama.domain.demand import Demand, Override, WantReady
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, Awake, DeviceKey, EngineObservation, Node, Snapshot, Verb
from vllama.domain.spec import SleepLevel
from vllama.planner.believed import believed
from vllama.planner.ledger import Ledger
from vllama.planner.plan import plan
from vllama.planner.view import View


def settle(desired: DesiredState, snapshot: Snapshot, now: float, *, limit: int = 100) -> tuple[Plan, ...]:
    """The plans with actions from here to rest, and the last one, which has none; `limit` passes at most.

    Time stands still. A plan without actions may still let waiters in or open a door, and others act on that: rest is
    when nothing at all changes any more.
    """
    plans: list[Plan] = []
    for _ in range(limit):
        made = plan(desired, snapshot, now)
        then = apply(made, desired, snapshot, now)
        at_rest = then == (desired, snapshot)
        if at_rest or any(made.actions):
            plans.append(made)
        if at_rest:
            break
        desired, snapshot = then
    return tuple(plans)


def apply(done: Plan, desired: DesiredState, snapshot: Snapshot, now: float) -> tuple[DesiredState, Snapshot]:
    """Both states after every action of `done`: what waited for a model that is ready has been served, too."""
    view = View(desired=desired, snapshot=snapshot, now=now)
    ledger = Ledger(view)
    engines = {engine.engine_id: engine for engine in snapshot.engines}
    grown: dict[DeviceKey, int] = {}
    for action in done.actions:
        before = None if isinstance(action, Start) else engines[action.engine_id]
        after = _after(ledger, action, before, now)
        held = 0 if before is None else ledger.actual(before)
        for key in action.keys:
            there = 0 if after is None or key not in after.keys else after.measured_bytes or 0
            grown[key] = grown.get(key, 0) + there - held
        if before is not None:
            del engines[before.engine_id]
        if after is not None:
            engines[after.engine_id] = after
    nodes = tuple(_node_after(node, grown) for node in snapshot.nodes)
    then = replace(snapshot, taken_at=now, nodes=nodes, engines=tuple(engines.values()))
    return _desired_after(view, done.decisions, then), then


def _after(ledger: Ledger, action: Action, engine: EngineObservation | None, now: float) -> EngineObservation | None:
    match action:
        case Start():
            return EngineObservation(
                engine_id=f"{action.model}@{now:g}", model=action.model, spec_hash=action.spec_hash, node=action.node,
                devices=action.devices, further=action.further, memory_bytes=action.memory_bytes,
                state=Awake(ready_at=now), started_at=now, measured_bytes=action.memory_bytes,
            )  # fmt: skip
        case Stop():
            return _left(engine, action)
        case Sleep() | Wake() if engine is None:
            raise AssertionError(f"{action} is for an engine that was not observed")
        case Sleep():
            kept = engine.host_copy_bytes
            if action.level is SleepLevel.WEIGHTS_OFFLOADED:
                kept += ledger.copy_bytes(engine, action.level)
            asleep = ledger.asleep(engine)
            return replace(engine, state=Asleep(level=action.level), measured_bytes=asleep, host_copy_bytes=kept)
        case Wake():
            held = max(engine.memory_bytes, ledger.charge(engine))
            return replace(engine, state=Awake(ready_at=now), measured_bytes=held)
        case _:
            assert_never(action)


def _left(engine: EngineObservation | None, stop: Stop) -> EngineObservation | None:
    """Of one that spans nodes, what is on those that could not be reached."""
    left = [place for place in engine.places if place not in stop.places] if engine is not None else []
    if engine is None or not left:
        return None
    return replace(engine, node=left[0].node, devices=left[0].devices, further=tuple(left[1:]))


def _node_after(node: Node, grown: dict[DeviceKey, int]) -> Node:
    devices = tuple(
        device
        if device.used_bytes is None
        else replace(device, used_bytes=max(0, device.used_bytes + grown.get((node.name, device.index), 0)))
        for device in node.devices
    )
    return replace(node, devices=devices)


def _desired_after(view: View, decisions: Iterable[Decision], then: Snapshot) -> DesiredState:
    """Doors as the decisions say, waiters of ready models served, the refused told, what operators asked for done."""
    going = {op.engine_id for op in then.operations if op.verb in {Verb.SLEEP, Verb.STOP}}
    awake = {e.model for e in believed(then) if isinstance(e.state, Awake) and e.engine_id not in going}
    demand, overrides = dict(view.desired.demand), dict(view.desired.overrides)
    for decision in decisions:
        model, old = decision.model, view.demand(decision.model)
        new, override = _doors(old, decision, view.now), view.override(model)
        ready = model in awake and not decision.drain and isinstance(override, WantReady | None)
        wanted = old.waiting > 0 or isinstance(override, WantReady)
        if wanted and (ready or decision.refused):
            used = view.now if ready else new.last_used_at
            new = replace(new, waiting=0, expected=0, oldest_waiting_at=None, last_used_at=used)
            overrides = _without(overrides, model, beaten=ready)
        if new != old:
            demand[model] = new
    return replace(view.desired, demand=demand, overrides=overrides)


def _doors(demand: Demand, decision: Decision, now: float) -> Demand:
    closed = demand.admission_closed_at is not None
    if decision.drain:
        return demand if closed else replace(demand, admission_closed_at=now)
    if closed and decision.action is None:
        return replace(demand, admission_closed_at=None, drain_ended_at=now)
    return replace(demand, admission_closed_at=None)


def _without(overrides: dict[str, Override], model: str, *, beaten: bool) -> dict[str, Override]:
    """A `start` is over when the model is ready or refused; any other is when a request won over it."""
    if model in overrides and (beaten or isinstance(overrides[model], WantReady)):
        return {name: override for name, override in overrides.items() if name != model}
    return overrides
