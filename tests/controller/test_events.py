"""Events are kept within bounds."""

from vllama.controller.events import KEPT, LONGEST_CHARS, Events


def test_the_latest_are_kept_and_none_is_longer_than_anybody_reads():
    events = Events()
    for number in range(KEPT + 10):
        events.record("Noted", f"{number}")
    events.record("Shouted", "x" * (LONGEST_CHARS + 1))
    kept = list(events)
    assert len(kept) == KEPT
    assert kept[-1].number == KEPT + 11
    assert len(kept[-1].message) == LONGEST_CHARS
    assert kept[-1].message.endswith("x...")
