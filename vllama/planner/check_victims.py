"""The second opinion on who goes by `policy.victims: cost`, worked out once more from scratch.

It knows of one kind of mistake that no reason excuses: somebody goes although another engine of the very same devices,
that nothing speaks for, would do as well the same way and costs less.
"""

from collections.abc import Iterator

from vllama.domain.action import Action, Sleep, Stop
from vllama.domain.observed import Awake, EngineObservation
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, SleepLevel, VictimPolicy
from vllama.domain.units import GIB
from vllama.planner.check_case import Case, FindingKind, asked_for, charge, replicas, residue, whole

_LITTLE = 1 + 1e-9  # floats that are reckoned in another order


def cheaper_stays(case: Case) -> Iterator[tuple[FindingKind, str]]:
    if case.desired.policy.victims is not VictimPolicy.COST or _several_wait(case):
        return
    decisions = {decision.model: decision for decision in case.plan.decisions}
    for decision in case.plan.decisions:
        if decision.reason is not Reason.EVICTED or decision.action is None:
            continue
        gone = case.engine(decision.action)
        if gone is None or not isinstance(gone.state, Awake) or _is_one_of_several(case, gone.model):
            continue
        for other in case.snapshot.engines:
            alike = other.places == gone.places and isinstance(other.state, Awake)
            left = decisions[other.model].reason is Reason.IDLE and decisions[other.model].action is None
            if not alike or not left or case.desired.demand_of(other.model).waiting:
                continue
            if _would_do(case, other, gone, decision.action) and _LITTLE * _cost(case, other, decision.action) < _cost(
                case, gone, decision.action
            ):
                yield FindingKind.DEARER_GOES, f"{decision.model} goes where {other.model} would have cost less"


def _several_wait(case: Case) -> bool:
    """Then who looks free may have been promised to another one."""
    up = {engine.model for engine in case.snapshot.engines if isinstance(engine.state, Awake) and whole(case, engine)}
    return sum(asked_for(case, model) for model in case.desired.models if model not in up) > 1


def _is_one_of_several(case: Case, model: str) -> bool:
    return len(replicas(case, model)) > 1


def _would_do(case: Case, other: EngineObservation, gone: EngineObservation, action: Action) -> bool:
    """It frees as much in the same way, and needs no host memory that it has not."""
    spec = case.desired.models.get(other.model)
    if spec is None or spec.pin or _is_one_of_several(case, other.model):
        return False
    if case.desired.demand_of(other.model).admission_closed_at is not None:
        return False
    if isinstance(action, Stop):
        return _only_stops(case, spec, other) and charge(case, other) >= charge(case, gone)
    keeps_copy = other.host_copy_bytes > 0 and spec.eviction_level in (None, SleepLevel.WEIGHTS_OFFLOADED)
    footprint = case.snapshot.footprints.get(other.model)
    level = action.level if isinstance(action, Sleep) else None
    refused = footprint is None or level is not SleepLevel.WEIGHTS_OFFLOADED or level in footprint.refused_levels
    frees = charge(case, other) - residue(case, other) >= charge(case, gone) - residue(case, gone)
    return spec.sleep_mode and keeps_copy and not refused and frees


def _only_stops(case: Case, spec: ModelSpec, engine: EngineObservation) -> bool:
    node = case.node(engine.node)
    if engine.further:
        return True
    return spec.eviction_level is SleepLevel.STOP or not spec.sleep_mode or node is None or not node.sleep_frees_memory


def _cost(case: Case, engine: EngineObservation, action: Action) -> float:
    """Seconds of waiting per second. What takes how long: as measured, else as usual."""
    demand, footprint = case.desired.demand_of(engine.model), case.snapshot.footprints.get(engine.model)
    each = list(case.desired.demand.values())
    times = [one.asked[-1] for one in each if one.asked]
    times += [one.oldest_waiting_at for one in each if one.oldest_waiting_at is not None]
    times += [_used(case, other) for other in case.snapshot.engines]
    asked = demand.asked or (_used(case, engine),)
    first_s, last_s = (1.0 + max(0.0, max(times) - at) for at in (asked[0], asked[-1]))
    often = float((len(asked) / first_s / last_s) ** 0.5)
    if footprint is None:
        return often * (1.0 if isinstance(action, Sleep) else 35.0)
    weights_gib = footprint.weights_bytes / GIB
    if isinstance(action, Sleep):
        back_s = 1.0 + weights_gib / len(engine.keys) / 20 if footprint.wake_s is None else footprint.wake_s
    elif footprint.load_s is not None:
        back_s = footprint.load_s
    else:
        back_s = 35.0 + weights_gib / 2
    return often * back_s


def _used(case: Case, engine: EngineObservation) -> float:
    """When it was used last, if ever; else since when it is up, or was begun."""
    used = [case.desired.demand_of(name).last_used_at for name in replicas(case, engine.model)]
    since = engine.state.ready_at if isinstance(engine.state, Awake) else engine.started_at
    return max([since, *(at for at in used if at is not None)])
