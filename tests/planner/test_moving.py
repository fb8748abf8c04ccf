"""A sleeper that takes turns with who lives on its device starts anew elsewhere, by `policy.victims: cost`."""

from dataclasses import replace

import pytest

from tests.planner.cluster import NOW, Cluster, does
from tests.planner.test_victims import COST, often
from vllama.domain.reason import Reason
from vllama.domain.spec import OnConflict, Policy

BOUND_S = COST.fairness_bound_s


def in_turns(every_s: float, *, since: float = 1.0, policy: Policy = COST, **spec) -> Cluster:
    """a sleeps on gpu0, where b is busy, and waits; both are asked for once in `every_s`. Nobody is on gpu1."""
    cluster = Cluster((8.0, 8.0), policy=policy).model("a", 6.0, **spec).model("b", 6.0)
    cluster.asleep("a", unused=900).busy("b", unused=900)
    return often(often(cluster, "a", every_s), "b", every_s).waits("a", since=since)


def test_who_would_wait_again_and_again_starts_where_nobody_is():
    cluster = in_turns(10)
    answers = cluster.settle()
    assert does(answers) == [{"a": "Stop"}, {"a": "Start"}, {}]
    assert answers[0]["a"].reason is Reason.RELOCATED
    assert answers[0]["a"].message.startswith("Takes turns with b where it is")
    assert answers[1].actions["a"].devices == (1,)


def test_by_lru_it_waits():
    cluster = in_turns(10, policy=Policy())
    assert cluster.plan()["a"].reason is Reason.NO_IDLE_VICTIM


def test_who_is_asked_for_rarely_waits():
    answer = in_turns(300).plan()
    assert (answer.does, answer["a"].reason) == ({}, Reason.NO_IDLE_VICTIM)


def test_past_the_fairness_bound_it_is_known_how_long_a_turn_takes():
    cluster = in_turns(100)
    answer = cluster.plan()
    assert answer.does == {}
    assert answer.plan.requeue_after_s == pytest.approx(BOUND_S - 1.0)
    assert cluster.plan(after=BOUND_S).does == {"a": "Stop"}


def test_who_started_a_moment_ago_stays():
    cluster = in_turns(10)
    cluster.engines[0] = replace(cluster.engines[0], started_at=NOW - 595)
    answer = cluster.plan()
    assert (answer.does, answer.plan.requeue_after_s) == ({}, pytest.approx(5.0))
    assert cluster.plan(after=5.0).does == {"a": "Stop"}


def test_who_fits_beside_the_others_of_its_device_is_not_in_their_way():
    """Only the third, who is hardly used, keeps it from waking."""
    cluster = in_turns(10).model("third", 6.0)
    cluster.models["b"] = replace(cluster.models["b"], memory_bytes=cluster.models["b"].memory_bytes // 6)
    cluster.engines[1] = replace(cluster.engines[1], memory_bytes=cluster.engines[1].memory_bytes // 6)
    often(cluster.busy("third", unused=900), "third", every_s=5000, since=60)
    assert cluster.plan().does == {}


def test_where_it_would_take_turns_as_well_it_does_not_go():
    cluster = in_turns(10).model("c", 6.0).engine("c", 1, unused=900)
    assert often(cluster, "c", every_s=10).plan().does == {}


def test_it_goes_where_somebody_lives_who_is_hardly_asked_for():
    cluster = in_turns(10).model("c", 6.0).engine("c", 1, unused=900)
    answers = often(cluster, "c", every_s=5000, since=700).settle()
    assert does(answers)[:3] == [{"a": "Stop"}, {"c": "Sleep 1"}, {"a": "Start"}]


def test_nobody_stops_for_it():
    cluster = in_turns(10).model("c", 6.0, sleep_mode=False).engine("c", 1, unused=900)
    assert often(cluster, "c", every_s=5000, since=700).plan().does == {}


def test_who_may_displace_nobody_does_not_move_to_displace_another():
    cluster = in_turns(10, on_conflict=OnConflict.REFUSE).model("c", 6.0).engine("c", 1, unused=900)
    assert often(cluster, "c", every_s=5000, since=700).plan()["a"].refused


def test_who_waits_has_asked_too():
    """By what it was served alone, the one that is drained seems hardly asked for."""
    cluster = Cluster((8.0, 8.0), policy=COST).model("c", 6.0)
    for device, name in enumerate(("a", "b")):
        cluster.model(name, 6.0).busy(name, device, unused=900).wants(name, admission_closed_at=NOW - 20)
    often(often(cluster, "a", every_s=40, since=20), "b", every_s=30, since=20).waits("c", since=BOUND_S + 5)
    assert cluster.plan()["c"].waits_for == ("a",)
    assert cluster.waits("a", since=20, requests=200).plan()["c"].waits_for == ("b",)
