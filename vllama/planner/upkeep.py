"""What must happen to engines whatever the demand: the dead, the broken, the surplus, the outdated, the unwanted."""

from vllama.domain.action import Sleep, Stop
from vllama.domain.demand import WantAsleep, WantStopped
from vllama.domain.observed import Asleep, Awake, Broken, EngineObservation, Exited, Loading, Unknown, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.status import Phase
from vllama.domain.units import format_duration
from vllama.planner.draft import Draft
from vllama.planner.eviction import drain_turns_at, may_drain


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
            spec = view.spec(engine.model)
            deadline = progress_at + spec.load_timeout_s if spec else progress_at
            if spec and view.now >= deadline:
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
        put_down(draft, engine, Reason.REMOVED, "It is in neither models.yaml nor the model cache.", may_cut=True)
    elif isinstance(override, WantStopped):
        message = "Stopped by an operator."
        put_down(draft, engine, Reason.OPERATOR_ASKED, message, may_cut=True, refused=waits)
    elif engine.spec_hash != spec.spec_hash:
        message = f"Runs with settings {engine.spec_hash}, models.yaml now says {spec.spec_hash}."
        put_down(draft, engine, Reason.SPEC_CHANGED, message)
    elif isinstance(engine.state, Unknown):
        since = format_duration(view.now - engine.state.since)
        draft.decide(model, Reason.STATE_UNKNOWN, f"No answer since {since}: {engine.state.error}")
    elif isinstance(override, WantAsleep):
        _put_to_sleep(draft, engine, spec, override.level)


def _held(draft: Draft, model: str) -> None:
    waiting = draft.view.demand(model).waiting > 0
    message = "Put down by an operator; a request brings it back, or `vllama start`."
    draft.decide(model, Reason.HELD_BY_OPERATOR, message, refused=waiting)


def _put_to_sleep(draft: Draft, engine: EngineObservation, spec: ModelSpec, asked: SleepLevel | None) -> None:
    view, model, ledger = draft.view, engine.model, draft.ledger
    waits = view.demand(model).waiting > 0
    if isinstance(engine.state, Asleep):
        message = f"Asleep at level {engine.state.level} by an operator."
        draft.decide(model, Reason.HELD_BY_OPERATOR, message, refused=waits)
        return
    why_not = "it is still loading" if isinstance(engine.state, Loading) else ledger.why_not_sleep(spec, engine, asked)
    if why_not is not None:
        message = f"An operator asked it to sleep; it stops, as {why_not}."
        put_down(draft, engine, Reason.OPERATOR_ASKED, message, refused=waits)
        return
    level = ledger.sleep_level(spec, engine, asked)
    message = f"Put to sleep at level {level} by an operator."
    if (why_wait := _must_drain(draft, engine, may_cut=False)) is not None:
        drain = may_drain(view, model)
        draft.decide(model, Reason.DRAINING, f"{message} {why_wait}", drain=drain, refused=waits)
    elif holders := draft.free_to_act(engine):
        message, drain = f"{message} Waits for its devices.", _stays_closed(draft, engine, may_cut=False)
        draft.decide(model, Reason.OPERATOR_ASKED, message, waits_for=holders, drain=drain, refused=waits)
    else:
        ledger.pin_host_copy(engine, level)
        action = sleep_of(engine, level)
        draft.decide(model, Reason.OPERATOR_ASKED, message, action=action, after=Phase.ASLEEP, refused=waits)


def sleep_of(engine: EngineObservation, level: SleepLevel) -> Sleep:
    return Sleep(
        model=engine.model, engine_id=engine.engine_id, node=engine.node, devices=engine.devices, level=level
    )  # fmt: skip


def stop_of(engine: EngineObservation, *, cut: bool = False) -> Stop:
    return Stop(model=engine.model, engine_id=engine.engine_id, node=engine.node, devices=engine.devices, cut=cut)


def put_down(
    draft: Draft,
    engine: EngineObservation,
    reason: Reason,
    message: str,
    *,
    may_cut: bool = False,
    refused: bool = False,
) -> None:
    """Stop it when nothing is in flight any more; `may_cut`: or when the drain deadline has passed.

    `refused`: its present waiters are told so.
    """
    model = engine.model
    if (why_wait := _must_drain(draft, engine, may_cut=may_cut)) is not None:
        drain = may_cut or may_drain(draft.view, model)
        draft.decide(model, Reason.DRAINING, f"{message} {why_wait}", drain=drain, refused=refused)
    elif holders := draft.free_to_act(engine):
        message, drain = f"{message} Waits for its devices.", _stays_closed(draft, engine, may_cut=may_cut)
        draft.decide(model, reason, message, waits_for=holders, drain=drain, refused=refused)
    else:
        action = stop_of(engine, cut=_serves(draft, engine))
        draft.decide(model, reason, message, action=action, after=Phase.STOPPED, refused=refused)


def stop(draft: Draft, engine: EngineObservation, reason: Reason, message: str, *, cut: bool = False) -> None:
    """Stop the engine whatever is in flight, or wait until its devices are free for that."""
    if holders := draft.free_to_act(engine):
        draft.decide(engine.model, reason, f"{message} Waits for its devices.", waits_for=holders)
    else:
        draft.decide(engine.model, reason, message, action=stop_of(engine, cut=cut), after=Phase.STOPPED)


def _serves(draft: Draft, engine: EngineObservation) -> bool:
    """Requests are in flight, and may be at this engine: one that does not answer probes may still serve."""
    return draft.view.demand(engine.model).in_flight > 0 and not isinstance(engine.state, Loading)


def _must_drain(draft: Draft, engine: EngineObservation, *, may_cut: bool) -> str | None:
    """Why it may not go down yet: requests in flight; None when it may. Looks again when time changes that."""
    if not _serves(draft, engine):
        return None
    view, model = draft.view, engine.model
    in_flight, closed_at = view.demand(model).in_flight, view.demand(model).admission_closed_at
    deadline = (view.now if closed_at is None else closed_at) + view.policy.drain_deadline_s
    if may_cut and view.now >= deadline:
        return None
    draft.look_again_at(deadline if may_cut else drain_turns_at(view, model))
    if may_cut or may_drain(view, model):
        return f"{in_flight} in flight; waits for them, at most {format_duration(deadline - view.now)} more."
    return f"{in_flight} in flight; takes requests again for a while, as they did not end by the drain deadline."


def _stays_closed(draft: Draft, engine: EngineObservation, *, may_cut: bool) -> bool:
    """Drained already (or never to serve again), and only its devices keep it from going down."""
    view = draft.view
    drained = view.demand(engine.model).admission_closed_at is not None and may_drain(view, engine.model)
    if drained:
        draft.look_again_at(drain_turns_at(view, engine.model))
    return isinstance(engine.state, Awake) and (may_cut or drained)
