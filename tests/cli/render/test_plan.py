from pathlib import Path
from typing import Any

import pytest

from tests.cli.answers import EVERY_KIND, IN_THE_END, MAKE_ROOM, THEN_START, a_decision, a_plan, an_action
from tests.cli.golden import matches
from vllama.cli.render.plan import kind_of, render_plan, render_settled

GOLDEN = Path(__file__).parent / "golden"
MANY = a_plan(
    *(a_decision(f"cached/{n:02}", "NotWanted", "Not running, and nobody asks for it.") for n in range(12)),
    a_decision("org/b", "Idle", "Unused for 9.0s; rests after 30m.", "Ready"),
)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    ("name", "plan"), [("make_room", MAKE_ROOM), ("every_kind", EVERY_KIND), ("many", MANY), ("empty", a_plan())]
)
def test_a_plan_reads_as_its_golden_file(name: str, plan: dict[str, Any], width: int) -> None:
    assert matches(GOLDEN / f"plan_{name}_{width}.txt", render_plan(plan, width=width).plain)


@pytest.mark.parametrize("width", [80, 120])
def test_a_settled_plan_reads_as_its_golden_file(width: int) -> None:
    text = render_settled([MAKE_ROOM, THEN_START, IN_THE_END], width=width).plain
    assert matches(GOLDEN / f"settled_{width}.txt", text)


def test_without_a_terminal_nothing_is_wrapped() -> None:
    assert matches(GOLDEN / "plan_every_kind_unlimited.txt", render_plan(EVERY_KIND).plain)


def test_a_log_line_in_a_message_brings_no_colour_and_no_line_break() -> None:
    last = (
        "No available memory for the cache blocks. Try increasing gpu_memory_utilization when initializing the engine."
    )
    assert (
        f"      BackingOff: Failed 3x in a row; next try in 12s. Last: ValueError: {last}\n"
        in render_plan(EVERY_KIND).plain
    )


def test_nothing_to_settle_shows_what_is() -> None:
    text = render_settled([IN_THE_END]).plain
    assert text.startswith("Now\n")
    assert text.endswith(
        "Plan: 0 steps: 0 to start, 0 to sleep, 0 to wake, 0 to stop; 0 waiting, 1 refused, 3 unchanged."
    )


def test_plans_that_end_in_an_action_end_where_that_leads() -> None:
    end = render_settled([MAKE_ROOM, THEN_START]).plain.split("Then\n")[1]
    assert "    org/c  Ready\n" in end
    assert "Stopped -> Ready" not in end


def test_all_shows_every_unchanged_model() -> None:
    assert "more unchanged" not in render_plan(MANY, show_all=True).plain
    assert all(f"cached/{n:02}" in render_plan(MANY, show_all=True).plain for n in range(12))


def test_models_that_nobody_wants_are_summarised_before_those_that_run() -> None:
    text = render_plan(MANY).plain
    assert "org/b" in text
    assert "and 3 more unchanged; --all shows them" in text


@pytest.mark.parametrize("plan", [MAKE_ROOM, EVERY_KIND, MANY])
def test_no_line_is_wider_than_the_terminal_or_ends_in_blanks(plan: dict[str, Any]) -> None:
    for width in (72, 80, 100, 120):
        for line in render_plan(plan, width=width).plain.splitlines():
            assert len(line) <= width
            assert line == line.rstrip()


def test_colour_changes_nothing_but_the_colour() -> None:
    text = render_plan(MAKE_ROOM, width=80)
    assert {str(span.style) for span in text.spans} >= {"yellow", "red", "green", "blue", "cyan"}
    assert "\x1b" not in text.plain


@pytest.mark.parametrize(
    ("over", "kind"),
    [
        ({}, "unchanged"),
        ({"reason": "Idle", "waits_for": ["org/x"]}, "waiting"),
        ({"reason": "BackingOff"}, "waiting"),
        ({"reason": "DrainedForWaiter", "drain": True, "after": "Draining"}, "waiting"),
        ({"refused": True, "waits_for": ["org/x"]}, "refused"),
        ({"action": {"verb": "wake", "devices": [0]}, "waits_for": ["org/x"]}, "wake"),
    ],
)
def test_the_kind_of_a_decision(over: dict[str, Any], kind: str) -> None:
    assert kind_of({**a_decision("org/a", "NotWanted", ""), **over}) == kind


def test_where_there_are_several_machines_each_device_is_said_with_its_own() -> None:
    further = [{"node": "there", "devices": [2]}]
    spans = a_decision("org/b", "Demanded", "m", action=an_action("start", 0, 1, further=further))
    plan = a_plan(a_decision("org/a", "Demanded", "m", after="Ready", action=an_action("wake", 0, level=1)), spans)
    text = render_plan(plan, several_nodes=True).plain
    assert "gpu0 of here, from level 1" in text
    assert "gpu0, gpu1 of here and gpu2 of there" in text
    assert "gpu0 of here, from level 1" in render_settled([plan], several_nodes=True).plain
    alone = render_plan(plan).plain
    assert "  gpu0, from level 1" in alone
    assert "gpu0, gpu1 of here and gpu2 of there" in alone  # what spans machines is only to be said with them
