"""Taking an engine down without cutting anybody off: drain first, then stop, when its devices are free for that."""

from vllama.domain.action import Sleep, Stop
from vllama.domain.observed import Awake, EngineObservation, Loading
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel
from vllama.domain.status import Phase
from vllama.domain.units import format_duration
from vllama.planner.draft import Draft
from vllama.planner.eviction import drain_turns_at, may_drain


def sleep_of(engine: EngineObservation, level: SleepLevel) -> Sleep:
    return Sleep(
        model=engine.model, engine_id=engine.engine_id, node=engine.node, devices=engine.devices,
        further=engine.further, level=level,
    )  # fmt: skip


def stop_of(engine: EngineObservation, *, cut: bool = False) -> Stop:
    return Stop(
        model=engine.model, engine_id=engine.engine_id, node=engine.node, devices=engine.devices,
        further=engine.further, cut=cut,
    )  # fmt: skip


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
    if (why_wait := must_drain(draft, engine, may_cut=may_cut)) is not None:
        drain = may_cut or may_drain(draft.view, model)
        draft.decide(model, Reason.DRAINING, f"{message} {why_wait}", drain=drain, refused=refused)
    elif holders := draft.free_to_act(engine):
        message, drain = f"{message} Waits for its devices.", stays_closed(draft, engine, may_cut=may_cut)
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


def must_drain(draft: Draft, engine: EngineObservation, *, may_cut: bool) -> str | None:
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


def stays_closed(draft: Draft, engine: EngineObservation, *, may_cut: bool) -> bool:
    """Drained already (or never to serve again), and only its devices keep it from going down."""
    view = draft.view
    drained = view.demand(engine.model).admission_closed_at is not None and may_drain(view, engine.model)
    if drained:
        draft.look_again_at(drain_turns_at(view, engine.model))
    return isinstance(engine.state, Awake) and (may_cut or drained)
