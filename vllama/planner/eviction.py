"""Who makes room: the least recently used of the idle, no more of them than needed, and asleep rather than stopped."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vllama.domain.observed import Asleep, Awake, EngineObservation
from vllama.domain.spec import SleepLevel
from vllama.planner.ledger import Ledger
from vllama.planner.view import DeviceKey, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An engine that may make room. `busy`: only after a drain. Bytes are per device that it is on.

    `rank` orders candidates: idle before busy, draining before other busy ones, unwanted before wanted ones,
    then the least recently used first.
    """

    engine: EngineObservation
    rank: tuple[bool, bool, bool, float, str]
    last_used: float
    busy: bool
    draining: bool  # takes no new requests already
    stop_frees: int
    sleep_frees: int  # 0: sleeping would not help, or it sleeps already
    level: SleepLevel
    copy_bytes: int  # of host memory, to sleep at `level`


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    candidate: Candidate
    level: SleepLevel

    @property
    def frees(self) -> int:
        return self.candidate.stop_frees if self.level is SleepLevel.STOP else self.candidate.sleep_frees


def may_drain(view: View, model: str) -> bool:
    """A busy model may be drained until the deadline, and after a drain that failed not before a rest."""
    demand, policy = view.demand(model), view.policy
    if demand.admission_closed_at is not None:
        return view.now < demand.admission_closed_at + policy.drain_deadline_s
    return demand.drain_ended_at is None or view.now >= demand.drain_ended_at + policy.fairness_bound_s


def drain_turns_at(view: View, model: str) -> float:
    """When `may_drain` turns: at the end of the drain that is on or begins now, or of the rest after the last one."""
    demand, policy = view.demand(model), view.policy
    if may_drain(view, model):
        since = view.now if demand.admission_closed_at is None else demand.admission_closed_at
        return since + policy.drain_deadline_s
    if demand.admission_closed_at is not None or demand.drain_ended_at is None:
        return view.now + policy.fairness_bound_s  # it is given up now
    return demand.drain_ended_at + policy.fairness_bound_s


def candidate_of(view: View, ledger: Ledger, engine: EngineObservation) -> Candidate | None:
    """None for an engine that is never a victim: pinned, changing, broken, or about to serve who waits for it."""
    spec = view.spec(engine.model)
    if spec is None or engine.model in view.operations or (spec.pin and view.pinned(engine.model)):
        return None
    demand = view.demand(engine.model)
    draining = demand.admission_closed_at is not None
    busy, copy = demand.in_flight > 0, 0
    match engine.state:
        case Awake():
            if demand.waiting and not draining and not busy:
                return None
            level = ledger.sleep_level(spec, engine, spec.eviction_level)
            asleep = ledger.asleep(engine)
            copy = ledger.copy_bytes(engine, level)
        case Asleep():
            level, asleep = SleepLevel.STOP, 0
        case _:
            return None
    charge, last_used = ledger.charge(engine), view.last_used(engine)
    return Candidate(
        engine=engine,
        rank=(busy, busy and not draining, demand.waiting > 0, last_used, engine.engine_id),
        last_used=last_used,
        busy=busy,
        draining=draining,
        stop_frees=charge,
        sleep_frees=0 if level is SleepLevel.STOP else max(0, charge - asleep),
        level=level,
        copy_bytes=copy,
    )


def covers(deficits: Mapping[DeviceKey, int], victims: Sequence[Victim]) -> bool:
    freed: dict[DeviceKey, int] = defaultdict(int)
    for victim in victims:
        for device in victim.candidate.engine.devices:
            freed[victim.candidate.engine.node, device] += victim.frees
    return all(freed[key] >= need for key, need in deficits.items())


def choose(
    candidates: Sequence[Candidate], deficits: Mapping[DeviceKey, int], host_room: Mapping[str, int]
) -> tuple[Victim, ...] | None:
    """Victims out of `candidates` (in their order) that cover `deficits` (bytes per device); None: not even all do.

    Taken in order until covered, then whoever turned out not to be needed is let off, the most recently used
    first. Then each, the most recently used first, may sleep instead of stop where that still covers and the
    host has room for the copy.
    """
    short = {key: need for key, need in deficits.items() if need > 0}
    taken: list[Victim] = []
    for candidate in candidates:
        if covers(short, taken):
            break
        if any((candidate.engine.node, device) in short for device in candidate.engine.devices):
            taken.append(Victim(candidate=candidate, level=SleepLevel.STOP))
    if not covers(short, taken):
        return None
    for victim in reversed(taken.copy()):
        rest = [other for other in taken if other is not victim]
        if covers(short, rest):
            taken = rest
    host_left = dict(host_room)
    for i in reversed(range(len(taken))):
        candidate = taken[i].candidate
        if candidate.sleep_frees and candidate.copy_bytes <= host_left[candidate.engine.node]:
            gentler = [*taken[:i], Victim(candidate=candidate, level=candidate.level), *taken[i + 1 :]]
            if covers(short, gentler):
                taken = gentler
                host_left[candidate.engine.node] -= candidate.copy_bytes
    return tuple(taken)
