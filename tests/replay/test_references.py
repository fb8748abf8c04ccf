"""What others are measured by: the clairvoyant, and the least that is possible. And that they are what they say."""

import random

import pytest

from tests.replay.worlds import cost, machine, requests, wish
from vllama.domain.spec import IdleSpec, ModelSpec
from vllama.domain.units import GIB
from vllama.replay import optimum, simulate
from vllama.replay.clairvoyant import clairvoyant
from vllama.replay.generator import round_robin
from vllama.replay.optimum import Swap, TooLarge, least_waiting_s

BIG = Swap(memory_bytes=16 * GIB, in_s=10, out_s=5)
SMALL = Swap(memory_bytes=8 * GIB, in_s=10, out_s=5)


def least(trace, swap=BIG, *, ahead=False):
    return least_waiting_s(trace, 24 * GIB, dict.fromkeys(trace.models, swap), ahead=ahead)


def test_one_after_the_other():
    # a from 10 to 12, gone at 17, b at 27
    assert least(requests((0, "a", 2), (1, "b", 2))) == 10 + 26


def test_it_waits_for_the_many_who_come_a_second_later():
    # b from 11 to 13, gone at 18, a at 28
    assert least(requests((0, "a", 2), *((1, "b", 2),) * 5)) == 5 * 10 + 28


def test_where_both_fit_nobody_leaves():
    assert least(requests((0, "a", 2), (1, "b", 2), (50, "a", 2), (50, "b", 2)), SMALL) == 10 + 19


def test_who_is_busy_is_not_cut_and_its_door_may_be_closed():
    # a from 10 to 60; closed, it is gone at 65 and b there at 75; the a of 55 waits for b to end and leave
    assert least(requests(*((0, "a", 50),) * 3, (20, "b", 1), (55, "a", 50))) == 30 + (75 - 20) + (91 - 55)


def test_ahead_it_is_there_when_it_is_asked_for():
    trace = requests((0, "a", 2), (100, "b", 2), (200, "a", 2))
    assert least(trace) == 10 + 15 + 15
    assert least(trace, ahead=True) == 10


def test_nothing_asked_nothing_waited():
    assert least(requests()) == 0


def test_what_is_too_large_says_so():
    with pytest.raises(TooLarge, match="7 models and 7 requests"):
        least(requests(*((n, f"m{n}", 1) for n in range(7))))
    with pytest.raises(TooLarge, match="41 requests"):
        least(requests(*((n, "a", 1) for n in range(41))))


def small_case(seed, *, requests_from=4, to=12, models=(2, 3, 4), gaps=(5, 20)):
    dice = random.Random(seed)
    names = [f"m{n}" for n in range(dice.choice(models))]
    costs = {
        name: cost(dice.choice([8, 11, 16]), load_s=dice.choice([5, 10, 20]), stop_s=dice.choice([1, 3]))
        for name in names
    }
    at_s, asked = 0, []
    for _ in range(dice.randint(requests_from, to)):
        at_s += round(dice.expovariate(1 / dice.choice(gaps)))
        asked.append((at_s, dice.choices(names, [1 / (n + 1) for n in range(len(names))])[0], dice.choice([1, 5, 40])))
    never = IdleSpec(sleep_after_s=None)
    desired = wish(*(ModelSpec(model=name, sleep_mode=False, idle=never) for name in names))
    swaps = {
        name: Swap(memory_bytes=each.footprint.awake_bytes, in_s=each.load_s, out_s=each.stop_s)
        for name, each in costs.items()
    }
    return requests(*asked), desired, costs, swaps


@pytest.mark.parametrize("seed", range(40))
def test_nobody_waits_less_than_the_least(seed):
    trace, desired, costs, swaps = small_case(seed)
    usual = simulate(trace, desired, machine(), costs).waiting_s
    foreseen = simulate(trace, desired, machine(), costs, foresight=clairvoyant(trace, desired, costs)).waiting_s
    on_demand = least_waiting_s(trace, 24 * GIB, swaps)
    assert least_waiting_s(trace, 24 * GIB, swaps, ahead=True) <= on_demand <= min(usual, foreseen) + 1e-6


def test_the_clairvoyant_is_nearer_to_the_least_than_who_knows_the_past_only():
    sums = [0.0, 0.0, 0.0]
    for seed in range(20):
        trace, desired, costs, swaps = small_case(seed, requests_from=30, to=30, models=(4,), gaps=(60,))
        sums[0] += least_waiting_s(trace, 24 * GIB, swaps)
        sums[1] += simulate(trace, desired, machine(), costs, foresight=clairvoyant(trace, desired, costs)).waiting_s
        sums[2] += simulate(trace, desired, machine(), costs).waiting_s
    assert sums[0] < sums[1] < sums[2]


@pytest.mark.parametrize("seed", range(8))
def test_the_estimate_that_guides_the_search_changes_nothing(seed, monkeypatch):
    trace, _, _, swaps = small_case(seed)
    guided = least_waiting_s(trace, 24 * GIB, swaps)
    monkeypatch.setattr(optimum._Search, "_at_least", lambda *_: 0)
    assert least_waiting_s(trace, 24 * GIB, swaps) == guided


def test_in_turn_the_least_recently_used_is_always_the_wrong_one():
    """Three models in turn where two fit: who knows the future keeps one of the two, and swaps half as often."""
    trace, costs = round_robin(["a", "b", "c"], requests=60, every_s=60, busy_s=1), dict.fromkeys("abc", cost(11))
    desired = wish(*(ModelSpec(model=name, sleep_mode=False, idle=IdleSpec(sleep_after_s=None)) for name in "abc"))
    usual = simulate(trace, desired, machine(), costs)
    foreseen = simulate(trace, desired, machine(), costs, foresight=clairvoyant(trace, desired, costs))
    assert usual.total("swaps") == 60
    assert foreseen.total("swaps") == 2 + 29
