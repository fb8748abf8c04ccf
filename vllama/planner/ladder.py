"""What becomes of a model that nobody wants now: kept, put to sleep, stopped."""

from vllama.domain.action import Stop
from vllama.domain.demand import WantReady
from vllama.domain.observed import Asleep, Awake, EngineObservation, Loading, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.status import Phase
from vllama.domain.units import MIB, format_bytes, format_duration
from vllama.planner.backoff import pause_of, retry_at
from vllama.planner.draft import Draft
from vllama.planner.ledger import part_on
from vllama.planner.stopping import sleep_of, stop, stop_of
from vllama.planner.victims import copy_rank
from vllama.planner.view import View
from vllama.planner.where import of_lost

HALF = 0.5
LINGER_S = 5.0  # so soon a client that broke off tries again, and a start that began anew each time would never end

RECYCLED_AT = 2.0  # times what it held after its first sleep
LEAST_GROWTH_BYTES = 128 * MIB


def rest(draft: Draft, model: str) -> None:
    """Decides a model that is not wanted and that nobody needs out of the way."""
    engine, spec = draft.view.engine(model), draft.view.spec(model)
    if engine is None or spec is None:
        _absent(draft, model)
        return
    match engine.state:
        case Awake():
            _awake(draft, spec, engine)
        case Asleep():
            _asleep(draft, spec, engine, engine.state)
        case Loading():
            _loading(draft, engine, engine.state)
        case _:
            raise AssertionError(f"upkeep left {engine.state} of {model} undecided")


def _absent(draft: Draft, model: str) -> None:
    """A failure stays in sight while it bars the next try, and is mentioned after that."""
    if model in draft.view.lost:
        _lost(draft, model)
        return
    crashes = draft.view.snapshot.crashes.get(model)
    message = "Not running, and nobody asks for it."
    if crashes is None:
        draft.decide(model, Reason.NOT_WANTED, message)
    elif (pause := pause_of(crashes, draft.view.now)) is not None:
        draft.look_again_at(retry_at(crashes))
        draft.decide(model, Reason.BACKING_OFF, pause)
    else:
        draft.decide(model, Reason.NOT_WANTED, f"{message} It failed when it was tried last: {crashes.cause}")


def _lost(draft: Draft, model: str) -> None:
    """Nothing is done about it, and nothing needs to be: a request starts it elsewhere."""
    view, spec = draft.view, draft.view.spec(model)
    names = {node.name for node in view.lost[model]}
    if spec is None:
        then = "Nobody wishes for it any more: it is stopped when it can be."
    elif spec.node in names:
        then = f"It is to be on {spec.node} alone, so a request waits for that."
    else:
        then = "A request starts it elsewhere."
    draft.decide(model, Reason.NODE_LOST, f"{of_lost(view, model)} {then}")


def _loading(draft: Draft, engine: EngineObservation, loading: Loading) -> None:
    """Half done it is seen through, as the next who asks finds it ready. Before that it is given up."""
    view, model = draft.view, engine.model
    lead = view.lead(model)
    if lead != model and _is_called_for(view, lead):
        draft.decide(model, Reason.STARTING, "Loading; its model is waited for, and may be served by this engine.")
        return
    demand, footprint = view.demand(model), draft.ledger.footprint(model)
    load_s = None if footprint is None else footprint.load_s
    half_at = None if load_s is None else engine.started_at + HALF * load_s
    gone_at = max(engine.started_at, demand.left_at or engine.started_at, demand.last_used_at or engine.started_at)
    message = "Loading; nobody waits for it any more"
    if view.now >= half_at if half_at is not None else loading.part >= HALF:
        draft.decide(model, Reason.STARTING, f"{message}, and it is more than half done.")
        return
    if half_at is not None:
        draft.look_again_at(half_at)
    if view.now < gone_at + LINGER_S:
        draft.look_again_at(gone_at + LINGER_S)
        left = format_duration(gone_at + LINGER_S - view.now)
        draft.decide(model, Reason.STARTING, f"{message}; given up in {left} unless somebody comes.")
        return
    usual = "" if load_s is None else f" of about {format_duration(load_s)}"
    message = f"Nobody waits for it any more, {format_duration(view.now - engine.started_at)}{usual} into its start."
    stop(draft, engine, Reason.ABANDONED, message)


def _is_called_for(view: View, lead: str) -> bool:
    wished = view.pinned(lead) or isinstance(view.override(lead), WantReady)
    return wished or (view.demand(lead).waiting > 0 and view.override(lead) is None)


def _awake(draft: Draft, spec: ModelSpec, engine: EngineObservation) -> None:
    view, model = draft.view, engine.model
    in_flight = view.demand(model).in_flight
    if in_flight:
        draft.decide(model, Reason.SERVING, f"{in_flight} in flight.")
        return
    idle_s = view.now - view.last_used(engine)
    said = view.demand(model).keep_alive
    after_s, key = (spec.idle.sleep_after_s, "sleep_after") if said is None else (said.idle_s, "keep_alive")
    if after_s is None or view.now < view.last_used(engine) + after_s:
        until = "" if said is None else " (keep_alive)"
        if after_s is not None:
            until = f"; rests after {format_duration(after_s)}{until}"
            draft.look_again_at(view.last_used(engine) + after_s)
        draft.decide(model, Reason.IDLE, f"Unused for {format_duration(idle_s)}{until}.")
        return
    message = f"Unused for {format_duration(idle_s)}, {key} is {format_duration(after_s)}."
    level = draft.ledger.sleep_level(spec, engine, spec.idle.level)
    if holders := draft.free_to_act(engine):
        draft.decide(model, Reason.IDLE_TOO_LONG, f"{message} Waits for its devices.", waits_for=holders)
    elif level is SleepLevel.STOP:
        draft.decide(model, Reason.IDLE_TOO_LONG, message, action=stop_of(engine), after=Phase.STOPPED)
    else:
        draft.ledger.pin_host_copy(engine, level)
        draft.decide(model, Reason.IDLE_TOO_LONG, message, action=sleep_of(engine, level), after=Phase.ASLEEP)


def _asleep(draft: Draft, spec: ModelSpec, engine: EngineObservation, asleep: Asleep) -> None:
    view, model = draft.view, engine.model
    if view.override(model) is not None:
        message = f"Asleep at level {asleep.level} by an operator."
        draft.decide(model, Reason.HELD_BY_OPERATOR, message, refused=view.demand(model).waiting > 0)
        return
    in_flight = view.demand(model).in_flight
    if not in_flight and (grown := _grown(engine)) is not None:
        _stop_sleeper(draft, engine, Reason.RESIDUE_GREW, grown)
        return
    idle_s = view.now - view.last_used(engine)
    after_s = spec.idle.stop_after_s
    if after_s is None or in_flight or view.now < view.last_used(engine) + after_s:
        if after_s is not None:
            draft.look_again_at(view.last_used(engine) + after_s)
        draft.decide(model, Reason.SLEEPING, f"Asleep at level {asleep.level}, unused for {format_duration(idle_s)}.")
        return
    message = f"Unused for {format_duration(idle_s)}, stop_after is {format_duration(after_s)}."
    _stop_sleeper(draft, engine, Reason.ASLEEP_TOO_LONG, message)


def _grown(engine: EngineObservation) -> str | None:
    """Why it is to be recycled: failed and leaking wakes leave memory behind that only the end of the process frees."""
    first, now = engine.first_residue_bytes, engine.measured_bytes
    if first is None or now is None or now <= RECYCLED_AT * first or now - first < LEAST_GROWTH_BYTES:
        return None
    return f"Asleep it holds {format_bytes(now)}, and {format_bytes(first)} after its first sleep."


def _stop_sleeper(draft: Draft, engine: EngineObservation, reason: Reason, message: str) -> None:
    if holders := draft.free_to_act(engine):
        draft.decide(engine.model, reason, f"{message} Waits for its devices.", waits_for=holders)
    else:
        draft.decide(engine.model, reason, message, action=stop_of(engine), after=Phase.STOPPED)


def relieve_hosts(draft: Draft) -> None:
    """Where host memory is short the coldest level-1 sleepers stop: their copies come back with that only."""
    view, ledger = draft.view, draft.ledger
    for node, room in ledger.host_room.items():
        if room >= 0 or node not in view.ready:
            continue
        holding = [engine for engine in view.seen if node in engine.nodes and engine.host_copy_bytes]
        # what ends gives its copy back; of who loads, adopted, it is not known yet whether it has one
        soon = (engine for engine in holding if _ends(draft, engine) or isinstance(engine.state, Loading))
        short = -room - sum(part_on(engine, node, engine.host_copy_bytes) for engine in soon)
        sleepers = [
            engine
            for engine in holding
            if isinstance(engine.state, Asleep)
            and not draft.decided(engine.model)
            and view.spec(engine.model)
            and not view.demand(engine.model).in_flight
        ]
        for engine in sorted(sleepers, key=lambda engine: copy_rank(view, ledger, engine)):
            if short <= 0:
                break
            unused = format_duration(view.now - view.last_used(engine))
            copy = format_bytes(engine.host_copy_bytes)
            message = f"Host memory is short by {format_bytes(short)}; its copy of {copy}, unused for {unused}, goes."
            _stop_sleeper(draft, engine, Reason.HOST_MEMORY_SHORT, message)
            short -= part_on(engine, node, engine.host_copy_bytes)


def _ends(draft: Draft, engine: EngineObservation) -> bool:
    """Its process is about to end, and with it goes what it pins."""
    operation, decision = draft.view.operations.get(engine.model), draft.decisions.get(engine.model)
    if operation is not None and operation.engine_id == engine.engine_id:
        return operation.verb is Verb.STOP
    return decision is not None and isinstance(decision.action, Stop) and decision.action.engine_id == engine.engine_id
