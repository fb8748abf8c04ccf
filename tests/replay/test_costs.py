import pytest

from vllama.domain.observed import Footprint
from vllama.domain.spec import SleepLevel
from vllama.domain.units import GIB
from vllama.replay.costs import Assumed, costs_of, costs_of_weights, with_weights

ONE, TWO = SleepLevel.WEIGHTS_OFFLOADED, SleepLevel.DISCARDED


def test_what_is_assumed_comes_from_the_weights():
    costs = costs_of_weights(20 * GIB)
    assert costs.load_s == 35 + 10
    assert costs.wake_s == {ONE: 1 + 1, TWO: 1 + 10}
    assert costs.sleep_s == {ONE: 1 + 1, TWO: 1}
    assert (costs.stop_s, costs.assumed) == (5, True)
    assert costs.footprint.awake_bytes == (20 + 20 + 2) * GIB


def test_each_device_moves_its_part():
    costs = costs_of_weights(40 * GIB, device_count=2)
    assert costs.wake_s[ONE] == 2
    assert costs.wake_s[TWO] == 21
    assert costs.footprint.awake_bytes == 42 * GIB


def test_what_was_measured_goes_before_what_is_assumed():
    known = Footprint(awake_bytes=8 * GIB, asleep_bytes=GIB, weights_bytes=4 * GIB, load_s=50.0, wake_s=0.4)
    costs = costs_of(known)
    assert (costs.load_s, costs.wake_s[ONE], costs.sleep_s[TWO], costs.assumed) == (50, 0.4, 1, True)
    assert not costs_of(Footprint(**{**_fields(known), "sleep_s": 0.3})).assumed


def test_other_machines_can_be_assumed():
    costs = costs_of_weights(20 * GIB, assumed=Assumed(start_s=10, reads_bytes_per_s=10 * GIB, stop_s=1))
    assert (costs.load_s, costs.wake_s[TWO], costs.stop_s) == (12, 3, 1)


def test_weights_that_nobody_knows():
    guessed = with_weights(Footprint(awake_bytes=10 * GIB, asleep_bytes=GIB, weights_bytes=0), 2)
    assert guessed.weights_bytes == pytest.approx(12 * GIB)
    assert with_weights(guessed, 2) is guessed


def _fields(footprint):
    return {name: getattr(footprint, name) for name in footprint.__dataclass_fields__}
