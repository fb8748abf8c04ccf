"""The sums of what the loop did."""

import pytest

from vllama.controller.histogram import Histogram
from vllama.controller.tally import Cause, Tally
from vllama.domain.action import Action, Sleep, Start, Wake
from vllama.domain.decision import Decision, Plan
from vllama.domain.observed import Operation, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel
from vllama.domain.status import Phase

ASLEEP = Sleep(model="v", engine_id="e", node="here", devices=(0,), level=SleepLevel.WEIGHTS_OFFLOADED)
AWAKE = Wake(model="n", engine_id="f", node="here", devices=(0,), level=SleepLevel.WEIGHTS_OFFLOADED)
STARTED = Start(model="n", spec_hash="s", node="here", devices=(0,), memory_bytes=1, gpu_memory_utilization=0.1)


def decision(model: str, reason: Reason, before: Phase = Phase.READY, **more) -> Decision:
    return Decision(model=model, reason=reason, message="", before=before, after=before, **more)


def plan(*decisions: Decision) -> Plan:
    return Plan(generation=1, snapshot_at=0.0, decisions=decisions)


def tally() -> Tally:
    return Tally(lambda name: name.partition("#")[0])


def see(seen: Tally, now: float, *operations: Operation, **phases: Phase) -> None:
    decisions = (decision(model, Reason.IDLE, phase) for model, phase in phases.items())
    seen.see(plan(*decisions), operations, now)


def test_a_stay_lasts_until_the_next_phase_and_the_last_one_until_now():
    seen = tally()
    see(seen, 10.0, m=Phase.STOPPED)
    see(seen, 14.0, m=Phase.STARTING)
    see(seen, 20.0, m=Phase.STARTING)
    see(seen, 21.0, m=Phase.READY)
    for _ in range(2):  # to look changes nothing
        assert seen.copy(24.0).stays_s == {
            ("m", Phase.STOPPED): 4.0, ("m", Phase.STARTING): 7.0, ("m", Phase.READY): 3.0,
        }  # fmt: skip


def test_what_begins_in_a_pass_counts_from_then_and_not_from_the_next():
    seen = tally()
    operation = Operation(
        verb=Verb.SLEEP, engine_id="e", model="m", node="here", devices=(0,), started_at=5.0, memory_bytes=0
    )
    see(seen, 5.0, operation, m=Phase.READY)
    see(seen, 8.0, m=Phase.ASLEEP)
    assert seen.copy(8.0).stays_s == {("m", Phase.DRAINING): 3.0, ("m", Phase.ASLEEP): 0.0}


@pytest.mark.parametrize("before", [Phase.READY, Phase.DRAINING])
def test_whether_it_takes_requests_is_what_was_decided(before):
    for drain in (True, False):
        seen = tally()
        seen.see(plan(decision("m", Reason.DRAINING, before, drain=drain)), (), 0.0)
        assert seen.copy(1.0).stays_s == {("m", Phase.DRAINING if drain else Phase.READY): 1.0}


def test_replicas_add_up_and_one_that_is_gone_counts_no_longer():
    seen, both = tally(), {"m": Phase.READY, "m#2": Phase.READY}
    see(seen, 0.0, **both)
    see(seen, 10.0, m=Phase.READY)
    assert seen.copy(15.0).stays_s == {("m", Phase.READY): 25.0}


def evict_for(seen: Tally, newcomer: str) -> None:
    evicted = decision("v", Reason.EVICTED)
    waits = decision(newcomer, Reason.MAKING_ROOM, Phase.STOPPED, waits_for=("v",))
    seen.begun(evicted, ASLEEP, plan(waits, evicted), Cause.REQUEST)


@pytest.mark.parametrize("action", [STARTED, AWAKE])
def test_a_swap_is_a_newcomer_for_whom_somebody_had_to_go(action: Action):
    seen = tally()
    comes = decision("n", Reason.DEMANDED)
    seen.begun(comes, action, plan(comes), Cause.REQUEST)  # nobody had to go for it
    assert not seen.copy(0.0).swaps
    evict_for(seen, "n")
    seen.begun(comes, action, plan(comes), Cause.PIN)
    seen.begun(comes, action, plan(comes), Cause.REQUEST)  # once is enough
    sums = seen.copy(0.0)
    assert sums.swaps == {("n", Cause.PIN): 1}
    assert sums.evictions == {("v", Verb.SLEEP, Reason.EVICTED): 1}
    assert sums.operations["n", Verb(type(action).__name__.lower()), Reason.DEMANDED] == 3


def test_who_gave_up_waiting_swaps_with_nobody():
    seen, comes = tally(), decision("n", Reason.DEMANDED)
    evict_for(seen, "n")
    seen.see(plan(decision("n", Reason.DEVICE_BUSY, Phase.STOPPED)), (), 0.0)
    seen.see(plan(decision("n", Reason.NOT_WANTED, Phase.STOPPED)), (), 1.0)
    seen.begun(comes, STARTED, plan(comes), Cause.REQUEST)
    assert not seen.copy(2.0).swaps


def test_a_sleep_by_time_is_no_eviction():
    seen, rests = tally(), decision("v", Reason.IDLE_TOO_LONG)
    seen.begun(rests, ASLEEP, plan(rests), Cause.REQUEST)
    sums = seen.copy(0.0)
    assert sums.operations == {("v", Verb.SLEEP, Reason.IDLE_TOO_LONG): 1}
    assert not sums.evictions


def test_a_copy_stands_still():
    seen = tally()
    seen.took("m#2", Verb.START, 3.0)
    seen.failed("m", "EngineExited", was_ready=True)
    seen.planned(0.001, rejected=True)
    seen.passed(0.002, failed=True)
    sums = seen.copy(0.0)
    seen.took("m", Verb.START, 3.0)
    seen.failed("m", "EngineExited", was_ready=True)
    seen.planned(0.001, rejected=True)
    seen.passed(0.002, failed=True)
    assert (sums.durations["m", Verb.START].count, sums.failures) == (1, {("m", "EngineExited", True): 1})
    assert (sums.plans.count, sums.passes.count, sums.rejected_plans, sums.failed_passes) == (1, 1, 1, 1)


def test_a_bound_is_within_its_bucket():
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 2.1):
        histogram.add(value)
    assert (histogram.counts, histogram.sum, histogram.count) == ([1, 2, 1], 6.6, 4)
