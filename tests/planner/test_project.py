"""What a plan leads to if it all succeeds."""

from tests.planner.cluster import NOW, Cluster
from vllama.domain.demand import WantReady, WantStopped
from vllama.domain.observed import Asleep, Awake, Verb
from vllama.domain.spec import SleepLevel
from vllama.domain.units import GIB
from vllama.planner import plan
from vllama.planner.project import apply, settle


def after_one_plan(cluster: Cluster):
    desired, snapshot = cluster.states()
    return apply(plan(desired, snapshot, NOW), desired, snapshot, NOW)


def used(snapshot) -> list[float | None]:
    return [d.used_bytes and d.used_bytes / GIB for node in snapshot.nodes for d in node.devices]


def test_a_start_leaves_an_engine_awake_its_memory_used_and_its_waiters_served():
    desired, snapshot = after_one_plan(Cluster((8.0, 8.0)).model("a").waits("a", requests=3))
    [engine] = snapshot.engines
    assert engine.state == Awake(ready_at=NOW)
    assert used(snapshot) == [3.5, 0]
    assert desired.demand_of("a").waiting == 0
    assert desired.demand_of("a").last_used_at == NOW


def test_a_sleep_leaves_the_residue_and_a_copy_in_host_memory():
    cluster = Cluster(residue=0.5, foreign={0: 1.0}).model("a", 5.0, weights=2.0).model("c", 6.5).engine("a").waits("c")
    _, snapshot = after_one_plan(cluster)
    [engine] = snapshot.engines
    assert engine.state == Asleep(level=SleepLevel.WEIGHTS_OFFLOADED)
    assert engine.host_copy_bytes == 3 * GIB
    assert used(snapshot) == [1.5]


def test_a_wake_takes_its_memory_back():
    _, snapshot = after_one_plan(Cluster().model("a", 5.0).asleep("a").waits("a"))
    assert used(snapshot) == [5.0]


def test_a_stop_leaves_nothing():
    _, snapshot = after_one_plan(Cluster().model("a").engine("a").orders("a", WantStopped(at=NOW)))
    assert snapshot.engines == ()
    assert used(snapshot) == [0]


def test_a_start_by_an_operator_is_over_when_the_model_is_ready():
    desired, _ = after_one_plan(Cluster().model("a").orders("a", WantReady(at=NOW)))
    assert desired.overrides == {}


def test_a_stop_by_an_operator_holds_until_a_request_has_won_over_it():
    desired, _ = after_one_plan(Cluster().model("a").engine("a").orders("a", WantStopped(at=NOW)))
    assert desired.overrides == {"a": WantStopped(at=NOW)}
    desired, _ = after_one_plan(Cluster().model("a").orders("a", WantStopped(at=NOW - 5)).waits("a"))
    assert desired.overrides == {}


def test_the_refused_are_told():
    desired, _ = after_one_plan(Cluster().model("a", 99.0).waits("a"))
    assert desired.demand_of("a").waiting == 0


def test_doors_close_and_open_as_the_plan_says():
    waits = Cluster().model("a", 6.0).model("c", 6.0).busy("a").waits("c", since=40.0)
    desired, _ = after_one_plan(waits)
    assert desired.demand_of("a").admission_closed_at == NOW
    desired, _ = after_one_plan(Cluster().model("a").busy("a").wants("a", admission_closed_at=NOW - 9))
    assert desired.demand_of("a").admission_closed_at is None
    assert desired.demand_of("a").drain_ended_at == NOW


def test_settling_stops_at_its_limit():
    cluster = Cluster()
    for name in "abc":
        cluster.model(name, 6.0).waits(name)
    desired, snapshot = cluster.states()
    assert len(settle(desired, snapshot, NOW, limit=2)) == 2
    assert len(settle(desired, snapshot, NOW)) == 6


def test_settling_goes_on_when_only_the_end_of_an_operators_start_lets_others_act():
    """`a` is ready and protected by its `start` until that is over; then it makes room."""
    cluster = Cluster().model("a", 6.0).model("c", 6.0).engine("a").orders("a", WantReady(at=NOW - 9)).waits("c")
    desired, snapshot = cluster.states()
    assert [len(list(made.actions)) for made in settle(desired, snapshot, NOW)] == [1, 1, 0]


def test_nobody_is_served_by_an_engine_that_goes_down():
    desired, _ = after_one_plan(Cluster().model("a").engine("a").operation(Verb.STOP, "a").waits("a"))
    assert desired.demand_of("a").waiting == 1
