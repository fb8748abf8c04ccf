"""What people are told is of now, and working that out for them takes little of the loop's time."""

from dataclasses import replace

from tests.planner.cluster import NOW, Cluster
from vllama.controller.reasons import HOLDS_S, Reasons
from vllama.domain.decision import Plan
from vllama.domain.demand import Demand
from vllama.planner import plan


class House:
    """The model `a` is awake; one request waited for it when the last pass was made."""

    def __init__(self) -> None:
        self.now = NOW
        self.reasons = Reasons(lambda: self.now)
        self.cluster = Cluster().model("a").engine("a").waits("a")
        self.passed()

    def passed(self) -> None:
        desired, snapshot = self.cluster.states()
        self.reasons.passed(plan(desired, snapshot, self.now), desired)

    def told(self, **demand) -> str:
        desired, snapshot = self.cluster.states()
        desired = replace(desired, demand={"a": Demand(**demand)})
        return message_of(self.reasons.plan(desired, replace(snapshot, taken_at=self.now)))


def message_of(made: Plan | None) -> str:
    assert made is not None
    return {decision.model: decision.message for decision in made.decisions}["a"]


WAITS = {"waiting": 1, "oldest_waiting_at": NOW - 1.0}


def test_nothing_is_said_before_the_first_pass() -> None:
    assert Reasons(lambda: NOW).plan(*Cluster().states()) is None


def test_while_demand_is_as_it_was_the_loops_own_words_stand() -> None:
    here = House()
    here.now += 4.0
    assert here.told(**WAITS) == "Ready; 1 request waits, 0 in flight."


def test_who_waited_is_not_said_to_wait_once_it_is_served_or_gone() -> None:
    here = House()
    assert here.told(in_flight=1, last_used_at=NOW) == "1 in flight."
    here.now += HOLDS_S
    assert here.told(last_used_at=NOW).startswith("Unused for")


def test_however_many_ask_a_plan_is_made_for_them_twice_a_second_at_most() -> None:
    here = House()
    assert here.told(in_flight=1, last_used_at=NOW) == "1 in flight."
    here.now += 0.9 * HOLDS_S
    assert here.told(in_flight=2, last_used_at=NOW) == "1 in flight."
    here.now += 0.1 * HOLDS_S
    assert here.told(in_flight=2, last_used_at=NOW) == "2 in flight."


def test_the_next_pass_is_believed_at_once() -> None:
    here = House()
    here.told(in_flight=1, last_used_at=NOW)
    here.cluster.demand["a"] = Demand(in_flight=3, last_used_at=NOW)
    here.passed()
    assert here.told(in_flight=3, last_used_at=NOW) == "3 in flight."


def test_a_plan_that_cannot_be_made_leaves_the_last_one_in_sight() -> None:
    here = House()
    desired, snapshot = here.cluster.states()
    broken = replace(snapshot, engines=(None,))  # type: ignore[arg-type]
    assert message_of(here.reasons.plan(replace(desired, demand={}), broken)) == "Ready; 1 request waits, 0 in flight."
