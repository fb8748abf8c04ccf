"""One wanted model: what it takes to have it ready, and who has to make room for that."""

from dataclasses import replace

from vllama.domain.action import Start, Wake
from vllama.domain.observed import Asleep, Awake, DeviceKey, EngineObservation, Loading
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import format_bytes, format_duration
from vllama.planner.arithmetic import decide_no_room
from vllama.planner.backoff import pause_of, retry_at
from vllama.planner.draft import Draft
from vllama.planner.ledger import cache_bytes, leaked_bytes
from vllama.planner.moving import better_elsewhere
from vllama.planner.never import awaits, cannot_fit
from vllama.planner.placement import Offer, best_offer, make_offer
from vllama.planner.room import is_at_hand, promise, refuse, refuses, use
from vllama.planner.stopping import stop
from vllama.planner.victims import back_s
from vllama.planner.wanted import Wanted
from vllama.planner.where import name_devices, of_lost


def serve(draft: Draft, want: Wanted) -> None:
    """Decides `want.model`, and with it every model that has to make room for it."""
    want = _soonest(draft, want)
    spec = draft.view.desired.models[want.model]
    engine = draft.view.engine(want.model)
    draft.protect(want.model)
    if engine is None:
        _start(draft, want, spec)
        draft.add(want.model, of_lost(draft.view, want.model))
        return
    match engine.state:
        case Awake():
            _already_awake(draft, want)
        case Loading():
            since = format_duration(draft.view.now - engine.started_at)
            draft.decide(want.model, Reason.STARTING, f"Loading since {since}; {want.why}.")
            draft.add(want.model, of_lost(draft.view, want.model))
        case Asleep():
            _wake(draft, want, spec, engine, engine.state)
        case _:
            raise AssertionError(f"upkeep left {engine.state} of {want.model} undecided")


def _soonest(draft: Draft, want: Wanted) -> Wanted:
    """Of several replicas that sleep the one that is up again with the least trouble for others."""
    engine, siblings = draft.view.engine(want.model), draft.view.siblings(want.model)
    if not siblings or engine is None or not isinstance(engine.state, Asleep):
        return want
    prices = [
        (offer.price(loading=draft.view.loading(offer.keys)), name)
        for name in (want.model, *siblings)
        if not draft.decided(name) and name not in draft.leaving and (offer := _waking(draft, name)) is not None
    ]
    return replace(want, model=min(prices, key=lambda pair: pair[0])[1]) if prices else want


def _waking(draft: Draft, model: str) -> Offer | None:
    """What it takes to wake it where it sleeps; None: it does not sleep, or cannot wake there."""
    engine, ledger = draft.view.engine(model), draft.ledger
    if engine is None or not isinstance(engine.state, Asleep):
        return None
    needs = (ledger.wake_bytes(engine),) * len(engine.keys)
    others = {key: [c for c in each if c.engine is not engine] for key, each in draft.candidates.items()}
    return make_offer(ledger, engine.node, engine.devices, needs, others, engine.further)


def _already_awake(draft: Draft, want: Wanted) -> None:
    reason = Reason.PINNED if draft.view.pinned(want.model) else Reason.SERVING
    draft.decide(want.model, reason, f"Ready; {want.why}, {draft.view.demand(want.model).in_flight} in flight.")


def _start(draft: Draft, want: Wanted, spec: ModelSpec) -> None:
    if (never := cannot_fit(draft.ledger, spec)) is not None:
        draft.decide(want.model, *never, refused=True)
        return
    crashes = draft.view.snapshot.crashes.get(want.model)
    if crashes is not None and (pause := pause_of(crashes, draft.view.now)) is not None:
        draft.look_again_at(retry_at(crashes))
        draft.decide(want.model, Reason.BACKING_OFF, pause)
        return
    offer = best_offer(spec, draft.ledger, draft.candidates)
    if offer is None:
        if (awaited := awaits(draft.ledger, spec)) is not None:
            draft.decide(want.model, Reason.NODE_AWAITED, awaited)
        else:
            decide_no_room(draft, spec)
        return
    start_on(draft, want, spec, offer)


def start_on(draft: Draft, want: Wanted, spec: ModelSpec, offer: Offer) -> None:
    total = min(draft.ledger.devices[key].total_bytes for key in offer.keys)
    footprint = draft.ledger.footprint(want.model)
    action = Start(
        model=want.model, spec_hash=spec.spec_hash, node=offer.node, devices=offer.devices, further=offer.further,
        memory_bytes=offer.added_bytes, gpu_memory_utilization=offer.added_bytes / total,
        kv_cache_bytes=cache_bytes(footprint, offer.added_bytes),
    )  # fmt: skip
    what = f"starts on {name_devices(draft.view, offer)} with {format_bytes(offer.added_bytes)} each; {want.why}"
    use(draft, want, offer, action, what)


def _wake(draft: Draft, want: Wanted, spec: ModelSpec, engine: EngineObservation, asleep: Asleep) -> None:
    if (first := draft.leaving.get(want.model)) is not None:
        message = f"Makes room for {first}, which was asked for before; its own turn comes after that."
        draft.decide(want.model, Reason.ROOM_RESERVED, message, waits_for=(first,))
        return
    added = draft.ledger.wake_bytes(engine)
    needs = (added,) * len(engine.keys)
    offer = make_offer(draft.ledger, engine.node, engine.devices, needs, draft.candidates, engine.further)
    there = None if offer is None else better_elsewhere(draft, want, spec, engine, offer)
    if offer is not None and there is not None:
        busy = ", ".join(sorted(victim.candidate.engine.model for victim in offer.busy))
        where = name_devices(draft.view, there)
        message = f"Takes turns with {busy} where it is, and would wait for that; a start on {where} pays."
        stop(draft, engine, Reason.RELOCATED, message)
        promise(draft, want, there)
    elif offer is not None:
        wake_on(draft, want, engine, asleep, offer)
    else:
        _move(draft, want, spec, engine)


def wake_on(draft: Draft, want: Wanted, engine: EngineObservation, asleep: Asleep, offer: Offer) -> None:
    action = Wake(
        model=want.model, engine_id=engine.engine_id, node=engine.node, devices=engine.devices,
        further=engine.further, level=asleep.level,
    )  # fmt: skip
    what = f"wakes on {name_devices(draft.view, offer)} with {format_bytes(offer.added_bytes)} more each; {want.why}"
    use(draft, want, offer, action, what)


def _move(draft: Draft, want: Wanted, spec: ModelSpec, engine: EngineObservation) -> None:
    """It cannot wake where it sleeps: its engine stops where there is room elsewhere, and that room is kept for it."""
    ledger, in_flight = draft.ledger, draft.view.demand(want.model).in_flight
    known = all(ledger.room.get(key) is not None for key in engine.keys)
    if not in_flight and _start_anew(draft, want, engine):
        return
    elsewhere = best_offer(spec, ledger, draft.candidates) if known and not in_flight else None
    if elsewhere is not None and _rather_waits(draft, want, engine):
        decide_no_room(draft, spec)
    elif elsewhere is not None and is_at_hand(ledger, elsewhere) and not refuses(draft, want, elsewhere):
        stop(
            draft, engine, Reason.RELOCATED, f"Cannot wake where it is; {name_devices(draft.view, elsewhere)} has room."
        )
        promise(draft, want, elsewhere)
    elif known and (never := cannot_fit(ledger, spec)) is not None:
        draft.decide(want.model, *never, refused=True)
    elif elsewhere is not None and refuses(draft, want, elsewhere):
        refuse(draft, want, elsewhere)
    else:
        decide_no_room(draft, spec)


def _rather_waits(draft: Draft, want: Wanted, engine: EngineObservation) -> bool:
    """Others are only before it where it sleeps. A start elsewhere takes longer than a wake: it waits for as long as
    that before it moves.
    """
    view, ledger = draft.view, draft.ledger
    keys = engine.keys
    moves_at = want.since + back_s(ledger, engine, SleepLevel.STOP)
    if view.now >= moves_at or not any(_is_before(draft, want, key) for key in keys):
        return False
    draft.look_again_at(moves_at)
    needs = engine.memory_bytes + leaked_bytes(engine)
    pins = (sum(held for name, held in ledger.pinned.get(key, {}).items() if name != want.model) for key in keys)
    return all(ledger.capacity[key] - held >= needs for key, held in zip(keys, pins, strict=True))


def _is_before(draft: Draft, want: Wanted, key: DeviceKey) -> bool:
    """Somebody else was promised room there, goes through a change, or is up and about to serve who waits for it."""
    view = draft.view
    serves = any(isinstance(each.state, Awake) and view.demand(each.model).waiting for each in view.on(key))
    return serves or bool(draft.claims.get(key)) or bool(view.holders((key,), besides=want.model))


def _start_anew(draft: Draft, want: Wanted, engine: EngineObservation) -> bool:
    """Whether it stops to be started where it is: there is room for it, and not for what it has leaked as well."""
    ledger, leaked = draft.ledger, leaked_bytes(engine)
    needs = (ledger.wake_bytes(engine) - leaked,) * len(engine.keys)
    if not leaked:
        return False
    offer = make_offer(ledger, engine.node, engine.devices, needs, draft.candidates, engine.further)
    if offer is None or not is_at_hand(ledger, offer) or refuses(draft, want, offer):
        return False
    message = f"Cannot wake beside the {format_bytes(leaked)} that it has leaked; there is room for a new engine."
    stop(draft, engine, Reason.RESIDUE_GREW, message)
    promise(draft, want, offer)
    return True
