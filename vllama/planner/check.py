"""A second opinion on a plan: shares no code with what made it, and knows nothing of why, only what must not be.

It reads the two states again from scratch. Memory is in bytes per device; times are seconds, monotonic.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from vllama.domain.action import Sleep, Start, Stop, Wake
from vllama.domain.decision import Decision, Plan
from vllama.domain.demand import WantAsleep, WantStopped
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, Awake, Loading, NodeState, Snapshot, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import format_bytes
from vllama.planner.check_case import (
    Case,
    Finding,
    FindingKind,
    after,
    asked_for,
    charge,
    device_at,
    drained_in_vain,
    ends_stuck,
    engines_on,
    faulty,
    fits,
    foreign,
    host_copy,
    is_on,
    meet,
    must_span,
    need,
    old_reading,
    override,
    reachable,
    replicas,
    share_of,
    spare,
    still_loads,
    stopped,
    usable,
    whole,
)
from vllama.planner.check_victims import cheaper_stays, stopped_in_haste

__all__ = ["Finding", "FindingKind", "check"]

Rule = Callable[[Case], Iterator[tuple[FindingKind, str]]]


def check(desired: DesiredState, snapshot: Snapshot, now: float, plan: Plan) -> tuple[Finding, ...]:
    """Everything that is wrong with `plan`; empty when nothing is."""
    case = Case(desired=desired, snapshot=snapshot, now=now, plan=plan)
    return tuple(Finding(kind=kind, message=message) for rule in _RULES for kind, message in rule(case))


# the shape of a plan


def _one_decision_each(case: Case) -> Iterator[tuple[FindingKind, str]]:
    seen = {*(engine.model for engine in case.snapshot.engines), *(op.model for op in case.snapshot.operations)}
    expected, got = sorted(seen | set(case.desired.models)), [decision.model for decision in case.plan.decisions]
    if got != expected:
        yield FindingKind.NOT_ONE_DECISION, f"decisions are for {got}, models are {expected}"
    for decision in case.plan.decisions:
        if decision.action is not None and decision.action.model != decision.model:
            yield FindingKind.NOT_ONE_DECISION, f"the decision for {decision.model} acts on {decision.action.model}"


def _one_action_per_device(case: Case) -> Iterator[tuple[FindingKind, str]]:
    taken = Counter((place.node, d) for action in case.plan.actions for place in action.places for d in place.devices)
    for (node, device), count in taken.items():
        if count > 1:
            yield FindingKind.DEVICE_TAKEN_TWICE, f"{count} actions on gpu{device} of {node}"


def _nothing_under_change(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for action in case.plan.actions:
        for op in case.snapshot.operations:
            parts = [engine for engine in case.snapshot.engines if engine.engine_id == op.engine_id]
            beside = any(meet(each, action) for each in (op, *parts))
            if (op.model == action.model and reachable(case, op)) or beside:
                yield FindingKind.UNDER_CHANGE, f"{action} while {op.verb} of {op.model} is under way"
        for engine in case.snapshot.engines:
            stuck = not still_loads(case, engine) and ends_stuck(case, action)
            if (
                isinstance(engine.state, Loading)
                and not stuck
                and engine.model != action.model
                and meet(engine, action)
            ):
                yield FindingKind.UNDER_CHANGE, f"{action} while {engine.model} loads"


def _requeue_is_later(case: Case) -> Iterator[tuple[FindingKind, str]]:
    after_s = case.plan.requeue_after_s
    if after_s is not None and not after_s > 0:
        yield FindingKind.BAD_REQUEUE, f"to look again in {after_s} s"


def _refusals_have_numbers(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for decision in case.plan.decisions:
        if decision.reason is Reason.CANNOT_FIT and not any(char.isdigit() for char in decision.message):
            yield FindingKind.NO_NUMBERS, f"{decision.model}: {decision.message}"


# what an action needs


def _right_state(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for action in case.plan.actions:
        if isinstance(action, Start):
            continue
        engine = case.engine(action)
        if engine is None or engine.model != action.model or list(action.places) != reachable(case, engine):
            yield FindingKind.NO_SUCH_ENGINE, f"{action}, observed is {engine}"
        elif not whole(case, engine) and not isinstance(action, Stop):
            yield FindingKind.WRONG_STATE, f"{action} of an engine of which {len(action.places)} places are left"
        elif isinstance(action, Sleep):
            node = case.node(action.node)
            frees = node is not None and node.sleep_frees_memory and action.level in (1, 2)
            unified = [device.index for device in node.devices if device.unified] if node is not None else []
            frees &= action.level == 2 or not set(unified) & set(action.devices)
            frees &= not action.further
            if not isinstance(engine.state, Awake) or not frees:
                yield FindingKind.WRONG_STATE, f"{action} in {engine.state}"
        elif isinstance(action, Wake) and engine.state != Asleep(level=action.level):
            yield FindingKind.WRONG_STATE, f"{action} in {engine.state}"


def _asked_for(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for action in case.plan.actions:
        if not isinstance(action, Start | Wake):
            continue
        spec, said = case.desired.models.get(action.model), override(case, action.model)
        each, held = [case.desired.demand_of(name) for name in replicas(case, action.model)], False
        if isinstance(said, WantStopped | WantAsleep):
            held = all(one.oldest_waiting_at is None or one.oldest_waiting_at <= said.at for one in each)
            held |= spec is not None and spec.pin
        if spec is None or held:
            yield FindingKind.NOBODY_ASKED, f"{action} against {said or 'its removal'}"
        elif not asked_for(case, action.model):
            yield FindingKind.NOBODY_ASKED, f"{action} without demand"


def _starts(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for action in case.plan.actions:
        if not isinstance(action, Start) or (spec := case.desired.models.get(action.model)) is None:
            continue
        if engines := case.engines(action.model):
            yield FindingKind.SECOND_START, f"{action.model} has {[engine.engine_id for engine in engines]}"
        crashes = case.snapshot.crashes.get(action.model)
        if crashes is not None and case.now < crashes.last_at + min(300.0, 10.0 * 2 ** min(crashes.count - 1, 9)):
            yield (
                FindingKind.TOO_EARLY,
                f"{action.model} failed {crashes.count}x, last {case.now - crashes.last_at} s ago",
            )
        yield from _right_place(case, spec, action)


def _right_place(case: Case, spec: ModelSpec, start: Start) -> Iterator[tuple[FindingKind, str]]:
    nodes = [node for place in start.places if (node := case.node(place.node)) is not None]
    may = {(node.name, device.index): device for node in nodes for device in usable(spec, node)}
    where = ", ".join(f"{place.devices} of {place.node}" for place in start.places)
    if len(set(start.keys)) != spec.device_count or not set(start.keys) <= set(may):
        yield FindingKind.WRONG_PLACE, f"{start.model} on {where}, may use {sorted(may)}"
    elif start.memory_bytes != need(case, spec, [may[key] for key in start.keys]):
        yield FindingKind.WRONG_PLACE, f"{start.model} is given {format_bytes(start.memory_bytes)} per device"
    if not start.further:
        return
    kinds = {tuple(sorted(device.total_bytes for device in usable(spec, node))) for node in nodes}
    alike = len(kinds) == 1 and len({len(place.devices) for place in start.places}) == 1
    if not must_span(case, spec) or not alike or len({node.name for node in nodes}) != len(start.places):
        yield FindingKind.WRONG_PLACE, f"{start.model} spans {where}"


def _only_ready_nodes(case: Case) -> Iterator[tuple[FindingKind, str]]:
    """Nothing is asked of a node that does not answer, and what has lost a part there is of no use to anybody."""
    for action in case.plan.actions:
        if not whole(case, action):
            yield FindingKind.NOT_READY, f"{action} on a node that does not answer"
    decisions = {decision.model: decision for decision in case.plan.decisions}
    for engine in case.snapshot.engines:
        kept = decisions[engine.model].reason in (Reason.SERVING, Reason.IDLE, Reason.PINNED, Reason.SLEEPING)
        if kept and reachable(case, engine) and not whole(case, engine) and len(case.engines(engine.model)) == 1:
            yield FindingKind.TORN_KEPT, f"{engine.engine_id} of {engine.model}, which has lost a part"


# what must not be lost


def _nobody_is_cut(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for action in case.plan.actions:
        engine = case.engine(action)
        if engine is None or not isinstance(action, Sleep | Stop) or isinstance(engine.state, Loading):
            continue
        may_cut = faulty(case, engine) or (isinstance(action, Stop) and drained_in_vain(case, action.model))
        in_flight = case.desired.demand_of(action.model).in_flight
        if not may_cut and (in_flight or (isinstance(action, Stop) and action.cut)):
            yield FindingKind.CUTS_REQUESTS, f"{action} with {in_flight} in flight"


def _only_what_is_left_is_abandoned(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for decision in case.plan.decisions:
        if decision.reason is not Reason.ABANDONED or decision.action is None:
            continue
        engine, footprint = case.engine(decision.action), case.snapshot.footprints.get(decision.model)
        if not isinstance(decision.action, Stop) or engine is None or not isinstance(engine.state, Loading):
            yield FindingKind.ABANDONED_WRONGLY, f"{decision.action} of {engine}"
        elif asked_for(case, decision.model):
            yield FindingKind.ABANDONED_WRONGLY, f"the start of {decision.model}, which is wanted"
        elif footprint is None or footprint.load_s is None:
            if engine.state.part >= 0.5:
                yield FindingKind.ABANDONED_WRONGLY, f"{engine.state.part:.0%} of the start of {decision.model}"
        elif 2 * (case.now - engine.started_at) > footprint.load_s:
            spent_s = case.now - engine.started_at
            yield FindingKind.ABANDONED_WRONGLY, f"{spent_s} of {footprint.load_s} s of the start of {decision.model}"


def _drains_end(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for decision in case.plan.decisions:
        closed_at = case.desired.demand_of(decision.model).admission_closed_at
        goes = decision.model not in case.desired.models or stopped(case, decision.model)
        late = closed_at is not None and case.now >= closed_at + case.desired.policy.drain_deadline_s
        if decision.drain and late and not goes:
            yield FindingKind.DRAINS_TOO_LONG, f"{decision.model} is closed for {case.now - (closed_at or 0.0)} s"


def _pins_hold(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for decision in case.plan.decisions:
        spec = case.desired.models.get(decision.model)
        if spec is None or not spec.pin or isinstance(override(case, decision.model), WantStopped | WantAsleep):
            continue
        if spare(case, decision.model):
            continue  # a pin keeps one engine of its model, and that is another one
        if decision.reason in (Reason.EVICTED, Reason.DRAINED_FOR_WAITER, Reason.IDLE_TOO_LONG):
            yield FindingKind.PINNED_VICTIM, f"{decision.model} is pinned and {decision.reason}"
        engines = case.engines(decision.model)
        right = len(engines) == 1 and engines[0].spec_hash == spec.spec_hash and isinstance(engines[0].state, Awake)
        if right and whole(case, engines[0]) and decision.action is not None:
            yield FindingKind.PINNED_VICTIM, f"{decision.model} is pinned and awake, but {decision.action}"


def _further_replicas_displace_nobody(case: Case) -> Iterator[tuple[FindingKind, str]]:
    """Who has an engine of its model beside it takes what is free, when nobody who is wanted waits for room."""
    up = {d.model for d in case.plan.decisions if isinstance(d.action, Start | Wake) or d.refused}
    up |= {op.model for op in case.snapshot.operations if op.verb in (Verb.START, Verb.WAKE) and reachable(case, op)}
    rising = (engine for engine in case.snapshot.engines if isinstance(engine.state, Awake | Loading))
    up |= {engine.model for engine in rising if whole(case, engine)}
    for decision in case.plan.decisions:
        if decision.model not in case.desired.models or not spare(case, decision.model):
            continue
        if decision.reason in (Reason.MAKING_ROOM, Reason.DRAINING_OTHERS):
            yield FindingKind.REPLICA_DISPLACES, f"{decision.model} makes {decision.waits_for} leave"
        if not isinstance(decision.action, Start | Wake):
            continue
        for other in case.desired.models:
            waits = case.desired.demand_of(other).waiting > 0 and not isinstance(
                override(case, other), WantStopped | WantAsleep
            )
            if waits and up.isdisjoint(replicas(case, other)):
                yield FindingKind.REPLICA_DISPLACES, f"{decision.action} while {other} waits for room"


# memory


def _devices_hold_it(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for action in case.plan.actions:
        if not isinstance(action, Start | Wake):
            continue
        for key in action.keys:
            device = device_at(case, key)
            if device is None or device.used_bytes is None:
                yield FindingKind.UNKNOWN_MEMORY, f"{action.model} on {key}"
                continue
            free = device.total_bytes - device.used_bytes
            if old_reading(case, key[0]):
                there = sum(charge(case, engine) for engine in engines_on(case, key))
                free = device.total_bytes - foreign(case, key, device.used_bytes) - there
            asks = int(action.gpu_memory_utilization * device.total_bytes) if isinstance(action, Start) else 0
            if asks > free:
                yield FindingKind.OVERCOMMITTED, f"{action.model} looks for {asks} on {key}, where {free} are free"
            charged = sum(after(case, engine) for engine in engines_on(case, key))
            charged += sum(a.memory_bytes for a in case.plan.actions if isinstance(a, Start) and is_on(a, key))
            limit = device.total_bytes - device.reserve_bytes
            if charged + foreign(case, key, device.used_bytes) > limit:
                yield FindingKind.OVERCOMMITTED, f"{action.model} makes {charged} on {key}, at most {limit}"


def _host_holds_it(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for node in case.snapshot.nodes:
        here = case.by_node.get(node.name, [])
        going = {op.engine_id for op in case.snapshot.operations if op.verb is Verb.SLEEP and op.level == 1}
        sleeps = {a.engine_id for a in case.plan.actions if isinstance(a, Sleep) and a.level == SleepLevel(1)}
        copies = {engine.engine_id: engine.host_copy_bytes or host_copy(case, engine) for engine in here}
        held = sum(
            share_of(
                engine, node.name, engine.host_copy_bytes or copies[engine.engine_id] * (engine.engine_id in going)
            )
            for engine in here
        )
        new = sum(copies[e.engine_id] for e in here if e.engine_id in sleeps - going and not e.host_copy_bytes)
        if new and held + new > node.host_budget_bytes:
            yield FindingKind.HOST_OVERCOMMITTED, f"{held} + {new} of {node.host_budget_bytes} on {node.name}"
        if new and node.host_available_bytes is not None and new > node.host_available_bytes:
            yield FindingKind.HOST_OVERCOMMITTED, f"{new}, and {node.name} has {node.host_available_bytes} available"


def _evictions_help(case: Case) -> Iterator[tuple[FindingKind, str]]:
    for decision in case.plan.decisions:
        if decision.reason is not Reason.EVICTED or decision.action is None:
            continue
        waiters = [d for d in case.plan.decisions if d.reason is Reason.MAKING_ROOM and decision.model in d.waits_for]
        if not any(_fits_without(case, waiter) for waiter in waiters):
            names = [waiter.model for waiter in waiters]
            yield FindingKind.EVICTED_IN_VAIN, f"{decision.model} goes for {names}, and that does not make it fit"


def _fits_without(case: Case, waiter: Decision) -> bool:
    """The waiter fits somewhere when all it waits for have gone as planned (those not acted on yet: stopped)."""
    spec, engines = case.desired.models[waiter.model], case.engines(waiter.model)
    gone = set(waiter.waits_for)

    def room(key: tuple[str, int]) -> int | None:
        device = device_at(case, key)
        node = case.node(key[0])
        if device is None or device.used_bytes is None or node is None or node.state is not NodeState.READY:
            return None
        charged = 0
        for engine in engines_on(case, key):
            if engine.model not in gone:
                charged += charge(case, engine)
            elif any(not isinstance(a, Start) and a.engine_id == engine.engine_id for a in case.plan.actions):
                charged += after(case, engine)
        return device.total_bytes - device.reserve_bytes - foreign(case, key, device.used_bytes) - charged

    if engines:
        more = max(0, engines[0].memory_bytes - charge(case, engines[0]))
        rooms = [room(key) for key in engines[0].keys]
        return all(left is not None and left >= more for left in rooms)
    return fits(case, spec, room)


_RULES: tuple[Rule, ...] = (
    _one_decision_each, _one_action_per_device, _nothing_under_change, _requeue_is_later, _refusals_have_numbers,
    _right_state, _only_ready_nodes, _asked_for, _starts, _nobody_is_cut, _drains_end, _pins_hold, _devices_hold_it,
    _host_holds_it, _evictions_help, _only_what_is_left_is_abandoned, _further_replicas_displace_nobody, cheaper_stays,
    stopped_in_haste,
)  # fmt: skip
