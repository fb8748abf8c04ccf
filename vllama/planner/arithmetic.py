"""The numbers behind a decision, in words: why it can never fit, why it cannot now, why stop and not sleep."""

from vllama.domain.observed import Asleep, Loading
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import format_bytes, format_duration
from vllama.planner.draft import Draft
from vllama.planner.eviction import Victim
from vllama.planner.ledger import Ledger, need_bytes
from vllama.planner.placement import Offer, allowed, need_beside
from vllama.planner.victims import why_missed_least
from vllama.planner.view import DeviceKey, View
from vllama.planner.wanted import Wanted


def name_devices(offer: Offer) -> str:
    return ", ".join(f"gpu{device}" for device in offer.devices)


def cannot_fit(ledger: Ledger, spec: ModelSpec) -> tuple[Reason, str] | None:
    """Why no set of devices can ever take the model, whoever leaves; None if one can, or if no machine was seen yet."""
    usable = [(node.name, allowed(spec, node)) for node in ledger.view.nodes.values()]
    if not usable or any(_can_fit(ledger, spec, node, indices) for node, indices in usable):
        return None
    if all(len(indices) < spec.device_count for _, indices in usable):
        return Reason.NO_SUCH_DEVICE, _no_such_device(ledger.view, spec)
    keys = [(node, index) for node, indices in usable if len(indices) >= spec.device_count for index in indices]
    best = max(keys, key=lambda key: _most(ledger, spec, key) - _need(ledger, spec, key))
    on_each = f" {spec.device_count} such devices are needed." if spec.device_count > 1 else ""
    return Reason.CANNOT_FIT, f"{_sum_of(ledger, spec, best)}{on_each}"


def _can_fit(ledger: Ledger, spec: ModelSpec, node: str, indices: tuple[int, ...]) -> bool:
    """Some set of the size has room on each for what the smallest of them makes the need."""
    totals = {index: ledger.devices[node, index].total_bytes for index in indices}
    for least in sorted(set(totals.values())):
        need = need_bytes(spec, ledger.footprint(spec.model), least)
        room = [
            _most(ledger, spec, (node, index)) >= need_beside(need, total, least)
            for index, total in totals.items()
            if total >= least
        ]
        if sum(room) >= spec.device_count:
            return True
    return False


def _need(ledger: Ledger, spec: ModelSpec, key: DeviceKey) -> int:
    return need_bytes(spec, ledger.footprint(spec.model), ledger.devices[key].total_bytes)


def _most(ledger: Ledger, spec: ModelSpec, key: DeviceKey) -> int:
    """Bytes of the device with only this model and the pinned ones on it."""
    device, pins = ledger.devices[key], 0
    if key in ledger.pinned:
        pins = sum(held for model, held in ledger.pinned[key].items() if model != spec.model)
    return device.total_bytes - device.reserve_bytes - pins


def _sum_of(ledger: Ledger, spec: ModelSpec, key: DeviceKey) -> str:
    device = ledger.devices[key]
    pins = {model: held for model, held in ledger.pinned.get(key, {}).items() if model != spec.model}
    held = "".join(f" - {format_bytes(size)} of pinned {name}" for name, size in sorted(pins.items()))
    most, need = format_bytes(_most(ledger, spec, key)), format_bytes(_need(ledger, spec, key))
    reserve = f" - {format_bytes(device.reserve_bytes)} reserve" if device.reserve_bytes else ""
    sums = f"{format_bytes(device.total_bytes)}{reserve}{held}"
    return f"Needs {need}; gpu{key[1]} has {sums}{' = ' + most if reserve or held else ''}."


def _no_such_device(view: View, spec: ModelSpec) -> str:
    there = "; ".join(
        f"{node.name} has " + (", ".join(sorted(f"gpu{device.index}" for device in node.devices)) or "no device")
        for node in view.nodes.values()
    )
    named = "any devices" if spec.devices is None else "devices " + ", ".join(map(str, spec.devices))
    return f"Needs {spec.device_count} of {named}; {there or 'no machine was seen yet'}."


def decide_no_room(draft: Draft, spec: ModelSpec) -> None:
    """Says why there is no room now although there could be, and whose change it takes."""
    ledger, claims = draft.ledger, draft.claims
    lines: list[str] = []
    unknown, before, others = not ledger.devices, set[str](), set[str]()
    for node in draft.view.nodes.values():
        for index in allowed(spec, node):
            key = node.name, index
            unknown |= ledger.room[key] is None
            before.update(claims.get(key, ()))
            others.update(engine.model for engine in draft.view.snapshot.engines if (engine.node, index) == key)
            lines.append(_room_line(ledger, spec, key))
    message = "; ".join(lines) + "." if lines else "No machine was seen yet."
    if unknown:
        draft.decide(spec.model, Reason.DEVICE_UNKNOWN, message)
    elif before:
        draft.decide(spec.model, Reason.ROOM_RESERVED, message, waits_for=tuple(sorted(before)))
    else:
        draft.decide(spec.model, Reason.NO_IDLE_VICTIM, message, waits_for=tuple(sorted(others - {spec.model})))


def rooms(ledger: Ledger, spec: ModelSpec) -> str:
    """What each device that it may use has, in words."""
    lines = (
        _room_line(ledger, spec, (node.name, i)) for node in ledger.view.nodes.values() for i in allowed(spec, node)
    )
    return "; ".join(lines) or "no machine was seen yet"


def _room_line(ledger: Ledger, spec: ModelSpec, key: DeviceKey) -> str:
    room, device = ledger.room[key], ledger.devices[key]
    if room is None:
        return f"gpu{key[1]}: how much is free is not known"
    foreign = device.total_bytes - device.reserve_bytes - ledger.capacity[key]
    others = f", {format_bytes(foreign)} held by other programs" if foreign else ""
    need = format_bytes(_need(ledger, spec, key))
    return f"gpu{key[1]}: needs {need}, {format_bytes(max(0, room))} not given away{others}"


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
        (_room_if_asleep(draft, offer, victim, device), need)
        for device, need in zip(offer.devices, offer.needs, strict=True)
        if device in engine.devices
    ]
    room, need = min(rooms, key=lambda pair: pair[0] - pair[1])
    if room >= need:
        copy = format_bytes(min(copy for _, copy in candidate.copies))
        return f"Unused for {idle}; stopping it {frees}: host memory has no room for one more copy of {copy}."
    return (
        f"Unused for {idle}; must stop, not sleep: asleep it would still hold {format_bytes(asleep)}, "
        f"and {format_bytes(max(0, room))} would be free where {want.model} needs {format_bytes(need)}."
    )


def _room_if_asleep(draft: Draft, offer: Offer, victim: Victim, device: int) -> int:
    """What the device would have free if this victim slept and the others went as planned."""
    others = (v for v in offer.victims if v is not victim and device in v.candidate.engine.devices)
    room = draft.ledger.room[offer.node, device]
    return (room or 0) + victim.candidate.sleep_frees + sum(other.frees for other in others)
