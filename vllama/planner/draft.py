"""A plan in the making: decisions as they fall, devices as they are taken, the next moment that matters."""

from dataclasses import dataclass, field

import msgspec

from vllama.domain.action import Action, Sleep, Stop
from vllama.domain.decision import Decision, Plan
from vllama.domain.observed import DeviceKey, EngineObservation
from vllama.domain.reason import Reason
from vllama.domain.status import Phase
from vllama.planner.eviction import Candidate, candidate_of
from vllama.planner.ledger import Ledger
from vllama.planner.view import View


@dataclass(slots=True)
class Draft:
    """The first decision about a model stands. `candidates` are by device, in the order in which they would go.

    `claims`: who was promised room on a device, served or not. `leaving`: who is to make room, and for whom.
    """

    view: View
    ledger: Ledger = field(init=False)
    candidates: dict[DeviceKey, list[Candidate]] = field(init=False)
    decisions: dict[str, Decision] = field(init=False, default_factory=dict)
    claims: dict[DeviceKey, list[str]] = field(init=False, default_factory=dict)
    leaving: dict[str, str] = field(init=False, default_factory=dict)
    next_at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.view)
        found = [candidate_of(self.view, self.ledger, engines[0]) for engines in self.view.engines.values()]
        self.candidates = {}
        for candidate in sorted((c for c in found if c is not None), key=lambda c: c.rank):
            for key in candidate.devices:
                self.candidates.setdefault(key, []).append(candidate)

    def decided(self, model: str) -> bool:
        return model in self.decisions

    def decide(
        self,
        model: str,
        reason: Reason,
        message: str,
        *,
        action: Action | None = None,
        after: Phase | None = None,
        waits_for: tuple[str, ...] = (),
        drain: bool = False,
        refused: bool = False,
    ) -> None:
        """An action takes its devices for this pass."""
        before = self.view.phase(model)
        if action is not None:
            self.view.hold(action.keys, model, freeing=isinstance(action, Sleep | Stop))
        self.protect(model)
        self.decisions[model] = Decision(
            model=model, reason=reason, message=message, before=before, after=before if after is None else after,
            action=action, waits_for=waits_for, drain=drain, refused=refused,
        )  # fmt: skip

    def add(self, model: str, sentence: str) -> None:
        """One more sentence to what was decided, where there is one to say."""
        if sentence:
            decision = self.decisions[model]
            self.decisions[model] = msgspec.structs.replace(decision, message=f"{decision.message} {sentence}")

    def protect(self, model: str) -> None:
        """From here on the model makes room for nobody in this plan."""
        engine = self.view.engine(model)
        if engine is None or not self.candidates:
            return
        for key in engine.keys:
            queue = self.candidates.get(key)
            if queue is not None:
                self.candidates[key] = [c for c in queue if c.engine.model != model]

    def nobody_else_makes_room(self) -> None:
        """Everybody who is waited for was served. To protect those who are left would cost a tenth of the plan."""
        self.candidates = {}

    def look_again_at(self, when: float) -> None:
        """Time alone changes the answer at `when` (seconds, monotonic)."""
        if when > self.view.now:
            self.next_at = when if self.next_at is None else min(self.next_at, when)

    def free_to_act(self, engine: EngineObservation) -> tuple[str, ...]:
        """The models whose change keeps this engine's devices from a change now; empty: it may act."""
        return self.view.holders_of(engine)

    def plan(self) -> Plan:
        view = self.view
        return Plan(
            generation=view.desired.generation,
            snapshot_at=view.snapshot.taken_at,
            decisions=tuple(self.decisions[model] for model in sorted(self.decisions)),
            requeue_after_s=None if self.next_at is None else self.next_at - view.now,
        )
