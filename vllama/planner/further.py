"""Further replicas: engines beside one that serves, while their model is in use and there is memory to spare."""

from collections.abc import Sequence

from vllama.domain.action import Start, Wake
from vllama.domain.demand import WantReady
from vllama.domain.observed import Asleep, Awake, Loading
from vllama.domain.reason import Reason
from vllama.domain.units import format_duration
from vllama.planner.arithmetic import rooms
from vllama.planner.backoff import pause_of, retry_at
from vllama.planner.draft import Draft
from vllama.planner.never import cannot_fit
from vllama.planner.placement import best_offer, make_offer
from vllama.planner.serve import start_on, wake_on
from vllama.planner.view import View
from vllama.planner.wanted import Wanted

_ON_THEIR_WAY = frozenset({Reason.STARTING, Reason.WAKING, Reason.SERVING, Reason.PINNED})


def serve_further(draft: Draft, wants: Sequence[Wanted]) -> None:
    """Decides the spare replicas of every model in use. Nothing begins while anybody who is wanted waits for room."""
    view = draft.view
    first = next((want.model for want in wants if not _provided_for(draft, want)), None)
    specs = view.desired.models
    for names in sorted(view.groups, key=lambda names: (-specs[names[0]].priority, names)):
        lead = view.lead(names[0])
        spares = [name for name in names if view.spare(name)]
        if spares and _in_use(draft, lead, names):
            for name in spares:
                if not draft.decided(name):
                    want = Wanted(model=name, since=view.now, why=f"{specs[name].served_name} is in use", further=True)
                    _welcome(draft, want, first)


def _provided_for(draft: Draft, want: Wanted) -> bool:
    """It is up, on its way, or told that it will not be; or one of its replicas is, which serves in its place."""
    return any(_comes(draft, name) for name in (want.model, *draft.view.siblings(want.model)))


def _comes(draft: Draft, name: str) -> bool:
    decision = draft.decisions.get(name)
    if decision is None:
        return False
    return decision.refused or decision.reason in _ON_THEIR_WAY or isinstance(decision.action, Start | Wake)


def _in_use(draft: Draft, lead: str, names: Sequence[str]) -> bool:
    """As long as the lead does not rest by time, and no operator holds it down."""
    view, engine = draft.view, draft.view.engine(lead)
    if engine is None or not isinstance(view.override(lead), WantReady | None):
        return False
    if view.pinned(lead) or any(view.demand(name).in_flight or view.demand(name).waiting for name in names):
        return True
    said = view.demand(lead).keep_alive
    after_s = view.desired.models[lead].idle.sleep_after_s if said is None else said.idle_s
    if after_s is None:
        return True
    draft.look_again_at(view.last_used(engine) + after_s)
    return view.now < view.last_used(engine) + after_s


def _welcome(draft: Draft, want: Wanted, first: str | None) -> None:
    """`first`: who waits for room, so that nothing begins here."""
    view, model = draft.view, want.model
    engine, in_flight = view.engine(model), view.demand(model).in_flight
    match None if engine is None else engine.state:
        case Awake():
            said = f"{in_flight} in flight." if in_flight else f"Nothing to do; {want.why}."
            draft.decide(model, Reason.SERVING if in_flight else Reason.IDLE, said)
        case Loading() if engine is not None:
            since = format_duration(view.now - engine.started_at)
            draft.decide(model, Reason.STARTING, f"Loading since {since}; {want.why}.")
        case Asleep() as asleep if engine is not None and first is None and model not in draft.leaving:
            needs = (draft.ledger.wake_bytes(engine),) * len(engine.keys)
            offer = make_offer(draft.ledger, engine.node, engine.devices, needs, {}, engine.further)
            if offer is not None:
                wake_on(draft, want, engine, asleep, offer)
        case None if first is None:
            _start(draft, want)
        case None:
            message = f"{_beside(view, model)}; {first} is waited for, and has the first choice of what is free."
            draft.decide(model, Reason.NO_FREE_ROOM, message)


def _start(draft: Draft, want: Wanted) -> None:
    view, model = draft.view, want.model
    spec, crashes = view.desired.models[model], view.snapshot.crashes.get(model)
    if (never := cannot_fit(draft.ledger, spec)) is not None:
        draft.decide(model, Reason.NO_FREE_ROOM, never[1])
    elif crashes is not None and (pause := pause_of(crashes, view.now)) is not None:
        draft.look_again_at(retry_at(crashes))
        draft.decide(model, Reason.BACKING_OFF, pause)
    elif (offer := best_offer(spec, draft.ledger, {})) is not None:
        start_on(draft, want, spec, offer)
    else:
        message = f"{_beside(view, model)}; one more takes free memory only: {rooms(draft.ledger, spec)}."
        draft.decide(model, Reason.NO_FREE_ROOM, message)


def _beside(view: View, model: str) -> str:
    return f"{view.lead(model)} serves"
