"""Where models go, and who can go nowhere."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.planner.cluster import Cluster
from tests.strategies import any_state
from vllama.domain.action import Start
from vllama.domain.observed import Loading
from vllama.domain.reason import Reason
from vllama.domain.spec import LaunchSpec
from vllama.domain.units import GIB
from vllama.planner import placement, plan
from vllama.planner.ledger import Ledger
from vllama.planner.view import View


def devices_of(cluster: Cluster, name: str) -> tuple[int, ...]:
    return cluster.plan().actions[name].devices


def test_the_emptiest_device_is_taken():
    assert devices_of(Cluster((8.0, 16.0, 8.0)).model("a").waits("a"), "a") == (1,)


def test_between_equals_the_lowest_index():
    assert devices_of(Cluster((8.0, 8.0)).model("a").waits("a"), "a") == (0,)


def test_a_free_device_before_one_with_a_victim():
    cluster = Cluster((16.0, 8.0)).model("big", 12.0).model("a", 6.0).engine("big", 0).waits("a")
    assert devices_of(cluster, "a") == (1,)


def test_of_two_full_devices_the_one_with_the_least_recently_used_victim():
    cluster = Cluster((8.0, 8.0)).model("new", 6.0).model("old", 6.0).model("a", 6.0)
    cluster.engine("new", 0, unused=10).engine("old", 1, unused=900).waits("a")
    assert cluster.plan().does == {"old": "Sleep 1"}


def test_an_idle_victim_at_hand_before_one_behind_a_load():
    cluster = Cluster((12.0, 8.0)).model("x", 6.0).model("v", 6.0).model("w", 6.0).model("a", 6.0)
    cluster.engine("x", 0, state=Loading(progress_at=9_999.0)).engine("v", 0, unused=900).engine("w", 1, unused=10)
    assert cluster.waits("x", since=9).waits("a").plan().does == {"w": "Sleep 1"}


def test_only_the_devices_it_names():
    assert devices_of(Cluster((8.0, 8.0, 8.0)).model("a", devices=(2,)).waits("a"), "a") == (2,)


def test_the_share_is_of_the_smallest_of_its_devices():
    cluster = Cluster((8.0, 16.0))
    share = LaunchSpec(settings=(("gpu_memory_utilization", 0.5),))
    start = cluster.model("a", None, device_count=2, launch=share).waits("a").plan().actions["a"]
    assert start.memory_bytes == 4 << 30
    assert start.gpu_memory_utilization == 0.5


def test_a_model_that_can_never_fit_is_refused_with_the_sum():
    answer = Cluster((8.0,), reserve=0.5).model("a", 9.0).waits("a").plan()
    assert answer["a"].reason is Reason.CANNOT_FIT
    assert answer["a"].refused
    assert answer["a"].message == "Needs 9.0 GiB; gpu0 has 8.0 GiB - 512.0 MiB reserve = 7.5 GiB."


def test_what_pinned_models_hold_is_part_of_the_sum():
    answer = Cluster().model("fix", 3.0, pin=True).model("a", 6.0).engine("fix").waits("a").plan()
    assert answer["a"].message == "Needs 6.0 GiB; gpu0 has 8.0 GiB - 3.0 GiB of pinned fix = 5.0 GiB."


def test_a_pair_needs_two_such_devices():
    answer = Cluster((8.0, 4.0)).model("a", 6.0, device_count=2).waits("a").plan()
    assert answer["a"].refused
    assert "2 such devices are needed" in answer["a"].message


@pytest.mark.parametrize(("share", "starts"), [(0.5, True), (0.9, False)])
def test_a_share_of_two_unequal_devices_must_be_free_on_the_larger_one_too(share, starts):
    """0.9 of 24 GiB is not there beside the pinned one, and vLLM looks for it although it will hold 0.9 of 8 GiB."""
    cluster = Cluster((8.0, 24.0)).model("fix", 10.0, pin=True).engine("fix", 1)
    launch = LaunchSpec(settings=(("gpu_memory_utilization", share),))
    answer = cluster.model("a", None, device_count=2, launch=launch).waits("a").plan()
    assert (answer.does == {"a": "Start"}) is starts
    assert answer["a"].refused is not starts


def test_room_is_made_on_the_larger_of_two_devices_for_what_vllm_looks_for_there():
    """4 of 8 GiB are half of each: 12 of 24 GiB, of which 10 are free."""
    cluster = Cluster((8.0, 24.0)).model("b", 14.0).engine("b", 1).model("a", 4.0, device_count=2)
    assert cluster.waits("a").plan().does == {"b": "Sleep 1"}


def test_a_device_that_is_not_there_is_named():
    answer = Cluster().model("a", devices=(0, 3), device_count=2).waits("a").plan()
    assert answer["a"].reason is Reason.NO_SUCH_DEVICE
    assert answer["a"].message == "Needs 2 of devices 0, 3; here has gpu0."


def test_where_memory_is_unknown_nothing_starts():
    answer = Cluster(unknown={0}).model("a").waits("a").plan()
    assert answer.does == {}
    assert answer["a"].reason is Reason.DEVICE_UNKNOWN
    assert not answer["a"].refused


def test_a_known_device_is_taken_before_an_unknown_one():
    assert devices_of(Cluster((8.0, 8.0), unknown={0}).model("a").waits("a"), "a") == (1,)


def test_what_other_programs_hold_is_not_given_away_and_not_for_ever():
    answer = Cluster(foreign={0: 5.0}).model("a", 6.0).waits("a").plan()
    assert answer.does == {}
    assert not answer["a"].refused
    assert "5.0 GiB held by other programs" in answer["a"].message


def test_victims_are_counted_with_what_other_programs_hold():
    cluster = Cluster(foreign={0: 2.0}).model("v", 3.0).model("a", 5.8).engine("v").waits("a")
    assert cluster.plan().does == {"v": "Stop"}


def test_the_reserve_stays_free():
    assert Cluster(reserve=0.5).model("a", 7.5).waits("a").plan().does == {"a": "Start"}
    assert Cluster(reserve=0.5).model("a", 7.6).waits("a").plan().does == {}


def test_what_is_being_loaded_is_not_taken_for_other_programs():
    """Half of `x` is in memory already: it is not charged a second time as foreign."""
    cluster = Cluster((16.0,)).model("x", 8.0).model("a", 6.0)
    cluster.engine("x", state=Loading(progress_at=9_999.0), measured_bytes=1 << 30)
    answer = cluster.waits("a").plan()
    assert answer["a"].reason is Reason.DEVICE_BUSY


def test_linked_devices_before_others_but_not_at_somebodys_cost():
    pairs = ((0, 2), (1, 3))
    cluster = Cluster((8.0,) * 4, linked=pairs).model("a", 6.0, device_count=2).waits("a")
    assert devices_of(cluster, "a") == (0, 2)
    assert devices_of(cluster.model("x", 6.0).engine("x", 2), "a") == (1, 3)
    assert devices_of(cluster.model("y", 6.0).engine("y", 3), "a") == (0, 1)  # nobody has to go


def test_linked_devices_before_the_least_recently_used():
    cluster = Cluster((8.0,) * 4, linked=((0, 1), (2, 3))).model("a", 6.0, device_count=2).waits("a")
    for index, unused in enumerate((900, 10, 20, 800)):
        cluster.model(f"x{index}", 6.0).engine(f"x{index}", index, unused=unused)
    assert set(cluster.plan().does) == {"x2", "x3"}


def test_of_many_devices_linked_neighbours_are_looked_at():
    groups = (tuple(range(0, 32, 2)), tuple(range(1, 32, 2)))
    cluster = Cluster((8.0,) * 32, linked=groups).model("a", 6.0, device_count=4).waits("a")
    assert devices_of(cluster, "a") == (0, 2, 4, 6)


def test_the_kv_cache_is_what_is_left_beside_what_is_fixed():
    cluster = Cluster((8.0,)).model("a", 6.0).waits("a")
    desired, snapshot = cluster.states()
    for fixed, cache in ((None, None), (4 * GIB, 2 * GIB), (6 * GIB, None)):
        footprints = {"a": replace(snapshot.footprints["a"], fixed_bytes=fixed)}
        (action,) = plan(desired, replace(snapshot, footprints=footprints), cluster.now).actions
        assert isinstance(action, Start)
        assert action.kv_cache_bytes == cache


def test_auto_may_cut_the_kv_cache_but_never_hides_what_cannot_fit():
    cluster = Cluster((20.0,)).model("a", None).waits("a")
    desired, snapshot = cluster.states()
    for awake, cache, needed in ((16, 4, 16), (24, 10, 17), (24, 5, 19), (24, 2, None)):
        footprint = replace(snapshot.footprints["a"], awake_bytes=awake * GIB, cache_bytes=cache * GIB)
        made = plan(desired, replace(snapshot, footprints={"a": footprint}), cluster.now)
        (decision,) = made.decisions
        if needed is None:
            assert decision.reason is Reason.CANNOT_FIT
        else:
            assert isinstance(decision.action, Start)
            assert decision.action.memory_bytes == needed * GIB


@settings(max_examples=60)
@given(any_state())
def test_what_is_found_among_the_free_at_a_glance_is_what_pricing_each_of_them_finds(situation):
    view = View(desired=situation.desired, snapshot=situation.snapshot, now=situation.now)
    ledger, nodes = Ledger(view), list(view.ready.values())
    for spec in situation.desired.models.values():
        free = [
            offer
            for node in nodes
            for devices in placement.sets(spec, node, ledger)
            if (needs := placement.needs_on(spec, ledger, node.name, devices))
            if (offer := placement.make_offer(ledger, node.name, devices, needs, {})) is not None
        ]
        assert placement._freest(spec, ledger, nodes, spec.device_count) == placement._cheapest(spec, ledger, free)
