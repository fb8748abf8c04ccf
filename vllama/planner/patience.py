"""Rather a wait for who is busy than the stop of a model that is asked for often (`policy.victims: cost`). Pure.

Who sleeps is back soon, who was stopped has to start. Where none but the idle were asked, one of them may have to stop
for little memory, although somebody whose requests end in a moment could sleep instead. Nobody knows when they end: so
who waits does so until that has cost as much as the start would, and what comes of it costs twice the better at most.
"""

import msgspec

from vllama.domain.observed import Asleep
from vllama.domain.spec import SleepLevel, VictimPolicy
from vllama.domain.units import format_duration
from vllama.planner.draft import Draft
from vllama.planner.eviction import Candidate
from vllama.planner.placement import Offer, make_offer
from vllama.planner.victims import asked_per_s, back_s
from vllama.planner.wanted import Wanted

SOON_S = 600.0  # who is asked for once in this time is sure to be missed


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """`offer`: the same devices, whose victims only go to sleep; some of them are busy."""

    offer: Offer
    message: str


def rather_waits(draft: Draft, want: Wanted, offer: Offer) -> Patience | None:
    """None: it uses `offer` now."""
    view, ledger = draft.view, draft.ledger
    if view.policy.victims is not VictimPolicy.COST or offer.busy:
        return None
    stopped = [v.candidate.engine for v in offer.victims if v.level is SleepLevel.STOP and _sleeps(v.candidate)]
    costs_s = sum(
        back_s(ledger, engine, SleepLevel.STOP) * min(1.0, SOON_S * asked_per_s(view, engine, view.as_of))
        for engine in stopped
    )
    until = want.since + min(costs_s / max(1, view.demand(want.model).waiting), view.policy.fairness_bound_s)
    if view.now >= until or (rather := _asleep_only(draft, offer)) is None:
        return None
    draft.look_again_at(until)
    busy = ", ".join(sorted(v.candidate.engine.model for v in rather.busy))
    others = ", ".join(sorted(engine.model for engine in stopped))
    left, stop = format_duration(until - view.now), "stops" if len(stopped) == 1 else "stop"
    message = (
        f"Waits for {busy}, with requests in flight, to sleep; in {left} {others} {stop} instead, and must start again."
    )
    return Patience(offer=rather, message=message)


def _sleeps(candidate: Candidate) -> bool:
    """It would be back sooner than from a stop."""
    return not candidate.spare and (candidate.sleep_frees > 0 or isinstance(candidate.engine.state, Asleep))


def _asleep_only(draft: Draft, offer: Offer) -> Offer | None:
    """With busy victims, as there is no other without them that nobody stops for."""
    others = {
        key: [
            msgspec.structs.replace(candidate, stop_frees=candidate.sleep_frees)
            for candidate in draft.candidates.get(key, ())
            if candidate.sleep_frees > 0
        ]
        for key in offer.keys
    }
    found = make_offer(draft.ledger, offer.node, offer.devices, offer.needs, others, offer.further)
    if found is None or not found.busy or any(victim.level is SleepLevel.STOP for victim in found.victims):
        return None
    return found
