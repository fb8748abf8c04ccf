"""Watches the passes of the loop, and keeps what changed with them."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vllama.controller.condition import Condition
from vllama.controller.events import Events
from vllama.controller.history.evidence import Kept
from vllama.controller.history.journal import Journal
from vllama.controller.history.records import Decided, Decisions, Mark, PhaseChange, Record, decided, shortened
from vllama.controller.history.spans import PhaseSpan, spans_of
from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.decision import Decision, Plan
from vllama.domain.observed import EngineObservation, Operation
from vllama.domain.reason import Reason
from vllama.domain.status import Phase, phase_of
from vllama.planner.evidence import Evidence

KEPT_CHANGES = 20_000
KEPT_DECISIONS = 10  # of each model
KEPT_MODELS = 2_000
WRITE_EVERY_S = 2.0
_GOALS = {Start: Phase.READY, Wake: Phase.READY, Sleep: Phase.ASLEEP, Stop: Phase.STOPPED}
_READY = frozenset({Reason.SERVING, Reason.IDLE})  # a model in use is now this, now that: nothing was decided anew

Gist = tuple[object, ...]
Place = tuple[str | None, tuple[int, ...]]
NOWHERE: Place = (None, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A decision, when it fell (seconds of the wall clock), and what it rests on; None: it needs no evidence."""

    at: float
    decided: Decided
    evidence: Kept | None = None


class History:
    """`journal` None: it is kept in memory only."""

    def __init__(
        self, journal: Journal | None = None, *, events: Events | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self._journal, self._events, self._wall = journal, events, wall
        self._changes: deque[PhaseChange | Mark] = deque(maxlen=KEPT_CHANGES)
        self._decisions: dict[str, deque[Explained]] = {}  # the model that something was decided of last comes last
        self._gists: dict[str, Gist] = {}
        self._seen: dict[str, tuple[Phase, Place]] = {}
        self._causes: dict[str, tuple[Phase, Decision]] = {}  # where an action leads, and the decision for it
        self._is_kept = True
        self.failed = ""  # why a pass could not be remembered, if ever

    # what is asked of it

    def spans(self, *, since: float) -> list[PhaseSpan]:
        """All that reach beyond `since` (seconds of the wall clock), in the order in which they began."""
        return [span for span in spans_of(self._changes) if span.to_s is None or span.to_s > since]

    def began(self, *, since: float) -> list[float]:
        """When servers began, of the wall clock."""
        return [mark.at for mark in self._changes if isinstance(mark, Mark) and mark.begun and mark.at > since]

    def decisions_of(self, model: str) -> Sequence[Explained]:
        """The latest, oldest first."""
        return tuple(self._decisions.get(model, ()))

    def changes_of(self, model: str) -> Sequence[PhaseChange]:
        """Oldest first. What a server's end or beginning cut short ended there."""
        found: list[PhaseChange] = []
        for each in self._changes:
            if isinstance(each, PhaseChange) and each.model == model:
                found.append(each)
            elif isinstance(each, Mark) and found and found[-1].after is not Phase.STOPPED:
                found.append(_cut_short(found[-1], each))
        return found

    # what it is told

    def note(
        self, plan: Plan, engines: Mapping[str, EngineObservation], operations: Iterable[Operation]
    ) -> Sequence[Decision]:
        """After a pass: what it decided, and `operations` that are under way now. Gives back the decisions that say
        something new; each of them is kept with `keep`.
        """
        now, under_way = self._wall(), {op.model: op for op in operations}
        news: list[Decision] = []
        for decision in plan.decisions:
            engine, operation = engines.get(decision.model), under_way.get(decision.model)
            if decision.action is not None and operation is not None:
                self._causes[decision.model] = _GOALS[type(decision.action)], decision
            self._see(decision, engine, operation, now)
            gist = _gist(decision)
            if self._gists.get(decision.model, _NOTHING) != gist:
                self._gists[decision.model] = gist
                news.append(decision)
        self._forget({decision.model for decision in plan.decisions}, now)
        return news

    def keep(self, decisions: Sequence[Decision], evidence: Evidence | None = None) -> None:
        """All of one pass. `evidence`: what each of them rests on; None: they need none."""
        at, each = self._wall(), tuple(decided(decision) for decision in decisions)
        kept = None if evidence is None else Kept(evidence)
        for record in each:
            self._remember(Explained(at=at, decided=record, evidence=kept))
        self._write_down(lambda: Decisions(at=at, each=each, evidence=None if kept is None else kept.json()))

    def _see(
        self, decision: Decision, engine: EngineObservation | None, operation: Operation | None, now: float
    ) -> None:
        phase = phase_of(engine, operation, draining=decision.drain)
        place = NOWHERE
        if (there := engine or operation) is not None:
            place = there.node, there.devices
        before = self._seen.get(decision.model)
        if before == (phase, place) or (before is None and phase is Phase.STOPPED):
            return
        cause = self._causes.get(decision.model)
        why = decision
        if cause is not None and cause[0] is phase:
            why = cause[1]
        if operation is None and phase is not Phase.STARTING:
            self._causes.pop(decision.model, None)
        self._change(decision.model, phase, place, why.reason.value, why.message, now)

    def _change(self, model: str, phase: Phase, place: Place, reason: str, message: str, now: float) -> None:  # noqa: PLR0917  # the fields of a change
        before = self._seen.get(model)
        self._seen[model] = phase, place
        change = PhaseChange(
            at=now, model=model, before=before[0] if before else None, after=phase, node=place[0], devices=place[1],
            reason=reason, message=shortened(message),
        )  # fmt: skip
        self._changes.append(change)
        self._write_down(lambda: change)

    def _forget(self, models: set[str], now: float) -> None:
        """Who is in no plan any more has no engine either."""
        for model in self._seen.keys() - models:
            if self._seen[model][0] is not Phase.STOPPED:
                self._change(model, Phase.STOPPED, NOWHERE, Reason.REMOVED.value, Reason.REMOVED.sentence, now)
            del self._seen[model]
        for model in self._gists.keys() - models:
            del self._gists[model]
            self._causes.pop(model, None)

    def _remember(self, explained: Explained) -> None:
        model = explained.decided.model
        kept = self._decisions.pop(model, None) or deque(maxlen=KEPT_DECISIONS)
        kept.append(explained)
        self._decisions[model] = kept
        if len(self._decisions) > KEPT_MODELS:
            del self._decisions[next(iter(self._decisions))]

    # the disk

    async def load(self) -> None:
        """What an earlier server kept; then this one begins."""
        if self._journal is not None:
            found, problems = await asyncio.to_thread(self._journal.load)
            await asyncio.to_thread(self._take_all, found)
            if problems and self._events is not None:
                self._events.record("HistoryUnreadable", " ".join(problems), warning=True)
        self._mark(begun=True)

    def _take_all(self, found: Sequence[Record]) -> None:
        for record in found:
            self._take(record)

    def _take(self, record: Record) -> None:
        if not isinstance(record, Decisions):
            self._changes.append(record)
            return
        kept = None if record.evidence is None else Kept(record.evidence)
        for each in record.each:
            self._remember(Explained(at=record.at, decided=each, evidence=kept))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self.flush()

    async def close(self) -> None:
        """The server ends, and with it all engines."""
        self._mark(begun=False)
        await self.flush()

    async def flush(self) -> None:
        """Write what is not written yet, in a thread."""
        if self._journal is None:
            return
        await asyncio.to_thread(self._journal.write)
        kept = self._journal.error is None
        if self._events is not None and kept is not self._is_kept:
            if kept:
                self._events.record("HistoryKept", "The history can be written again.")
            else:
                self._events.record("HistoryNotKept", _not_kept(self._journal), warning=True)
        self._is_kept = kept

    def condition(self) -> Condition:
        if self._journal is not None and not self._is_kept:
            return Condition(type="HistoryKept", ok=False, reason="Unwritable", message=_not_kept(self._journal))
        if self.failed:
            text = f"Some of what happened is missing: {self.failed}. The log has the details."
            return Condition(type="HistoryKept", ok=False, reason="Failed", message=text)
        return Condition(type="HistoryKept", ok=True, reason="Written", message="What happens to models is kept.")

    def _mark(self, *, begun: bool) -> None:
        mark = Mark(at=self._wall(), begun=begun)
        self._changes.append(mark)
        self._write_down(lambda: mark)

    def _write_down(self, record: Callable[[], Record]) -> None:
        if self._journal is not None:
            self._journal.add(record)


_NOTHING: Gist = (Reason.NOT_WANTED, None, (), False, False)  # what is nothing new of a model never heard of


def _cut_short(last: PhaseChange, mark: Mark) -> PhaseChange:
    return replace(
        last, at=mark.at, before=last.after, after=Phase.STOPPED, node=None, devices=(), reason="ServerEnded",
        message="The server ended.",
    )  # fmt: skip


def _gist(decision: Decision) -> Gist:
    """Two decisions that have the same say the same."""
    reason: Reason = Reason.IDLE if decision.reason in _READY else decision.reason
    return reason, _deed(decision.action), decision.waits_for, decision.drain, decision.refused


def _deed(action: Action | None) -> object:
    return None if action is None else (type(action).__name__, action.node, action.devices)


def _not_kept(journal: Journal) -> str:
    return f"{journal.error}. What happens to models is remembered until the server ends."
