"""Victims by what their going costs (`policy.victims: cost`): those that are missed least for the memory they free.

Every engine goes in steps: to sleep, and from there to a stop, which frees the rest of its memory and costs more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vllama.domain.observed import DeviceKey
from vllama.domain.spec import SleepLevel
from vllama.planner.eviction import Candidate, Candidates, Victim


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What it frees of each device, and what it costs, beyond the step before it (`after`)."""

    candidate: Candidate
    level: SleepLevel
    frees: int
    costs: float
    after: "_Step | None" = None

    @property
    def per_byte(self) -> float:
        """No less than that of the step before it."""
        own = self.costs / self.frees if self.frees > 0 else float("inf")
        return own if self.after is None else max(own, self.after.per_byte)


def choose_cheapest(
    candidates: Candidates, deficits: Mapping[DeviceKey, int], host_room: Mapping[str, int]
) -> tuple[Victim, ...] | None:
    """Victims out of `candidates` that cover `deficits` (bytes per device, all > 0); None: not even all of them do.

    Steps are taken, the cheapest for what it frees first, until all is covered; then those that turned out not to be
    needed are taken back, the dearest first. Where one engine alone covers it for less, it is that one.
    """
    steps = _steps(candidates, deficits, host_room)
    missing, taken = dict(deficits), list[_Step]()
    for step in steps:
        if any(missing.get(key, 0) > 0 for key in step.candidate.devices):
            _add(missing, step, -step.frees)
            taken.append(step)
    if any(left > 0 for left in missing.values()):
        return None
    best = min([_needed(taken, missing), *_alone(steps, deficits)], key=_price)
    furthest = {step.candidate.engine.engine_id: step for step in sorted(best, key=lambda step: step.level)}
    victims = (Victim(candidate=step.candidate, level=step.level) for step in furthest.values())
    return tuple(sorted(victims, key=lambda victim: victim.candidate.rank))


def _steps(candidates: Candidates, deficits: Mapping[DeviceKey, int], host_room: Mapping[str, int]) -> list[_Step]:
    """In the order in which they are taken. Copies are given host memory in this order, as long as there is some."""
    there = {c.engine.engine_id: c for key in deficits for c in candidates.get(key, ())}
    left, found = dict(host_room), list[_Step]()
    for candidate in sorted(there.values(), key=lambda candidate: candidate.rank):
        sleep, stop, node = None, candidate.missed[SleepLevel.STOP], candidate.engine.node
        for level, copy in candidate.copies if candidate.sleep_frees > 0 else ():
            if copy <= left[node]:
                left[node] -= copy
                sleep = _Step(
                    candidate=candidate, level=level, frees=candidate.sleep_frees, costs=candidate.missed[level]
                )
                break
        then = _Step(
            candidate=candidate, level=SleepLevel.STOP, after=sleep,
            frees=candidate.stop_frees - (sleep.frees if sleep else 0), costs=stop - (sleep.costs if sleep else 0.0),
        )  # fmt: skip
        found += [then] if sleep is None else [sleep, then]
    return sorted(found, key=lambda step: (step.candidate.kind, step.per_byte, step.candidate.rank, step.level))


def _needed(taken: Sequence[_Step], missing: dict[DeviceKey, int]) -> list[_Step]:
    """`missing` is at most 0 everywhere: who stays is needed for that. A sleep is not given up before its stop is."""
    kept = sorted(taken, key=lambda step: (step.candidate.kind, step.costs, step.candidate.rank), reverse=True)
    while True:
        held = {id(step.after) for step in kept}
        needless = next((s for s in kept if id(s) not in held and _can_spare(missing, s)), None)
        if needless is None:
            return kept
        _add(missing, needless, needless.frees)
        kept.remove(needless)


def _alone(steps: Iterable[_Step], deficits: Mapping[DeviceKey, int]) -> Iterable[list[_Step]]:
    """Who frees enough without any other, each with as few steps as that takes."""
    for step in steps:
        before = step.after
        frees = step.frees + (before.frees if before else 0)
        if not all(key in step.candidate.devices and frees >= need for key, need in deficits.items()):
            continue
        if before is None:
            yield [step]
        elif not all(before.frees >= need for need in deficits.values()):
            yield [before, step]


def _price(steps: Sequence[_Step]) -> tuple[tuple[bool, ...], float, int, tuple[str, ...]]:
    """A spare replica costs nothing: another one serves."""
    return (
        max(step.candidate.kind for step in steps),
        sum(step.costs for step in steps if not step.candidate.spare),
        len(steps),
        tuple(sorted(step.candidate.engine.engine_id for step in steps)),
    )


def _add(missing: dict[DeviceKey, int], step: _Step, size_bytes: int) -> None:
    for key in step.candidate.devices:
        if key in missing:
            missing[key] += size_bytes


def _can_spare(missing: Mapping[DeviceKey, int], step: _Step) -> bool:
    return all(missing.get(key, -step.frees) + step.frees <= 0 for key in step.candidate.devices)
