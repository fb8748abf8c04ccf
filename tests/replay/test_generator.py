import itertools
import math
import statistics
from collections import Counter

import pytest

from vllama.replay.generator import DAY_S, PLAIN, Habits, generate, round_robin

TEN = [f"m{n}" for n in range(10)]


def test_the_same_seed_gives_the_same_trace():
    day = generate(TEN, span_s=DAY_S, rate_per_s=0.1, seed=3)
    assert day == generate(TEN, span_s=DAY_S, rate_per_s=0.1, seed=3)
    assert day != generate(TEN, span_s=DAY_S, rate_per_s=0.1, seed=4)
    assert all(0 <= request.at_s < DAY_S for request in day)
    assert [request.at_s for request in day] == sorted(request.at_s for request in day)


def test_one_model_more_changes_nothing_about_how_the_others_are_called():
    """Their rates apart: what is drawn for each is its own."""
    few, more = (generate(TEN[:n], span_s=DAY_S, rate_per_s=0.1, seed=3, habits=PLAIN) for n in (1, 2))
    busy = [request.busy_s for request in more if request.model == "m0"]
    assert busy == [request.busy_s for request in few][: len(busy)]


@pytest.mark.parametrize("zipf", [0.0, 1.0, 1.4])
def test_popularity_falls_with_the_rank(zipf):
    trace = generate(TEN, span_s=5 * DAY_S, rate_per_s=0.2, seed=1, habits=Habits(**{**_fields(PLAIN), "zipf": zipf}))
    counts = Counter(request.model for request in trace)
    assert len(trace) == pytest.approx(0.2 * 5 * DAY_S, rel=0.02)
    assert counts["m0"] / counts["m4"] == pytest.approx(5**zipf, rel=0.1)


@pytest.mark.parametrize("cv", [0.7, 1.0, 3.0])
def test_the_gaps_between_requests_vary_as_they_should(cv):
    trace = generate(["a"], span_s=20 * DAY_S, rate_per_s=0.05, seed=1, habits=Habits(**{**_fields(PLAIN), "cv": cv}))
    at = [request.at_s for request in trace]
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert statistics.pstdev(gaps) / statistics.mean(gaps) == pytest.approx(cv, rel=0.05)


def test_more_by_day_than_by_night():
    habits = Habits(**{**_fields(PLAIN), "daily": 0.5, "peak_hour": 15, "peak_spread_h": 0})
    trace = generate(TEN, span_s=4 * DAY_S, rate_per_s=0.2, seed=2, habits=habits)
    hours = Counter(int(request.at_s % DAY_S // 3600) for request in trace)
    assert hours[15] > 1.5 * hours[3]
    assert len(trace) == pytest.approx(0.2 * 4 * DAY_S, rel=0.03)


def test_the_mean_is_kept_over_spells_and_wandering_rates():
    counts = [len(generate(TEN, span_s=5 * DAY_S, rate_per_s=0.01, seed=seed)) for seed in range(20)]
    assert statistics.mean(counts) == pytest.approx(0.01 * 5 * DAY_S, rel=0.3)
    assert statistics.pstdev(counts) > 5 * math.sqrt(statistics.mean(counts))  # but not over a day


def test_occasional_models_are_silent_for_most_of_the_time():
    habits = Habits(**{**_fields(PLAIN), "occasional": 1.0, "zipf": 0.0})
    trace = generate(TEN, span_s=10 * DAY_S, rate_per_s=0.05, seed=1, habits=habits)
    assert len({int(request.at_s // 600) for request in trace if request.model == "m0"}) > 0.7 * 10 * 144
    for model in TEN[1:]:
        windows = {int(request.at_s // 600) for request in trace if request.model == model}
        assert len(windows) < 0.7 * 10 * 144


def test_how_long_a_request_keeps_its_model_busy():
    busy = sorted(request.busy_s for request in generate(TEN, span_s=DAY_S, rate_per_s=0.5, seed=1))
    assert statistics.median(busy) == pytest.approx(5, rel=0.05)
    assert statistics.mean(busy) == pytest.approx(5 * math.exp(0.5), rel=0.05)


def test_round_robin():
    turns = [(each.at_s, each.model, each.busy_s) for each in round_robin(["a", "b"], requests=3, every_s=2, busy_s=1)]
    assert turns == [(0, "a", 1), (2, "b", 1), (4, "a", 1)]


def _fields(habits):
    return {name: getattr(habits, name) for name in habits.__dataclass_fields__}
