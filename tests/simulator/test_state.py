from hypothesis import given
from hypothesis import strategies as st

from vllama.simulator.state import SLEEP_TAGS, SleepState, fall_asleep, reload_weights, tags_to_wake, wake

STATES = st.builds(SleepState, sleeping_tags=st.frozensets(st.sampled_from(sorted(SLEEP_TAGS))), paused=st.booleans())
TAGS = st.none() | st.lists(st.sampled_from(["weights", "kv_cache", "scheduling", "bogus"]), min_size=1)
LEVELS = st.integers(0, 2)


@given(STATES, LEVELS)
def test_who_falls_asleep_sleeps(state: SleepState, level: int) -> None:
    asleep = fall_asleep(state, level)
    assert asleep.is_sleeping
    assert asleep.sleeping_tags >= state.sleeping_tags
    if level:
        assert asleep.awake_share == 0 or state.sleeping_tags == {"weights"}


@given(STATES, LEVELS)
def test_a_second_sleep_does_not_change_the_level(state: SleepState, level: int) -> None:
    asleep = fall_asleep(state, 1)
    assert fall_asleep(asleep, level) == asleep


@given(STATES, LEVELS)
def test_waking_without_tags_wakes_everything(state: SleepState, level: int) -> None:
    awake = wake(fall_asleep(state, level), None)
    assert not awake.is_sleeping
    assert awake.awake_share == 1


@given(STATES, TAGS)
def test_waking_never_puts_to_sleep_and_wakes_only_what_was_asked(state: SleepState, tags: list[str] | None) -> None:
    after = wake(state, tags)
    assert after.sleeping_tags == state.sleeping_tags - tags_to_wake(state, tags)
    assert not (after.paused and not state.paused)
    if after.sleeping_tags:
        assert after.paused == state.paused


@given(STATES)
def test_a_tag_that_does_not_sleep_wakes_nothing(state: SleepState) -> None:
    assert tags_to_wake(state, ["weights", "bogus"]) == frozenset()


def test_level_2_is_garbage_until_the_weights_are_reloaded() -> None:
    awake = wake(fall_asleep(SleepState(), 2), None)
    assert awake.answers_garbage
    assert not reload_weights(awake).answers_garbage
    assert not wake(fall_asleep(SleepState(), 1), None).answers_garbage


def test_level_0_wakes_with_scheduling() -> None:
    assert not wake(fall_asleep(SleepState(), 0), ["scheduling"]).is_sleeping


def test_memory_comes_back_in_parts() -> None:
    asleep = fall_asleep(SleepState(), 1)
    assert 0 < wake(asleep, ["kv_cache"]).awake_share < wake(asleep, ["weights"]).awake_share < 1
