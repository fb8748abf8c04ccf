"""What a decision rests on: the slice of both states that it follows from, small enough to be kept. Pure.

Fed to the planner again it gives the same decision. Whoever has no engine, is going through no change, is wanted by
nobody, and was not the last that anybody asked for, has no influence on others, and is left out; so are names, command
lines and whatever else nothing hangs on.
"""

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from vllama.domain.action import Action, Start
from vllama.domain.decision import Decision
from vllama.domain.demand import NO_DEMAND
from vllama.domain.desired import DesiredState
from vllama.domain.observed import (
    Broken,
    Crashes,
    DeviceKey,
    EngineObservation,
    EngineState,
    Exited,
    Node,
    Snapshot,
    Unknown,
)
from vllama.domain.reason import Reason
from vllama.domain.spec import LaunchSpec, ModelSpec
from vllama.planner.plan import plan

MOST_MODELS = 48
MOST_DEVICES = 32
MOST_REPLAYED = 16  # in one pass: nobody should wait for what people may read later
LONGEST_CAUSE = 200
OLDER = "older"  # in place of the hash of settings that are no longer in force
_LOOKED_AT = ("gpu_memory_utilization", "tensor_parallel_size")  # of what vLLM is told, by plans
_SPEAKS_FOR_ITSELF = frozenset({
    Reason.NOT_WANTED, Reason.SERVING, Reason.IDLE, Reason.PINNED, Reason.SLEEPING, Reason.STARTING, Reason.WAKING,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`now` is of the monotonic clock, as all times in it. `complete` False: the case is too large to be kept whole,
    and what was kept of it does not lead to the same decision, or nobody has tried.
    """

    now: float
    desired: DesiredState
    snapshot: Snapshot
    complete: bool = True


def needs_evidence(decision: Decision) -> bool:
    """Something is done, or waited for, or refused."""
    deeds = decision.action is not None or decision.waits_for or decision.drain or decision.refused
    return bool(deeds) or decision.reason not in _SPEAKS_FOR_ITSELF


def evidence_of(
    desired: DesiredState, snapshot: Snapshot, now: float, decisions: Sequence[Decision]
) -> list[tuple[tuple[Decision, ...], Evidence]]:
    """`decisions` of one plan of these states, each with its evidence; one for all where the case is not too large."""
    if not decisions:
        return []
    names = _of_influence(desired, snapshot, {decision.model for decision in decisions})
    devices = {(node.name, device.index) for node in snapshot.nodes for device in node.devices}
    if len(names) <= MOST_MODELS and len(devices) <= MOST_DEVICES:
        return [(tuple(decisions), _slice(desired, snapshot, now, names, devices))]
    narrowed = [((decision,), _narrowed(desired, snapshot, now, decision)) for decision in decisions]
    return [
        (some, _judged(evidence, some[0]) if place < MOST_REPLAYED else replace(evidence, complete=False))
        for place, (some, evidence) in enumerate(narrowed)
    ]


def replayed(evidence: Evidence, model: str) -> Decision | None:
    """What the planner decides about `model` on the evidence alone; None: the evidence says nothing of it."""
    made = plan(evidence.desired, evidence.snapshot, evidence.now)
    return next((decision for decision in made.decisions if decision.model == model), None)


def agree(one: Decision, other: Decision) -> bool:
    """They say the same. Messages may differ in what nothing hangs on, and settings have another hash as a slice."""
    return _gist(one) == _gist(other)


def _gist(decision: Decision) -> tuple[object, ...]:
    return (
        decision.model, decision.reason, _deed(decision.action), decision.waits_for, decision.drain, decision.refused,
        decision.before, decision.after,
    )  # fmt: skip


def _deed(action: Action | None) -> Action | None:
    return replace(action, spec_hash="") if isinstance(action, Start) else action


def _of_influence(desired: DesiredState, snapshot: Snapshot, models: Collection[str]) -> set[str]:
    """And all replicas of each of them."""
    found = {*models, *(engine.model for engine in snapshot.engines), *(op.model for op in snapshot.operations)}
    found.update(model for model, demand in desired.demand.items() if demand.waiting)
    found.update(desired.overrides)
    found.update(model for model, spec in desired.models.items() if spec.pin)
    # how often others are asked for counts as of the last moment at which anybody was, whatever has become of that one
    asked = {model: demand.asked[-1] for model, demand in desired.demand.items() if demand.asked}
    found.update(sorted(asked, key=lambda model: (asked[model], model))[-1:])
    return found | _siblings(desired, found)


def _siblings(desired: DesiredState, names: Collection[str]) -> set[str]:
    served = {desired.models[name].served_name for name in names if name in desired.models}
    return {name for name, spec in desired.models.items() if spec.served_name in served}


def _narrowed(desired: DesiredState, snapshot: Snapshot, now: float, decision: Decision) -> Evidence:
    """Only the devices that it speaks of, who is on them, and who is waited for."""
    named = {decision.model, *decision.waits_for}
    there = [(engine.model, engine.keys) for engine in snapshot.engines]
    there += [(op.model, op.keys) for op in snapshot.operations]
    keys = {key for model, at in there if model in named for key in at}
    if decision.action is not None:
        keys.update(decision.action.keys)
    if not keys:  # then of each kind of device one will do
        keys.update(_one_of_each(snapshot.nodes))
    devices = set(sorted(keys)[:MOST_DEVICES])
    beside = [model for model, at in there if any(key in devices for key in at)]
    names = set([*dict.fromkeys([decision.model, *decision.waits_for, *beside])][:MOST_MODELS])
    return _slice(desired, snapshot, now, names | _siblings(desired, names), devices)


def _judged(evidence: Evidence, decision: Decision) -> Evidence:
    again = replayed(evidence, decision.model)
    return replace(evidence, complete=again is not None and agree(decision, again))


def _one_of_each(nodes: Iterable[Node]) -> Iterable[DeviceKey]:
    for node in nodes:
        kinds = {(device.total_bytes, device.reserve_bytes): device.index for device in node.devices}
        yield from ((node.name, index) for index in kinds.values())


def _slice(desired: DesiredState, snapshot: Snapshot, now: float, names: Set[str], devices: Set[DeviceKey]) -> Evidence:
    specs = {name: _bare(spec) for name, spec in desired.models.items() if name in names}
    engines = tuple(_seen(each, desired.models, specs) for each in snapshot.engines if each.model in names)
    nodes = tuple(_with_only(node, devices) for node in snapshot.nodes)
    return Evidence(
        now=now,
        desired=replace(
            desired, models=specs, overrides={name: wish for name, wish in desired.overrides.items() if name in names},
            demand={name: each for name, each in desired.demand.items() if name in names and each != NO_DEMAND},
        ),
        snapshot=replace(
            snapshot, engines=engines, nodes=tuple(node for node in nodes if node.devices or not devices),
            operations=tuple(op for op in snapshot.operations if op.model in names),
            footprints={name: each for name, each in snapshot.footprints.items() if name in names},
            crashes={name: _briefly(each) for name, each in snapshot.crashes.items() if name in names},
        ),
    )  # fmt: skip


@functools.lru_cache(maxsize=4 * MOST_MODELS)  # a new spec has its hash made
def _bare(spec: ModelSpec) -> ModelSpec:
    found = {name: spec.launch.setting(name) for name in _LOOKED_AT}
    settings = tuple((name, value) for name, value in found.items() if value is not None)
    return replace(spec, launch=LaunchSpec(settings=settings), aliases=(), lora=())


def _seen(
    engine: EngineObservation, models: Mapping[str, ModelSpec], bare: Mapping[str, ModelSpec]
) -> EngineObservation:
    spec = models.get(engine.model)
    current = spec is not None and spec.spec_hash == engine.spec_hash
    return replace(
        engine, spec_hash=bare[engine.model].spec_hash if current else OLDER, state=_in_short(engine.state), pid=None,
        port=None, host_measured_bytes=None,
    )  # fmt: skip


def _in_short(state: EngineState) -> EngineState:
    match state:
        case Exited() | Broken():
            return replace(state, cause=state.cause[:LONGEST_CAUSE])
        case Unknown():
            return replace(state, error=state.error[:LONGEST_CAUSE])
        case _:
            return state


def _briefly(crashes: Crashes) -> Crashes:
    return replace(crashes, cause=crashes.cause[:LONGEST_CAUSE])


def _with_only(node: Node, devices: Set[DeviceKey]) -> Node:
    kept = (device for device in node.devices if (node.name, device.index) in devices)
    return replace(node, devices=tuple(replace(device, name="", foreign=()) for device in kept))
