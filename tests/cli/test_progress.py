"""A real HTTP server plays what a model goes through; the clock that judges staleness is the test's."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.answers import a_running, a_status
from tests.cli.scripted import ScriptedServer
from vllama.cli.client import AdminClient
from vllama.cli.progress import Wish, doing, follow

ROOM = a_status(reason="MakingRoom", message="org/b make room; then it starts on gpu0.")
STARTS = a_running("org/a", "Starting", reason="Starting", message="Its engine is being started.")
READY = a_running("org/a", "Ready", reason="Serving", message="Ready; asked for by an operator.")
GOES_DOWN = a_running("org/a", "Stopping", reason="Draining", message="The stop began 0.1s ago.")
ASLEEP = a_running("org/a", "Asleep", reason="HeldByOperator", message="Asleep at level 1.", sleep_level=1)
STOPPED = a_status(reason="HeldByOperator", message="Stopped by an operator.")
CANNOT = a_status(reason="CannotFit", message="Needs 30.0 GiB; gpu0 has 24.0 GiB.")
QUIET = a_status()


def play(
    server: ScriptedServer,
    verb: str,
    first: dict[str, Any],
    *then: dict[str, Any],
    timeout_s: float | None = None,
    second: float = 0.1,
) -> tuple[str, str | None, list[tuple[str, str]]]:
    """The last phase, the problem if any, and what was told. Each look at the clock is `second` later."""
    server.statuses = [[a_running("org/other"), status] for status in then] or [[first]]
    told: list[tuple[str, str]] = []
    ticks = itertools.count()
    with AdminClient(server.url) as client:
        status, problem = follow(
            client, Wish(verb=verb, model="a"), first,
            tell=lambda _, now: told.append((now["phase"], now["reason"])),
            timeout_s=timeout_s, poll_s=0.0, clock=lambda: next(ticks) * second,
        )  # fmt: skip
    return status["phase"], problem, told


def test_a_start_is_told_change_by_change_until_ready(server: ScriptedServer) -> None:
    phase, problem, told = play(server, "start", QUIET, ROOM, ROOM, ROOM, STARTS, STARTS, READY)
    assert (phase, problem) == ("Ready", None)
    assert told == [
        ("Stopped", "NotWanted"), ("Stopped", "MakingRoom"), ("Starting", "Starting"), ("Ready", "Serving"),
    ]  # fmt: skip


def test_a_new_message_alone_is_a_change(server: ScriptedServer) -> None:
    loading = {**STARTS, "message": "Loading since 12s; 1 request waits."}
    _, _, told = play(server, "start", STARTS, loading, READY)
    assert [phase for phase, _ in told] == ["Starting", "Starting", "Ready"]


@pytest.mark.parametrize(
    ("verb", "status"), [("start", READY), ("stop", STOPPED), ("sleep", ASLEEP), ("sleep", STOPPED)]
)
def test_what_is_so_already_ends_at_once(server: ScriptedServer, verb: str, status: dict[str, Any]) -> None:
    _, problem, _ = play(server, verb, status)
    assert problem is None
    assert server.requests == []


@pytest.mark.parametrize(("verb", "end"), [("stop", STOPPED), ("sleep", ASLEEP), ("sleep", STOPPED)])
def test_going_down(server: ScriptedServer, verb: str, end: dict[str, Any]) -> None:
    phase, problem, told = play(server, verb, READY, READY, GOES_DOWN, end)
    assert (phase, problem) == (end["phase"], None)
    assert len(told) == 3


@pytest.mark.parametrize("reason", ["CannotFit", "NoSuchDevice", "WouldEvict", "BackingOff"])
def test_what_can_never_be_is_an_error_with_its_reason(server: ScriptedServer, reason: str) -> None:
    _, problem, _ = play(server, "start", QUIET, ROOM, {**CANNOT, "reason": reason})
    assert problem == f"org/a cannot start: {reason}: Needs 30.0 GiB; gpu0 has 24.0 GiB."


def test_a_failed_engine_is_an_error_with_its_cause(server: ScriptedServer) -> None:
    failed = a_running("org/a", "Failed", reason="EngineExited", message="Ended unasked (code 1): out of memory")
    _, problem, _ = play(server, "start", QUIET, STARTS, failed)
    assert problem == "org/a cannot start: EngineExited: Ended unasked (code 1): out of memory"


def test_a_verdict_from_before_the_request_is_not_believed_at_once(server: ScriptedServer) -> None:
    phase, problem, _ = play(server, "start", CANNOT, CANNOT, CANNOT, STARTS, READY)
    assert (phase, problem) == ("Ready", None)


def test_a_verdict_that_stands_is_believed(server: ScriptedServer) -> None:
    _, problem, _ = play(server, "start", CANNOT, CANNOT, second=0.5)
    assert problem is not None
    assert "CannotFit" in problem


def test_a_failure_that_came_and_went_between_two_looks_is_an_end_too(server: ScriptedServer) -> None:
    _, problem, _ = play(server, "start", ROOM, STARTS, QUIET)
    assert problem is not None
    assert problem.startswith("org/a is Stopped, the start was given up: NotWanted: Not running")


def test_a_stop_while_it_starts_ends_the_start(server: ScriptedServer) -> None:
    _, problem, _ = play(server, "start", QUIET, STARTS, STOPPED)
    assert problem is not None
    assert "given up: HeldByOperator" in problem


@pytest.mark.parametrize("verb", ["stop", "sleep"])
def test_newer_demand_ends_the_watch_of_a_stop(server: ScriptedServer, verb: str) -> None:
    _, problem, _ = play(server, verb, READY, GOES_DOWN, STARTS)
    assert problem == "org/a is wanted again: Starting: Its engine is being started."


def test_a_model_that_loads_can_be_stopped(server: ScriptedServer) -> None:
    assert play(server, "stop", STARTS, STARTS, GOES_DOWN, STOPPED)[1] is None


def test_a_model_that_vanishes_is_said(server: ScriptedServer) -> None:
    server.statuses = [[STARTS], [a_running("org/other")]]
    with AdminClient(server.url) as client:
        wish = Wish(verb="start", model="a")
        _, problem = follow(client, wish, QUIET, tell=lambda *_: None, poll_s=0.0)
    assert problem == "org/a is no longer in models.yaml or the model cache."


def test_the_timeout_says_how_far_it_came(server: ScriptedServer) -> None:
    phase, problem, _ = play(server, "start", ROOM, STARTS, timeout_s=5, second=0.4)
    assert phase == "Starting"
    assert problem is not None
    assert problem.startswith("org/a is Starting after 5.2s: Starting: Its engine is being started.\n")


def test_a_new_stage_is_a_change_and_every_look_is_seen(server: ScriptedServer) -> None:
    weights, graphs = ({**STARTS, "stage": stage, "ready_in_s": 12.0} for stage in ("loading weights", "compiling"))
    server.statuses = [[weights], [weights], [graphs], [READY]]
    told: list[str] = []
    seen: list[str] = []
    with AdminClient(server.url) as client:
        follow(
            client, Wish(verb="start", model="a"), STARTS, tell=lambda _, now: told.append(str(now.get("stage"))),
            glance=lambda elapsed, now: seen.append(doing(now, elapsed_s=elapsed)), poll_s=0.0,
        )  # fmt: skip
    assert told == ["None", "loading weights", "compiling", "None"]
    assert len(seen) == 5
    assert seen[0].startswith("org/a: Starting, 0s")
    assert seen[3].startswith("org/a: Starting, compiling, ")
    assert seen[3].endswith(", about 12s left")


def test_a_line_says_the_stage_and_how_long_it_takes_still(
    vllama: Callable[..., Result], server: ScriptedServer
) -> None:
    weights = {**STARTS, "stage": "loading weights", "ready_in_s": 12.0}
    server.asked = 202, STARTS
    server.statuses = [[weights], [READY]]
    lines = vllama("start", "a", "--server", server.url).stdout.splitlines()
    assert lines[1].endswith("Starting: Its engine is being started. [loading weights, about 12s left]")
