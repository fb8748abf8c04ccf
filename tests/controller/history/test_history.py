"""What passes of the loop leave behind. The clock is the test's."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from vllama.controller.events import Events
from vllama.controller.history import History, Journal
from vllama.domain.action import Sleep, Start
from vllama.domain.decision import Decision, Plan
from vllama.domain.observed import Asleep, Awake, EngineObservation, Loading, Operation, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel
from vllama.domain.status import Phase

A, B = "org/a", "org/b"
START = Start(model=A, spec_hash="h", node="here", devices=(0,), memory_bytes=1, gpu_memory_utilization=0.5)
SLEEP = Sleep(model=A, engine_id="e", node="here", devices=(0,), level=SleepLevel(1))
LOADING, AWAKE, ASLEEP = Loading(progress_at=0.0), Awake(ready_at=0.0), Asleep(level=SleepLevel(1))


def decision(reason: Reason, message: str = "m", model: str = A, **over) -> Decision:
    return Decision(model=model, reason=reason, message=message, before=Phase.STOPPED, after=Phase.STOPPED, **over)


def engine(state) -> dict[str, EngineObservation]:
    observed = EngineObservation(
        engine_id="e", model=A, spec_hash="h", node="here", devices=(0,), memory_bytes=1, state=state, started_at=0.0
    )
    return {A: observed}


def operation(verb: Verb) -> Operation:
    return Operation(verb=verb, engine_id="e", model=A, node="here", devices=(0,), started_at=0.0, memory_bytes=1)


@dataclass
class Watched:
    journal: Journal | None = None
    events: Events = field(default_factory=Events)
    now: float = 1000.0
    history: History = field(init=False)

    def __post_init__(self) -> None:
        self.history = History(self.journal, events=self.events, wall=lambda: self.now)

    def a_pass(self, *decisions: Decision, engines=None, operations=()) -> list[str]:
        """The reasons that were news."""
        self.now += 1.0
        plan = Plan(generation=1, snapshot_at=0.0, decisions=decisions)
        news = self.history.note(plan, engines or {}, operations)
        if news:
            self.history.keep(news)
        return [each.reason.value for each in news]

    def spans(self, since: float = 0.0) -> list[tuple]:
        found = self.history.spans(since=since)
        return [(span.model, span.phase.value, span.from_s, span.to_s, span.reason) for span in found]


def test_a_swap_is_told_with_the_reasons_that_began_it() -> None:
    watched = Watched()
    watched.a_pass(decision(Reason.NOT_WANTED))
    assert watched.spans() == []
    watched.a_pass(decision(Reason.DEMANDED, "starts", action=START), operations=[operation(Verb.START)])
    watched.a_pass(decision(Reason.STARTING), engines=engine(LOADING))
    watched.a_pass(decision(Reason.SERVING), engines=engine(AWAKE))
    watched.a_pass(decision(Reason.IDLE), engines=engine(AWAKE))
    watched.a_pass(
        decision(Reason.EVICTED, "for b", action=SLEEP), engines=engine(AWAKE), operations=[operation(Verb.SLEEP)]
    )
    watched.a_pass(decision(Reason.DRAINING), engines=engine(AWAKE), operations=[operation(Verb.SLEEP)])
    watched.a_pass(decision(Reason.SLEEPING), engines=engine(ASLEEP))
    watched.a_pass(decision(Reason.SLEEPING), engines=engine(ASLEEP))
    assert watched.spans() == [
        (A, "Starting", 1002.0, 1004.0, "Demanded"),
        (A, "Ready", 1004.0, 1006.0, "Demanded"),
        (A, "Draining", 1006.0, 1008.0, "Evicted"),
        (A, "Asleep", 1008.0, None, "Evicted"),
    ]
    where = watched.history.spans(since=0.0)[0]
    assert (where.node, where.devices, where.message) == ("here", (0,), "starts")
    assert [span[1] for span in watched.spans(since=1006.5)] == ["Draining", "Asleep"]


def test_an_action_that_came_to_something_else_is_not_its_reason() -> None:
    watched = Watched()
    watched.a_pass(decision(Reason.IDLE), engines=engine(AWAKE))
    watched.a_pass(decision(Reason.EVICTED, action=SLEEP), engines=engine(AWAKE), operations=[operation(Verb.SLEEP)])
    watched.a_pass(decision(Reason.SERVING), engines=engine(AWAKE))
    watched.a_pass(decision(Reason.STATE_UNKNOWN), engines={})
    assert [(span[1], span[4]) for span in watched.spans()] == [
        ("Ready", "Idle"), ("Draining", "Evicted"), ("Ready", "Serving"), ("Stopped", "StateUnknown"),
    ]  # fmt: skip


def test_a_model_that_is_in_no_plan_any_more_has_stopped() -> None:
    watched = Watched()
    watched.a_pass(decision(Reason.IDLE), engines=engine(AWAKE))
    watched.a_pass(decision(Reason.NOT_WANTED, model=B))
    assert [span[1:] for span in watched.spans()] == [
        ("Ready", 1001.0, 1002.0, "Idle"), ("Stopped", 1002.0, None, "Removed"),
    ]  # fmt: skip
    watched.a_pass(decision(Reason.IDLE), engines=engine(AWAKE))
    assert watched.spans()[-1] == (A, "Ready", 1003.0, None, "Idle")


def test_only_a_decision_that_says_something_new_is_one() -> None:
    watched = Watched()
    assert watched.a_pass(decision(Reason.NOT_WANTED)) == []
    assert watched.a_pass(decision(Reason.NO_IDLE_VICTIM, waits_for=(B,))) == ["NoIdleVictim"]
    assert watched.a_pass(decision(Reason.NO_IDLE_VICTIM, "waits since 2 s", waits_for=(B,))) == []
    assert watched.a_pass(decision(Reason.NO_IDLE_VICTIM, waits_for=("org/c",))) == ["NoIdleVictim"]
    assert watched.a_pass(decision(Reason.DEMANDED, action=START)) == ["Demanded"]
    assert watched.a_pass(decision(Reason.DEMANDED, refused=True)) == ["Demanded"]
    assert watched.a_pass(decision(Reason.SERVING)) == ["Serving"]
    assert watched.a_pass(decision(Reason.IDLE)) == []
    assert watched.a_pass(decision(Reason.NOT_WANTED)) == ["NotWanted"]
    kept = watched.history.decisions_of(A)
    assert [each.at for each in kept] == [1002.0, 1004.0, 1005.0, 1006.0, 1007.0, 1009.0]
    assert kept[2].decided.action is not None
    assert kept[2].decided.action["verb"] == "start"
    assert watched.history.decisions_of(B) == ()


def test_the_last_ten_of_each_model_are_kept() -> None:
    watched = Watched()
    watched.a_pass(decision(Reason.BACKING_OFF, model=B))
    for number in range(25):
        watched.a_pass(decision(Reason.NO_IDLE_VICTIM, waits_for=(str(number),)), decision(Reason.BACKING_OFF, model=B))
    assert [each.decided.waits_for for each in watched.history.decisions_of(A)] == [
        (str(number),) for number in range(15, 25)
    ]
    assert len(watched.history.decisions_of(B)) == 1


def test_it_goes_on_after_a_restart_and_what_ended_with_the_server_is_over(tmp_path: Path) -> None:
    async def story() -> None:
        first = Watched(Journal(tmp_path / "h"))
        await first.history.load()
        first.a_pass(decision(Reason.IDLE), engines=engine(AWAKE))
        waits = decision(Reason.NO_IDLE_VICTIM, model=B, waits_for=(A,))
        first.a_pass(decision(Reason.IDLE), waits, engines=engine(AWAKE))
        await first.history.close()
        second = Watched(Journal(tmp_path / "h"), now=2000.0)
        await second.history.load()
        assert second.spans() == [(A, "Ready", 1001.0, 1002.0, "Idle")]
        assert [each.decided.reason for each in second.history.decisions_of(B)] == ["NoIdleVictim"]
        second.a_pass(decision(Reason.IDLE), engines=engine(ASLEEP))
        assert second.spans(since=1990.0) == [(A, "Asleep", 2001.0, None, "Idle")]
        assert second.history.began(since=0.0) == [1000.0, 2000.0]

    asyncio.run(story())


def test_a_disk_that_takes_nothing_shows_and_costs_nothing_else(tmp_path: Path) -> None:
    async def story() -> None:
        directory = tmp_path / "gone"
        watched = Watched(Journal(directory / "h"))
        await watched.history.load()
        assert watched.history.condition().ok
        watched.a_pass(decision(Reason.IDLE), engines=engine(AWAKE))
        for _ in range(2):
            await watched.history.flush()
        condition = watched.history.condition()
        assert (condition.ok, condition.type) == (False, "HistoryKept")
        assert "No such file" in condition.message
        assert [each.reason for each in watched.events] == ["HistoryNotKept"]
        assert [span[1] for span in watched.spans()] == ["Ready"]
        directory.mkdir()
        await watched.history.flush()
        assert watched.history.condition().ok
        assert [each.reason for each in watched.events] == ["HistoryNotKept", "HistoryKept"]

    asyncio.run(story())


def test_a_pass_that_could_not_be_remembered_shows() -> None:
    history = History()
    history.failed = "KeyError: 'a'"
    assert (history.condition().ok, history.condition().reason) == (False, "Failed")


def test_a_file_with_garbage_is_one_warning(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "h").write_text("a\nb\nc\n")
        watched = Watched(Journal(tmp_path / "h"))
        await watched.history.load()
        assert [(each.reason, each.warning) for each in watched.events] == [("HistoryUnreadable", True)]

    asyncio.run(story())
