"""What waiting costs and who is told what: places kept, bytes counted, estimates, and how a model was found."""

import asyncio

import pytest

from vllama.controller.board import Board
from vllama.controller.demand import Endpoint, Failure, Found, WaitFailed
from vllama.domain.demand import KeepAlive
from vllama.planner.outlook import Doing, Outlook

HERE = Endpoint(engine_id="e1", host="127.0.0.1", port=1, served_name="m")
GONE = Failure(status=503, code="engine_failed", message="it failed")


class House:
    """A board whose clock stands still until it is moved, and whose models take `ready_in_s` to be ready."""

    def __init__(self, *, ready_in_s=40.0, refused=False):
        self.now, self.rung = 100.0, 0
        self.outlook = Outlook(doing=Doing.LOADING, ready_in_s=ready_in_s, why="It loads.", refused=refused)
        self.board = Board(clock=lambda: self.now, bell=self.ring, ready_in=lambda _: self.outlook)

    def ring(self):
        self.rung += 1

    def wait(self, *, max_queue=1000, timeout_s=60.0, **said):
        return self.board.wait_until_ready("m", max_queue=max_queue, timeout_s=timeout_s, **said)

    async def queue(self, count, **said):
        tasks = [asyncio.create_task(self.wait(**said)) for _ in range(count)]
        await asyncio.sleep(0)
        return tasks

    async def refusal(self, **said):
        with pytest.raises(WaitFailed) as failed:
            await self.wait(**said)
        return failed.value.failure

    @property
    def demand(self):
        return self.board.demand_of("m")


def test_who_cannot_wait_so_long_is_told_so_at_once_with_the_time_it_takes():
    async def run():
        here = House()
        failure = await here.refusal(max_wait_s=39.0)
        assert (failure.status, failure.code, failure.retry_after_s) == (503, "max_wait", 40.0)
        assert "at most 39 s. It takes about 40 s more. It loads." in failure.message

    asyncio.run(run())


def test_who_is_told_to_come_back_is_stood_in_for_so_that_the_model_is_there_then():
    async def run():
        here = House()
        await here.refusal(max_wait_s=5.0)
        await here.refusal(max_wait_s=5.0)
        assert (here.demand.waiting, here.rung) == (1, 1)
        here.board.open("m", HERE)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (here.demand.waiting, here.demand.in_flight) == (0, 0)
        assert here.demand.last_used_at == 100.0
        assert here.board.admit("m") is not None

    asyncio.run(run())


def test_a_place_is_kept_for_a_while_only_and_given_up_with_the_rest():
    async def run():
        here = House(ready_in_s=0.01)
        here.board.outlook("m")
        await here.refusal(max_wait_s=0.0)
        assert here.demand.waiting == 1
        here.board.fail_waiters("m", GONE)
        await asyncio.sleep(0)
        assert here.demand.waiting == 0
        await here.refusal(max_wait_s=0.0)
        stand_in = here.board._lines["m"].stand_in
        stand_in.granted.cancel()  # what the timer does
        await asyncio.sleep(0)
        assert (here.demand.waiting, here.demand.left_at) == (0, 100.0)

    asyncio.run(run())


def test_a_place_that_is_kept_takes_none_from_the_queue():
    async def run():
        here = House()
        await here.refusal(max_wait_s=5.0)
        (patient,) = await here.queue(1, max_queue=1)
        failure = await here.refusal(max_queue=1)
        assert (failure.code, failure.retry_after_s) == ("queue_full", 40.0)
        assert failure.message.startswith("1 requests already wait")
        patient.cancel()

    asyncio.run(run())


def test_what_can_never_be_is_not_said_to_take_long():
    """It waits, and the next pass says why it is in vain."""

    async def run():
        here = House(refused=True)
        (task,) = await here.queue(1, max_wait_s=0.0)
        assert here.demand.waiting == 1
        here.board.fail_waiters("m", GONE)
        with pytest.raises(WaitFailed):
            await task

    asyncio.run(run())


def test_who_waits_as_long_as_it_said_is_told_how_long_it_takes_still():
    async def run():
        here = House(ready_in_s=0.01)
        failure = await here.refusal(max_wait_s=0.02)
        assert failure.code == "max_wait"
        assert here.demand.waiting == 1
        late = await here.refusal(timeout_s=0.0)
        assert (late.code, late.retry_after_s) == ("queue_timeout", 0.01)
        here.board.fail_waiters("m", GONE)

    asyncio.run(run())


def test_behind_a_limit_the_wait_is_worked_out_from_how_long_requests_take():
    async def run():
        here = House()
        here.board.open("m", HERE, max_concurrency=2)
        for seconds in (4.0, 4.0):
            grant = here.board.admit("m")
            here.now += seconds
            grant.release()
        grants = [here.board.admit("m") for _ in range(2)]
        assert here.board.outlook("m") == Outlook(doing=Doing.QUEUEING, ready_in_s=4.0)
        tasks = await here.queue(2)
        assert here.board.outlook("m").ready_in_s == 8.0
        failure = await here.refusal(max_wait_s=7.0)
        assert failure.retry_after_s == 8.0
        assert here.demand.waiting == 2  # it is up: nobody needs to be stood in for
        for grant in grants:
            grant.release()
        for task in tasks:
            (await task).release()

    asyncio.run(run())


def test_how_a_request_found_its_model():
    async def run():
        here = House()
        (first,) = await here.queue(1)
        here.now = 107.0
        here.board.open("m", HERE, max_concurrency=1)
        started = await first
        assert (started.found, started.waited_s) == (Found.STARTED, 7.0)
        (second,) = await here.queue(1)
        started.release()
        queued = await second
        assert queued.found is Found.QUEUED
        queued.release()
        hit = here.board.admit("m")
        assert (hit.found, hit.waited_s) == (Found.HIT, 0.0)
        hit.release()
        assert here.board.close("m")
        (third,) = await here.queue(1)
        here.board.open("m", HERE, woken=True)
        assert (await third).found is Found.WOKEN

    asyncio.run(run())


def test_a_door_that_opens_again_after_a_drain_or_a_pause_is_no_start():
    async def run():
        here = House()
        here.board.open("m", HERE)
        for shut in (here.board.drain, here.board.pause):
            here.now += 1.0
            shut("m")
            (task,) = await here.queue(1)
            here.board.open("m", HERE)
            grant = await task
            assert grant.found is Found.QUEUED
            grant.release()

    asyncio.run(run())


def test_the_bytes_of_those_who_wait_are_counted_and_given_back_on_every_path():
    async def run():
        here = House()
        tasks = await here.queue(5, body_bytes=10, most_bytes=50)
        assert here.board.queued_bytes == 50
        failure = await here.refusal(body_bytes=1, most_bytes=50)
        assert (failure.status, failure.code, failure.retry_after_s) == (503, "queue_memory_full", 40.0)
        tasks[0].cancel()  # leaves
        await asyncio.sleep(0)
        assert here.board.queued_bytes == 40
        here.board.open("m", HERE, max_concurrency=1)  # served
        assert here.board.queued_bytes == 30
        (await tasks[1]).release()
        assert here.board.queued_bytes == 20
        here.board.fail_waiters("m", GONE)  # told
        assert here.board.queued_bytes == 0
        await asyncio.gather(*tasks, return_exceptions=True)
        here.board.close("m", cut=True)
        late = await here.refusal(timeout_s=0.0, body_bytes=10, most_bytes=10)  # too late
        assert late.code == "queue_timeout"
        assert here.board.queued_bytes == 0

    asyncio.run(run())


def test_what_a_request_says_of_the_time_after_it_holds_until_the_model_rests():
    async def run():
        here = House()
        (task,) = await here.queue(1, keep_alive=KeepAlive(idle_s=300.0))
        assert here.demand.keep_alive is None  # it may leave yet
        here.board.open("m", HERE)
        (await task).release()
        assert here.demand.keep_alive == KeepAlive(idle_s=300.0)
        here.board.admit("m").release()
        assert here.demand.keep_alive == KeepAlive(idle_s=300.0)
        here.board.admit("m", KeepAlive(idle_s=None)).release()
        assert here.demand.keep_alive == KeepAlive(idle_s=None)
        assert here.board.close("m")
        assert here.demand.keep_alive is None

    asyncio.run(run())


@pytest.mark.parametrize(("idle_s", "rings"), [(0.0, 1), (5.0, 1), (6.0, 0), (None, 0)])
def test_the_last_byte_rings_for_who_is_to_rest_soon(idle_s, rings):
    here = House()
    here.board.open("m", HERE)
    grant = here.board.admit("m", KeepAlive(idle_s=idle_s))
    before = here.rung
    grant.release()
    assert here.rung - before == rings


def test_when_the_last_who_waited_left_is_known_and_who_was_served_did_not_leave():
    async def run():
        here = House()
        tasks = await here.queue(2)
        for task in tasks:
            here.now += 1.0
            task.cancel()
            await asyncio.sleep(0)
        assert here.demand.left_at == 102.0
        here.now = 200.0
        (task,) = await here.queue(1)
        here.board.open("m", HERE)
        (await task).release()
        assert here.demand.left_at == 102.0

    asyncio.run(run())
