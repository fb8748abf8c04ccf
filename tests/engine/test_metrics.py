import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.engine.metrics import NoLevel, sleep_level_of


def metrics(engine: str = "0", **states: float) -> str:
    return "# TYPE vllm:engine_sleep_state gauge\n" + "".join(
        f'vllm:engine_sleep_state{{engine="{engine}",model_name="a}}b",sleep_state="{state}"}} {value}\n'
        for state, value in states.items()
    )


@pytest.mark.parametrize(
    ("states", "level"),
    [
        ({"awake": 1.0, "weights_offloaded": 0.0, "discard_all": 0.0}, None),
        ({"awake": 0.0, "weights_offloaded": 1.0, "discard_all": 0.0}, 1),
        ({"awake": 0.0, "weights_offloaded": 0.0, "discard_all": 1.0}, 2),
        ({"awake": 0.0, "weights_offloaded": 0.0, "discard_all": 0.0}, NoLevel.PAUSED),
        ({"awake": 1.0, "weights_offloaded": 1.0}, NoLevel.UNTOLD),
        ({"hibernating": 1.0}, NoLevel.UNTOLD),
        ({}, NoLevel.UNTOLD),
    ],
)
def test_the_level_is_the_state_that_is_1(states: dict[str, float], level: object) -> None:
    assert sleep_level_of(metrics(**states)) == level


def test_engines_that_disagree_tell_nothing() -> None:
    assert sleep_level_of(metrics("0", awake=1.0) + metrics("1", discard_all=1.0)) is NoLevel.UNTOLD


def test_other_families_are_not_taken_for_it() -> None:
    other = (
        'vllm:engine_sleep_state_created{sleep_state="awake"} 1.0\nnot vllm:engine_sleep_state{sleep_state="awake"} 1\n'
    )
    assert sleep_level_of(other) is NoLevel.UNTOLD


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    sleep_level_of(text)
