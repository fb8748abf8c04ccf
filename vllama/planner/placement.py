"""Where a model goes: every set of devices it may use is priced by who would have to make room there."""

import itertools
import math
from collections.abc import Collection, Iterable, Sequence

import msgspec

from vllama.domain.observed import DeviceKey, Node, Place, Placed
from vllama.domain.spec import ModelSpec, VictimPolicy
from vllama.planner.cheapest import choose_cheapest
from vllama.planner.eviction import Candidates, Effort, Victim, choose, effort_on
from vllama.planner.ledger import Ledger, need_bytes
from vllama.planner.spans import kind_of, span_of
from vllama.planner.victims import together
from vllama.planner.view import View

_Where = tuple[str, tuple[int, ...], tuple[tuple[str, tuple[int, ...]], ...]]
Beside = tuple[int, bool]  # engines of the same model on the same nodes; and whether on the same devices
Price = tuple[bool, bool, bool, Beside, bool, bool, float, int, int, float, _Where]
FAR: Beside = 0, False  # from every engine of its model
NOBODY_IS_MISSED = float("-inf")
MOST_SETS = 128  # of devices on one node that are priced one by one


class Offer(Placed, msgspec.Struct, frozen=True, kw_only=True):  # tens per plan
    """A set of devices and what it takes to use it. `needs` is what the newcomer must find on each, in bytes.

    `missed`: how much its victims are, of whom spare replicas are not at all (`victims.py`).
    """

    node: str
    devices: tuple[int, ...]
    needs: tuple[int, ...]
    victims: tuple[Victim, ...]
    missed: float
    least_room: int
    further: tuple[Place, ...] = ()

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

    def price(self, *, beside: Beside = FAR, loading: bool = False, linked: bool = True, load: float = 0.0) -> Price:
        """Nobody displaced, then nobody busy, then a drain that is on, then as few other engines of the same model on
        that node as can be, and none on these devices (`beside`), then no load to wait for, then devices that are
        linked to each other, then the victims that are missed least.

        Between equals: the fewest victims, then where most is left free, then the node that has most left (`load`),
        then the lowest name and index. Victims that go down already do not make a set dearer: who has begun to make
        room somewhere goes on there.
        """
        further = tuple((place.node, place.devices) for place in self.further) if self.further else ()
        where = self.node, self.devices, further
        if not self.victims:
            return (
                False, False, False, beside, loading, not linked, self.missed, 0, -self.least_room, load, where,
            )  # fmt: skip
        busy = self.busy
        undrained = any(not victim.candidate.draining for victim in busy)
        return (
            True, bool(busy), undrained, beside, loading, not linked, self.missed, len(self.victims),
            -self.least_room, load, where,
        )  # fmt: skip


def allowed(spec: ModelSpec, node: Node) -> tuple[int, ...]:
    """Indices of the node's devices that it may use."""
    if spec.node is not None and spec.node != node.name:
        return ()
    present = tuple(sorted(device.index for device in node.devices))
    return present if spec.devices is None else tuple(index for index in spec.devices if index in present)


def sets(spec: ModelSpec, node: Node, ledger: Ledger, size: int | None = None) -> Iterable[tuple[int, ...]]:
    """Sets of `size` devices of one node, ascending; None: of as many as it needs. Where there are too many, those with
    the most room and neighbours.
    """
    indices = sorted(allowed(spec, node))
    size = spec.device_count if size is None else size
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


def needs_on(
    spec: ModelSpec, ledger: Ledger, node: str, devices: Sequence[int], further: Sequence[Place] = ()
) -> tuple[int, ...]:
    """Bytes on each device. vLLM is told one share for all, that of the smallest, and looks at its start whether each
    has that free: of a larger one this is more than it comes to hold.
    """
    totals = [ledger.devices[node, device].total_bytes for device in devices]
    totals += [ledger.devices[place.node, device].total_bytes for place in further for device in place.devices]
    smallest = min(totals)
    need = need_bytes(spec, ledger.footprint(spec.model), smallest)
    return tuple(need_beside(need, total, smallest) for total in totals)


def need_beside(need_bytes: int, total_bytes: int, smallest_bytes: int) -> int:
    """What must be free on a device of `total_bytes` where the smallest of its set has to give `need_bytes`."""
    return need_bytes if total_bytes == smallest_bytes else math.ceil(need_bytes * total_bytes / smallest_bytes)


def make_offer(  # noqa: PLR0917  # hot, and what it takes is one thing: where, what, who
    ledger: Ledger,
    node: str,
    devices: tuple[int, ...],
    needs: tuple[int, ...],
    candidates: Candidates,
    further: tuple[Place, ...] = (),
) -> Offer | None:
    """None where the set cannot be used: room unknown, or not enough even without all `candidates`."""
    keys = [(node, device) for device in devices]
    keys += [(place.node, device) for place in further for device in place.devices]
    deficits: dict[DeviceKey, int] = {}
    rooms: list[int] = []
    for key, need in zip(keys, needs, strict=True):
        room = ledger.room.get(key)
        if room is None:
            return None
        rooms.append(room)
        if room < need:
            deficits[key] = need - room
    if not deficits:
        return Offer(
            node=node, devices=devices, further=further, needs=needs, victims=(), missed=NOBODY_IS_MISSED,
            least_room=min(rooms),
        )  # fmt: skip
    policy = ledger.view.policy.victims
    by_policy = choose if policy is VictimPolicy.LRU else choose_cheapest
    victims = by_policy(candidates, deficits, ledger.host_room)
    if victims is None:
        return None
    all_missed = together(policy, (victim.missed for victim in victims if not victim.candidate.spare))
    return Offer(
        node=node, devices=devices, further=further, needs=needs, victims=victims, missed=all_missed,
        least_room=min(rooms),
    )  # fmt: skip


def best_offer(spec: ModelSpec, ledger: Ledger, candidates: Candidates) -> Offer | None:
    """The cheapest set over all nodes that answer; of a model too large for any node, the cheapest set of nodes."""
    view = ledger.view
    count, size = span_of(spec, view.nodes.values())
    nodes = [node for node in view.ready.values() if spec.node in {None, node.name}]
    if count == 1:
        return _best_on(spec, ledger, candidates, nodes, size)
    singles = (_best_on(spec, ledger, candidates, [node], size) for node in nodes)
    return _best_span(spec, ledger, candidates, [offer for offer in singles if offer is not None], count)


def _best_on(spec: ModelSpec, ledger: Ledger, candidates: Candidates, nodes: Sequence[Node], size: int) -> Offer | None:
    """Only sets of the least effort are priced: what is first in the price."""
    if (free := _freest(spec, ledger, nodes, size)) is not None:
        return free
    known: dict[tuple[DeviceKey, int], Effort] = {}
    least, found = Effort.IN_VAIN, list[tuple[str, tuple[int, ...], tuple[int, ...]]]()
    for node in nodes:
        alike = len({device.total_bytes for device in node.devices}) == 1  # then every set needs the same
        needs: tuple[int, ...] = ()
        for devices in sets(spec, node, ledger, size):
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
    if least is Effort.IN_VAIN:
        return None
    offers = (make_offer(ledger, node, devices, needs, candidates) for node, devices, needs in found)
    return _cheapest(spec, ledger, (offer for offer in offers if offer is not None))


def _freest(spec: ModelSpec, ledger: Ledger, nodes: Iterable[Node], size: int) -> Offer | None:
    """The cheapest of the sets that nobody has to leave. Of hundreds of devices most may be free, and only what their
    prices differ in is looked at.
    """
    view, theirs = ledger.view, _siblings(ledger.view, spec.model)
    lowest: tuple[Beside, bool, bool, int] | None = None
    found: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    for node, devices, needs in _free_sets(spec, ledger, nodes, size, alone=not theirs):
        keys = [(node.name, device) for device in devices]
        beside = _beside(theirs, keys) if theirs else FAR
        loading = any(key in view.held for key in keys) and view.loading(keys)
        room = min([ledger.room[key] or 0 for key in keys])
        rank = beside, loading, not is_linked(node, devices), -room
        if lowest is None or rank < lowest:
            lowest, found = rank, []
        if rank == lowest:
            found.append((node.name, devices, needs))
    if lowest is None:
        return None
    several = len(found) > 1 and len(view.ready) > 1
    loads = {name: ledger.load(name) for name in {name for name, _, _ in found}} if several else {}
    name, devices, needs = min(found, key=lambda one: (loads.get(one[0], 0.0), *one))
    return Offer(
        node=name, devices=devices, needs=needs, victims=(), missed=NOBODY_IS_MISSED, least_room=-lowest[3]
    )  # fmt: skip


def _free_sets(
    spec: ModelSpec, ledger: Ledger, nodes: Iterable[Node], size: int, *, alone: bool
) -> Iterable[tuple[Node, tuple[int, ...], tuple[int, ...]]]:
    """Node, devices, and what is needed of each; where there is that much room on each. Of a node whose sets differ in
    their room only (no siblings to keep from: `alone`) the one that is the cheapest.
    """
    need_of: dict[int, int] = {}
    for node in nodes:
        totals = {device.total_bytes for device in node.devices}
        if len(totals) > 1:
            each = ((devices, needs_on(spec, ledger, node.name, devices)) for devices in sets(spec, node, ledger, size))
            yield from ((node, devices, needs) for devices, needs in each if _has_room(ledger, node, devices, needs))
            continue
        for total in totals:
            need = need_of.get(total)
            if need is None:
                need = need_of[total] = need_bytes(spec, ledger.footprint(spec.model), total)
            room, name = ledger.room, node.name
            free = [i for i in allowed(spec, node) if (left := room[name, i]) is not None and left >= need]
            if size == 1:
                yield from ((node, (index,), (need,)) for index in free)
            elif len(free) >= size:
                there, needs = set(free), (need,) * size
                changing = any((name, index) in ledger.view.held for index in free)
                few = math.comb(len(allowed(spec, node)), size) <= MOST_SETS
                if alone and few and not changing and not node.linked:
                    yield node, _roomiest(free, [room[name, index] or 0 for index in free], size), needs
                    continue
                yield from ((node, devs, needs) for devs in sets(spec, node, ledger, size) if there.issuperset(devs))


def _roomiest(indices: Sequence[int], rooms: Sequence[int], size: int) -> tuple[int, ...]:
    """The set that leaves the least room nowhere; of several such, that of the lowest indices."""
    least = sorted(rooms, reverse=True)[size - 1]
    roomy = [index for index, room in zip(indices, rooms, strict=True) if room >= least]
    return tuple(sorted(roomy)[:size])


def _has_room(ledger: Ledger, node: Node, devices: Sequence[int], needs: Sequence[int]) -> bool:
    rooms = (ledger.room[node.name, device] for device in devices)
    return all(room is not None and room >= need for room, need in zip(rooms, needs, strict=True))


def _cheapest(spec: ModelSpec, ledger: Ledger, offers: Iterable[Offer]) -> Offer | None:
    best: Offer | None = None
    lowest: Price | None = None
    theirs = _siblings(ledger.view, spec.model)
    several = len(ledger.view.ready) > 1
    loads: dict[str, float] = {}
    for offer in offers:
        if several and offer.node not in loads:
            loads[offer.node] = ledger.load(offer.node)
        price = _price(ledger.view, offer, theirs, loads.get(offer.node, 0.0))
        if lowest is None or price < lowest:
            best, lowest = offer, price
    return best


def _price(view: View, offer: Offer, theirs: Sequence[Collection[DeviceKey]], load: float) -> Price:
    linked = all(is_linked(view.nodes[place.node], place.devices) for place in offer.places)
    beside = _beside(theirs, offer.keys) if theirs else FAR
    loading = view.loading(offer.keys, besides=offer.models)
    return offer.price(beside=beside, loading=loading, linked=linked, load=load)


def _beside(theirs: Sequence[Collection[DeviceKey]], keys: Sequence[DeviceKey]) -> Beside:
    nodes = {node for node, _ in keys}
    near = [each for each in theirs if any(node in nodes for node, _ in each)]
    return len(near), any(key in each for each in near for key in keys)


def _best_span(
    spec: ModelSpec, ledger: Ledger, candidates: Candidates, offers: Iterable[Offer], count: int
) -> Offer | None:
    """Of each kind of node the `count` cheapest, taken together: who makes room on them makes room on all of them."""
    view, theirs = ledger.view, _siblings(ledger.view, spec.model)
    kinds: dict[tuple[int, ...], list[Offer]] = {}
    for offer in sorted(offers, key=lambda offer: _price(view, offer, theirs, ledger.load(offer.node))):
        kinds.setdefault(kind_of(spec, view.nodes[offer.node]), []).append(offer)
    spans = []
    for each in kinds.values():
        if len(each) >= count:
            first, *others = sorted(each[:count], key=lambda offer: offer.node)
            further = tuple(Place(node=offer.node, devices=offer.devices) for offer in others)
            needs = needs_on(spec, ledger, first.node, first.devices, further)
            spans.append(make_offer(ledger, first.node, first.devices, needs, candidates, further))
    return _cheapest(spec, ledger, (span for span in spans if span is not None))


def _siblings(view: View, model: str) -> list[set[DeviceKey]]:
    """The devices of each other replica of its model that has an engine, or comes to have one."""
    found = []
    for name in view.siblings(model):
        keys = {key for engine in view.engines.get(name, ()) for key in engine.keys}
        if name in view.operations:
            keys.update(view.operations[name].keys)
        if len(view.ready) > 1:  # what this plan begins, too: all of them would go to the same other node
            keys.update(key for key, models in view.held.items() if name in models)
        found.append(keys)
    return [keys for keys in found if keys]
