"""The numbers that are shown are those that decide."""

import pytest
from hypothesis import given, settings

from tests.planner.cluster import NOW, Cluster
from tests.strategies import any_state
from vllama.domain.observed import Crashes, Verb
from vllama.domain.reason import Reason
from vllama.domain.units import GIB
from vllama.planner import plan
from vllama.planner.evidence import agree, evidence_of, needs_evidence, replayed
from vllama.planner.numbers import Due, Numbers, numbers_of


def of(cluster: Cluster, model: str) -> Numbers:
    return numbers_of(*cluster.states(), NOW, model)


def two() -> Cluster:
    return Cluster(gpus=(8.0,), reserve=0.5, foreign={0: 0.25}).model("a", 6.0).model("b", 5.0)


def test_who_waits_for_a_busy_one() -> None:
    numbers = of(two().busy("a", requests=2, unused=4.0).waits("b", since=12.0), "b")
    assert numbers.for_model == "b"
    [device] = numbers.devices
    assert device.needed_bytes == 5 * GIB
    assert (device.total_bytes, device.reserve_bytes) == (8 * GIB, GIB // 2)
    assert [(held.model, held.bytes) for held in device.held] == [("a", 6 * GIB)]
    assert (device.foreign_bytes, device.free_bytes, device.left_bytes) == (GIB // 4, 1.25 * GIB, 1.25 * GIB)
    [candidate] = numbers.candidates
    assert (candidate.model, candidate.in_flight, candidate.unused_s) == ("a", 2, 4.0)
    assert (candidate.stop_frees_bytes, candidate.sleep_frees_bytes) == (6 * GIB, 6 * GIB - int(0.4 * GIB))
    assert [(waiter.model, waiter.waits_s) for waiter in numbers.waiters] == [("b", 12.0)]
    assert [(due.model, due.what, due.in_s) for due in numbers.deadlines] == [("b", Due.FAIRNESS, 18.0)]


def test_who_is_evicted_sees_the_numbers_of_the_one_for_whom() -> None:
    numbers = of(two().engine("a").waits("b"), "a")
    assert (numbers.model, numbers.for_model) == ("a", "b")
    assert numbers.devices[0].needed_bytes == 5 * GIB
    assert [candidate.model for candidate in numbers.candidates] == ["a"]


def test_what_was_promised_to_who_came_first() -> None:
    cluster = two().model("c", 3.0).busy("a").waits("b", since=9.0).waits("c", since=3.0)
    device = of(cluster, "c").devices[0]
    assert device.promised_to == ("b",)
    assert device.left_bytes == device.free_bytes + (6 * GIB - int(0.4 * GIB)) - 5 * GIB
    assert [waiter.model for waiter in of(cluster, "c").waiters] == ["b", "c"]


def test_deadlines_of_its_own() -> None:
    cluster = two().engine("a", unused=60.0)
    cluster.crashes["b"] = Crashes(count=2, last_at=NOW - 5.0, cause="c")
    assert [(due.what, due.in_s) for due in of(cluster, "a").deadlines] == [(Due.IDLE, 1740.0)]
    assert [(due.what, due.in_s) for due in of(cluster, "b").deadlines] == [(Due.RETRY, 15.0)]


def test_a_start_under_way_is_in_the_sum() -> None:
    device = of(two().operation(Verb.START, "a", 0).waits("b"), "b").devices[0]
    assert [(held.model, held.bytes) for held in device.held] == [("a", 6 * GIB)]


@settings(max_examples=60)
@given(any_state())
def test_every_byte_is_somebodys_and_the_evidence_of_all_decisions_leads_to_them_again(state) -> None:
    desired, snapshot = state.desired, state.snapshot
    now = state.now
    decisions = [decision for decision in plan(desired, snapshot, now).decisions if needs_evidence(decision)]
    for some, evidence in evidence_of(desired, snapshot, now, decisions):
        assert evidence.complete
        for decision in some:
            again = replayed(evidence, decision.model)
            assert again is not None
            assert agree(decision, again), (decision, again)
            numbers = numbers_of(evidence.desired, evidence.snapshot, now, decision.model)
            for device in numbers.devices:
                if device.free_bytes is not None:
                    held = sum(each.bytes for each in device.held)
                    parts = device.reserve_bytes + device.foreign_bytes + held + device.free_bytes
                    assert parts == device.total_bytes


def big(waiting: int) -> Cluster:
    cluster = Cluster(gpus=(24.0,) * 8)
    for number in range(60):
        cluster.model(f"m{number:02}", 3.0).engine(f"m{number:02}", number % 8, unused=float(number + 1))
    cluster.model("large", 20.0).model("none", 99.0)
    for number in range(waiting):
        cluster.model(f"w{number}", 3.5).waits(f"w{number}", since=5.0)
    return cluster.waits("large", since=9.0).waits("none")


@pytest.mark.parametrize("waiting", [0, 3])
def test_of_a_large_case_only_what_the_decision_speaks_of_is_kept(waiting: int) -> None:
    cluster = big(waiting)
    desired, snapshot = cluster.states()
    made = {decision.model: decision for decision in plan(desired, snapshot, NOW).decisions}
    assert made["large"].reason is Reason.MAKING_ROOM
    asked = [decision for decision in made.values() if needs_evidence(decision)]
    assert any(decision.reason is Reason.EVICTED for decision in asked)
    for [decision], evidence in evidence_of(desired, snapshot, NOW, asked):
        assert len(evidence.desired.models) <= 48
        again = replayed(evidence, decision.model)
        assert again is not None
        if evidence.complete:
            assert agree(decision, again)
        if decision.model in {"large", "none"}:
            assert evidence.complete, decision
