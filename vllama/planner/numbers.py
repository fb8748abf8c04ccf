"""The numbers behind a decision, as its turn came: what devices had, who could have made room, who was first. Pure.

They are read off the same ledger that decides; to be shown to people, and never an input.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from vllama.domain.desired import DesiredState
from vllama.domain.observed import Awake, DeviceKey, Loading, Snapshot, Unknown, Verb
from vllama.domain.status import Phase
from vllama.planner.backoff import retry_at
from vllama.planner.draft import Draft
from vllama.planner.eviction import Candidate
from vllama.planner.ledger import Ledger, need_bytes
from vllama.planner.placement import allowed
from vllama.planner.serve import serve
from vllama.planner.upkeep import keep_up
from vllama.planner.view import View
from vllama.planner.wanted import Wanted, wanted_models

MOST_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What an engine counts for on a device: awake all that it may grow to, asleep what it holds."""

    model: str
    phase: Phase
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNumbers:
    """`total == reserve + foreign + sum(held) + free`, to the byte. `left_bytes` is what of `free_bytes` is not given
    to those who came before (`promised_to`), with what is to be freed for them put on. None: the driver does not tell.
    `needed_bytes`: what the model must find here.
    """

    node: str
    device: int
    total_bytes: int
    reserve_bytes: int
    foreign_bytes: int | None
    held: tuple[Held, ...]
    free_bytes: int | None
    left_bytes: int | None
    promised_to: tuple[str, ...]
    needed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateNumbers:
    """An engine that may make room, in the order in which they would go. Bytes are per device; `sleep_frees_bytes` 0:
    it can only stop.
    """

    model: str
    node: str
    devices: tuple[int, ...]
    phase: Phase
    unused_s: float
    in_flight: int
    waiting: int
    draining: bool
    spare: bool
    stop_frees_bytes: int
    sleep_frees_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """Who is to be ready, in turn: priority with ageing, then arrival."""

    model: str
    waits_s: float
    priority: int
    why: str


class Due(enum.StrEnum):
    """What happens when time comes."""

    FAIRNESS = "FairnessBound"  # busy engines may be drained for it
    DRAIN = "DrainDeadline"  # the drain of an engine is given up, or what is in flight is cut
    REST = "DrainRest"  # it may be drained again
    RETRY = "Retry"  # it is tried again after a failure
    PROBE = "ProbeDeadline"  # it is given up, as it does not answer
    LOAD = "LoadTimeout"  # it is given up, as its load makes no progress
    IDLE = "SleepAfter"  # it rests, as nobody used it
    STOP = "StopAfter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    model: str
    what: Due
    in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """`for_model`: who needs the room, which is another model where this one makes room for it."""

    model: str
    for_model: str
    devices: tuple[DeviceNumbers, ...]
    candidates: tuple[CandidateNumbers, ...]
    waiters: tuple[Waiter, ...]
    deadlines: tuple[Deadline, ...]
    host_room_bytes: dict[str, int]  # by node: what the copies of sleepers may still take


def numbers_of(desired: DesiredState, snapshot: Snapshot, now: float, model: str) -> Numbers:
    """Of the decision about `model` in the plan of these states; it may be any model that they have."""
    view = View(desired=desired, snapshot=snapshot, now=now)
    wants = wanted_models(view)
    whose = _who_needs_it(view, wants, model)
    draft = _before(desired, snapshot, now, whose)
    ledger, spec = draft.ledger, draft.view.desired.models.get(whose)
    keys = _devices_of(view, ledger, whose, model)
    first = next((want for want in wants if want.model == whose), None)
    return Numbers(
        model=model, for_model=whose,
        devices=tuple(
            _device(draft, key, 0 if spec is None else _needed(ledger, view, whose, key)) for key in keys[:MOST_ROWS]
        ),
        candidates=tuple(_candidate(view, each) for each in _candidates(draft, keys, whose))[:MOST_ROWS],
        waiters=tuple(_waiter(view, want) for want in wants)[:MOST_ROWS],
        deadlines=tuple(sorted(_deadlines(view, {model, whose}, first), key=lambda due: (due.in_s, due.model))),
        host_room_bytes={node: room for node, room in ledger.host_room.items() if node in {key[0] for key in keys}},
    )  # fmt: skip


def _who_needs_it(view: View, wants: list[Wanted], model: str) -> str:
    """For whom `model` makes room, where it does; else itself."""
    draft = Draft(view)
    for each in sorted({*view.desired.models, *view.engines, *view.operations}):
        keep_up(draft, each)
    for want in wants:
        if not draft.decided(want.model):
            serve(draft, want)
        if model in draft.leaving:
            return draft.leaving[model]
        if model in {want.model, *view.siblings(want.model)}:
            break
    return model


def _before(desired: DesiredState, snapshot: Snapshot, now: float, model: str) -> Draft:
    """As the turn of `model` comes."""
    view = View(desired=desired, snapshot=snapshot, now=now)
    draft = Draft(view)
    for each in sorted({*view.desired.models, *view.engines, *view.operations}):
        keep_up(draft, each)
    for want in wanted_models(view):
        if model in {want.model, *view.siblings(want.model)}:
            break
        if not draft.decided(want.model):
            serve(draft, want)
    return draft


def _devices_of(view: View, ledger: Ledger, whose: str, model: str) -> list[DeviceKey]:
    """Those that it may use; where it runs, or who makes room for it, those first."""
    spec = view.spec(whose)
    usable = [(node.name, index) for node in view.ready.values() for index in (allowed(spec, node) if spec else ())]
    engines = [engine for name in (whose, model) if (engine := view.engine(name)) is not None]
    there = [key for engine in engines for key in engine.keys]
    return [key for key in dict.fromkeys([*there, *usable]) if key in ledger.devices]


def _needed(ledger: Ledger, view: View, model: str, key: DeviceKey) -> int:
    """To wake where it sleeps, else to start."""
    engine = view.engine(model)
    if engine is not None and key in engine.keys:
        return ledger.wake_bytes(engine)
    return need_bytes(view.desired.models[model], ledger.footprint(model), ledger.devices[key].total_bytes)


def _device(draft: Draft, key: DeviceKey, needed_bytes: int) -> DeviceNumbers:
    ledger, view, device = draft.ledger, draft.view, draft.ledger.devices[key]
    held = [
        Held(model=engine.model, phase=view.phase(engine.model), bytes=ledger.charge_after_operation(engine))
        for engine in sorted(view.on(key), key=lambda engine: (engine.model, engine.engine_id))
    ]
    known_ids = {engine.engine_id for engine in view.snapshot.engines}
    held += [
        Held(model=op.model, phase=view.phase(op.model), bytes=op.memory_bytes)
        for op in view.snapshot.operations
        if op.verb is Verb.START and op.engine_id not in known_ids and key in op.keys
    ]
    known = device.used_bytes is not None
    return DeviceNumbers(
        node=key[0], device=key[1], total_bytes=device.total_bytes, reserve_bytes=device.reserve_bytes,
        foreign_bytes=device.total_bytes - device.reserve_bytes - ledger.capacity[key] if known else None,
        held=tuple(held[:MOST_ROWS]), free_bytes=ledger.free[key], left_bytes=ledger.room[key],
        promised_to=tuple(dict.fromkeys(draft.claims.get(key, ()))), needed_bytes=needed_bytes,
    )  # fmt: skip


def _candidates(draft: Draft, keys: list[DeviceKey], whose: str) -> list[Candidate]:
    found = {each.engine.engine_id: each for key in keys for each in draft.candidates.get(key, ())}
    return sorted((each for each in found.values() if each.engine.model != whose), key=lambda each: each.rank)


def _candidate(view: View, candidate: Candidate) -> CandidateNumbers:
    engine, demand = candidate.engine, view.demand(candidate.engine.model)
    return CandidateNumbers(
        model=engine.model, node=engine.node, devices=engine.devices, phase=view.phase(engine.model),
        unused_s=max(0.0, view.now - candidate.last_used), in_flight=demand.in_flight,
        waiting=demand.waiting - demand.expected,
        draining=candidate.draining, spare=candidate.spare, stop_frees_bytes=candidate.stop_frees,
        sleep_frees_bytes=candidate.sleep_frees,
    )  # fmt: skip


def _waiter(view: View, want: Wanted) -> Waiter:
    spec = view.spec(want.model)
    return Waiter(
        model=want.model, waits_s=max(0.0, view.now - want.since), priority=spec.priority if spec else 0, why=want.why
    )


def _deadlines(view: View, models: set[str], first: Wanted | None) -> Iterator[Deadline]:
    """Of these, and of every model that is drained; only what is still to come."""
    due = [] if first is None else [(first.model, Due.FAIRNESS, first.since + view.policy.fairness_bound_s)]
    for model in sorted({*models, *view.engines}):
        demand = view.demand(model)
        if demand.admission_closed_at is not None:
            due.append((model, Due.DRAIN, demand.admission_closed_at + view.policy.drain_deadline_s))
        elif demand.drain_ended_at is not None:
            due.append((model, Due.REST, demand.drain_ended_at + view.policy.fairness_bound_s))
        if model in models:
            due += _of_its_own(view, model)
    yield from (Deadline(model=model, what=what, in_s=at - view.now) for model, what, at in due if at > view.now)


def _of_its_own(view: View, model: str) -> Iterator[tuple[str, Due, float]]:
    spec, engine, crashes = view.spec(model), view.engine(model), view.snapshot.crashes.get(model)
    if crashes is not None and engine is None:
        yield model, Due.RETRY, retry_at(crashes)
    if engine is None or spec is None:
        return
    match engine.state:
        case Unknown(since=since):
            yield model, Due.PROBE, since + view.policy.probe_deadline_s
        case Loading(progress_at=progress_at):
            yield model, Due.LOAD, progress_at + spec.load_timeout_s
        case Awake():
            said = view.demand(model).keep_alive
            after_s = spec.idle.sleep_after_s if said is None else said.idle_s
            if after_s is not None and not view.demand(model).in_flight and not view.pinned(model):
                yield model, Due.IDLE, view.last_used(engine) + after_s
        case _ if spec.idle.stop_after_s is not None:
            yield model, Due.STOP, view.last_used(engine) + spec.idle.stop_after_s
