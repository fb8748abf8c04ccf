"""Several machines: where models go, what becomes of those on one that does not answer, engines larger than one."""

from dataclasses import replace

import pytest

from tests.planner.cluster import Cluster, does
from vllama.domain.demand import WantReady, WantStopped
from vllama.domain.observed import Exited, Loading, NodeState, Place, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import IdleSpec, LaunchSpec, Policy, VictimPolicy
from vllama.domain.status import Phase
from vllama.domain.units import GIB
from vllama.planner.believed import STALE_S
from vllama.planner.books import books_of
from vllama.planner.rehearse import Outcome, rehearse
from vllama.planner.view import best_engines

LOST, FENCED = NodeState.LOST, NodeState.FENCED


def two(**fields) -> Cluster:
    """A machine `here`, and another one `there`, of a GPU each, that a model fills."""
    return Cluster(gpus=(24.0,), more={"there": (24.0,)}, **fields).model("a", 20).model("b", 20)


def lost(state: NodeState = LOST) -> Cluster:
    """`a` runs on the machine that does not answer."""
    return two(away={"there": state}).engine("a", node="there", unused=5.0)


def place(answer, model: str) -> tuple[str, tuple[int, ...]]:
    action = answer.actions[model]
    return action.node, action.devices


# where models go


def test_who_is_free_goes_before_who_has_to_be_freed_on_whichever_machine():
    assert place(two().engine("a").waits("b").plan(), "b") == ("there", (0,))


def test_the_machine_goes_on_that_has_less_to_lose():
    made = two().model("c", 20).engine("a", unused=10.0).engine("b", node="there", unused=900.0).waits("c").plan()
    assert made.does == {"b": "Sleep 1"}


def test_between_equals_it_is_the_machine_with_most_left():
    cluster = Cluster(gpus=(24.0, 24.0), more={"there": (24.0, 24.0)}).model("a", 20).model("b", 20)
    assert place(cluster.waits("b").plan(), "b") == ("here", (0,))
    assert place(cluster.engine("a", 0).plan(), "b") == ("there", (0,))


def test_devices_are_indices_on_any_machine_unless_one_is_named():
    cluster = Cluster(gpus=(24.0,), more={"there": (24.0, 24.0)}).model("a", 20, devices=(1,)).waits("a")
    assert place(cluster.plan(), "a") == ("there", (1,))
    named = two().model("c", 20, node="there").waits("c")
    assert place(named.plan(), "c") == ("there", (0,))
    assert named.engine("b", node="there").plan().does == {"b": "Sleep 1"}  # although `here` is free


def test_a_machine_that_is_not_there_is_refused_with_those_of_like_name():
    decision = two().model("c", 20, node="their").waits("c").plan()["c"]
    assert (decision.reason, decision.refused) == (Reason.NO_SUCH_NODE, True)
    assert "on node their; 2 machines are there, nearest by name: there" in decision.message


def test_who_is_moved_to_another_machine_by_the_file_restarts_alone():
    cluster = two().engine("a")
    cluster.models["a"] = replace(cluster.models["a"], node="there")
    assert does(cluster.waits("a").settle()) == [{"a": "Stop"}, {"a": "Start"}, {}]


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_are_spread_evenly(replicas: int):
    more = dict.fromkeys(("n2", "n3", "n4"), (24.0,) * 3)
    cluster = Cluster(gpus=(24.0,) * 3, more=more).model("a", 20, replicas=replicas).waits("a")
    nodes = [action.node for answer in cluster.settle() for action in answer.actions.values()]
    assert sorted(nodes) == ["here", "n2", "n3", "n4"][:replicas]


def test_a_replica_goes_to_another_machine_although_there_is_more_room_beside_the_first():
    cluster = Cluster(gpus=(24.0, 24.0), more={"there": (24.0,)}).model("a", 20, replicas=2).model("b", 2)
    answer = cluster.engine("a", unused=1.0).engine("b", node="there", unused=1.0).waits("a").plan()
    assert place(answer, "a#2") == ("there", (0,))


# a machine that does not answer


@pytest.mark.parametrize("state", [LOST, FENCED])
def test_its_models_start_elsewhere_for_who_waits_and_are_told_why(state: NodeState):
    answer = lost(state).waits("a").plan()
    assert place(answer, "a") == ("here", (0,))
    decision = answer["a"]
    assert (decision.before, decision.after, decision.reason) == (Phase.LOST, Phase.READY, Reason.DEMANDED)
    said = "n1 does not answer" if state is LOST else "is back, but has not said yet that nothing is left on it"
    assert said.replace("n1", "there") in decision.message
    assert "Its engine on there is lost" in decision.message


def test_nobody_asks_and_nothing_happens():
    answer = lost().plan()
    assert answer.does == {}
    assert (answer["a"].reason, answer["a"].before) == (Reason.NODE_LOST, Phase.LOST)
    assert "A request starts it elsewhere." in answer["a"].message


def test_a_pin_and_an_operators_start_bring_it_back_elsewhere():
    assert place(lost().orders("a", WantReady(at=9_999.0)).plan(), "a") == ("here", (0,))
    pinned = two(away={"there": LOST}).model("a", 20, pin=True).engine("a", node="there")
    assert place(pinned.plan(), "a") == ("here", (0,))


def test_nothing_is_done_there_neither_by_time_nor_by_hand_nor_for_a_fault():
    idle = two(away={"there": LOST}).model("a", 20, idle=IdleSpec(sleep_after_s=1.0)).engine("a", node="there")
    assert idle.plan().does == {}
    stopped = lost().orders("a", WantStopped(at=9_999.0))
    assert (stopped.plan().does, stopped.plan()["a"].reason) == ({}, Reason.HELD_BY_OPERATOR)
    dead = two(away={"there": LOST}).engine("a", node="there", state=Exited(code=1, cause="it ended"))
    assert dead.plan().does == {}
    gone = two(away={"there": LOST}).engine("c", node="there")  # in no file any more
    assert (gone.plan().does, gone.plan()["c"].reason) == ({}, Reason.NODE_LOST)


def test_its_memory_is_nobodys():
    cluster = lost().engine("b").model("c", 20).waits("c")
    assert cluster.plan().does == {"b": "Sleep 1"}  # not on `there`, of which nobody knows what it holds
    desired, snapshot = cluster.states()
    pages = {page.name: page for page in books_of(desired, snapshot).nodes}
    assert pages["there"].devices[0].room_bytes is None
    assert [entry.model for entry in pages["there"].devices[0].engines] == ["a"]
    assert pages["there"].devices[0].engines[0].phase is Phase.LOST


def test_who_fits_nowhere_else_waits_for_the_machine():
    cluster = Cluster(gpus=(8.0,), more={"there": (24.0,)}, away={"there": LOST}).model("a", 20).waits("a")
    decision = cluster.plan()["a"]
    assert (decision.reason, decision.refused) == (Reason.NODE_AWAITED, False)
    assert "No other machine can take it: there does not answer (no word for 4s)" in decision.message


def test_all_machines_are_away():
    cluster = two(away={"here": LOST, "there": FENCED}).engine("a").waits("a").waits("b")
    answer = cluster.plan()
    assert (answer.does, answer["a"].reason, answer["b"].reason) == ({}, Reason.NODE_AWAITED, Reason.NODE_AWAITED)


def test_an_operation_there_holds_nobody_up():
    cluster = lost().operation(Verb.SLEEP, "a").waits("a")
    assert place(cluster.plan(), "a") == ("here", (0,))


def test_where_it_was_lost_counts_for_nothing_as_its_models_place():
    """The engine that serves is the one that answers, and rests as if there were no other."""
    cluster = lost().engine("a", unused=0.0)
    _, snapshot = cluster.states()
    assert best_engines(snapshot)["a"].node == "here"
    assert cluster.plan()["a"].reason is Reason.IDLE


def test_a_replica_that_answers_serves_in_the_place_of_the_lost_one():
    cluster = Cluster(gpus=(24.0, 24.0), more={"there": (24.0,)}, away={"there": LOST}).model("a", 20, replicas=2)
    answer = cluster.engine("a", node="there", unused=1.0).engine("a#2", unused=1.0).waits("a").plan()
    assert answer["a#2"].reason is Reason.SERVING
    assert place(answer, "a") == ("here", (1,))  # as a further one, in free memory


# it is back


def back() -> Cluster:
    """`a` runs on both: what was silent has gone on, and its replacement is up."""
    return two().engine("a", node="there", unused=600.0).engine("a", unused=1.0)


def test_when_it_is_back_the_surplus_engine_goes_and_no_more_than_that():
    answers = back().settle()
    assert does(answers) == [{"a": "Stop"}, {}]
    assert answers[0]["a"].reason is Reason.SURPLUS
    assert answers[0].actions["a"].node == "here"  # the younger one


def test_what_is_in_flight_is_not_cut_for_that():
    answer = back().wants("a", in_flight=2).plan()
    assert (answer.does, answer["a"].reason) == ({}, Reason.DRAINING)


def test_a_replacement_that_still_loads_is_broken_off():
    cluster = two().engine("a", node="there", unused=600.0)
    cluster.engine("a", state=Loading(progress_at=9_999.0)).waits("a")
    assert place(cluster.plan(), "a") == ("here", (0,))
    assert cluster.plan().does == {"a": "Stop"}


# old figures


def test_an_old_reading_tells_what_others_hold_and_nothing_of_ours():
    cluster = Cluster(gpus=(24.0,), foreign={0: 2.0}).model("a", 20).model("b", 18).waits("b")
    cluster.asleep("a", measured_bytes=20 * GIB)  # as it was before it fell asleep
    assert cluster.plan().does == {"a": "Stop"}
    desired, snapshot = cluster.states()
    for age_s, room_gib in ((STALE_S, 2.0), (STALE_S + 1, 21.6)):
        [node] = snapshot.nodes
        known = replace(node.devices[0], used_bytes=22 * GIB, foreign_bytes=2 * GIB)
        then = replace(snapshot, nodes=(replace(node, seen_at=cluster.now - age_s, devices=(known,)),))
        assert books_of(desired, then).nodes[0].devices[0].room_bytes == pytest.approx(room_gib * GIB, abs=1)


# engines larger than a machine

WIDE = LaunchSpec(settings=(("pipeline_parallel_size", 2), ("tensor_parallel_size", 2)))


def four(**fields) -> Cluster:
    more = {"n2": (80.0, 80.0), "n3": (80.0, 80.0), "n4": (24.0, 24.0)}
    return Cluster(gpus=(80.0, 80.0), more=more, **fields).model("w", 70, device_count=4, launch=WIDE).model("b", 40)


def spans(*nodes: str) -> dict:
    return {"node": nodes[0], "further": tuple(Place(node=node, devices=(0, 1)) for node in nodes[1:])}


def test_it_takes_whole_equal_machines_and_those_that_are_free():
    answer = four().engine("b", 1).waits("w").plan()
    action = answer.actions["w"]
    assert action.places == (Place(node="n2", devices=(0, 1)), Place(node="n3", devices=(0, 1)))
    assert action.memory_bytes == 70 * GIB


def test_all_that_is_in_the_way_goes_and_it_starts_as_one():
    cluster = four(away={"n3": LOST}).model("c", 40).engine("b", 1).engine("c", 0, node="n2").waits("w")
    answers = cluster.settle()
    assert does(answers) == [{"b": "Sleep 1", "c": "Sleep 1"}, {"w": "Start"}, {}]
    assert answers[1].actions["w"].nodes == ("here", "n2")


def test_nobody_gets_a_part_of_what_is_collected_for_it():
    cluster = four(away={"n3": LOST}).busy("b", 0).model("c", 75).waits("w", since=60.0).waits("c", since=1.0)
    answer = cluster.plan()
    assert (answer.does, answer["w"].reason) == ({}, Reason.DRAINING_OTHERS)
    assert (answer["c"].reason, answer["c"].waits_for) == (Reason.ROOM_RESERVED, ("w",))


@pytest.mark.parametrize(
    ("tensor", "pipeline", "gpus", "nodes", "each"),
    [(4, 2, 4, 2, 4), (2, 4, 4, 2, 4), (8, None, 4, 2, 4), (4, 3, 8, 3, 4), (2, 3, 4, 3, 2), (16, 1, 4, 4, 4)],
)
def test_tensor_parallel_inside_a_machine_and_pipeline_across(
    tensor: int, pipeline: int | None, gpus: int, nodes: int, each: int
):
    """(4, 3) on machines of 8 would fit two, but with a tensor-parallel group on both."""
    said = (("pipeline_parallel_size", pipeline), ("tensor_parallel_size", tensor))
    launch = LaunchSpec(settings=tuple((name, value) for name, value in said if value is not None))
    more = dict.fromkeys(("n2", "n3", "n4"), (80.0,) * gpus)
    cluster = Cluster(gpus=(80.0,) * gpus, more=more)
    action = cluster.model("w", 70, device_count=tensor * (pipeline or 1), launch=launch).waits("w").plan().actions["w"]
    assert (len(action.places), {len(one.devices) for one in action.places}) == (nodes, {each})


def test_where_there_are_not_enough_equal_machines_it_is_refused_and_where_they_are_away_it_waits():
    large = LaunchSpec(settings=(("tensor_parallel_size", 8),))
    decision = four().model("x", 70, device_count=8, launch=large).waits("x").plan()["x"]
    assert (decision.reason, decision.refused) == (Reason.CANNOT_FIT, True)
    assert "on each of 4 equal machines" in decision.message
    awaited = four(away={"n3": LOST, "n2": LOST}).waits("w").plan()["w"]
    assert (awaited.reason, awaited.refused) == (Reason.NODE_AWAITED, False)


def test_unequal_machines_are_not_spanned_although_it_would_fit_them():
    cluster = four(away={"n3": LOST, "n2": LOST}).model("x", 10, device_count=4, launch=WIDE).waits("x")
    assert (cluster.plan().does, cluster.plan()["x"].reason) == ({}, Reason.NODE_AWAITED)


@pytest.mark.parametrize("gone", ["here", "n2"])
def test_when_a_part_of_it_is_lost_the_rest_ends_and_it_starts_elsewhere(gone: str):
    cluster = four(away={gone: LOST}).engine("w", 0, 1, unused=1.0, **spans("here", "n2")).waits("w")
    cluster.wants("w", in_flight=3)
    first, second, *_ = cluster.settle()
    left = "n2" if gone == "here" else "here"
    stop = first.actions["w"]
    assert (first["w"].reason, stop.places, stop.cut) == (Reason.NODE_LOST, (Place(node=left, devices=(0, 1)),), True)
    assert second.actions["w"].nodes == tuple(sorted((left, "n3"))) == tuple(sorted(second.actions["w"].nodes))


def test_it_is_stopped_as_one_and_never_put_to_sleep():
    cluster = four(away={"n3": LOST}).engine("w", 0, 1, **spans("here", "n2")).model("c", 70).waits("c")
    answer = cluster.plan()
    assert answer.does == {"w": "Stop"}
    assert answer.actions["w"].nodes == ("here", "n2")
    assert "it spans machines" in answer["w"].message


@pytest.mark.parametrize("victims", list(VictimPolicy))
def test_it_makes_room_also_when_nobody_knows_its_first_machine_any_more(victims: VictimPolicy):
    cluster = four(away={"here": LOST, "n3": LOST}, policy=Policy(victims=victims)).engine("b", node="n2", unused=9.0)
    cluster.engine("w", 0, 1, unused=1.0, **spans("gone", "n2")).model("c", 75).waits("c")
    assert cluster.plan().does["w"] == "Stop"


def test_one_operation_holds_all_of_its_machines():
    cluster = four(away={"n3": LOST}).engine("w", 0, 1, **spans("here", "n2")).operation(Verb.STOP, "w")
    answer = cluster.waits("b").plan()
    assert (answer.does, answer["b"].waits_for) == ({}, ("w",))


def test_it_is_rehearsed_to_the_end():
    desired, snapshot = four(away={"n3": LOST}).engine("b", 1).states()
    told = rehearse(desired, snapshot, snapshot.taken_at, ["w"])
    assert told.asked[0].outcome is Outcome.READY
    assert [step.kind.value for step in told.steps] == ["sleep", "start"]
    assert [place.node for place in told.steps[1].further] == ["n2"]
