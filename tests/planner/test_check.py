"""The second opinion sees what is wrong: every rule has a plan that breaks it."""

from dataclasses import replace

import msgspec
import pytest

from tests.planner.cluster import NOW, Cluster
from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.demand import WantStopped
from vllama.domain.observed import Crashes, Loading, Unknown, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel
from vllama.domain.status import Phase
from vllama.domain.units import GIB
from vllama.planner import plan
from vllama.planner.check import FindingKind, check

ONE, TWO = SleepLevel.WEIGHTS_OFFLOADED, SleepLevel.DISCARDED


def start(model: str, *devices: int, gib: float = 3.5, spec_hash: str = "") -> Start:
    return Start(
        model=model, spec_hash=spec_hash, node="here", devices=devices or (0,), memory_bytes=int(gib * GIB),
        gpu_memory_utilization=0.4,
    )  # fmt: skip


def sleep(engine_id: str, *devices: int, level: SleepLevel = ONE) -> Sleep:
    model = engine_id.partition("-")[0]
    return Sleep(model=model, engine_id=engine_id, node="here", devices=devices or (0,), level=level)


def wake(engine_id: str, level: SleepLevel = ONE) -> Wake:
    model = engine_id.partition("-")[0]
    return Wake(model=model, engine_id=engine_id, node="here", devices=(0,), level=level)


def stop(engine_id: str, *, cut: bool = False) -> Stop:
    model = engine_id.partition("-")[0]
    return Stop(model=model, engine_id=engine_id, node="here", devices=(0,), cut=cut)


def findings(cluster: Cluster, *actions: Action, reason: Reason | None = None, **fields) -> set[FindingKind]:
    """Of the plan that is made of this cluster, with these actions in place of its own."""
    desired, snapshot = cluster.states()
    made = plan(desired, snapshot, NOW)
    acts = {action.model: action for action in actions}
    decisions = tuple(
        msgspec.structs.replace(d, action=acts.get(d.model), **(fields if d.model in acts else {}),
                reason=reason if reason and d.model in acts else d.reason)
        for d in made.decisions
    )  # fmt: skip
    return {finding.kind for finding in check(desired, snapshot, NOW, replace(made, decisions=decisions))}


def two_on_one_gpu() -> Cluster:
    return Cluster().model("a").model("b").engine("a").waits("b")


@pytest.mark.parametrize(
    ("cluster", "actions", "kind"),
    [
        (two_on_one_gpu(), (sleep("a-0"), start("b")), FindingKind.DEVICE_TAKEN_TWICE),
        (two_on_one_gpu().operation(Verb.SLEEP, "a"), (start("b"),), FindingKind.UNDER_CHANGE),
        (
            Cluster().model("a", 2.0).model("b").engine("a", state=Loading(progress_at=NOW)).waits("b"),
            (start("b"),),
            FindingKind.UNDER_CHANGE,
        ),
        (two_on_one_gpu(), (sleep("a-7"),), FindingKind.NO_SUCH_ENGINE),
        (two_on_one_gpu(), (sleep("a-0", 1),), FindingKind.NO_SUCH_ENGINE),
        (two_on_one_gpu(), (wake("a-0"),), FindingKind.WRONG_STATE),
        (Cluster().model("a").asleep("a", level=2).waits("a"), (wake("a-0"),), FindingKind.WRONG_STATE),
        (Cluster().model("a").asleep("a"), (sleep("a-0", level=TWO),), FindingKind.WRONG_STATE),
        (
            Cluster(sleep_frees_memory=False).model("a").engine("a"),
            (sleep("a-0"),),
            FindingKind.WRONG_STATE,
        ),
        (Cluster(unified=True).model("a").engine("a"), (sleep("a-0"),), FindingKind.WRONG_STATE),
        (Cluster().model("a").busy("a"), (sleep("a-0"),), FindingKind.CUTS_REQUESTS),
        (Cluster().model("a").busy("a"), (stop("a-0", cut=True),), FindingKind.CUTS_REQUESTS),
        (Cluster().model("a").engine("a"), (stop("a-0", cut=True),), FindingKind.CUTS_REQUESTS),
        (
            Cluster().model("a").busy("a").wants("a", admission_closed_at=NOW - 119).orders("a", WantStopped(at=0.0)),
            (stop("a-0", cut=True),),
            FindingKind.CUTS_REQUESTS,
        ),
        (
            Cluster().model("a").engine("a", state=Unknown(since=NOW - 59, error="")).wants("a", in_flight=1),
            (stop("a-0"),),
            FindingKind.CUTS_REQUESTS,
        ),
        (Cluster().model("a", pin=True).engine("a"), (sleep("a-0"),), FindingKind.PINNED_VICTIM),
        (Cluster().model("a").engine("a").waits("a"), (start("a"),), FindingKind.SECOND_START),
        (
            Cluster().model("a").engine("a", state=Unknown(since=NOW, error="")).waits("a"),
            (start("a"),),
            FindingKind.SECOND_START,
        ),
        (Cluster().model("a"), (start("a"),), FindingKind.NOBODY_ASKED),
        (Cluster().model("a").orders("a", WantStopped(at=NOW)).waits("a"), (start("a"),), FindingKind.NOBODY_ASKED),
        (Cluster().model("a", devices=(1,)).waits("a"), (start("a"),), FindingKind.WRONG_PLACE),
        (Cluster().model("a").waits("a"), (start("a", 4),), FindingKind.WRONG_PLACE),
        (Cluster((8.0, 8.0)).model("a").waits("a"), (start("a", 0, 1),), FindingKind.WRONG_PLACE),
        (Cluster().model("a").waits("a"), (start("a", gib=2.0),), FindingKind.WRONG_PLACE),
        (Cluster(unknown={0}).model("a").waits("a"), (start("a"),), FindingKind.UNKNOWN_MEMORY),
        (Cluster().model("a", 5.0).model("b").engine("a").waits("b"), (start("b"),), FindingKind.OVERCOMMITTED),
        (Cluster(foreign={0: 5.0}).model("a").waits("a"), (start("a"),), FindingKind.OVERCOMMITTED),
        (Cluster(reserve=5.0).model("a").waits("a"), (start("a"),), FindingKind.OVERCOMMITTED),
        (
            Cluster().model("a", 5.0).model("b", 5.0).asleep("a").engine("b").waits("a"),
            (wake("a-0"),),
            FindingKind.OVERCOMMITTED,
        ),
        (Cluster(host=2.0).model("a").engine("a"), (sleep("a-0"),), FindingKind.HOST_OVERCOMMITTED),
    ],
)
def test_it_finds(cluster, actions, kind):
    assert kind in findings(cluster, *actions)


@pytest.mark.parametrize("kept", ["asked", "half done", "awake"])
def test_it_finds_a_start_that_is_given_up_without_reason(kept):
    half_done = kept == "half done"
    cluster = Cluster().model("a", load_s=60.0).model("b", 2.0)
    cluster.engine("a", state=Loading(progress_at=NOW), unused=31.0 if half_done else 20.0)
    if kept == "asked":
        cluster.waits("a")
    if kept == "awake":
        cluster = Cluster().model("a").engine("a")
    assert FindingKind.ABANDONED_WRONGLY in findings(cluster, stop("a-0"), reason=Reason.ABANDONED)
    if half_done:
        cluster.load_s = {"a": 63.0}
        assert findings(cluster, stop("a-0"), reason=Reason.ABANDONED) == set()
        cluster.engines[0] = replace(cluster.engines[0], state=Loading(progress_at=NOW, part=0.5))
        cluster.load_s = {}
        assert findings(cluster, stop("a-0"), reason=Reason.ABANDONED) == {FindingKind.ABANDONED_WRONGLY}


def test_it_finds_a_start_in_the_pause_after_a_failure():
    cluster = Cluster().model("a").waits("a")
    cluster.crashes["a"] = Crashes(count=1, last_at=NOW - 9.0, cause="x")
    assert findings(cluster, start("a")) == {FindingKind.TOO_EARLY}


def test_it_finds_an_eviction_that_helps_nobody():
    assert FindingKind.EVICTED_IN_VAIN in findings(
        Cluster().model("a").engine("a"), sleep("a-0"), reason=Reason.EVICTED
    )


@pytest.mark.parametrize(("others_gib", "helps"), [(2.0, True), (3.0, False)])
def test_whether_an_eviction_helps_depends_on_what_others_hold(others_gib, helps):
    cluster = Cluster(foreign={0: others_gib}).model("a", 4.0).model("c", 6.0).engine("a").waits("c")
    desired, snapshot = cluster.states()
    made = plan(desired, snapshot, NOW)
    evicted, waits = (next(decision for decision in made.decisions if decision.model == name) for name in "ac")
    evicted = msgspec.structs.replace(evicted, action=stop("a-0"), reason=Reason.EVICTED, after=Phase.STOPPED)
    waits = msgspec.structs.replace(waits, action=None, reason=Reason.MAKING_ROOM, waits_for=("a",))
    found = check(desired, snapshot, NOW, replace(made, decisions=(evicted, waits)))
    assert {finding.kind for finding in found} == (set() if helps else {FindingKind.EVICTED_IN_VAIN})


def test_it_finds_a_drain_past_its_deadline():
    cluster = Cluster().model("a").busy("a").wants("a", admission_closed_at=NOW - 120)
    desired, snapshot = cluster.states()
    made = plan(desired, snapshot, NOW)
    closed = replace(made, decisions=(msgspec.structs.replace(made.decisions[0], drain=True, after=Phase.DRAINING),))
    assert {finding.kind for finding in check(desired, snapshot, NOW, closed)} == {FindingKind.DRAINS_TOO_LONG}


def test_it_finds_a_model_without_a_decision_and_a_look_again_in_the_past():
    desired, snapshot = Cluster().model("a").states()
    made = replace(plan(desired, snapshot, NOW), decisions=(), requeue_after_s=0.0)
    kinds = {finding.kind for finding in check(desired, snapshot, NOW, made)}
    assert kinds == {FindingKind.NOT_ONE_DECISION, FindingKind.BAD_REQUEUE}


def test_it_finds_a_refusal_without_numbers():
    desired, snapshot = Cluster().model("a", 99.0).waits("a").states()
    made = plan(desired, snapshot, NOW)
    mute = replace(made, decisions=(msgspec.structs.replace(made.decisions[0], message="It does not fit."),))
    assert {finding.kind for finding in check(desired, snapshot, NOW, mute)} == {FindingKind.NO_NUMBERS}
