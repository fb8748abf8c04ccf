"""Where a model goes: every set of devices it may use is priced by who would have to make room there."""

import itertools
import math
from collections.abc import Iterable, Sequence

import msgspec

from vllama.domain.observed import Node
from vllama.domain.spec import ModelSpec, VictimPolicy
from vllama.planner.cheapest import choose_cheapest
from vllama.planner.eviction import Candidates, Effort, Victim, choose, effort_on
from vllama.planner.ledger import Ledger, need_bytes
from vllama.planner.victims import together
from vllama.planner.view import DeviceKey, View

Price = tuple[bool, bool, bool, bool, bool, bool, float, int, int, str, tuple[int, ...]]
NOBODY_IS_MISSED = float("-inf")
MOST_SETS = 128  # of devices on one node that are priced one by one


class Offer(msgspec.Struct, frozen=True, kw_only=True):  # tens per plan
    """A set of devices and what it takes to use it. `needs` is what the newcomer must find on each, in bytes.

    `missed`: how much its victims are, of whom spare replicas are not at all (`victims.py`).
    """

    node: str
    devices: tuple[int, ...]
    needs: tuple[int, ...]
    victims: tuple[Victim, ...]
    missed: float
    least_room: int

    @property
    def added_bytes(self) -> int:
        """What it will hold of each: no more than it does on the smallest."""
        return min(self.needs)

    @property
    def busy(self) -> tuple[Victim, ...]:
        return tuple(victim for victim in self.victims if victim.candidate.busy)

    @property
    def models(self) -> tuple[str, ...]:
        """Whom it displaces."""
        return tuple(sorted(victim.candidate.engine.model for victim in self.victims))

    def price(self, *, beside: bool = False, loading: bool = False, linked: bool = True) -> Price:
        """Nobody displaced, then nobody busy, then a drain that is on, then no other engine of the same model there
        (`beside`), then no load to wait for, then devices that are linked to each other, then the victims that are
        missed least.

        Between equals: the fewest victims, then where most is left free, then the lowest name and index. Victims
        that go down already do not make a set dearer: who has begun to make room somewhere goes on there.
        """
        if not self.victims:
            return (
                False, False, False, beside, loading, not linked, self.missed, 0, -self.least_room, self.node,
                self.devices,
            )  # fmt: skip
        busy = self.busy
        undrained = any(not victim.candidate.draining for victim in busy)
        return (
            True, bool(busy), undrained, beside, loading, not linked, self.missed, len(self.victims),
            -self.least_room, self.node, self.devices,
        )  # fmt: skip


def allowed(spec: ModelSpec, node: Node) -> tuple[int, ...]:
    present = tuple(sorted(device.index for device in node.devices))
    return present if spec.devices is None else tuple(index for index in spec.devices if index in present)


def sets(spec: ModelSpec, node: Node, ledger: Ledger) -> Iterable[tuple[int, ...]]:
    """Sets of devices of one node, ascending. Where there are too many, those with the most room and neighbours."""
    indices = sorted(allowed(spec, node))
    size = spec.device_count
    if size > len(indices):
        return ()
    if math.comb(len(indices), size) <= MOST_SETS:
        return itertools.combinations(indices, size)
    roomy = sorted(indices, key=lambda index: (-(ledger.room[node.name, index] or 0), index))
    groups = [indices, *(sorted(set(group) & set(indices)) for group in node.linked)]
    windows = [tuple(group[i : i + size]) for group in groups for i in range(len(group) - size + 1)]
    return dict.fromkeys([tuple(sorted(roomy[:size])), *windows])


def is_linked(node: Node, devices: tuple[int, ...]) -> bool:
    """They talk to each other directly, or it is not known of any that they do."""
    return len(devices) == 1 or not node.linked or any(set(devices) <= set(group) for group in node.linked)


def need_on(spec: ModelSpec, ledger: Ledger, node: str, devices: Sequence[int]) -> int:
    """Bytes that it comes to hold of each."""
    return min(needs_on(spec, ledger, node, devices))


def needs_on(spec: ModelSpec, ledger: Ledger, node: str, devices: Sequence[int]) -> tuple[int, ...]:
    """Bytes on each device. vLLM is told one share for all, that of the smallest, and looks at its start whether each
    has that free: of a larger one this is more than it comes to hold.
    """
    totals = [ledger.devices[node, device].total_bytes for device in devices]
    smallest = min(totals)
    need = need_bytes(spec, ledger.footprint(spec.model), smallest)
    return tuple(need_beside(need, total, smallest) for total in totals)


def need_beside(need_bytes: int, total_bytes: int, smallest_bytes: int) -> int:
    """What must be free on a device of `total_bytes` where the smallest of its set has to give `need_bytes`."""
    return need_bytes if total_bytes == smallest_bytes else math.ceil(need_bytes * total_bytes / smallest_bytes)


def make_offer(
    ledger: Ledger, node: str, devices: tuple[int, ...], needs: tuple[int, ...], candidates: Candidates
) -> Offer | None:
    """None where the set cannot be used: room unknown, or not enough even without all `candidates`."""
    deficits: dict[DeviceKey, int] = {}
    rooms: list[int] = []
    for device, need in zip(devices, needs, strict=True):
        room = ledger.room.get((node, device))
        if room is None:
            return None
        rooms.append(room)
        if room < need:
            deficits[node, device] = need - room
    if not deficits:
        return Offer(
            node=node, devices=devices, needs=needs, victims=(), missed=NOBODY_IS_MISSED, least_room=min(rooms)
        )  # fmt: skip
    policy = ledger.view.policy.victims
    by_policy = choose if policy is VictimPolicy.LRU else choose_cheapest
    victims = by_policy(candidates, deficits, ledger.host_room)
    if victims is None:
        return None
    all_missed = together(policy, (victim.missed for victim in victims if not victim.candidate.spare))
    return Offer(
        node=node, devices=devices, needs=needs, victims=victims, missed=all_missed, least_room=min(rooms)
    )  # fmt: skip


def best_offer(spec: ModelSpec, ledger: Ledger, candidates: Candidates) -> Offer | None:
    """The cheapest set over all nodes. Only sets of the least effort are priced: what is first in the price."""
    known: dict[tuple[DeviceKey, int], Effort] = {}
    least, found = Effort.IN_VAIN, list[tuple[str, tuple[int, ...], tuple[int, ...]]]()
    for node in ledger.view.nodes.values():
        alike = len({device.total_bytes for device in node.devices}) == 1  # then every set needs the same
        needs: tuple[int, ...] = ()
        for devices in sets(spec, node, ledger):
            if not needs or not alike:
                needs = needs_on(spec, ledger, node.name, devices)
            effort = Effort.NOBODY
            for device, need in zip(devices, needs, strict=True):
                key = node.name, device
                if (each := known.get((key, need))) is None:
                    each = known[key, need] = effort_on(ledger.room.get(key), candidates.get(key, ()), need)
                effort = max(effort, each)
            if effort < least:
                least, found = effort, []
            if effort is least:
                found.append((node.name, devices, needs))
    return None if least is Effort.IN_VAIN else _cheapest(spec, ledger, candidates, found)


def _cheapest(
    spec: ModelSpec,
    ledger: Ledger,
    candidates: Candidates,
    found: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]],
) -> Offer | None:
    best: Offer | None = None
    lowest: Price | None = None
    theirs = _devices_of_siblings(ledger.view, spec.model)
    for node, devices, needs in found:
        offer = make_offer(ledger, node, devices, needs, candidates)
        if offer is None:
            continue
        linked = is_linked(ledger.view.nodes[node], devices)
        beside = any((node, device) in theirs for device in devices)
        loading = ledger.view.loading(node, devices, besides=offer.models)
        price = offer.price(beside=beside, loading=loading, linked=linked)
        if lowest is None or price < lowest:
            best, lowest = offer, price
    return best


def _devices_of_siblings(view: View, model: str) -> set[DeviceKey]:
    names = view.siblings(model)
    places = [(engine.node, engine.devices) for name in names for engine in view.engines.get(name, ())]
    places += [(view.operations[name].node, view.operations[name].devices) for name in names if name in view.operations]
    return {(node, device) for node, devices in places for device in devices}
