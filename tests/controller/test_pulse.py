"""How late the event loop is, by its own beat."""

from dataclasses import dataclass

from vllama.controller.events import Events
from vllama.controller.pulse import BLOCKED_AFTER_S, REMEMBERED, Pulse


@dataclass
class Hand:
    """Of a clock, moved by the test; and the passes of a loop."""

    now: float = 100.0
    passes: int = 0


def pulse_of(hand: Hand, events: Events) -> Pulse:
    pulse = Pulse(passes=lambda: hand.passes, events=events, clock=lambda: hand.now)
    pulse.beat_at = hand.now
    return pulse


def beat(pulse: Pulse, hand: Hand, *, after_s: float) -> None:
    due = hand.now + 0.5
    hand.now += after_s
    pulse.beat(due)


def test_a_standstill_shows_for_a_minute_and_is_told_once() -> None:
    hand, events = Hand(), Events()
    pulse = pulse_of(hand, events)
    beat(pulse, hand, after_s=0.5)
    assert pulse.condition().ok
    beat(pulse, hand, after_s=0.5 + BLOCKED_AFTER_S)
    assert pulse.lag_s == BLOCKED_AFTER_S
    assert not pulse.condition().ok
    assert [event.reason for event in events] == ["LoopBlocked"]
    for _ in range(REMEMBERED):
        beat(pulse, hand, after_s=0.5)
    assert pulse.condition().ok
    assert (pulse.blocked, len(list(events))) == (1, 1)
    assert (pulse.lags.counts[0], pulse.lags.count, pulse.lags.sum) == (REMEMBERED + 1, REMEMBERED + 2, BLOCKED_AFTER_S)


def test_the_age_of_the_last_pass_is_seen_from_outside_the_loop() -> None:
    hand = Hand()
    pulse = pulse_of(hand, Events())
    for _ in range(10):
        hand.passes += 1
        beat(pulse, hand, after_s=0.5)
    assert pulse.pass_age_s == 0.0
    for _ in range(10):
        beat(pulse, hand, after_s=0.5)
    assert pulse.pass_age_s == 5.0


def test_who_does_not_beat_says_nothing() -> None:
    pulse = Pulse(passes=lambda: 0, events=Events(), clock=lambda: 1.0)
    assert pulse.condition() is None
    assert pulse.silent_s == 0.0
