"""What the planner answers: one Decision per model, always, and the Plan that holds them."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from vllama.domain.action import Action
from vllama.domain.reason import Reason
from vllama.domain.status import Phase


class Decision(msgspec.Struct, frozen=True, kw_only=True):  # one per model and plan: a dataclass is ten times slower
    """What happens to one model, and why.

    `before` is where it is, `after` where this decision takes it (the same for keep, wait and refuse).
    `message` has the numbers of the case. `waits_for` names the models whose change it waits for.
    `drain`: its admission is to be closed although it is awake; False opens it again.
    `refused`: its present waiters can never be served and should be told so now.
    """

    model: str
    reason: Reason
    message: str
    before: Phase
    after: Phase
    action: Action | None = None
    waits_for: tuple[str, ...] = ()
    drain: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`decisions` are sorted by model. `requeue_after_s`: when time alone changes the answer; None: never."""

    generation: int
    snapshot_at: float
    decisions: tuple[Decision, ...]
    requeue_after_s: float | None = None

    @property
    def actions(self) -> Iterator[Action]:
        return (d.action for d in self.decisions if d.action is not None)
