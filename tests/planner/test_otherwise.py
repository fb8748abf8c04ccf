"""What would change a decision does: it is the planner's own answer."""

from dataclasses import replace

from hypothesis import given, settings

from tests.planner.cluster import NOW, Cluster
from tests.strategies import any_state
from vllama.domain.demand import WantStopped
from vllama.domain.observed import Crashes, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import OnConflict
from vllama.planner import plan
from vllama.planner.evidence import agree
from vllama.planner.otherwise import Otherwise, otherwise


def told(cluster: Cluster, model: str) -> dict[str, Otherwise]:
    return {each.change.value: each for each in otherwise(*cluster.states(), NOW, model)}


def two(**devices) -> Cluster:
    return Cluster(**devices).model("a", 6.0).model("b", 5.0)


def test_a_busy_victim() -> None:
    found = told(two().busy("a").waits("b"), "b")
    assert found["RequestsEnd"].if_ == "the requests of a ended"
    assert found["RequestsEnd"].then.reason is Reason.MAKING_ROOM
    assert found["TimePasses"].if_ == "nothing else happened for 29s (FairnessBound of b)"
    assert found["TimePasses"].then.reason is Reason.DRAINING_OTHERS
    assert found["NeedsLess"].if_ == "it needed no more than 2.0 GiB"
    assert found["NeedsLess"].then.reason is Reason.DEMANDED
    assert found.keys() == {"RequestsEnd", "TimePasses", "NeedsLess"}


def test_a_pinned_one_in_the_way() -> None:
    cluster = two()
    cluster.models["a"] = replace(cluster.models["a"], pin=True)
    found = told(cluster.engine("a").waits("b"), "b")
    assert found["Unpinned"].if_ == "a were not pinned"
    assert found["Unpinned"].then.reason is Reason.MAKING_ROOM


def test_other_programs() -> None:
    found = told(two(foreign={0: 5.0}).waits("b"), "b")
    assert found["OthersLeave"].if_ == "other programs gave back the 5.0 GiB that they hold of gpu0"
    assert found["OthersLeave"].then.reason is Reason.DEMANDED


def test_a_pause_after_a_failure() -> None:
    cluster = two().waits("b")
    cluster.crashes["b"] = Crashes(count=1, last_at=NOW - 4.0, cause="c")
    found = told(cluster, "b")
    assert found["PauseEnds"].if_ == "its pause ended, which it does in 6.0s"
    assert found["PauseEnds"].then.reason is Reason.DEMANDED


def test_what_an_operator_said() -> None:
    found = told(two().waits("a", since=9.0).orders("a", WantStopped(at=NOW - 5.0)), "a")
    assert found["HoldLifted"].then.reason is Reason.DEMANDED


def test_who_came_first() -> None:
    found = told(two().busy("a").model("c", 4.0).waits("c", since=9.0).waits("b"), "b")
    assert found["WaitersLeave"].if_ == "nobody waited for c"
    assert found["WaitersLeave"].then.reason is Reason.NO_IDLE_VICTIM


def test_an_operation_under_way() -> None:
    found = told(two().engine("a").operation(Verb.STOP, "a").waits("b"), "b")
    assert found["OperationsEnd"].if_ == "what is under way at a had ended"
    assert found["OperationsEnd"].then.reason is Reason.DEMANDED


def test_who_is_refused_rather_than_to_displace() -> None:
    cluster = two().engine("a").waits("b")
    cluster.models["b"] = replace(cluster.models["b"], on_conflict=OnConflict.REFUSE)
    assert told(cluster, "b")["MayDisplace"].then.reason is Reason.MAKING_ROOM


def test_a_call() -> None:
    assert told(two(), "b")["Called"].then.reason is Reason.DEMANDED
    assert "Called" not in told(two().waits("b"), "b")


def test_nothing_helps_who_can_never_fit_but_to_need_less() -> None:
    assert told(Cluster().model("x", 99.0).waits("x"), "x").keys() == {"NeedsLess"}
    assert otherwise(*Cluster().states(), NOW, "stranger") == ()


@settings(max_examples=40)
@given(any_state())
def test_only_what_changes_the_decision_is_told(state) -> None:
    desired, snapshot = state.desired, state.snapshot
    for decision in plan(desired, snapshot, state.now).decisions[:3]:
        for each in otherwise(desired, snapshot, state.now, decision.model):
            assert each.then.model == decision.model
            assert not agree(decision, each.then)
