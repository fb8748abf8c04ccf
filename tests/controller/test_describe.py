from dataclasses import replace

import pytest

from vllama.controller.card import Failures
from vllama.controller.condition import Condition
from vllama.controller.describe import Truth, demand_state, engine_state, gathered
from vllama.controller.events import Events
from vllama.controller.history import PhaseChange
from vllama.controller.transitions import Transitions
from vllama.domain.demand import Demand, WantStopped
from vllama.domain.desired import DesiredState
from vllama.domain.status import ModelStatus, Phase

STATUS = ModelStatus(model="org/a", phase=Phase.READY, reason="Idle", message="m", declared=True, devices=(0,))


def change(at: float, before: Phase | None, after: Phase) -> PhaseChange:
    return PhaseChange(at=at, model="org/a", before=before, after=after, reason="r", message="m")


CHANGES = [
    change(1.0, None, Phase.STARTING), change(2.0, Phase.STARTING, Phase.READY), change(3.0, Phase.READY, Phase.FAILED),
    change(4.0, Phase.FAILED, Phase.STOPPED), change(5.0, Phase.STOPPED, Phase.STARTING),
    change(6.0, Phase.STARTING, Phase.READY),
]  # fmt: skip


@pytest.mark.parametrize(
    ("known", "phase", "expected"),
    [
        (6, Phase.READY, {"Ready": ("True", 6.0), "Resident": ("True", 5.0), "Sound": ("True", 4.0)}),
        (5, Phase.STARTING, {"Ready": ("False", 3.0), "Resident": ("True", 5.0), "Sound": ("True", 4.0)}),
        (3, Phase.FAILED, {"Ready": ("False", 3.0), "Resident": ("True", 1.0), "Sound": ("False", 3.0)}),
        (0, Phase.STOPPED, {"Ready": ("False", None), "Resident": ("False", None), "Sound": ("True", None)}),
        (6, Phase.UNKNOWN, {"Ready": ("Unknown", 6.0), "Resident": ("True", 5.0), "Sound": ("Unknown", 4.0)}),
    ],
)
def test_conditions_and_since_when(known: int, phase: Phase, expected: dict) -> None:
    state = engine_state(replace(STATUS, phase=phase), CHANGES[:known], None)
    assert {each.type: (each.status.value, each.since) for each in state.conditions} == expected
    assert state.since == (CHANGES[known - 1].at if known and phase is CHANGES[known - 1].after else None)


def test_failures_in_a_row_are_why_it_is_not_sound() -> None:
    failures = Failures(count=3, last_at=9.0, cause="out of memory", retry_in_s=2.0)
    sound = engine_state(replace(STATUS, phase=Phase.STOPPED), [], failures).conditions[-1]
    assert (sound.status, sound.since, sound.message) == (Truth.FALSE, 9.0, "3x in a row, last: out of memory")


def test_the_demand_for_a_model_is_that_for_all_its_replicas() -> None:
    desired = DesiredState(
        generation=1, models={}, overrides={"org/a": WantStopped(at=1.0)},
        demand={
            "org/a": Demand(waiting=2, oldest_waiting_at=40.0), "org/a#2": Demand(waiting=1, oldest_waiting_at=30.0),
            "org/b": Demand(waiting=1, oldest_waiting_at=1.0),
        },
    )  # fmt: skip
    statuses = [replace(STATUS, waiting=2, in_flight=1), replace(STATUS, waiting=1, pinned=True)]
    state = demand_state(desired, statuses, "org/a", 50.0)
    assert (state.waiting, state.waits_s, state.in_flight, state.pinned, state.wish) == (3, 20.0, 1, True, "stop")
    assert demand_state(replace(desired, overrides={}), statuses, "org/c", 50.0).waits_s is None


def test_events_are_counted_and_gathered_by_reason() -> None:
    events = Events()
    for message in ("1", "2", "3"):
        events.record("Crashed", message, model="org/a", warning=True)
    events.record("Idle", "m", model="org/a#2")
    events.record("Crashed", "m", model="org/b", warning=True)
    assert [event.count for event in events] == [1, 2, 3, 1, 1]
    crashed, idle = gathered(events, "org/a")
    assert (crashed.message, crashed.count, crashed.first_at) == ("3", 3, next(iter(events)).at)
    assert (idle.model, idle.count) == ("org/a#2", 1)


def test_a_condition_is_dated_when_it_turns() -> None:
    clock = iter([1.0, 2.0, 3.0, 4.0])
    transitions = Transitions(wall=lambda: next(clock))
    good, bad = (Condition(type="T", ok=ok, reason="r", message="m") for ok in (True, False))
    assert [transitions.dated([each])[0].since for each in (good, good, bad, bad, good)] == [1.0, 1.0, 2.0, 2.0, 3.0]
