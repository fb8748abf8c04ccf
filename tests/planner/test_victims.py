"""Who makes room by `policy.victims: cost`: whoever is missed least for the memory that goes with it."""

from dataclasses import replace

from tests.planner.cluster import NOW, Answer, Cluster, does
from vllama.domain.observed import Footprint
from vllama.domain.reason import Reason
from vllama.domain.spec import Policy, VictimPolicy
from vllama.domain.units import GIB
from vllama.planner import plan
from vllama.planner.check import FindingKind, check
from vllama.planner.evidence import evidence_of, replayed

COST = Policy(victims=VictimPolicy.COST)


def often(cluster: Cluster, name: str, every_s: float, since: float = 0.0) -> Cluster:
    """Its latest four requests came at this pace, the last one `since` seconds ago."""
    return cluster.wants(name, asked=tuple(NOW - since - i * every_s for i in (3, 2, 1, 0)), last_used_at=NOW - since)


def two_and_a_waiter(**cluster) -> Cluster:
    made = Cluster(policy=COST, **cluster).model("a", 3.5).model("b", 3.5).model("c", 3.5)
    return made.engine("a").engine("b").waits("c")


def test_who_is_asked_for_rarely_goes_although_it_was_used_last():
    cluster = often(often(two_and_a_waiter(), "a", every_s=10, since=60), "b", every_s=900, since=30)
    answers = cluster.settle()
    assert does(answers) == [{"b": "Sleep 1"}, {"c": "Start"}, {}]
    cluster.policy = Policy()
    assert cluster.plan().does == {"a": "Sleep 1"}


def test_the_reason_has_the_numbers_of_the_choice():
    cluster = often(often(two_and_a_waiter(), "a", every_s=10, since=60), "b", every_s=900, since=30)
    answer = cluster.plan()
    assert answer["b"].reason is Reason.EVICTED
    assert "asked for 0.41 times a minute, back in 1.1s for 3.1 GiB: missed least" in answer["b"].message
    cluster.policy = Policy()
    assert "asked for" not in cluster.plan()["a"].message


def test_who_is_back_sooner_goes():
    cluster = Cluster(policy=COST, sleep_frees_memory=False).model("a", load_s=40.0).model("b", load_s=90.0).model("c")
    cluster.engine("a", unused=20).engine("b", unused=30).waits("c")
    assert cluster.plan().does == {"a": "Stop"}


def test_who_gives_more_memory_for_the_same_goes():
    cluster = Cluster((16.0,), policy=COST).model("small", 5.0).model("large", 9.0).model("c", 4.5)
    cluster.engine("small", unused=100).engine("large", unused=100).waits("c")
    assert cluster.plan().does == {"large": "Sleep 1"}


def test_of_those_that_nobody_counted_the_least_recently_used_goes():
    cluster = two_and_a_waiter().wants("a", last_used_at=NOW - 50).wants("b", last_used_at=NOW - 900)
    assert cluster.plan().does == {"b": "Sleep 1"}


def test_two_that_are_back_soon_go_to_sleep_rather_than_one_is_stopped():
    """Asleep alone, neither frees enough; stopped alone, either would."""
    cluster = Cluster((9.0,), policy=COST).model("a", 4.5).model("b", 4.5).model("c", 4.5)
    cluster.engine("a", unused=20).engine("b", unused=30).waits("c")
    assert does(cluster.settle()) == [{"b": "Sleep 1"}, {"a": "Sleep 1"}, {"c": "Start"}, {}]
    cluster.policy = Policy()
    assert cluster.plan().does == {"b": "Stop"}


def test_one_is_stopped_where_two_asleep_would_be_missed_more():
    cluster = Cluster((9.0,), policy=COST).model("a", 4.5).model("b", 4.5).model("c", 4.5)
    often(often(cluster.engine("a").engine("b"), "a", every_s=1), "b", every_s=9_000, since=900).waits("c")
    assert does(cluster.settle()) == [{"b": "Stop"}, {"c": "Start"}, {}]


def test_one_that_is_enough_goes_rather_than_two_that_are_missed_more_together():
    """For its memory each of the two is missed less; but they free more than is needed."""
    cluster = Cluster((14.0,), policy=COST).model("c", 6.6)
    for name, gib, every_s in (("one", 3.4, 600), ("two", 3.4, 600), ("large", 5.6, 165)):
        often(cluster.model(name, gib).engine(name), name, every_s=every_s)
    assert does(cluster.waits("c").settle()) == [{"large": "Sleep 1"}, {"c": "Start"}, {}]


def test_who_is_not_needed_after_all_is_let_off():
    """The cheapest is taken first; with the two dearer ones, of which both are needed, it is too much."""
    cluster = Cluster((12.0,), policy=COST).model("c", 8.8)
    for name, gib, every_s in (("small", 1.4, 9_000), ("middle", 3.4, 900), ("large", 5.4, 60)):
        often(cluster.model(name, gib).engine(name), name, every_s=every_s)
    assert does(cluster.waits("c").settle()) == [{"middle": "Sleep 1"}, {"large": "Sleep 1"}, {"c": "Start"}, {}]


def test_a_busy_engine_goes_after_all_that_are_idle_however_little_it_is_missed():
    cluster = Cluster(policy=COST).model("a", 3.5).model("b", 3.5).model("c", 3.5)
    often(often(cluster.busy("a").engine("b"), "a", every_s=9_000), "b", every_s=1).waits("c")
    assert cluster.plan().does == {"b": "Sleep 1"}


def test_of_the_sleepers_the_one_that_is_missed_least_gives_up_its_rest():
    cluster = Cluster(policy=COST, residue=1.0).model("a", 4.0).model("b", 4.0).model("c", 6.5)
    often(often(cluster.asleep("a").asleep("b"), "a", every_s=10, since=600), "b", every_s=9_000, since=60).waits("c")
    assert does(cluster.settle()) == [{"b": "Stop"}, {"c": "Start"}, {}]


def test_where_host_memory_is_short_the_copy_of_who_is_missed_least_goes():
    cluster = Cluster((24.0,), policy=COST, host=4.0).model("a", weights=2.0).model("b", weights=2.0)
    often(often(cluster.asleep("a").asleep("b"), "a", every_s=10, since=90), "b", every_s=9_000, since=60)
    answer = cluster.plan()
    assert answer.does == {"b": "Stop"}
    assert answer["b"].reason is Reason.HOST_MEMORY_SHORT


def test_where_the_host_has_room_for_one_copy_only_one_sleeps():
    cluster = Cluster(policy=COST, host=3.5).model("a", 3.5).model("b", 3.5).model("c", 7.0)
    answers = cluster.engine("a", unused=99).engine("b").waits("c").settle()
    assert sorted(verb for answer in answers for verb in answer.does.values()) == ["Sleep 1", "Start", "Stop"]


def test_room_is_made_on_the_device_where_least_is_missed():
    cluster = Cluster((8.0, 8.0), policy=COST).model("a", 6.0).model("b", 6.0).model("c", 6.0)
    often(often(cluster.engine("a", 0).engine("b", 1), "a", every_s=10, since=60), "b", every_s=900, since=30).waits(
        "c"
    )
    assert cluster.plan().does == {"b": "Sleep 1"}


def test_an_idle_spare_replica_costs_nothing():
    cluster = Cluster((8.0, 8.0), policy=COST).model("a", 6.0, replicas=2).model("b", 6.0).model("c", 6.0)
    often(cluster.engine("a", 0).engine("a#2", 1), "a", every_s=1).waits("c")
    assert len(cluster.plan().does) == 1


def test_time_alone_does_not_change_who_goes():
    """Who takes long to be back is missed more the longer nothing is asked for; it counts when something is."""
    cluster = Cluster(policy=COST, sleep_frees_memory=False).model("a", load_s=90.0).model("b", load_s=40.0).model("c")
    cluster.engine("a", unused=2000).engine("b", unused=600).waits("c")
    assert [cluster.plan(after=s).does for s in (0.0, 1e3, 1e5)] == [{"a": "Stop"}] * 3
    cluster.wants("c", oldest_waiting_at=NOW + 1e5)
    assert cluster.plan(after=1e5).does == {"b": "Stop"}


def test_the_evidence_has_who_was_asked_for_last_though_it_is_gone():
    cluster = Cluster(policy=COST, sleep_frees_memory=False).model("a", load_s=90.0).model("b", load_s=40.0).model("c")
    cluster.engine("a", unused=2000).engine("b", unused=600).waits("c")
    assert cluster.plan(after=1e5).does == {"a": "Stop"}
    desired, snapshot = cluster.model("gone").wants("gone", asked=(NOW + 1e5,)).states()
    [decision] = [each for each in plan(desired, snapshot, NOW + 1e5).decisions if each.model == "b"]
    [(_, evidence)] = evidence_of(desired, snapshot, NOW + 1e5, [decision])
    assert replayed(evidence, "b") == decision


def test_a_model_that_was_called_in_one_burst_is_forgotten_as_fast_as_the_burst_was_long_ago():
    cluster = often(often(two_and_a_waiter(), "a", every_s=1, since=3000), "b", every_s=400, since=100)
    assert cluster.plan().does == {"a": "Sleep 1"}


def test_the_second_opinion_notices_who_should_have_gone():
    cluster = often(often(two_and_a_waiter(), "a", every_s=10, since=60), "b", every_s=900, since=30)
    cluster.engines = [replace(engine, host_copy_bytes=3 * GIB) for engine in cluster.engines]
    desired, snapshot = cluster.states()
    wrong = plan(replace(desired, policy=Policy()), snapshot, NOW)
    [finding] = check(desired, snapshot, NOW, wrong)
    assert (finding.kind, finding.message) == (
        FindingKind.DEARER_GOES, "a goes where b would have cost less"
    )  # fmt: skip


def test_where_nothing_is_known_of_what_it_takes_something_usual_is_assumed():
    cluster = two_and_a_waiter().wants("a", last_used_at=NOW - 50).wants("b", last_used_at=NOW - 900)
    desired, snapshot = cluster.states()
    only_c = {"c": Footprint(awake_bytes=int(3.5 * GIB), asleep_bytes=GIB, weights_bytes=GIB)}
    answer = Answer.of(desired, replace(snapshot, footprints=only_c), NOW)
    assert list(answer.does) == ["b"]


def short_of_a_little(**cluster) -> Cluster:
    """Asleep, `idle` would leave too little for `c`; `busy` would leave enough, and its requests end soon."""
    made = Cluster((10.0,), policy=COST, **cluster).model("idle", 3.0, load_s=40.0).model("busy", 6.5).model("c", 3.2)
    return often(made.engine("idle").busy("busy"), "idle", every_s=30, since=20)


def test_a_model_that_is_asked_for_often_is_not_stopped_where_a_busy_one_can_sleep_soon():
    cluster = short_of_a_little().waits("c")
    answer = cluster.plan()
    assert (answer.does, answer["c"].reason, answer["c"].waits_for) == ({}, Reason.NO_IDLE_VICTIM, ("busy",))
    assert (
        answer["c"].message
        == "Waits for busy, with requests in flight, to sleep; in 29s idle stops instead, and must start again."
    )
    cluster.wants("busy", in_flight=0)
    assert does(cluster.settle()) == [{"busy": "Sleep 1"}, {"c": "Start"}, {}]


def test_it_waits_until_that_has_cost_as_much_as_the_start_would():
    cluster = short_of_a_little().waits("c")
    cluster.policy = Policy(victims=VictimPolicy.COST, fairness_bound_s=60.0)
    answer = cluster.plan()
    assert answer.plan.requeue_after_s is not None
    assert 30.0 < answer.plan.requeue_after_s < 40.0
    assert cluster.plan(after=answer.plan.requeue_after_s - 0.1).does == {}
    assert cluster.plan(after=answer.plan.requeue_after_s + 0.1).does == {"idle": "Stop"}


def test_the_more_wait_the_sooner_the_stop_is_the_better_of_the_two():
    assert short_of_a_little().waits("c", since=10.0).plan().does == {}
    assert short_of_a_little().waits("c", since=10.0, requests=4).plan().does == {"idle": "Stop"}


def test_nobody_waits_for_that_past_the_fairness_bound():
    cluster = short_of_a_little().waits("c", since=20.0)
    cluster.policy = Policy(victims=VictimPolicy.COST, fairness_bound_s=15.0)
    assert cluster.plan().does == {"idle": "Stop"}


def test_who_is_hardly_asked_for_is_stopped_at_once():
    cluster = often(short_of_a_little(), "idle", every_s=90_000, since=40_000)
    assert cluster.waits("c", since=2.0).plan().does == {"idle": "Stop"}


def test_where_nobody_who_is_busy_could_sleep_the_stop_is_at_once():
    cluster = short_of_a_little(sleep_frees_memory=False).waits("c")
    assert cluster.plan().does == {"idle": "Stop"}


def test_the_second_opinion_notices_a_stop_in_haste():
    cluster = short_of_a_little().waits("c")
    cluster.engines = [replace(engine, host_copy_bytes=3 * GIB) for engine in cluster.engines]
    desired, snapshot = cluster.states()
    assert check(desired, snapshot, NOW, plan(desired, snapshot, NOW)) == ()
    hasty = plan(replace(desired, policy=Policy()), snapshot, NOW)
    [finding] = check(desired, snapshot, NOW, hasty)
    assert (finding.kind, finding.message) == (
        FindingKind.STOPPED_IN_HASTE, "idle stops for c, which could wait for busy to sleep"
    )  # fmt: skip
    assert check(desired, snapshot, NOW + 30.0, plan(desired, snapshot, NOW + 30.0)) == ()
