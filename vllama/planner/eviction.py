"""Who may make room, and in which order; and by `policy.victims: lru` who does: the least recently used of the idle,
no more of them than needed, and asleep rather than stopped. By `cost`: `cheapest.py`.
"""

import enum
from collections.abc import Mapping, Sequence

import msgspec

from vllama.domain.observed import Asleep, Awake, DeviceKey, EngineObservation, Loading
from vllama.domain.spec import SleepLevel
from vllama.planner.ledger import Ledger
from vllama.planner.victims import Missed, missed
from vllama.planner.view import View


class Candidate(msgspec.Struct, frozen=True, kw_only=True):  # one per engine and plan: a dataclass is ten times slower
    """An engine that may make room. `busy`: only after a drain. Bytes are per device that it is on.

    `rank` orders candidates: idle before busy, draining before other busy ones, unwanted before wanted ones, those
    that another engine of their model stands in for (`spare`), which is its `kind`; then those that are missed least
    (`victims.py`), then the least recently used first.
    """

    engine: EngineObservation
    devices: tuple[DeviceKey, ...]
    kind: tuple[bool, bool, bool, bool]
    rank: tuple[bool, bool, bool, bool, float, float, str]
    missed: Missed
    last_used: float
    busy: bool
    draining: bool  # takes no new requests already
    spare: bool
    stop_frees: int
    sleep_frees: int  # 0: sleeping would not help, or it sleeps already
    copies: tuple[tuple[SleepLevel, int], ...]  # what it may sleep at, the best first, and the host memory that takes


class Effort(enum.IntEnum):
    """Who has to leave a device at least, so that there is room on it."""

    NOBODY = 0
    IDLE = 1
    BUSY = 2
    IN_VAIN = 3  # not even everybody, or nobody knows


Candidates = Mapping[DeviceKey, Sequence[Candidate]]  # by device, in the order in which they would go


class Victim(msgspec.Struct, frozen=True, kw_only=True):
    candidate: Candidate
    level: SleepLevel

    @property
    def frees(self) -> int:
        return self.candidate.stop_frees if self.level is SleepLevel.STOP else self.candidate.sleep_frees

    @property
    def missed(self) -> float:
        return self.candidate.missed[self.level]


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
    draining, spare = demand.admission_closed_at is not None, view.spare(engine.model)
    busy, copies = demand.in_flight > 0, tuple[tuple[SleepLevel, int], ...]()
    match engine.state:
        case Awake():
            if demand.waiting and not draining and not busy:
                return None
            levels = ledger.sleep_levels(spec, engine, spec.eviction_level)
            copies = tuple((level, ledger.copy_bytes(engine, level)) for level in levels)
            asleep = ledger.asleep(engine)
        case Asleep():
            asleep = 0
        case Loading() if spare:
            asleep = 0
        case _:
            return None
    charge, last_used = ledger.charge(engine), view.last_used(engine)
    kind = (busy, busy and not draining, demand.waiting > 0, not spare)
    costs = missed(view, ledger, engine, [level for level, _ in copies])
    return Candidate(
        engine=engine,
        devices=engine.keys,
        kind=kind,
        rank=(*kind, min(costs.values()), last_used, engine.engine_id),
        missed=costs,
        last_used=last_used,
        busy=busy,
        draining=draining,
        spare=spare,
        stop_frees=charge,
        sleep_frees=max(0, charge - asleep) if copies else 0,
        copies=copies,
    )


def choose(
    candidates: Candidates, deficits: Mapping[DeviceKey, int], host_room: Mapping[str, int]
) -> tuple[Victim, ...] | None:
    """Victims out of `candidates` that cover `deficits` (bytes per device, all > 0); None: not even all of them do.

    On each device in their order until it is covered; then whoever turned out not to be needed, as another one
    covers more than one device or more than was left to cover, is let off, the most recently used first. Then
    each, the most recently used first, may sleep instead of stop where that still covers and the host has room
    for the copy.
    """
    found: dict[str, Candidate] = {}
    for key, need in deficits.items():
        first = _first_to_cover(candidates.get(key, ()), need)
        if first is None:
            return None
        found.update((candidate.engine.engine_id, candidate) for candidate in first)
    taken = sorted(found.values(), key=lambda candidate: candidate.rank)
    missing = dict(deficits)
    for candidate in taken:
        _add(missing, candidate, -candidate.stop_frees)
    needed: list[Candidate] = []
    for candidate in reversed(taken):
        if _can_spare(missing, candidate, candidate.stop_frees):
            _add(missing, candidate, candidate.stop_frees)
        else:
            needed.append(candidate)
    host_left, victims = dict(host_room), list[Victim]()
    for candidate in needed:
        node, keeps = candidate.engine.node, candidate.stop_frees - candidate.sleep_frees
        level, copy = _best_level(candidate, host_left)
        if level is not SleepLevel.STOP and _can_spare(missing, candidate, keeps):
            _add(missing, candidate, keeps)
            host_left[node] -= copy
            victims.append(Victim(candidate=candidate, level=level))
        else:
            victims.append(Victim(candidate=candidate, level=SleepLevel.STOP))
    return tuple(reversed(victims))


def effort_on(room_bytes: int | None, candidates: Sequence[Candidate], need_bytes: int) -> Effort:
    """What `need_bytes` take on a device of which `room_bytes` are free (None: not known)."""
    if room_bytes is None:
        return Effort.IN_VAIN
    if room_bytes >= need_bytes:
        return Effort.NOBODY
    first = _first_to_cover(candidates, need_bytes - room_bytes)
    if first is None:
        return Effort.IN_VAIN
    return Effort.BUSY if first[-1].busy else Effort.IDLE  # the idle come first


def _best_level(candidate: Candidate, host_left: Mapping[str, int]) -> tuple[SleepLevel, int]:
    """And the host memory that it takes. Who cannot sleep may be on a machine that is not there any more."""
    if candidate.sleep_frees > 0:
        for level, copy in candidate.copies:
            if copy <= host_left[candidate.engine.node]:
                return level, copy
    return SleepLevel.STOP, 0


def _first_to_cover(candidates: Sequence[Candidate], need_bytes: int) -> list[Candidate] | None:
    taken: list[Candidate] = []
    for candidate in candidates:
        taken.append(candidate)
        need_bytes -= candidate.stop_frees
        if need_bytes <= 0:
            return taken
    return None


def _add(missing: dict[DeviceKey, int], candidate: Candidate, size_bytes: int) -> None:
    for key in candidate.devices:
        if key in missing:
            missing[key] += size_bytes


def _can_spare(missing: Mapping[DeviceKey, int], candidate: Candidate, size_bytes: int) -> bool:
    """What is missing stays covered if this much of the candidate's memory is kept."""
    for key in candidate.devices:  # noqa: SIM110  the innermost of all: a generator here costs a fifth of the plan
        if key in missing and missing[key] + size_bytes > 0:
            return False
    return True
