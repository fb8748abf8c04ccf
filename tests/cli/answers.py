"""What the admin API answers, made by hand."""

from typing import Any

GIB = 1 << 30


def a_status(model: str = "org/a", phase: str = "Stopped", **over: Any) -> dict[str, Any]:
    status = {
        "model": model, "phase": phase, "reason": "NotWanted", "message": "Not running, and nobody asks for it.",
        "declared": True, "aliases": [], "node": None, "devices": [], "pid": None, "port": None, "sleep_level": None,
        "memory_bytes": None, "in_flight": 0, "waiting": 0, "last_used": None, "pinned": False,
    }  # fmt: skip
    return {**status, **over}


def a_running(model: str, phase: str = "Ready", **over: Any) -> dict[str, Any]:
    running = {
        "reason": "Idle", "message": "Unused for 9.0s; rests after 30m.", "node": "here", "devices": [0],
        "pid": 41234, "port": 33301, "memory_bytes": 3 * GIB, "last_used": "2025-11-03T11:59:51+00:00",
    }  # fmt: skip
    return a_status(model, phase, **{**running, **over})


def a_decision(model: str, reason: str, message: str, before: str = "Stopped", **over: Any) -> dict[str, Any]:
    decision = {
        "model": model, "action": None, "reason": reason, "message": message, "before": before, "after": before,
        "waits_for": [], "drain": False, "refused": False,
    }  # fmt: skip
    return {**decision, **over}


def an_action(verb: str, *devices: int, **over: Any) -> dict[str, Any]:
    return {"verb": verb, "node": "here", "devices": list(devices), **over}


def a_plan(*decisions: dict[str, Any]) -> dict[str, Any]:
    return {"generation": 3, "snapshot_at": 1200.0, "requeue_after_s": 12.5, "decisions": list(decisions)}


def an_answer(*models: dict[str, Any], conditions: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"version": "0.1.0", "conditions": list(conditions), "models": list(models)}


MAKE_ROOM = a_plan(
    a_decision(
        "org/a", "Evicted", "Unused for 3m; sleeping at level 1 frees 3.1 GiB for org/c.", "Ready",
        after="Asleep", action=an_action("sleep", 0, level=1),
    ),
    a_decision("org/b", "Idle", "Unused for 9.0s; rests after 30m.", "Ready"),
    a_decision(
        "org/c", "MakingRoom", "org/a make room; then it starts on gpu0 with 12.0 GiB each; 2 requests wait.",
        waits_for=["org/a"],
    ),
    a_decision("org/d", "CannotFit", "Needs 30.0 GiB; gpu0 has 24.0 GiB.", refused=True),
)  # fmt: skip

THEN_START = a_plan(
    a_decision("org/a", "Sleeping", "Asleep at level 1, unused for 3m.", "Asleep"),
    a_decision("org/b", "Idle", "Unused for 9.0s; rests after 30m.", "Ready"),
    a_decision(
        "org/c", "Demanded", "Starts on gpu0 with 12.0 GiB each; 2 requests wait.",
        after="Ready", action=an_action("start", 0),
    ),
    a_decision("org/d", "CannotFit", "Needs 30.0 GiB; gpu0 has 24.0 GiB.", refused=True),
)  # fmt: skip

IN_THE_END = a_plan(
    a_decision("org/a", "Sleeping", "Asleep at level 1, unused for 3m.", "Asleep"),
    a_decision("org/b", "Idle", "Unused for 9.0s; rests after 30m.", "Ready"),
    a_decision("org/c", "Idle", "Unused for 0.0s; rests after 30m.", "Ready"),
    a_decision("org/d", "CannotFit", "Needs 30.0 GiB; gpu0 has 24.0 GiB.", refused=True),
)

EVERY_KIND = a_plan(
    a_decision(
        "mistralai/Mistral-Small-3.2-24B-Instruct-2506-AWQ", "Demanded",
        "Wakes on gpu0, gpu1 with 11.2 GiB more each; 3 requests wait, the oldest since 4.0s.", "Asleep",
        after="Ready", action=an_action("wake", 0, 1, level=2),
    ),
    a_decision(
        "org/backs-off", "BackingOff",
        "Failed 3x in a row; next try in 12s. Last: ValueError: No available memory for the cache blocks.\n"
        "\x1b[31mTry increasing gpu_memory_utilization\x1b[0m when initializing the engine.",
    ),
    a_decision(
        "org/gone", "Removed", "It is in neither models.yaml nor the model cache.", "Ready",
        after="Stopped", action=an_action("stop", 3, cut=True),
    ),
    a_decision("org/goes-down", "GoingDown", "The sleep began 0.4s ago.", "Draining", waits_for=["org/goes-down"]),
    a_decision(
        "org/queue", "NoIdleVictim", "org/backs-off, org/serves have requests in flight; waits since 3.0s.",
        waits_for=["mistralai/Mistral-Small-3.2-24B-Instruct-2506-AWQ", "org/a-rather-long-name-of-a-model"],
    ),
    a_decision("org/serves", "Serving", "3 in flight.", "Ready"),
)  # fmt: skip
