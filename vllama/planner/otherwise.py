"""What would change a decision: each supposition is tried with the planner, and only those that do are told. Pure."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from vllama.domain.decision import Decision
from vllama.domain.demand import Demand
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Device, EngineObservation, Loading, Snapshot
from vllama.domain.reason import Reason
from vllama.domain.spec import OnConflict
from vllama.domain.units import format_bytes, format_duration
from vllama.planner.backoff import pause_of, retry_at
from vllama.planner.evidence import agree
from vllama.planner.ledger import Ledger
from vllama.planner.numbers import Due, numbers_of
from vllama.planner.placement import allowed
from vllama.planner.plan import plan
from vllama.planner.suppose import answered, ended, requested
from vllama.planner.view import View

MOST_TRIED = 24
_JUST_AFTER_S = 0.001
_READY = frozenset({Reason.SERVING, Reason.IDLE})
States = tuple[DesiredState, Snapshot, float]


class Change(enum.StrEnum):
    """What is supposed. `Otherwise.model` says of whom."""

    CALLED = "Called"
    REQUESTS_END = "RequestsEnd"
    OPERATIONS_END = "OperationsEnd"
    HOLD_LIFTED = "HoldLifted"
    PAUSE_ENDS = "PauseEnds"
    TIME = "TimePasses"
    UNPINNED = "Unpinned"
    WAITERS_LEAVE = "WaitersLeave"
    NEEDS_LESS = "NeedsLess"
    OTHERS_LEAVE = "OthersLeave"
    MAY_DISPLACE = "MayDisplace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """`if_`: the supposition, as the end of a sentence that begins with "if". `then`: what would be decided."""

    change: Change
    model: str
    if_: str
    then: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class _Supposition:
    change: Change
    model: str
    if_: str
    states: States


def otherwise(desired: DesiredState, snapshot: Snapshot, now: float, model: str) -> tuple[Otherwise, ...]:
    """What would change the decision about `model`, in the order of what is easiest to come by."""
    states = desired, snapshot, now
    decided = _decided(states, model)
    if decided is None:
        return ()
    found: list[Otherwise] = []
    for tried, supposed in enumerate(_suppositions(states, decided)):
        then = _decided(supposed.states, model)
        news = then is not None and not _the_same(decided, then)
        if then is not None and news and not _is_told(found, supposed.change, then):
            found.append(Otherwise(change=supposed.change, model=supposed.model, if_=supposed.if_, then=then))
        if tried >= MOST_TRIED:
            break
    return tuple(found)


def _decided(states: States, model: str) -> Decision | None:
    return next((decision for decision in plan(*states).decisions if decision.model == model), None)


def _is_told(found: Iterable[Otherwise], change: Change, then: Decision) -> bool:
    """Less of the same leads there already."""
    return any(each.change is change and agree(each.then, then) for each in found)


def _the_same(one: Decision, other: Decision) -> bool:
    """Whether it has requests right now is no other decision."""
    return agree(one, other) or {one.reason, other.reason} <= _READY


def _suppositions(states: States, decided: Decision) -> Iterator[_Supposition]:
    desired, snapshot, now = states
    view = View(desired=desired, snapshot=snapshot, now=now)
    yield from _of_itself(view, states, decided)
    yield from _of_time(states, decided)
    yield from _of_others(view, states, decided)
    yield from _of_memory(view, states, decided)


def _of_itself(view: View, states: States, decided: Decision) -> Iterator[_Supposition]:
    desired, snapshot, now = states
    model, lead = decided.model, view.lead(decided.model)
    spec, demand = view.spec(model), view.demand(lead)
    wanted = demand.waiting or view.pinned(lead)
    if (override := view.override(model)) is not None:
        kept = {name: wish for name, wish in desired.overrides.items() if wish is not override}
        text = f"what an operator said of {model} were taken back"
        yield _Supposition(
            change=Change.HOLD_LIFTED, model=model, if_=text, states=(replace(desired, overrides=kept), snapshot, now)
        )
    if spec is not None and not wanted and not demand.in_flight:
        called = requested(desired, [spec.served_name], now)
        yield _Supposition(
            change=Change.CALLED, model=model, if_=f"somebody called {spec.served_name}", states=(called, snapshot, now)
        )
    if (pause := snapshot.crashes.get(model)) is not None and pause_of(pause, now) is not None:
        left = {name: crashes for name, crashes in snapshot.crashes.items() if name != model}
        text = f"its pause ended, which it does in {format_duration(retry_at(pause) - now)}"
        yield _Supposition(
            change=Change.PAUSE_ENDS, model=model, if_=text, states=(desired, replace(snapshot, crashes=left), now)
        )
    if spec is not None and spec.on_conflict is OnConflict.REFUSE and decided.refused:
        models = {**desired.models, model: replace(spec, on_conflict=OnConflict.QUEUE)}
        yield _Supposition(
            change=Change.MAY_DISPLACE, model=model, if_="it might displace others (on_conflict: queue)",
            states=(replace(desired, models=models), snapshot, now),
        )  # fmt: skip


def _of_time(states: States, decided: Decision) -> Iterator[_Supposition]:
    """Each deadline that bears on it; a pause has been supposed to end already."""
    desired, snapshot, now = states
    for due in numbers_of(desired, snapshot, now, decided.model).deadlines:
        if due.what is Due.RETRY:
            continue
        then = now + due.in_s + _JUST_AFTER_S
        text = f"nothing else happened for {format_duration(due.in_s)} ({due.what.value} of {due.model})"
        yield _Supposition(
            change=Change.TIME, model=due.model, if_=text, states=(desired, replace(snapshot, taken_at=then), then)
        )


def _of_others(view: View, states: States, decided: Decision) -> Iterator[_Supposition]:
    desired, snapshot, now = states
    others = _nearby(view, decided)
    busy = [model for model in others if view.demand(model).in_flight]
    for some in [[model] for model in busy] + ([busy] if len(busy) > 1 else []):
        text = f"the requests of {' and of '.join(some)} ended"
        yield _Supposition(
            change=Change.REQUESTS_END, model=some[0], if_=text, states=(answered(desired, some, now), snapshot, now)
        )
    changing = sorted(view.operations.keys() | {e.model for e in view.seen if _loads(e)})
    if changing:
        text = f"what is under way at {' and '.join(changing)} had ended"
        over = ended(desired, snapshot, now)
        yield _Supposition(
            change=Change.OPERATIONS_END, model=changing[0], if_=text, states=(desired, over, now)
        )  # fmt: skip
    for model in others:
        spec = view.spec(model)
        if spec is not None and view.pinned(model):
            models = {**desired.models, model: replace(spec, pin=False)}
            yield _Supposition(
                change=Change.UNPINNED, model=model, if_=f"{model} were not pinned",
                states=(replace(desired, models=models), snapshot, now),
            )  # fmt: skip
        demand = view.demand(model)
        if demand.waiting and model in decided.waits_for:
            gone: dict[str, Demand] = {**desired.demand, model: replace(demand, waiting=0, oldest_waiting_at=None)}
            yield _Supposition(
                change=Change.WAITERS_LEAVE, model=model, if_=f"nobody waited for {model}",
                states=(replace(desired, demand=gone), snapshot, now),
            )  # fmt: skip


def _loads(engine: EngineObservation) -> bool:
    return isinstance(engine.state, Loading)


def _nearby(view: View, decided: Decision) -> list[str]:
    """Whom it waits for, then who is on the devices that it may use."""
    spec = view.spec(decided.model)
    usable = {(node.name, index) for node in view.ready.values() for index in (allowed(spec, node) if spec else ())}
    there = [e.model for e in view.seen if not usable.isdisjoint(e.keys)]
    return [name for name in dict.fromkeys([*decided.waits_for, *sorted(there)]) if name != decided.model]


def _of_memory(view: View, states: States, decided: Decision) -> Iterator[_Supposition]:
    desired, snapshot, now = states
    model, spec = decided.model, view.spec(decided.model)
    if spec is None or view.engine(model) is not None or decided.action is not None:
        return
    ledger = Ledger(view)
    usable = [(node.name, index) for node in view.ready.values() for index in allowed(spec, node)]
    known = sorted((room for key in usable if (room := ledger.room.get(key)) is not None), reverse=True)
    if len(known) >= spec.device_count and (least := known[spec.device_count - 1]) > 0:
        models = {**desired.models, model: replace(spec, memory_bytes=least)}
        per = " per device" if spec.device_count > 1 else ""
        text = f"it needed no more than {format_bytes(least)}{per}"
        yield _Supposition(
            change=Change.NEEDS_LESS, model=model, if_=text, states=(replace(desired, models=models), snapshot, now)
        )
    for node, index in usable:
        device = ledger.devices[node, index]
        foreign = device.total_bytes - device.reserve_bytes - ledger.capacity[node, index]
        if foreign > 0 and device.used_bytes is not None:
            text = f"other programs gave back the {format_bytes(foreign)} that they hold of gpu{index}"
            freed = replace(device, used_bytes=device.used_bytes - foreign)
            yield _Supposition(
                change=Change.OTHERS_LEAVE, model=model, if_=text, states=(desired, _with(snapshot, node, freed), now)
            )


def _with(snapshot: Snapshot, name: str, changed: Device) -> Snapshot:
    nodes = tuple(
        replace(node, devices=tuple(changed if device.index == changed.index else device for device in node.devices))
        if node.name == name
        else node
        for node in snapshot.nodes
    )
    return replace(snapshot, nodes=nodes)
