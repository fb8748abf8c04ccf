"""Why a model is where it is: the present decision, its numbers, what would change it, and the last ten. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from vllama.controller.history import Decided, Explained
from vllama.domain.decision import Decision
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Snapshot
from vllama.planner import plan
from vllama.planner.evidence import needs_evidence
from vllama.planner.numbers import Numbers, numbers_of
from vllama.planner.otherwise import Otherwise, otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A decision that was taken, at this time of the wall clock. `numbers` None: it needs none, or what was kept of it
    is not understood any more. `whole` False: what was kept is a part of the case, and does not lead to the same.
    """

    at: float
    decided: Decided
    numbers: Numbers | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Of one engine of a model. `decisions`: the latest, oldest first."""

    decision: Decision
    numbers: Numbers | None
    otherwise: tuple[Otherwise, ...]
    decisions: tuple[Past, ...]


def why(
    desired: DesiredState, snapshot: Snapshot, now: float, names: Sequence[str], kept: Sequence[Sequence[Explained]]
) -> tuple[Why, ...]:
    """One for each of `names`, the replicas of a model, of each of which some decisions are kept. May take a while."""
    decisions = {decision.model: decision for decision in plan(desired, snapshot, now).decisions}
    return tuple(
        Why(
            decision=decisions[name],
            numbers=numbers_of(desired, snapshot, now, name) if needs_evidence(decisions[name]) else None,
            otherwise=otherwise(desired, snapshot, now, name),
            decisions=tuple(_past(each) for each in explained),
        )
        for name, explained in zip(names, kept, strict=True)
        if name in decisions
    )


def _past(explained: Explained) -> Past:
    evidence = None if explained.evidence is None else explained.evidence.evidence()
    if evidence is None:
        return Past(at=explained.at, decided=explained.decided)
    numbers = numbers_of(evidence.desired, evidence.snapshot, evidence.now, explained.decided.model)
    return Past(at=explained.at, decided=explained.decided, numbers=numbers, whole=evidence.complete)
