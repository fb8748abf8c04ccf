"""One model's page."""

from tests.planner.cluster import NOW, Cluster
from vllama.controller.card import LATELY, failures, lately, levels, running
from vllama.controller.events import Events
from vllama.controller.profiles import Profile
from vllama.domain.observed import Crashes


def verdicts(cluster: Cluster, model: str = "a", profile: Profile | None = None) -> dict[int, str | None]:
    desired, snapshot = cluster.states()
    engine = next(engine for engine in snapshot.engines if engine.model == model)
    found = levels(desired, snapshot, model, profile or Profile(), engine)
    return {verdict.level: verdict.why_not for verdict in found}


def test_level_1_is_possible_and_level_2_only_where_something_says_that_it_comes_back_right():
    told = verdicts(Cluster().model("a").engine("a"))
    assert told[1] is None
    assert "only where it is asked for" in told[2]


def test_what_was_tried_and_failed_says_how():
    profile = Profile(refused_levels=(1, 2), why_refused={1: "it slept and still holds 9.0 GiB of 10.0 GiB"})
    told = verdicts(Cluster().model("a").engine("a"), profile=profile)
    assert told[1] == "it slept and still holds 9.0 GiB of 10.0 GiB"
    assert "when it was tried" in told[2]


def test_a_host_without_room_for_the_copy_is_told_with_the_sum():
    told = verdicts(Cluster(host=1.0).model("a", weights=4.0).engine("a"))
    assert told[1] == "its copy takes 6.0 GiB of host memory, where 1.0 GiB is left"


def test_without_sleep_mode_there_is_no_level():
    told = verdicts(Cluster().model("a", sleep_mode=False).engine("a"))
    assert told == {1: "it runs without sleep mode", 2: "it runs without sleep mode"}


def test_failures_tell_when_it_is_tried_again():
    crashes = Crashes(count=2, last_at=NOW - 5, cause="oom")
    told = failures(crashes, NOW, wall_minus_clock=1000.0)
    assert (told.count, told.last_at, told.retry_in_s) == (2, NOW + 995, 15.0)
    assert failures(crashes, NOW + 60, wall_minus_clock=0.0).retry_in_s is None
    assert failures(None, NOW, wall_minus_clock=0.0) is None


def test_lately_is_of_this_model_and_not_for_ever():
    events = Events()
    for number in range(LATELY + 3):
        events.record("Idle", str(number), model="a")
        events.record("Idle", "other", model="b")
    told = lately(events, "a")
    assert [event.message for event in told] == [str(number) for number in range(3, LATELY + 3)]


def test_an_engine_with_other_settings_is_not_current():
    engine = Cluster().model("a").engine("a").engines[0]
    assert running(engine, engine.spec_hash, wall_minus_clock=0.0).current
    assert not running(engine, "other", wall_minus_clock=0.0).current
    assert running(None, "other", wall_minus_clock=0.0) is None
