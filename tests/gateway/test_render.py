import json

import pytest

from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.decision import Decision, Plan
from vllama.domain.observed import Place
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel
from vllama.domain.status import ModelStatus, Phase
from vllama.gateway.render import plan_json, status_json

PLACE = {"model": "a", "engine_id": "e1", "node": "n", "devices": [0, 1]}
START = {"model": "a", "spec_hash": "0123", "node": "n", "devices": [0, 1], "memory_bytes": 9, "kv_cache_bytes": None}


def decision(action: Action | None) -> Decision:
    return Decision(
        model="a",
        reason=Reason.DEMANDED,
        message="why",
        before=Phase.STOPPED,
        after=Phase.STARTING,
        action=action,
        waits_for=("b", "c"),
    )


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (None, None),
        (
            Start(model="a", spec_hash="0123", node="n", devices=(0, 1), memory_bytes=9, gpu_memory_utilization=0.5),
            {"verb": "start", "gpu_memory_utilization": 0.5, **START},
        ),
        (
            Sleep(model="a", engine_id="e1", node="n", devices=(0, 1), level=SleepLevel.DISCARDED),
            {"verb": "sleep", "level": 2, **PLACE},
        ),
        (
            Wake(model="a", engine_id="e1", node="n", devices=(0, 1), level=SleepLevel.WEIGHTS_OFFLOADED),
            {"verb": "wake", "level": 1, **PLACE},
        ),
        (Stop(model="a", engine_id="e1", node="n", devices=(0, 1), cut=True), {"verb": "stop", "cut": True, **PLACE}),
    ],
)
def test_a_plan_survives_json_as_it_is(action: Action | None, expected: object) -> None:
    plan = Plan(generation=3, snapshot_at=1.5, decisions=(decision(action),), requeue_after_s=None)
    rendered = plan_json(plan)
    assert rendered == json.loads(json.dumps(rendered))
    assert rendered == {
        "generation": 3,
        "snapshot_at": 1.5,
        "requeue_after_s": None,
        "decisions": [
            {
                "model": "a",
                "action": expected,
                "reason": "Demanded",
                "message": "why",
                "before": "Stopped",
                "after": "Starting",
                "waits_for": ["b", "c"],
                "drain": False,
                "refused": False,
            }
        ],
    }


@pytest.mark.parametrize(
    ("used", "shown"), [(None, None), (0.0, "1970-01-01T00:00:00Z"), (1.75e9, "2025-06-15T15:06:40Z")]
)
def test_a_status_survives_json_as_it_is(used: float | None, shown: str | None) -> None:
    status = ModelStatus(
        model="a", phase=Phase.READY, reason="Idle", message="m", declared=True, devices=(0,), last_used=used
    )
    rendered = status_json(status)
    assert rendered == json.loads(json.dumps(rendered))
    assert rendered["last_used"] == shown
    assert (rendered["phase"], rendered["devices"], rendered["aliases"]) == ("Ready", [0], [])
    assert set(rendered) == set(ModelStatus.__dataclass_fields__) - {"further"}


def test_a_status_names_all_places_of_an_engine_that_spans_nodes() -> None:
    status = ModelStatus(
        model="a", phase=Phase.READY, reason="Idle", message="m", declared=True, node="n", devices=(0,),
        further=(Place(node="o", devices=(1, 2)),),
    )  # fmt: skip
    rendered = status_json(status)
    assert rendered == json.loads(json.dumps(rendered))
    assert rendered["further"] == [{"node": "o", "devices": [1, 2]}]
