"""The real controller in made-up worlds: a hundred thousand events here, any number with `make simulate-long`."""

from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.profiles import PROFILES
from tests.simulation.run import simulate
from vllama.controller.bell import Bell
from vllama.controller.board import Board
from vllama.controller.history.codec import evidence_json
from vllama.controller.loop import Loop
from vllama.controller.probe import Probe
from vllama.domain.desired import DesiredState
from vllama.domain.observed import NodeState, Snapshot
from vllama.planner.evidence import Evidence
from vllama.planner.view import View

EVENTS = 7_200  # of one world; there are 18 of them
FEWER = {"nodes": 2_400}  # where an event costs more: everybody is asked often, over a network

# a manager that dies leaves coroutines behind that had not begun
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_world_lives_without_a_violation_and_comes_to_rest(profile: str, seed: int) -> None:
    events = FEWER.get(profile, EVENTS)
    report = simulate(seed, events=events, profile=profile, explain_every=20)
    assert report.violation is None, str(report)
    assert report.events >= events


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "many"])  # that one takes too long for it
def test_every_wait_and_every_eviction_is_explained_by_numbers_that_lead_to_it_again(profile: str) -> None:
    report = simulate(5, events=500, profile=profile)
    assert report.violation is None, str(report)
    assert sum(report.explained.values()) > 30, report.explained
    waits = {"MakingRoom", "NoIdleVictim", "RoomReserved", "DeviceBusy", "DrainingOthers", "BackingOff"}
    assert report.explained.keys() & waits, report.explained
    assert report.explained.keys() & {"Evicted", "DrainedForWaiter"}, report.explained


def test_the_same_seed_tells_the_same_story_and_another_seed_another_one() -> None:
    first, again, other = (simulate(seed, events=800, profile="faulty", explain_every=20).digest for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_bells_only_make_things_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bell, "ring", lambda self: None)
    report = simulate(1, events=1500, profile="calm", explain_every=20)
    assert report.violation is None, str(report)


# Bugs planted in the controller and the planner: each must be found, and by the checker that is there for it.


def _found(profile: str, *, events: int = 3000) -> str:
    for seed in range(1, 6):
        report = simulate(seed, events=events, profile=profile)
        if report.violation is not None:
            return report.violation.kind
    return "nothing"


def test_engines_put_aside_while_they_serve_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def close(self: Board, model: str, *, cut: bool = False) -> bool:
        self._line(model).open = False
        return True

    def desired(self: Loop) -> DesiredState:
        seen = whole(self)
        return replace(seen, demand={model: replace(demand, in_flight=0) for model, demand in seen.demand.items()})

    whole = Loop.desired
    monkeypatch.setattr(Board, "close", close)
    monkeypatch.setattr(Loop, "desired", desired)
    assert _found("calm") in {"slept while busy", "cut", "not alone"}


def test_two_operations_on_a_device_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(View, "holders", lambda *_, **__: ())
    assert _found("tight") == "plan rejected"
    monkeypatch.setattr("vllama.controller.loop.check", lambda *_: ())
    assert _found("tight") in {"two operations on a device", "two engines of one model", "oversubscribed"}


def test_a_lost_machine_that_is_planned_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(self: Loop, now: float) -> Snapshot:
        seen = snapshot(self, now)
        return replace(seen, nodes=tuple(replace(node, state=NodeState.READY) for node in seen.nodes))

    snapshot = Loop.snapshot
    monkeypatch.setattr(Loop, "snapshot", blind)
    assert _found("nodes", events=1500) in {"asked of a lost node", "unknown memory"}


def test_memory_given_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllama.planner.ledger.Ledger.charge_after_operation", lambda *_: 0)
    assert _found("many") == "plan rejected"
    monkeypatch.setattr("vllama.controller.loop.check", lambda *_: ())
    assert _found("many") == "oversubscribed"


def test_a_request_that_is_never_released_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllama.controller.demand.Grant.release", lambda self: None)
    assert _found("calm") == "counts differ"


def test_waiters_that_nobody_tells_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Board, "fail_waiters", lambda *_: None)
    assert _found("tight") in {"starved", "no convergence"}


def test_an_engine_that_is_never_given_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probe, "_no_answer", lambda *_: None)
    assert _found("faulty") == "no convergence"


def test_evidence_that_leaves_out_what_matters_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_who_runs(desired: DesiredState, snapshot: Snapshot, models: set[str]) -> set[str]:
        return models | {engine.model for engine in snapshot.engines}

    monkeypatch.setattr("vllama.planner.evidence._of_influence", of_who_runs)
    assert _found("tight") == "explained wrongly"


def test_evidence_that_does_not_come_through_json_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(evidence: Evidence) -> dict[str, Any]:
        said = evidence_json(evidence)
        said["desired"].pop("demand", None)
        return said

    monkeypatch.setattr("vllama.controller.history.evidence.evidence_json", forgetful)
    assert _found("tight") == "explained wrongly"


def test_a_loop_that_dies_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "_pass", lambda *_: {}["no such key"])
    assert _found("calm") == "a task died"


def test_a_loop_whose_passes_all_fail_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "_say", lambda *_: {}["no such key"])
    assert _found("calm") == "starved"
