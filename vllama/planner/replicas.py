"""Several engines of one model: which of them leads, and how its demand is told to them. Pure.

Each replica is planned for as a model of its own. What clients and operators want of the model is the lead's: the one
that would serve soonest. The others are spare while it serves, and welcome while their model is in use (`further`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vllama.domain.demand import Demand, Override, WantReady
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, Awake, EngineObservation, Loading, Operation, Verb
from vllama.domain.spec import ModelSpec

Names = tuple[str, ...]


def groups(models: Mapping[str, ModelSpec]) -> list[Names]:
    """The names of those models' engines that have several, in the order of their numbers."""
    further = {spec.replica_of for spec in models.values() if spec.replica_of is not None}
    if not further:
        return []
    found: dict[str, list[ModelSpec]] = {}
    for spec in models.values():
        if spec.served_name in further:
            found.setdefault(spec.served_name, []).append(spec)
    ordered = (sorted(specs, key=lambda spec: spec.replica) for _, specs in sorted(found.items()))
    return [tuple(spec.model for spec in specs) for specs in ordered if len(specs) > 1]


def lead_of(
    names: Names,
    desired: DesiredState,
    engines: Mapping[str, Sequence[EngineObservation]],
    operations: Mapping[str, Operation],
) -> str:
    """Who would serve soonest; between equals who serves already, then the first."""

    def rank(name: str) -> tuple[int, bool, int]:
        first, demand = (engines.get(name) or (None,))[0], desired.demand_of(name)
        return _kind(first, operations.get(name), demand), demand.in_flight == 0, desired.models[name].replica

    return min(names, key=rank)


def _kind(engine: EngineObservation | None, operation: Operation | None, demand: Demand) -> int:
    """Of an unknown one nobody knows what it holds, so that a start does not go before it."""
    verb = None if operation is None else operation.verb
    if verb in (Verb.SLEEP, Verb.STOP):
        return 5
    match None if engine is None else engine.state:
        case Awake():
            return 0 if demand.admission_closed_at is None else 1
        case Asleep():
            return 2 if verb is Verb.WAKE else 3
        case Loading():
            return 4
        case None:
            return 6 if verb is None else 4
        case _:
            return 5


def gathered(desired: DesiredState, leads: Mapping[str, str], found: Sequence[Names]) -> DesiredState:
    """Who waits, and what an operator said, is of a whole model: told to the lead. A use of one is a use of all."""
    if not found:
        return desired
    demand, overrides = dict(desired.demand), dict(desired.overrides)
    for names in found:
        lead = leads[names[0]]
        each = [desired.demand_of(name) for name in names]
        since = min((one.oldest_waiting_at for one in each if one.oldest_waiting_at is not None), default=None)
        said = next((one.keep_alive for one in each if one.keep_alive is not None), None)
        asked = max((one.asked for one in each), key=lambda times: times[-1:])  # only one of its lines counts
        for name, one in zip(names, each, strict=True):
            demand[name] = replace(
                one, waiting=sum(other.waiting for other in each) if name == lead else 0,
                expected=sum(other.expected for other in each) if name == lead else 0,
                oldest_waiting_at=since if name == lead else None, keep_alive=said,
                last_used_at=max((o.last_used_at for o in each if o.last_used_at is not None), default=None),
                left_at=max((o.left_at for o in each if o.left_at is not None), default=None),
                asked=asked,
            )  # fmt: skip
        wishes = [overrides.pop(name) for name in names if name in overrides]
        if wishes:
            wish = max(wishes, key=lambda wish: (wish.at, isinstance(wish, WantReady), repr(wish)))
            beaten = since is not None and since > wish.at and not desired.models[lead].pin
            overrides |= _told(wish, names, lead, beaten=beaten)
    return replace(desired, demand=demand, overrides=overrides)


def _told(wish: Override, names: Names, lead: str, *, beaten: bool) -> Mapping[str, Override]:
    """A start is one request, and the lead's; what puts a model aside is for all, until a request has won over it."""
    return {lead: wish} if beaten or isinstance(wish, WantReady) else dict.fromkeys(names, wish)
