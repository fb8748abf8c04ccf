"""Which models can be awake together, with one engine each: every other engine gone, what is pinned and what others
hold kept. Pure.

Pairs are placed as the planner places them, in either order of arrival. Sets are searched: a set can be awake
together if its models can be spread over the devices in any way at all.
"""

import enum
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vllama.domain.desired import DesiredState
from vllama.domain.observed import DeviceKey, Place, Snapshot
from vllama.domain.spec import ModelSpec
from vllama.planner.ledger import Ledger
from vllama.planner.placement import Offer, best_offer, need_on, needs_on, sets
from vllama.planner.spans import kind_of, span_of
from vllama.planner.suppose import alone, start_of
from vllama.planner.view import View

MOST_MODELS = 50  # whose pairs are looked at
MOST_FOR_SETS = 12
MOST_WAYS = 2_000  # to place one model over several nodes
MOST_STEPS, MOST_STEPS_OF_ONE = 20_000, 1_000  # of the search for sets: a second or less

Placed = tuple[tuple[tuple[DeviceKey, ...], int], ...]  # devices, bytes on each


class Together(enum.StrEnum):
    YES = "yes"
    DEPENDS = "depends"  # on which came first: only then is the first one out of the other's way
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """`models` are sorted; `pairs` has each of their pairs once, the first name smaller than the second.

    `pinned` stand beside all of them. `never`: who cannot be awake even so, and why; they are in no pair.
    `sets`: the largest sets, none within another; None: too many models for that. `searched_all` False: the search
    for them was given up, and there may be larger ones. `left_out`: how many models were too many.
    """

    models: tuple[str, ...]
    pinned: tuple[str, ...]
    never: Mapping[str, str]
    pairs: Mapping[tuple[str, str], Together]
    sets: tuple[tuple[str, ...], ...] | None
    searched_all: bool = True
    left_out: int = 0


def matrix_of(desired: DesiredState, snapshot: Snapshot, now: float) -> Matrix:
    models = {model: spec for model, spec in desired.models.items() if spec.replica_of is None}
    desired = replace(desired, models=models)
    pinned = tuple(sorted(model for model, spec in desired.models.items() if spec.pin))
    others = sorted(
        set(desired.models).difference(pinned), key=lambda model: (not desired.models[model].declared, model)
    )
    taken = others[:MOST_MODELS]
    empty, there = alone(desired, snapshot, now, taken)
    ledger = Ledger(View(desired=empty, snapshot=there, now=now))
    never: dict[str, str] = {}
    for model in pinned:
        if model not in ledger.view.engines and _hold(ledger, desired.models[model]) is None:
            never[model] = start_of(desired, snapshot, now, model).message
    fit = sorted(model for model in taken if best_offer(desired.models[model], ledger, {}) is not None)
    never |= {model: start_of(desired, snapshot, now, model).message for model in taken if model not in fit}
    specs = {model: desired.models[model] for model in fit}
    pairs = {pair: _pair(ledger, specs[pair[0]], specs[pair[1]]) for pair in itertools.combinations(fit, 2)}
    search = _Search(ledger=ledger)
    found = _largest(specs, search) if len(fit) <= MOST_FOR_SETS else None
    return Matrix(
        models=tuple(fit), pinned=pinned, never=never, pairs=pairs, sets=found, searched_all=not search.gave_up,
        left_out=len(others) - len(taken),
    )  # fmt: skip


def _hold(ledger: Ledger, spec: ModelSpec) -> Offer | None:
    """Give it the room that the planner would; None: there is none."""
    offer = best_offer(spec, ledger, {})
    if offer is not None:
        ledger.take(offer.keys, offer.added_bytes)
    return offer


def _pair(ledger: Ledger, one: ModelSpec, other: ModelSpec) -> Together:
    if _in_turn(ledger, one, other) and _in_turn(ledger, other, one):
        return Together.YES
    return Together.NO if _Search(ledger=ledger).spread([one, other]) is None else Together.DEPENDS


def _in_turn(ledger: Ledger, first: ModelSpec, then: ModelSpec) -> bool:
    offer = _hold(ledger, first)
    if offer is None:
        return False
    fits = best_offer(then, ledger, {}) is not None
    ledger.take(offer.keys, -offer.added_bytes)
    return fits


def _largest(specs: Mapping[str, ModelSpec], search: "_Search") -> tuple[tuple[str, ...], ...]:
    """Every set that fits and is not within a larger one. A set can only fit if all sets within it do."""
    known: dict[tuple[str, ...], Placed] = {(): ()}
    level: list[tuple[str, ...]] = [()]
    largest: list[tuple[str, ...]] = []
    while level:
        above: dict[tuple[str, ...], Placed] = {}
        for names in level:
            for name in (name for name in specs if not names or name > names[-1]):
                more = (*names, name)
                within = list(itertools.combinations(more, len(names)))
                if any(each not in known for each in within):
                    continue
                placed = search.added(known[names], specs[name]) or search.spread([specs[each] for each in more])
                if placed is not None:
                    above[more] = placed
        covered = {each for more in above for each in itertools.combinations(more, len(more) - 1)}
        largest += [names for names in level if names and names not in covered]
        known |= above
        level = sorted(above)
    return tuple(sorted(largest, key=lambda names: (-len(names), names)))


@dataclass(slots=True)
class _Search:
    """Whether models can be spread over the devices at all. Devices that are alike are tried once.

    `gave_up`: on some set, after so many steps that it was taken not to fit.
    """

    ledger: Ledger
    steps: int = 0
    gave_up: bool = False

    def added(self, placed: Placed, spec: ModelSpec) -> Placed | None:
        """One more beside those that are placed, where the planner would put it."""
        for keys, size in placed:
            self.ledger.take(keys, size)
        offer = best_offer(spec, self.ledger, {})
        for keys, size in placed:
            self.ledger.take(keys, -size)
        return None if offer is None else (*placed, (offer.keys, offer.added_bytes))

    def spread(self, specs: Sequence[ModelSpec]) -> Placed | None:
        """Any way at all that they fit."""
        named = {index for spec in specs for index in spec.devices or ()}
        size = {spec.model: self._least_need(spec) * spec.device_count for spec in specs}
        if sum(size.values()) > sum(max(0, room or 0) for room in self.ledger.room.values()):
            return None
        ordered = sorted(specs, key=lambda spec: (-size[spec.model], spec.model))
        limit = min(self.steps + MOST_STEPS_OF_ONE, MOST_STEPS)
        return self._spread(ordered, named, set(), limit)

    def _least_need(self, spec: ModelSpec) -> int:
        return min((need for _, need in self._ways(spec)), default=0)

    def _ways(self, spec: ModelSpec) -> Iterator[tuple[tuple[DeviceKey, ...], int]]:
        """Devices that it may use, and bytes on each. Of one that spans nodes not more than so many."""
        ready = self.ledger.view.ready.values()
        count, size = span_of(spec, self.ledger.view.nodes.values())
        if count == 1:
            for node in ready:
                for devices in sets(spec, node, self.ledger):
                    keys = tuple((node.name, index) for index in devices)
                    yield keys, need_on(spec, self.ledger, node.name, devices)
            return
        alike = (some for some in itertools.combinations(ready, count) if len({kind_of(spec, n) for n in some}) == 1)
        each = (
            tuple(Place(node=node.name, devices=devices) for node, devices in zip(some, way, strict=True))
            for some in alike
            for way in itertools.product(*(tuple(sets(spec, node, self.ledger, size)) for node in some))
        )
        for number, places in enumerate(each):
            if number >= MOST_WAYS:
                self.gave_up = True
                return
            keys = tuple((place.node, index) for place in places for index in place.devices)
            yield keys, min(needs_on(spec, self.ledger, places[0].node, places[0].devices, places[1:]))

    def _spread(
        self, specs: Sequence[ModelSpec], named: set[int], dead_ends: set[tuple[object, ...]], limit: int
    ) -> Placed | None:
        if not specs:
            return ()
        state = len(specs), *sorted(self._likeness(node, index, named) for node, index in self.ledger.devices)
        if state in dead_ends:
            return None
        if self.steps >= limit:
            self.gave_up = True
            return None
        self.steps += 1
        tried: set[object] = set()
        for keys, need in self._ways(specs[0]):
            alike = tuple(sorted(self._likeness(node, index, named) for node, index in keys))
            if alike in tried or any((self.ledger.room[key] or 0) < need for key in keys):
                continue
            tried.add(alike)
            self.ledger.take(keys, need)
            rest = self._spread(specs[1:], named, dead_ends, limit)
            self.ledger.take(keys, -need)
            if rest is not None:
                return ((keys, need), *rest)
        dead_ends.add(state)
        return None

    def _likeness(self, node: str, index: int, named: set[int]) -> tuple[str, int, int, int]:
        """Devices of a node are alike when they are as large, have as much room, and nobody asks for one by name."""
        total = self.ledger.devices[node, index].total_bytes
        return node, total, self.ledger.room[node, index] or 0, index if index in named else -1
