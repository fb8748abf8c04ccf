"""The line at the door: who is let in when, counted to the last byte."""

import asyncio

import pytest

from vllama.controller.board import Board
from vllama.controller.demand import Endpoint, Failure, WaitFailed

HERE = Endpoint(engine_id="e1", host="127.0.0.1", port=1, served_name="m")
GONE = Failure(status=503, code="engine_failed", message="it failed")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Rung:
    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1


def build():
    clock, bell = Clock(), Rung()
    return Board(clock=clock, bell=bell), clock, bell


async def queue(board, count, model="m", *, max_queue=1000, timeout_s=60):
    tasks = [
        asyncio.create_task(board.wait_until_ready(model, max_queue=max_queue, timeout_s=timeout_s))
        for _ in range(count)
    ]  # fmt: skip
    await asyncio.sleep(0)
    return tasks


def test_the_first_waiter_rings_and_the_others_do_not():
    async def run():
        board, _clock, bell = build()
        tasks = await queue(board, 3)
        assert bell.times == 1
        demand = board.demand()["m"]
        assert (demand.waiting, demand.oldest_waiting_at, demand.in_flight) == (3, 100.0, 0)
        for task in tasks:
            task.cancel()

    asyncio.run(run())


def test_opening_puts_everybody_in_flight_in_the_same_step():
    async def run():
        board, clock, _ = build()
        tasks = await queue(board, 3)
        clock.now = 107.0
        board.open("m", HERE)
        demand = board.demand()["m"]
        assert (demand.waiting, demand.in_flight) == (0, 3)
        grants = await asyncio.gather(*tasks)
        assert {grant.waited_s for grant in grants} == {7.0}

    asyncio.run(run())


def test_a_model_with_something_in_flight_does_not_close():
    async def run():
        board, _, _ = build()
        board.open("m", HERE)
        grant = board.admit("m")
        assert not board.close("m")
        grant.release()
        grant.release()  # twice is once
        assert board.demand()["m"].in_flight == 0
        assert board.close("m")
        assert board.admit("m") is None

    asyncio.run(run())


def test_a_drain_lets_those_in_flight_end_and_queues_the_others():
    async def run():
        board, clock, _ = build()
        board.open("m", HERE)
        grant = board.admit("m")
        board.drain("m")
        (late,) = await queue(board, 1)
        assert board.demand()["m"].admission_closed_at == 100.0
        clock.now = 103.0
        board.open("m", HERE)
        assert (await late).endpoint == HERE
        assert board.demand()["m"].drain_ended_at == 103.0
        grant.release()

    asyncio.run(run())


def test_max_concurrency_queues_the_rest_and_a_release_lets_the_next_in():
    async def run():
        board, _, _ = build()
        board.open("m", HERE, max_concurrency=2)
        tasks = await queue(board, 3)
        assert board.demand()["m"].in_flight == 2
        assert board.admit("m") is None
        (await tasks[0]).release()
        assert (await tasks[2]).endpoint == HERE
        assert board.demand()["m"].in_flight == 2

    asyncio.run(run())


def test_whoever_waits_behind_others_is_not_overtaken_by_an_arrival():
    async def run():
        board, _, _ = build()
        board.open("m", HERE, max_concurrency=1)
        first = board.admit("m")
        (waiter,) = await queue(board, 1)
        first.release()
        assert board.admit("m") is None  # the place went to the waiter in the step of the release
        (await waiter).release()
        assert board.admit("m") is not None

    asyncio.run(run())


@pytest.mark.parametrize("when", ["waiting", "granted"])
def test_a_client_that_leaves_takes_nothing_with_it(when):
    async def run():
        board, _, _ = build()
        (task,) = await queue(board, 1)
        if when == "granted":
            board.open("m", HERE)  # granted, and cancelled before it could know
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        demand = board.demand()["m"]
        assert (demand.waiting, demand.in_flight) == (0, 0)

    asyncio.run(run())


def test_a_thousand_waiters_are_all_served_or_all_told():
    async def run():
        board, _, _ = build()
        tasks = await queue(board, 1000)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks[::2], return_exceptions=True)
        board.fail_waiters("m", GONE)
        outcomes = await asyncio.gather(*tasks[1::2], return_exceptions=True)
        assert len(outcomes) == 500
        assert all(isinstance(outcome, WaitFailed) and outcome.failure is GONE for outcome in outcomes)

    asyncio.run(run())


def test_a_full_queue_and_a_passed_deadline_are_told_apart():
    async def run():
        board, _, _ = build()
        (patient,) = await queue(board, 1, max_queue=1)
        with pytest.raises(WaitFailed) as full:
            await board.wait_until_ready("m", max_queue=1, timeout_s=60)
        assert (full.value.failure.status, full.value.failure.code) == (429, "queue_full")
        patient.cancel()
        with pytest.raises(WaitFailed) as late:
            await board.wait_until_ready("other", max_queue=1, timeout_s=0)
        assert (late.value.failure.status, late.value.failure.code) == (503, "queue_timeout")
        assert board.demand()["other"].waiting == 0

    asyncio.run(run())


def test_after_the_end_nobody_is_served():
    async def run():
        board, _, _ = build()
        (task,) = await queue(board, 1)
        board.shut(GONE)
        with pytest.raises(WaitFailed):
            await task
        with pytest.raises(WaitFailed):
            await board.wait_until_ready("m", max_queue=1, timeout_s=60)

    asyncio.run(run())


def test_the_last_byte_rings_only_where_somebody_waits_for_it():
    async def run():
        board, _, bell = build()
        board.open("m", HERE)
        board.admit("m").release()
        assert bell.times == 0
        board.ring_when_idle = True
        board.admit("m").release()
        assert bell.times == 1

    asyncio.run(run())


def test_the_times_of_the_latest_requests_are_told_of_those_at_once_and_of_those_that_waited():
    async def run():
        board, clock, _ = build()
        [waiting] = await queue(board, 1)
        assert board.demand_of("m").asked == ()
        clock.now = 110.0
        board.open("m", HERE)
        (await waiting).release()
        assert board.demand_of("m").asked == (110.0,)
        for at in (120.0, 130.0, 140.0, 150.0):
            clock.now = at
            board.admit("m").release()
        assert board.demand_of("m").asked == (120.0, 130.0, 140.0, 150.0)

    asyncio.run(run())


def test_a_request_of_a_further_replica_is_one_of_its_model():
    async def run():
        board, clock, _ = build()
        board.open("m", HERE)
        board.open("m#2", Endpoint(engine_id="e2", host="127.0.0.1", port=2, served_name="m"), replica_of="m")
        clock.now = 110.0
        assert {board.admit("m").endpoint.engine_id for _ in range(2)} == {"e1", "e2"}
        assert (board.demand_of("m").asked, board.demand_of("m#2").asked) == ((110.0, 110.0), ())

    asyncio.run(run())
