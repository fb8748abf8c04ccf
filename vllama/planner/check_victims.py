"""The second opinion on who goes by `policy.victims: cost`, worked out once more from scratch.

It knows of two kinds of mistakes that no reason excuses: somebody goes although another engine of the very same
devices, that nothing speaks for, would do as well the same way and costs less; or stops although those who are busy
could sleep instead, and hardly anybody has waited for that.
"""

from collections.abc import Iterator

from vllama.domain.action import Action, Sleep, Stop
from vllama.domain.demand import Demand
from vllama.domain.observed import Asleep, Awake, EngineObservation
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, SleepLevel, VictimPolicy
from vllama.domain.units import GIB
from vllama.planner.check_case import (
    Case,
    FindingKind,
    asked_for,
    charge,
    device_at,
    engines_on,
    foreign,
    leaked,
    need,
    replicas,
    residue,
    whole,
)

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


def stopped_in_haste(case: Case) -> Iterator[tuple[FindingKind, str]]:
    """Who is asked for often stops for the one who waits, although busy engines of its device could sleep instead, and
    the wait has not cost yet what the start will.
    """
    if case.desired.policy.victims is not VictimPolicy.COST or _several_wait(case):
        return
    for decision in case.plan.decisions:
        waiter = next((d for d in case.plan.decisions if d.reason is Reason.MAKING_ROOM), None)
        if decision.reason is not Reason.EVICTED or not isinstance(decision.action, Stop) or waiter is None:
            continue
        gone, since = case.engine(decision.action), _waits_since(case, waiter.model)
        if gone is None or since is None or not _comes_from_sleep(case, gone):
            continue
        others = [other for other in case.snapshot.engines if other.keys == gone.keys and _can_sleep(case, other)]
        busy = [other.model for other in others if case.desired.demand_of(other.model).in_flight]
        costs_s = _back_s(case, gone, stop=True) * min(1.0, 600.0 * _often(case, gone))
        waits_s = min(case.desired.policy.fairness_bound_s, costs_s / case.desired.demand_of(waiter.model).waiting)
        if busy and _LITTLE * (case.now - since) < waits_s and _fits_beside(case, waiter.model, gone, others):
            names = ", ".join(sorted(busy))
            yield (
                FindingKind.STOPPED_IN_HASTE,
                f"{decision.model} stops for {waiter.model}, which could wait for {names} to sleep",
            )


def _waits_since(case: Case, model: str) -> float | None:
    """Of one that requests alone ask for, of one device; None: it is another kind of waiter."""
    spec, demand = case.desired.models.get(model), case.desired.demand_of(model)
    plain = spec is not None and not spec.pin and spec.device_count == 1 and not _is_one_of_several(case, model)
    return demand.oldest_waiting_at if plain and model not in case.desired.overrides else None


def _comes_from_sleep(case: Case, engine: EngineObservation) -> bool:
    asleep = isinstance(engine.state, Asleep) and not _is_one_of_several(case, engine.model)
    return len(engine.keys) == 1 and (asleep or _can_sleep(case, engine))


def _can_sleep(case: Case, engine: EngineObservation) -> bool:
    """At level 1, surely: its copy is in host memory already, and nothing else is going on with it."""
    spec, node = case.desired.models.get(engine.model), case.node(engine.node)
    footprint, demand = case.snapshot.footprints.get(engine.model), case.desired.demand_of(engine.model)
    if spec is None or node is None or footprint is None or not isinstance(engine.state, Awake):
        return False
    known = spec.sleep_mode and node.sleep_frees_memory and spec.spec_hash == engine.spec_hash
    known &= spec.eviction_level in (None, SleepLevel.WEIGHTS_OFFLOADED) and not footprint.refused_levels
    plain = not spec.pin and not _is_one_of_several(case, engine.model) and len(case.engines(engine.model)) == 1
    plain &= engine.model not in case.desired.overrides and not demand.waiting and demand.admission_closed_at is None
    plain &= all(op.model != engine.model for op in case.snapshot.operations)
    unified = any(device.unified for device in node.devices)
    return known and plain and not unified and engine.host_copy_bytes > 0


def _fits_beside(case: Case, model: str, gone: EngineObservation, others: list[EngineObservation]) -> bool:
    """On the device of `gone`, when `others` sleep."""
    [key], engines = gone.keys, case.engines(model)
    device, asleep = device_at(case, key), {other.engine_id for other in others}
    if device is None or device.used_bytes is None or (engines and engines[0].keys != gone.keys):
        return False
    charged = sum(
        residue(case, one) if one.engine_id in asleep else charge(case, one)
        for one in engines_on(case, key)
        if one.model != model
    )
    size = engines[0].memory_bytes + leaked(engines[0]) if engines else need(case, case.desired.models[model], [device])
    return charged + size + foreign(case, key, device.used_bytes) <= device.total_bytes - device.reserve_bytes


def _cost(case: Case, engine: EngineObservation, action: Action) -> float:
    """Seconds of waiting per second. What takes how long: as measured, else as usual."""
    return _often(case, engine) * _back_s(case, engine, stop=not isinstance(action, Sleep))


def _often(case: Case, engine: EngineObservation) -> float:
    demand, each = case.desired.demand_of(engine.model), list(case.desired.demand.values())
    times = [one.asked[-1] for one in each if one.asked]
    times += [one.oldest_waiting_at for one in each if one.oldest_waiting_at is not None]
    times += [_used(case, other) for other in case.snapshot.engines]
    asked = _asked(demand, max(times)) or (_used(case, engine),)
    first_s, last_s = (1.0 + max(0.0, max(times) - at) for at in (asked[0], asked[-1]))
    return float((len(asked) / first_s / last_s) ** 0.5)


def _asked(demand: Demand, until: float) -> tuple[float, ...]:
    """The latest four, who waits included, as if they had come at even distances."""
    if not demand.waiting or demand.oldest_waiting_at is None:
        return demand.asked
    gap_s = max(0.0, until - demand.oldest_waiting_at) / demand.waiting
    came = [demand.oldest_waiting_at + gap_s * i for i in range(demand.waiting)][-4:]
    return (*demand.asked, *came)[-4:]


def _back_s(case: Case, engine: EngineObservation, *, stop: bool) -> float:
    """Until it is ready again, beyond what it takes as it is."""
    footprint = case.snapshot.footprints.get(engine.model)
    weights_gib = 0.0 if footprint is None else footprint.weights_bytes / GIB
    wake_s, start_s = 1.0 + weights_gib / len(engine.keys) / 20, 35.0 + weights_gib / 2
    if isinstance(engine.state, Asleep) and engine.state.level is SleepLevel.DISCARDED:
        wake_s = 1.0 + weights_gib / 2
    if footprint is not None:
        wake_s = wake_s if footprint.wake_s is None else footprint.wake_s
        start_s = start_s if footprint.load_s is None else footprint.load_s
    if not stop:
        return wake_s
    return max(1.0, start_s - wake_s) if isinstance(engine.state, Asleep) else start_s


def _used(case: Case, engine: EngineObservation) -> float:
    """When it was used last, if ever; else since when it is up, or was begun."""
    used = [case.desired.demand_of(name).last_used_at for name in replicas(case, engine.model)]
    since = engine.state.ready_at if isinstance(engine.state, Awake) else engine.started_at
    return max([since, *(at for at in used if at is not None)])
