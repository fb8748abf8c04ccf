"""Making room: whether a waiter may act on an offer now, and what becomes of those who are in its way."""

import msgspec

from vllama.domain.action import Action
from vllama.domain.observed import Awake, DeviceKey, Loading
from vllama.domain.reason import Reason
from vllama.domain.spec import OnConflict, SleepLevel
from vllama.domain.status import Phase
from vllama.domain.units import format_duration
from vllama.planner.arithmetic import victim_message
from vllama.planner.draft import Draft
from vllama.planner.eviction import Victim, drain_turns_at, may_drain
from vllama.planner.ledger import Ledger
from vllama.planner.patience import rather_waits
from vllama.planner.placement import Offer
from vllama.planner.stopping import sleep_of, stop_of
from vllama.planner.wanted import Wanted


def use(draft: Draft, want: Wanted, offer: Offer, action: Action, what: str) -> None:
    """Act if the offer is free, else make room; either way its room is this model's from here on."""
    model, act = want.model, False
    if refuses(draft, want, offer):
        refuse(draft, want, offer)
        return
    patience = rather_waits(draft, want, offer)
    if patience is not None:
        busy = tuple(sorted(victim.candidate.engine.model for victim in patience.offer.busy))
        draft.decide(model, Reason.NO_IDLE_VICTIM, patience.message, waits_for=busy)
        promise(draft, want, patience.offer)
        return
    if not want.further:
        offer = _over_those_who_load(draft, offer)
    holders = _holders(draft, offer)
    if holders:
        draft.decide(model, Reason.DEVICE_BUSY, f"Waits for its devices, then {what}.", waits_for=holders)
    elif offer.busy:
        _wait_for_busy(draft, want, offer)
    elif not is_at_hand(draft.ledger, offer):
        first = {name for key in offer.keys for name in draft.claims.get(key, ())}
        message = f"What it is to use is still held, and leaves for {', '.join(sorted(first))} first; then it {what}."
        draft.decide(model, Reason.ROOM_RESERVED, message, waits_for=tuple(sorted(first)))
    elif offer.victims:
        act = True
        message = f"{', '.join(offer.models)} {'makes' if len(offer.models) == 1 else 'make'} room; then it {what}."
        draft.decide(model, Reason.MAKING_ROOM, message, waits_for=offer.models)
    else:
        draft.decide(model, Reason.DEMANDED, f"{what[0].upper()}{what[1:]}.", action=action, after=Phase.READY)
    promise(draft, want, offer, act=act, stay_closed=bool(holders))


def _over_those_who_load(draft: Draft, offer: Offer) -> Offer:
    """A spare replica that loads there gives way: nobody who is waited for waits for the end of its load."""
    chosen = {victim.candidate.engine.engine_id for victim in offer.victims}
    loading = {
        candidate.engine.engine_id: candidate
        for key in offer.keys
        for candidate in draft.candidates.get(key, ())
        if isinstance(candidate.engine.state, Loading) and candidate.engine.engine_id not in chosen
    }
    more = (Victim(candidate=candidate, level=SleepLevel.STOP) for _, candidate in sorted(loading.items()))
    return msgspec.structs.replace(offer, victims=(*offer.victims, *more)) if loading else offer


def _holders(draft: Draft, offer: Offer) -> tuple[str, ...]:
    """Whose change is to be waited for: not that of those who break it off."""
    victims = (victim.candidate.engine for victim in offer.victims)
    breaking_off = {engine.model for engine in victims if isinstance(engine.state, Loading)}
    found = draft.view.holders(offer.keys)
    return tuple(model for model in found if model not in breaking_off)


def refuses(draft: Draft, want: Wanted, offer: Offer) -> bool:
    return bool(offer.victims) and draft.view.desired.models[want.model].on_conflict is OnConflict.REFUSE


def refuse(draft: Draft, want: Wanted, offer: Offer) -> None:
    message = f"Would displace {', '.join(offer.models)} (on_conflict: refuse)."
    draft.decide(want.model, Reason.WOULD_EVICT, message, refused=True)


def is_at_hand(ledger: Ledger, offer: Offer) -> bool:
    """No victim is busy, and the room is there once they have gone, whoever else was promised to leave for others."""
    if offer.busy:
        return False
    freed: dict[DeviceKey, int] = {}
    for victim in offer.victims:
        for key in victim.candidate.devices:
            freed[key] = freed.get(key, 0) + victim.frees
    needs = zip(offer.keys, offer.needs, strict=True)
    return all((ledger.free[key] or 0) + freed.get(key, 0) >= need for key, need in needs)


def _wait_for_busy(draft: Draft, want: Wanted, offer: Offer) -> None:
    """Past the fairness bound all awake victims stop taking requests, the idle ones too: they are to stay idle."""
    view = draft.view
    names = tuple(sorted(victim.candidate.engine.model for victim in offer.busy))
    awake = [victim for victim in offer.victims if isinstance(victim.candidate.engine.state, Awake)]
    bound_at = want.since + view.policy.fairness_bound_s
    waited = format_duration(view.now - want.since)
    if view.now >= bound_at and all(may_drain(view, victim.candidate.engine.model) for victim in awake):
        drain = "drains" if len(names) == 1 else "drain"
        message = f"Waits since {waited}, past the fairness bound; {', '.join(names)} {drain}."
        draft.decide(want.model, Reason.DRAINING_OTHERS, message, waits_for=names)
        for victim in awake:
            _drain(draft, victim, want)
        return
    draft.look_again_at(bound_at)
    for victim in awake:
        if not may_drain(view, victim.candidate.engine.model):
            draft.look_again_at(drain_turns_at(view, victim.candidate.engine.model))
    have = "has" if len(names) == 1 else "have"
    message = f"{', '.join(names)} {have} requests in flight; waits since {waited}."
    draft.decide(want.model, Reason.NO_IDLE_VICTIM, message, waits_for=names)


def _drain(draft: Draft, victim: Victim, want: Wanted) -> None:
    model = victim.candidate.engine.model
    draft.look_again_at(drain_turns_at(draft.view, model))
    in_flight = draft.view.demand(model).in_flight
    message = f"{want.model} waits for its memory; {in_flight} in flight finish, arrivals queue."
    draft.decide(model, Reason.DRAINED_FOR_WAITER, message, drain=True, after=Phase.DRAINING)


def promise(draft: Draft, want: Wanted, offer: Offer, *, act: bool = False, stay_closed: bool = False) -> None:
    """From here on the room is this model's, and the victims leave for it: now, if `act`.

    One action per device in a pass; the other victims go in the next. Until then these take no requests: one that
    came would make the eviction of the first in vain. For the same reason those that are closed stay so while the
    waiter only waits for its devices (`stay_closed`).
    """
    messages = [victim_message(draft, want, offer, victim) for victim in offer.victims]
    for victim, message in zip(offer.victims, messages, strict=True):
        engine = victim.candidate.engine
        draft.ledger.take(engine.keys, -victim.frees)
        draft.protect(engine.model)
        draft.leaving[engine.model] = want.model
        if draft.decided(engine.model):
            continue
        if act:
            _evict(draft, victim, message)
        elif stay_closed and victim.candidate.draining and may_drain(draft.view, engine.model):
            _drain(draft, victim, want)
    for key, need in zip(offer.keys, offer.needs, strict=True):
        draft.ledger.take((key,), need)
        draft.claims.setdefault(key, []).append(want.model)


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
