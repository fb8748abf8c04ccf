"""Traces whose outcome can be worked out by hand, and that a plan less changes nothing."""

import math
from dataclasses import replace

import pytest

from tests.replay.worlds import at_random, cost, machine, requests, wish
from vllama.domain.spec import IdleSpec, ModelSpec, SleepLevel
from vllama.domain.units import GIB
from vllama.replay import CannotReplay, Trace, simulate


def cold(name: str, **more) -> ModelSpec:
    return ModelSpec(model=name, sleep_mode=False, **more)


def test_the_first_request_waits_for_the_start_and_the_next_for_nothing():
    done = simulate(requests((100, "a", 2), (105, "a", 2), (111, "a", 2)), wish("a"), machine(), {"a": cost()})
    assert list(done.waits_s) == [10, 5, 0]
    assert (done.waiting_s, done.mean_s, done.longest_s, done.served) == (15, 5, 10, 3)
    assert (done.models["a"].starts, done.models["a"].swaps, done.ended_s) == (1, 1, 13)


def test_who_comes_second_waits_for_the_last_byte_the_stop_and_its_own_start():
    # a loads until 10 and serves until 12, stops until 17; b loads until 27
    done = simulate(
        requests((0, "a", 2), (1, "b", 2)), wish(cold("a"), cold("b")), machine(), {"a": cost(), "b": cost()}
    )
    assert list(done.waits_s) == [10, 26]
    assert (done.models["a"].stops, done.models["b"].starts) == (1, 1)
    assert done.total("moved_bytes") == 16 * GIB


def test_sleep_and_wake_take_as_long_as_they_cost():
    # at 20 a sleeps until 22, b loads until 32; at 40 b sleeps until 42, a wakes until 45
    trace = requests((0, "a", 2), (20, "b", 2), (40, "a", 2))
    done = simulate(trace, wish("a", "b"), machine(), {"a": cost(), "b": cost()})
    assert list(done.waits_s) == [10, 12, 5]
    assert [done.total(each) for each in ("starts", "wakes", "sleeps", "stops")] == [2, 1, 2, 0]
    assert done.total("moved_bytes") == 5 * 8 * GIB


def test_level_2_moves_nothing_when_it_sleeps_and_wakes_slower():
    asleep = {"eviction_level": SleepLevel.DISCARDED}
    trace = requests((0, "a", 2), (20, "b", 2), (40, "a", 2))
    models = ModelSpec(model="a", **asleep), ModelSpec(model="b", **asleep)
    done = simulate(trace, wish(*models), machine(), {"a": cost(), "b": cost()})
    assert list(done.waits_s) == [10, 12, 8]
    assert done.total("moved_bytes") == 3 * 8 * GIB


def test_two_devices_work_beside_each_other():
    done = simulate(requests((0, "a", 2), (1, "b", 2)), wish("a", "b"), machine(2), {"a": cost(), "b": cost()})
    assert list(done.waits_s) == [10, 10]


def test_more_than_it_serves_at_once_wait_for_their_turn():
    model = ModelSpec(model="a", max_concurrency=1)
    done = simulate(requests((0, "a", 2), (0, "a", 3), (1, "a", 2)), wish(model), machine(), {"a": cost()})
    assert list(done.waits_s) == [10, 12, 14]


def test_a_waiter_past_the_fairness_bound_has_a_busy_model_drained():
    # b waits since 11; past 41 a takes no more: what came at 40 goes in at once, what came at 50 waits for its return
    trace = requests((0, "a", 5), *((5 + 5 * n, "a", 8) for n in range(1, 10)), (11, "b", 2))
    done = simulate(trace, wish("a", "b"), machine(), {"a": cost(), "b": cost()})
    by_arrival = dict(zip((request.at_s for request in trace), done.waits_s, strict=True))
    assert by_arrival[40] == 0
    # a is drained at 41 (and a little: the time has to be past), ends at 48, sleeps until 50, b loads until 60
    assert by_arrival[11] == pytest.approx(49, abs=0.01)
    # b serves until 62, sleeps until 64, a wakes until 67
    assert by_arrival[50] == pytest.approx(17, abs=0.01)


def test_who_is_idle_for_long_sleeps_by_itself():
    model = ModelSpec(model="a", idle=IdleSpec(sleep_after_s=60))
    done = simulate(requests((0, "a", 2), (71, "a", 2), (200, "a", 2)), wish(model), machine(), {"a": cost()})
    assert list(done.waits_s) == [10, 0, 3]
    assert (done.models["a"].sleeps, done.models["a"].wakes) == (1, 1)


def test_the_load_that_nobody_asked_for_is_there_when_somebody_asks():
    done = simulate(requests((0, "b", 1), (30, "a", 1)), wish("b", ModelSpec(model="a", auto_start=True)), machine(2),
                    {"a": cost(), "b": cost()})  # fmt: skip
    assert list(done.waits_s) == [10, 0]


def test_a_further_replica_serves_as_well():
    model = ModelSpec(model="a", replicas=2, max_concurrency=1)
    trace = requests((0, "a", 100), *((30 + n, "a", 50) for n in range(2)))
    done = simulate(trace, wish(model), machine(2), {"a": cost()})
    assert done.models["a"].starts == 2
    assert list(done.waits_s) == [10, 0, 49]  # at 80 the second is free again


def test_what_can_never_fit_is_refused_and_the_others_go_on():
    trace = requests((0, "huge", 1), (0, "a", 1))
    huge = ModelSpec(model="huge", memory_bytes=100 * GIB)
    done = simulate(trace, wish("a", huge), machine(), {"a": cost(), "huge": cost(100)})
    assert (done.refused, done.models["huge"].refused, done.served, done.unserved) == (1, 1, 1, 0)
    assert math.isnan(done.waits_s[0])
    assert done.waits_s[1] == 10


def test_who_would_wait_for_ever_ends_the_replay():
    """Nobody tells what is used of the only device, so that nothing is started there."""
    [node] = machine()
    blind = replace(node, devices=(replace(node.devices[0], used_bytes=None),))
    done = simulate(requests((0, "a", 1), (5, "a", 1)), wish("a"), (blind,), {"a": cost()})
    assert (done.served, done.refused, done.unserved) == (0, 0, 2)


def test_aliases_and_adapters_are_their_models():
    model = ModelSpec(model="a", aliases=("x",), lora=(("tuned", "/t"),))
    done = simulate(requests((0, "x", 1), (20, "tuned", 1)), wish(model), machine(), {"a": cost()})
    assert list(done.waits_s) == [10, 0]


def test_models_that_nobody_declared_are_named():
    with pytest.raises(CannotReplay, match="asks for b, c, and no such model"):
        simulate(requests((0, "c", 1), (0, "b", 1)), wish("a"), machine(), {"a": cost()})
    with pytest.raises(CannotReplay, match="not known what a take"):
        simulate(requests((0, "a", 1)), wish("a"), machine(), {})


def test_an_empty_trace():
    done = simulate(Trace(()), wish("a"), machine(), {"a": cost()})
    assert (done.waiting_s, done.mean_s, done.longest_s, done.quantile_s(0.99), done.plans) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(30))
def test_the_planner_is_left_out_only_where_it_says_nothing_new(seed):
    world = at_random(seed)
    usual, every = simulate(*world), simulate(*world, every_event=True)
    assert usual.plans <= every.plans
    assert replace(usual, plans=0, waits_s=()) == replace(every, plans=0, waits_s=())
    assert repr(usual.waits_s) == repr(every.waits_s)  # NaN is not equal to itself
    assert usual.unserved == 0


def test_where_it_begins_to_count_changes_nothing():
    trace, *world = at_random(7)
    later = Trace.of(replace(each, at_s=each.at_s + 1_700_000_000) for each in trace)
    assert simulate(later, *world).waits_s == pytest.approx(simulate(trace, *world).waits_s, abs=1e-3, nan_ok=True)
