"""One line for all of a model's engines: who gets the next request, and what each counts."""

import asyncio
from dataclasses import replace

import pytest

from tests.controller.test_board import HERE, build, queue
from vllama.controller.demand import Found, WaitFailed
from vllama.controller.wishes import Wishes
from vllama.domain.decision import Plan
from vllama.domain.demand import KeepAlive, WantReady
from vllama.domain.observed import Awake, EngineObservation
from vllama.domain.replicas import expanded
from vllama.domain.spec import ModelSpec
from vllama.domain.status import ModelStatus, Phase, one_per_model

THERE = replace(HERE, engine_id="e2", port=2)


def both(**kwargs):
    board, clock, bell = build()
    board.open("m", HERE, **kwargs)
    board.open("m#2", THERE, replica_of="m", **kwargs)
    return board, clock, bell


def flying(board):
    return {name: demand.in_flight for name, demand in board.demand().items()}


def test_the_least_loaded_gets_the_next_request():
    board, _, _ = both()
    grants = [board.admit("m") for _ in range(64)]
    assert flying(board) == {"m": 32, "m#2": 32}
    for grant in grants:
        if grant.endpoint is THERE:
            grant.release()
    assert [board.admit("m").endpoint for _ in range(3)] == [THERE] * 3
    assert board.engine_of("m#2") == "e2"


def test_who_waits_waits_for_any_of_them():
    async def run():
        board, _, _ = both(max_concurrency=1)
        tasks = await queue(board, 4)
        assert flying(board) == {"m": 1, "m#2": 1}
        assert board.demand()["m"].waiting == 2
        assert board.demand()["m#2"].waiting == 0
        first, second = await tasks[0], await tasks[1]
        second.release()
        third = await tasks[2]
        assert (third.endpoint, third.found) == (THERE, Found.QUEUED)
        first.release()
        assert (await tasks[3]).endpoint == HERE

    asyncio.run(run())


def test_the_second_alone_serves_them_all():
    async def run():
        board, _, _ = build()
        tasks = await queue(board, 2)
        board.open("m#2", THERE, replica_of="m", woken=True)
        assert {(await task).found for task in tasks} == {Found.WOKEN}
        assert flying(board) == {"m": 0, "m#2": 2}
        assert board.is_open("m")
        assert not board.close("m#2")

    asyncio.run(run())


def test_one_that_closes_leaves_the_other_open_and_what_was_said_of_the_model_stands():
    board, _, _ = both()
    board.admit("m", KeepAlive(idle_s=5.0)).release()
    assert board.close("m")
    assert board.admit("m").endpoint is THERE
    assert board.demand()["m"].keep_alive == KeepAlive(idle_s=5.0)
    assert board.close("m#2", cut=True)
    assert board.demand()["m"].keep_alive is None
    assert board.admit("m") is None


def test_a_drain_of_one_sends_arrivals_to_the_other():
    board, _, _ = both()
    board.drain("m")
    assert board.admit("m").endpoint is THERE
    assert board.demand()["m"].admission_closed_at == 100.0
    assert board.demand()["m#2"].admission_closed_at is None


def test_one_that_lost_a_connection_is_not_the_least_loaded_for_a_while():
    board, clock, _ = both()
    lost = board.admit("m")
    held = [board.admit("m") for _ in range(2)]
    board.doubt(lost)
    again = board.again("m", lost, ("e1",))
    lost.release()
    assert again.endpoint is THERE
    assert board.admit("m").endpoint is THERE
    assert board.again("m", again, ("e1", "e2")) is None
    clock.now += 60
    assert board.admit("m").endpoint is HERE
    assert held


def test_a_model_with_one_engine_has_nobody_else_to_ask():
    board, _, _ = build()
    board.open("m", HERE)
    grant = board.admit("m")
    board.doubt(grant)
    assert board.again("m", grant, ("e1",)) is None
    assert board.admit("m").endpoint is HERE


def test_what_one_engine_made_is_asked_of_that_one():
    async def run():
        board, _, _ = both()
        assert board.admit("m", engine_id="e2").endpoint is THERE
        board.pause("m#2")
        assert board.admit("m", engine_id="e2") is None
        with pytest.raises(WaitFailed) as failed:
            await board.wait_until_ready("m", max_queue=1, timeout_s=1, engine_id="e2")
        assert failed.value.failure.code == "engine_away"

    asyncio.run(run())


def test_a_start_is_fulfilled_by_any_of_them():
    board, _, _ = build()
    wishes = Wishes(board)
    wishes.wish("m", WantReady(at=90.0))
    models = expanded([ModelSpec(model="m", replicas=2)])
    engine = EngineObservation(
        engine_id="e2", model="m#2", spec_hash=models["m#2"].spec_hash, node="here", devices=(0,), memory_bytes=1,
        state=Awake(ready_at=99.0), started_at=91.0,
    )  # fmt: skip
    wishes.review({"m#2": engine}, models, Plan(generation=1, snapshot_at=0.0, decisions=()))
    assert wishes.overrides == {}
    assert board.demand()["m"].last_used_at == 99.0


def test_all_replicas_have_one_hash_and_one_name_for_clients():
    models = expanded([ModelSpec(model="org/a", aliases=("a",), auto_start=True, replicas=3)])
    assert list(models) == ["org/a", "org/a#2", "org/a#3"]
    assert len({spec.spec_hash for spec in models.values()}) == 1
    assert {spec.served_name for spec in models.values()} == {"org/a"}
    assert [(spec.aliases, spec.auto_start) for spec in models.values()] == [(("a",), True), ((), False), ((), False)]
    assert models["org/a"].spec_hash == ModelSpec(model="org/a").spec_hash


def test_a_model_is_as_far_up_as_the_best_of_its_engines():
    def row(model, phase, **more):
        return ModelStatus(model=model, phase=phase, reason="", message="", declared=True, **more)

    rows = [
        row("a", Phase.STOPPED, aliases=("x",), in_flight=0, waiting=2),
        row("a#2", Phase.READY, replica=2, replica_of="a", in_flight=3, port=7, last_used=5.0),
        row("b", Phase.ASLEEP),
    ]
    first, second = one_per_model(rows)
    assert (first.model, first.phase, first.port, first.in_flight, first.waiting) == ("a", Phase.READY, 7, 3, 2)
    assert (first.aliases, first.replica_of, first.last_used) == (("x",), None, 5.0)
    assert second == rows[2]
