"""The numbers behind a decision, in words: why it cannot fit now, why stop and not sleep."""

from vllama.domain.observed import Asleep, DeviceKey, Loading
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import format_bytes, format_duration
from vllama.planner.draft import Draft
from vllama.planner.eviction import Victim
from vllama.planner.ledger import Ledger
from vllama.planner.never import need_of
from vllama.planner.placement import Offer, allowed
from vllama.planner.victims import why_missed_least
from vllama.planner.wanted import Wanted
from vllama.planner.where import name_device

MOST_LINES = 16  # of a message: who has more devices than that wants no list of them


def decide_no_room(draft: Draft, spec: ModelSpec) -> None:
    """Says why there is no room now although there could be, and whose change it takes."""
    ledger, keys = draft.ledger, _usable(draft.ledger, spec)
    unknown = not ledger.devices or any(ledger.room[key] is None for key in keys)
    before = {model for key in keys for model in draft.claims.get(key, ())}
    message = f"{rooms(ledger, spec)}." if keys else "No machine was seen yet."
    if unknown:
        draft.decide(spec.model, Reason.DEVICE_UNKNOWN, message)
    elif before:
        draft.decide(spec.model, Reason.ROOM_RESERVED, message, waits_for=tuple(sorted(before)))
    else:
        others = {engine.model for key in keys for engine in draft.view.on(key)}
        draft.decide(spec.model, Reason.NO_IDLE_VICTIM, message, waits_for=tuple(sorted(others - {spec.model})))


def rooms(ledger: Ledger, spec: ModelSpec) -> str:
    """What each device that it may use has, in words; of very many the roomiest."""
    keys = _usable(ledger, spec)
    if len(keys) <= MOST_LINES:
        return "; ".join(_room_line(ledger, spec, key) for key in keys) or "no machine was seen yet"
    keys.sort(key=lambda key: -(ledger.room[key] or 0))
    lines = [_room_line(ledger, spec, key) for key in keys[: MOST_LINES // 2]]
    return f"{'; '.join(lines)}; and {len(keys) - len(lines)} more devices with no more"


def _usable(ledger: Ledger, spec: ModelSpec) -> list[DeviceKey]:
    """Of nodes that answer."""
    return [(node.name, index) for node in ledger.view.ready.values() for index in allowed(spec, node)]


def _room_line(ledger: Ledger, spec: ModelSpec, key: DeviceKey) -> str:
    room, device, name = ledger.room[key], ledger.devices[key], name_device(ledger.view, key)
    if room is None:
        return f"{name}: how much is free is not known"
    foreign = device.total_bytes - device.reserve_bytes - ledger.capacity[key]
    others = f", {format_bytes(foreign)} held by other programs" if foreign else ""
    need = format_bytes(need_of(ledger, spec, key))
    return f"{name}: needs {need}, {format_bytes(max(0, room))} not given away{others}"


def victim_message(draft: Draft, want: Wanted, offer: Offer, victim: Victim) -> str:
    """Who, for whom, how long unused; and where it stops, what it would still hold asleep."""
    candidate, ledger = victim.candidate, draft.ledger
    engine = candidate.engine
    idle = format_duration(max(0.0, draft.view.now - candidate.last_used))
    idle += why_missed_least(draft.view, ledger, engine, victim.level, victim.frees)
    frees = f"frees {format_bytes(victim.frees)} for {want.model}"
    if isinstance(engine.state, Loading):
        return f"Another engine of its model serves; breaking its load off {frees}."
    if isinstance(engine.state, Asleep):
        return f"Asleep, unused for {idle}; stopping it {frees}."
    if victim.level is not SleepLevel.STOP:
        return f"Unused for {idle}; sleeping at level {victim.level} {frees}."
    spec = draft.view.desired.models[engine.model]
    if (why := ledger.why_not_sleep(spec, engine, spec.eviction_level)) is not None:
        return f"Unused for {idle}; stopping it {frees}: {why}."
    if not candidate.sleep_frees:
        return f"Unused for {idle}; stopping it {frees}: asleep it would hold as much."
    asleep = ledger.charge(engine) - candidate.sleep_frees
    rooms = [
        (_room_if_asleep(draft, offer, victim, key), need)
        for key, need in zip(offer.keys, offer.needs, strict=True)
        if key in candidate.devices
    ]
    room, need = min(rooms, key=lambda pair: pair[0] - pair[1])
    if room >= need:
        copy = format_bytes(min(copy for _, copy in candidate.copies))
        return f"Unused for {idle}; stopping it {frees}: host memory has no room for one more copy of {copy}."
    return (
        f"Unused for {idle}; must stop, not sleep: asleep it would still hold {format_bytes(asleep)}, "
        f"and {format_bytes(max(0, room))} would be free where {want.model} needs {format_bytes(need)}."
    )


def _room_if_asleep(draft: Draft, offer: Offer, victim: Victim, key: DeviceKey) -> int:
    """What the device would have free if this victim slept and the others went as planned."""
    others = (v for v in offer.victims if v is not victim and key in v.candidate.devices)
    return (draft.ledger.room[key] or 0) + victim.candidate.sleep_frees + sum(other.frees for other in others)
