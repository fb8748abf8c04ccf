"""What must happen to engines whatever the demand: the dead, the broken, the surplus, the outdated, the unwanted."""

from vllama.domain.demand import WantAsleep, WantStopped
from vllama.domain.observed import Asleep, Awake, Broken, EngineObservation, Exited, Loading, Unknown, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.status import Phase
from vllama.domain.units import format_duration
from vllama.planner.believed import why_away
from vllama.planner.draft import Draft
from vllama.planner.eviction import may_drain
from vllama.planner.stopping import must_drain, put_down, sleep_of, stays_closed, stop
from vllama.planner.view import View
from vllama.planner.where import of_lost


def keep_up(draft: Draft, model: str) -> None:
    """Decides `model` if one of its engines must go, or is going through a change already; else leaves it open."""
    view = draft.view
    if model in view.operations:
        _under_way(draft, model)
        return
    for engine in view.engines.get(model, ()):
        if (fault := _fault(draft, engine)) is not None:
            stop(draft, engine, *fault, cut=True)
            return
    engines = view.engines.get(model, [])
    if len(engines) > 1:
        message = f"{len(engines)} engines run for one model; the best one stays."
        put_down(draft, engines[-1], Reason.SURPLUS, message)
        return
    if engines:
        _one_engine(draft, engines[0])
    elif isinstance(view.override(model), WantStopped | WantAsleep):
        _held(draft, model)


def _under_way(draft: Draft, model: str) -> None:
    op = draft.view.operations[model]
    since = format_duration(draft.view.now - op.started_at)
    wanted = draft.view.demand(model).waiting > 0 or draft.view.pinned(model)
    match op.verb:
        case Verb.START:
            draft.decide(model, Reason.STARTING, f"Its engine is being started since {since}.")
        case Verb.WAKE:
            draft.decide(model, Reason.WAKING, f"Waking up since {since}.")
        case Verb.SLEEP | Verb.STOP:
            reason = Reason.GOING_DOWN if wanted else Reason.DRAINING
            draft.decide(model, reason, f"The {op.verb} began {since} ago.", waits_for=(model,) if wanted else ())


def _fault(draft: Draft, engine: EngineObservation) -> tuple[Reason, str] | None:
    view, state = draft.view, engine.state
    if gone := view.torn.get(engine.engine_id):
        said = "; ".join(map(why_away, gone))
        return Reason.NODE_LOST, f"A part of it is away: {said}. What is left of it is of no use, and ends."
    match state:
        case Exited(code=code, cause=cause):
            how = "code unknown" if code is None else f"code {code}"
            return Reason.ENGINE_EXITED, f"Ended unasked ({how}): {cause}"
        case Broken(cause=cause):
            return Reason.ENGINE_BROKEN, cause
        case Unknown(since=since, error=error):
            deadline = since + view.policy.probe_deadline_s
            if view.now >= deadline:
                return Reason.PROBE_DEADLINE, f"No answer for {format_duration(view.now - since)}: {error}"
            draft.look_again_at(deadline)
        case Loading(progress_at=progress_at):
            deadline = view.load_ends_at(engine, state)
            if view.now >= deadline:
                return Reason.LOAD_STALLED, f"No progress for {format_duration(view.now - progress_at)} (load_timeout)."
            draft.look_again_at(deadline)
        case Awake() | Asleep():
            pass
    return None


def _one_engine(draft: Draft, engine: EngineObservation) -> None:
    view, model = draft.view, engine.model
    spec = view.spec(model)
    override, waits = view.override(model), view.demand(model).waiting > 0
    if spec is None:
        put_down(draft, engine, Reason.REMOVED, _why_removed(view, model), may_cut=True)
    elif isinstance(override, WantStopped):
        message = "Stopped by an operator."
        put_down(draft, engine, Reason.OPERATOR_ASKED, message, may_cut=True, refused=waits)
    elif engine.spec_hash != spec.spec_hash:
        message = f"Runs with settings {engine.spec_hash}, models.yaml now says {spec.spec_hash}."
        put_down(draft, engine, Reason.SPEC_CHANGED, message)
    elif isinstance(engine.state, Unknown):
        since = format_duration(view.now - engine.state.since)
        draft.decide(model, Reason.STATE_UNKNOWN, f"No answer since {since}: {engine.state.error}")
    elif isinstance(override, WantAsleep) and not isinstance(engine.state, Asleep):
        _put_to_sleep(draft, engine, spec, override.level)


def _why_removed(view: View, model: str) -> str:
    served, mark, number = model.rpartition("#")
    if mark and number.isdecimal() and served in view.desired.models:
        return f"models.yaml wants {view.desired.models[served].replicas} of {served}, and this is number {number}."
    return "It is in neither models.yaml nor the model cache."


def _held(draft: Draft, model: str) -> None:
    waiting = draft.view.demand(model).waiting > 0
    spec = draft.view.spec(model)
    back = "it is pinned, and stays so until" if spec and spec.pin else "a request brings it back, or"
    message = f"Put down by an operator; {back} `vllama start`."
    draft.decide(model, Reason.HELD_BY_OPERATOR, message, refused=waiting)
    draft.add(model, of_lost(draft.view, model))


def _put_to_sleep(draft: Draft, engine: EngineObservation, spec: ModelSpec, asked: SleepLevel | None) -> None:
    view, model, ledger = draft.view, engine.model, draft.ledger
    waits = view.demand(model).waiting > 0
    why_not = "it is still loading" if isinstance(engine.state, Loading) else ledger.why_not_sleep(spec, engine, asked)
    if why_not is not None:
        message = f"An operator asked it to sleep; it stops, as {why_not}."
        put_down(draft, engine, Reason.OPERATOR_ASKED, message, refused=waits)
        return
    level = ledger.sleep_level(spec, engine, asked)
    message = f"Put to sleep at level {level} by an operator."
    if (why_wait := must_drain(draft, engine, may_cut=False)) is not None:
        drain = may_drain(view, model)
        draft.decide(model, Reason.DRAINING, f"{message} {why_wait}", drain=drain, refused=waits)
    elif holders := draft.free_to_act(engine):
        message, drain = f"{message} Waits for its devices.", stays_closed(draft, engine, may_cut=False)
        draft.decide(model, Reason.OPERATOR_ASKED, message, waits_for=holders, drain=drain, refused=waits)
    else:
        ledger.pin_host_copy(engine, level)
        action = sleep_of(engine, level)
        draft.decide(model, Reason.OPERATOR_ASKED, message, action=action, after=Phase.ASLEEP, refused=waits)
