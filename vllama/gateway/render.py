"""Plans and statuses as JSON: plain dicts and lists, the same for the admin API and the command line."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from vllama.controller.history.records import action_record
from vllama.domain.decision import Decision, Plan
from vllama.domain.status import ModelStatus


def plan_json(plan: Plan) -> dict[str, Any]:
    """`snapshot_at` is of the monotonic clock, `requeue_after_s` is null where time alone changes nothing."""
    return {
        "generation": plan.generation,
        "snapshot_at": plan.snapshot_at,
        "requeue_after_s": plan.requeue_after_s,
        "decisions": [decision_json(decision) for decision in plan.decisions],
    }


def status_json(status: ModelStatus) -> dict[str, Any]:
    """The fields of ModelStatus; `last_used` and `started` as ISO 8601 in UTC, or null for never. `further` only of an
    engine that spans nodes.
    """
    plain = _plain(status)
    del plain["further"]
    if status.further:
        plain["further"] = [{"node": place.node, "devices": list(place.devices)} for place in status.further]
    times = {"last_used": status.last_used, "started": status.started}
    return plain | {name: None if time is None else iso(time) for name, time in times.items()}


def iso(seconds: float) -> str:
    """Seconds of the wall clock as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def decision_json(decision: Decision) -> dict[str, Any]:
    return {
        "model": decision.model,
        "action": None if decision.action is None else action_record(decision.action),
        "reason": decision.reason.value,
        "message": decision.message,
        "before": decision.before.value,
        "after": decision.after.value,
        "waits_for": list(decision.waits_for),
        "drain": decision.drain,
        "refused": decision.refused,
    }


def _plain(record: ModelStatus) -> dict[str, Any]:
    """Its fields, enums as their values; tuples as lists, so that a comparison with what was read back holds."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
