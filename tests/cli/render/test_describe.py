from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.answers import a_running, a_status
from tests.cli.golden import matches
from tests.cli.pages import AT, running_card
from vllama.cli.render.describe import render_description

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime.fromtimestamp(AT, UTC)


def at(ago_s: float) -> str:
    return datetime.fromtimestamp(AT - ago_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def condition(kind: str, status: str, why: str, message: str, since: str | None) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": why, "message": message, "lastTransitionTime": since}


def event(reason: str, message: str, *, count: int = 1, warning: bool = False) -> dict[str, Any]:
    return {
        "type": "Warning" if warning else "Normal", "reason": reason, "message": message, "count": count,
        "firstTimestamp": at(7200), "lastTimestamp": at(40),
    }  # fmt: skip


def page() -> dict[str, Any]:
    card = running_card()
    first = a_running("Qwen/Qwen3-8B", replica_of=None, since=at(300)) | {
        "conditions": [
            condition("Ready", "True", "Idle", "Unused for 9.0s; rests after 30m.", at(300)),
            condition("Resident", "True", "Resident", "On gpu0.", at(310)),
            condition("Sound", "True", "Sound", "It has not failed since it was last ready.", None),
        ]
    }
    second = a_status("Qwen/Qwen3-8B#2", reason="BackingOff", replica_of="Qwen/Qwen3-8B", since=None) | {
        "message": "Failed 2x in a row; next try in 12s. Last: ValueError: No available memory for the cache blocks.",
        "conditions": [condition("Ready", "False", "BackingOff", "Failed 2x in a row; next try in 12s.", at(40))],
    }
    return {
        "metadata": {"name": "Qwen/Qwen3-8B", "aliases": ["qwen", "chat"], "declared": True},
        "spec": {each["name"]: each["value"] for each in card["settings"]},
        "status": {
            "phase": "Ready", "reason": "Idle", "message": "m", "footprint": card["figures"], "log": card["log"],
            "failures": {"count": 2, "last_at": at(40), "cause": "ValueError: No available memory", "retry_in_s": 12.0},
            "demand": {"waiting": 3, "waits_s": 4.2, "in_flight": 1, "pinned": True, "wish": "start"},
            "engines": [first, second],
        },
        "events": [
            event("Crashed", "ValueError: No available memory for the cache blocks.", count=2, warning=True),
            event("Evicted", "Unused for 3m; sleeping at level 1 frees 15.1 GiB for org/other."),
        ],
    }  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_a_description_reads_as_its_golden_file(width: int) -> None:
    text = render_description(page(), now=NOW, width=width).plain
    assert matches(GOLDEN / f"describe_{width}.txt", text)
    assert max(len(line) for line in text.splitlines() if not line.startswith("Log:")) <= width


def test_a_narrow_terminal_has_prose_below() -> None:
    text = render_description(page(), now=NOW, width=50).plain
    assert "  Warning  Crashed  40s (x2 over 2h)\n      ValueError: No available memory" in text


def test_a_model_of_the_cache_that_nothing_happened_to() -> None:
    quiet = page() | {"events": []}
    quiet["metadata"]["declared"] = False
    text = render_description(quiet, now=NOW, width=None).plain
    assert text.endswith("Events:\n  <none>")
    assert "it is in the model cache" in text
