"""How long steps take: measured, else assumed, else unknown."""

import pytest

from vllama.domain.action import Sleep, Start, Stop, Wake
from vllama.domain.observed import Footprint, Operation, Verb
from vllama.domain.spec import SleepLevel
from vllama.domain.units import GIB
from vllama.planner.timing import CHANGE_S, START_S, STOP_S, UNKNOWN, Span, latest, left_of, left_of_load, takes

PLACE = {"model": "a", "node": "here", "devices": (0, 1)}
ENGINE = {**PLACE, "engine_id": "e"}
START = Start(**PLACE, spec_hash="x", memory_bytes=1, gpu_memory_utilization=0.1)
NEVER_RAN = Footprint(awake_bytes=60 * GIB, asleep_bytes=GIB, weights_bytes=40 * GIB)
MEASURED = Footprint(
    awake_bytes=60 * GIB, asleep_bytes=GIB, weights_bytes=40 * GIB, load_s=48.0, sleep_s=3.0, wake_s=0.5
)


def assumed(seconds: float) -> Span:
    return Span(seconds=seconds, assumed=True)


@pytest.mark.parametrize(
    ("action", "guess", "measured"),
    [
        (START, START_S + 20.0, 48.0),
        (Sleep(**ENGINE, level=SleepLevel.WEIGHTS_OFFLOADED), CHANGE_S + 1.0, 3.0),  # 20 GiB to each of two GPUs
        (Sleep(**ENGINE, level=SleepLevel.DISCARDED), CHANGE_S, 3.0),
        (Wake(**ENGINE, level=SleepLevel.WEIGHTS_OFFLOADED), CHANGE_S + 1.0, 0.5),
        (Wake(**ENGINE, level=SleepLevel.DISCARDED), CHANGE_S + 20.0, 0.5),
    ],
)
def test_a_step_takes_what_it_took_last_else_what_is_typical(action, guess, measured):
    assert takes(action, NEVER_RAN) == assumed(guess)
    assert takes(action, MEASURED) == Span(seconds=measured)


def test_a_stop_is_never_measured():
    assert takes(Stop(**ENGINE), MEASURED) == assumed(STOP_S)


def test_of_what_nothing_is_known_of_nothing_is_told():
    not_there_yet = Footprint(awake_bytes=GIB, asleep_bytes=GIB, weights_bytes=0)
    assert takes(START, not_there_yet) == UNKNOWN
    for action in (START, Sleep(**ENGINE, level=SleepLevel(1)), Wake(**ENGINE, level=SleepLevel(2))):
        assert takes(action, None) == UNKNOWN


@pytest.mark.parametrize(
    ("verb", "level", "whole"),
    [
        (Verb.START, None, Span(seconds=48.0)),
        (Verb.SLEEP, SleepLevel.DISCARDED, Span(seconds=3.0)),
        (Verb.WAKE, None, Span(seconds=0.5)),
        (Verb.STOP, None, assumed(STOP_S)),
    ],
)
def test_what_is_left_of_an_operation(verb, level, whole):
    operation = Operation(**ENGINE, verb=verb, started_at=100.0, memory_bytes=1, level=level)
    left = left_of(operation, MEASURED, 100.25)
    assert left == Span(seconds=whole.seconds - 0.25, assumed=whole.assumed)
    late = left_of(operation, MEASURED, 1000.0)
    assert late == Span(assumed=whole.assumed, unknown=True)


def test_what_is_left_of_a_load():
    assert left_of_load(90.0, MEASURED, 100.0) == Span(seconds=38.0)


def test_spans_add_up_and_the_latest_of_several_knows_what_it_does_not():
    assert assumed(2.0).then(Span(seconds=1.0)) == assumed(3.0)
    assert Span(seconds=1.0).then(UNKNOWN) == Span(seconds=1.0, unknown=True)
    assert latest([Span(seconds=5.0), assumed(1.0), UNKNOWN]) == Span(seconds=5.0, assumed=True, unknown=True)
    assert latest([]) == Span()
