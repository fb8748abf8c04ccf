"""One wanted model: what it takes to have it ready, and who has to make room for that."""

from vllama.domain.action import Action, Start, Wake
from vllama.domain.observed import Asleep, Awake, EngineObservation, Loading
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, OnConflict, SleepLevel
from vllama.domain.status import Phase
from vllama.domain.units import format_bytes, format_duration
from vllama.planner.arithmetic import cannot_fit, decide_no_room, name_devices, victim_message
from vllama.planner.backoff import retry_at
from vllama.planner.draft import Draft
from vllama.planner.eviction import Victim, drain_turns_at, may_drain
from vllama.planner.ledger import Ledger
from vllama.planner.placement import Offer, best_offer, make_offer, on_devices
from vllama.planner.upkeep import sleep_of, stop, stop_of
from vllama.planner.wanted import Wanted


def serve(draft: Draft, want: Wanted) -> None:
    """Decides `want.model`, and with it every model that has to make room for it."""
    spec = draft.view.desired.models[want.model]
    engine = draft.view.engine(want.model)
    draft.protect(want.model)
    if engine is None:
        _start(draft, want, spec)
        return
    match engine.state:
        case Awake():
            _already_awake(draft, want)
        case Loading():
            since = format_duration(draft.view.now - engine.started_at)
            draft.decide(want.model, Reason.STARTING, f"Loading since {since}; {want.why}.")
        case Asleep():
            _wake(draft, want, spec, engine, engine.state)
        case _:
            raise AssertionError(f"upkeep left {engine.state} of {want.model} undecided")


def _already_awake(draft: Draft, want: Wanted) -> None:
    reason = Reason.PINNED if draft.view.pinned(want.model) else Reason.SERVING
    draft.decide(want.model, reason, f"Ready; {want.why}, {draft.view.demand(want.model).in_flight} in flight.")


def _start(draft: Draft, want: Wanted, spec: ModelSpec) -> None:
    view = draft.view
    if (never := cannot_fit(draft.ledger, spec)) is not None:
        draft.decide(want.model, *never, refused=True)
        return
    crashes = view.snapshot.crashes.get(want.model)
    if crashes is not None and view.now < (again_at := retry_at(crashes)):
        draft.look_again_at(again_at)
        rest = format_duration(again_at - view.now)
        message = f"Failed {crashes.count}x in a row; next try in {rest}. Last: {crashes.cause}"
        draft.decide(want.model, Reason.BACKING_OFF, message)
        return
    offer = best_offer(spec, draft.ledger, draft.candidates)
    if offer is None:
        decide_no_room(draft, spec)
        return
    total = min(draft.ledger.devices[offer.node, device].total_bytes for device in offer.devices)
    footprint = draft.ledger.footprint(want.model)
    action = Start(
        model=want.model, spec_hash=spec.spec_hash, node=offer.node, devices=offer.devices,
        memory_bytes=offer.added_bytes, gpu_memory_utilization=offer.added_bytes / total,
        kv_cache_bytes=None if footprint is None else footprint.kv_cache_bytes,
    )  # fmt: skip
    what = f"starts on {name_devices(offer)} with {format_bytes(offer.added_bytes)} each; {want.why}"
    _use(draft, want, offer, action, what)


def _wake(draft: Draft, want: Wanted, spec: ModelSpec, engine: EngineObservation, asleep: Asleep) -> None:
    if (first := draft.leaving.get(want.model)) is not None:
        message = f"Makes room for {first}, which was asked for before; its own turn comes after that."
        draft.decide(want.model, Reason.ROOM_RESERVED, message, waits_for=(first,))
        return
    here = on_devices(draft.candidates, engine.node, engine.devices)
    added = draft.ledger.wake_bytes(engine)
    offer = make_offer(draft.ledger, engine.node, engine.devices, added, here)
    if offer is not None:
        action = Wake(
            model=want.model, engine_id=engine.engine_id, node=engine.node, devices=engine.devices, level=asleep.level
        )  # fmt: skip
        what = f"wakes on {name_devices(offer)} with {format_bytes(added)} more each; {want.why}"
        _use(draft, want, offer, action, what)
    else:
        _move(draft, want, spec, engine)


def _move(draft: Draft, want: Wanted, spec: ModelSpec, engine: EngineObservation) -> None:
    """It cannot wake where it sleeps: its engine stops where there is room elsewhere, and that room is kept for it."""
    ledger, in_flight = draft.ledger, draft.view.demand(want.model).in_flight
    known = all(ledger.room.get((engine.node, device)) is not None for device in engine.devices)
    elsewhere = best_offer(spec, ledger, draft.candidates) if known and not in_flight else None
    if elsewhere is not None and _is_at_hand(ledger, elsewhere) and not _refuses(draft, want, elsewhere):
        stop(draft, engine, Reason.RELOCATED, f"Cannot wake where it is; {name_devices(elsewhere)} has room.")
        _settle_victims(draft, want, elsewhere, act=False)
        _claim(draft, want, elsewhere)
    elif known and (never := cannot_fit(ledger, spec)) is not None:
        draft.decide(want.model, *never, refused=True)
    else:
        decide_no_room(draft, spec)


def _use(draft: Draft, want: Wanted, offer: Offer, action: Action, what: str) -> None:
    """Act if the offer is free, else make room; either way its room is this model's from here on."""
    model, act = want.model, False
    holders = draft.view.holders(offer.node, offer.devices)
    if _refuses(draft, want, offer):
        message = f"Would displace {', '.join(offer.models)} (on_conflict: refuse)."
        draft.decide(model, Reason.WOULD_EVICT, message, refused=True)
        return
    if holders:
        draft.decide(model, Reason.DEVICE_BUSY, f"Waits for its devices, then {what}.", waits_for=holders)
    elif offer.busy:
        _wait_for_busy(draft, want, offer)
    elif not _is_at_hand(draft.ledger, offer):
        first = {name for device in offer.devices for name in draft.claims.get((offer.node, device), ())}
        message = f"What it is to use is still held, and leaves for {', '.join(sorted(first))} first; then it {what}."
        draft.decide(model, Reason.ROOM_RESERVED, message, waits_for=tuple(sorted(first)))
    elif offer.victims:
        act = True
        message = f"{', '.join(offer.models)} make room; then it {what}."
        draft.decide(model, Reason.MAKING_ROOM, message, waits_for=offer.models)
    else:
        draft.decide(model, Reason.DEMANDED, f"{what[0].upper()}{what[1:]}.", action=action, after=Phase.READY)
    _settle_victims(draft, want, offer, act=act, stay_closed=bool(holders))
    _claim(draft, want, offer)


def _refuses(draft: Draft, want: Wanted, offer: Offer) -> bool:
    return bool(offer.victims) and draft.view.desired.models[want.model].on_conflict is OnConflict.REFUSE


def _is_at_hand(ledger: Ledger, offer: Offer) -> bool:
    """No victim is busy, and the room is there once they have gone, whoever else was promised to leave for others."""
    if offer.busy:
        return False
    freed: dict[int, int] = {}
    for victim in offer.victims:
        for device in victim.candidate.engine.devices:
            freed[device] = freed.get(device, 0) + victim.frees
    return all((ledger.free[offer.node, d] or 0) + freed.get(d, 0) >= offer.added_bytes for d in offer.devices)


def _claim(draft: Draft, want: Wanted, offer: Offer) -> None:
    draft.ledger.take(offer.node, offer.devices, offer.added_bytes)
    for device in offer.devices:
        draft.claims.setdefault((offer.node, device), []).append(want.model)


def _wait_for_busy(draft: Draft, want: Wanted, offer: Offer) -> None:
    """Past the fairness bound all awake victims stop taking requests, the idle ones too: they are to stay idle."""
    view = draft.view
    names = tuple(sorted(victim.candidate.engine.model for victim in offer.busy))
    awake = [victim for victim in offer.victims if isinstance(victim.candidate.engine.state, Awake)]
    bound_at = want.since + view.policy.fairness_bound_s
    waited = format_duration(view.now - want.since)
    if view.now >= bound_at and all(may_drain(view, victim.candidate.engine.model) for victim in awake):
        message = f"Waits since {waited}, past the fairness bound; {', '.join(names)} drain."
        draft.decide(want.model, Reason.DRAINING_OTHERS, message, waits_for=names)
        for victim in awake:
            _drain(draft, victim, want)
        return
    draft.look_again_at(bound_at)
    for victim in awake:
        if not may_drain(view, victim.candidate.engine.model):
            draft.look_again_at(drain_turns_at(view, victim.candidate.engine.model))
    message = f"{', '.join(names)} have requests in flight; waits since {waited}."
    draft.decide(want.model, Reason.NO_IDLE_VICTIM, message, waits_for=names)


def _drain(draft: Draft, victim: Victim, want: Wanted) -> None:
    model = victim.candidate.engine.model
    draft.look_again_at(drain_turns_at(draft.view, model))
    in_flight = draft.view.demand(model).in_flight
    message = f"{want.model} waits for its memory; {in_flight} in flight finish, arrivals queue."
    draft.decide(model, Reason.DRAINED_FOR_WAITER, message, drain=True, after=Phase.DRAINING)


def _settle_victims(draft: Draft, want: Wanted, offer: Offer, *, act: bool, stay_closed: bool = False) -> None:
    """What the victims free is the waiter's. One action per device in a pass; the other victims go in the next.

    Until then these take no requests: one that came would make the eviction of the first in vain. For the same
    reason those that are closed stay so while the waiter only waits for its devices (`stay_closed`).
    """
    messages = [victim_message(draft, want, offer, victim) for victim in offer.victims]
    for victim, message in zip(offer.victims, messages, strict=True):
        engine = victim.candidate.engine
        draft.ledger.take(engine.node, engine.devices, -victim.frees)
        draft.protect(engine.model)
        draft.leaving[engine.model] = want.model
        if draft.decided(engine.model):
            continue
        if act:
            _evict(draft, victim, message)
        elif stay_closed and victim.candidate.draining and may_drain(draft.view, engine.model):
            _drain(draft, victim, want)


def _evict(draft: Draft, victim: Victim, message: str) -> None:
    engine, view = victim.candidate.engine, draft.view
    if holders := draft.free_to_act(engine):
        drain = isinstance(engine.state, Awake) and may_drain(view, engine.model)
        if drain:
            draft.look_again_at(drain_turns_at(view, engine.model))
        message = f"{message} Next, once its devices are free."
        draft.decide(engine.model, Reason.EVICTED, message, waits_for=holders, drain=drain)
    elif victim.level is SleepLevel.STOP:
        draft.decide(engine.model, Reason.EVICTED, message, action=stop_of(engine), after=Phase.STOPPED)
    else:
        draft.ledger.pin_host_copy(engine, victim.level)
        action = sleep_of(engine, victim.level)
        draft.decide(engine.model, Reason.EVICTED, message, action=action, after=Phase.ASLEEP)
