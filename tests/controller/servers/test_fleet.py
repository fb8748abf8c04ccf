"""Who goes to which server, and who waits."""

import asyncio

import pytest

from vllama.controller.board import Board
from vllama.controller.demand import Endpoint, Failure, WaitFailed
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec
from vllama.controller.servers.fleet import Fleet
from vllama.controller.servers.health import Check


def fleet_of(*specs, models=("m",), **balance):
    fleet = Fleet(clock=lambda: fleet_of.now)
    fleet.apply([ServerSpec(url=f"http://{name}", max_concurrent_requests=most) for name, most in specs],
                BalanceSpec(**balance))  # fmt: skip
    for server in fleet.servers.values():
        fleet.found(server, models)
        server.health.check(Check(took_s=0.01), 0.0)
    return fleet


fleet_of.now = 100.0


def where(grant):
    return grant.endpoint.host if grant is not None else None


async def queued(fleet, count, model="m", *, max_queue=1000, timeout_s=60.0):
    tasks = [asyncio.create_task(fleet.wait(model, max_queue=max_queue, timeout_s=timeout_s)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_each_request_goes_where_the_fewest_are():
    fleet = fleet_of(("a", 2), ("b", 4))
    grants = [fleet.admit("m") for _ in range(7)]
    assert [where(grant) for grant in grants] == ["a", "b", "b", "a", "b", "b", None]
    assert fleet.use_of("m").in_flight == 6
    grants[0].release()
    grants[0].release()
    assert where(fleet.admit("m")) == "a"


def test_those_who_wait_are_served_in_order_and_one_who_leaves_leaves_no_trace():
    async def run():
        fleet = fleet_of(("a", 1))
        first = fleet.admit("m")
        second, leaving, third = await queued(fleet, 3)
        assert fleet.admit("m") is None
        leaving.cancel()
        await asyncio.sleep(0)
        first.release()
        assert where(await second) == "a"
        assert not third.done()
        (await second).release()
        (await third).release()
        assert (fleet.waiting("m"), fleet.is_busy) == (0, False)

    asyncio.run(run())


def test_a_grant_that_no_longer_reaches_anybody_is_given_back():
    async def run():
        fleet = fleet_of(("a", 1))
        first = fleet.admit("m")
        (waiting,) = await queued(fleet, 1)
        first.release()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not fleet.is_busy

    asyncio.run(run())


def test_a_model_whose_servers_are_full_holds_up_no_other():
    async def run():
        fleet = fleet_of(("a", 1), ("b", 1))
        fleet.found(fleet.servers["http://b"], ("other",))
        one, other = fleet.admit("m"), fleet.admit("other")
        (waits,) = await queued(fleet, 1)
        (others,) = await queued(fleet, 1, "other")
        other.release()
        assert where(await others) == "b"
        assert not waits.done()
        one.release()
        assert where(await waits) == "a"

    asyncio.run(run())


@pytest.mark.parametrize(("queue", "status", "code"), [(0, 429, "queue_full"), (1, 503, "queue_timeout")])
def test_a_queue_has_its_limits(queue, status, code):
    async def run():
        fleet = fleet_of(("a", 1))
        fleet.admit("m")
        (waiting,) = await queued(fleet, 1, max_queue=queue, timeout_s=0.01)
        with pytest.raises(WaitFailed) as told:
            await waiting
        assert (told.value.failure.status, told.value.failure.code) == (status, code)
        assert fleet.waiting("m") == 0

    asyncio.run(run())


def test_nobody_waits_for_servers_that_are_all_unwell():
    async def run():
        fleet = fleet_of(("a", 1), failure_threshold=1)
        grant = fleet.admit("m")
        (waiting,) = await queued(fleet, 1)
        grant.server.went_wrong("it closed the connection")
        fleet.review()
        with pytest.raises(WaitFailed, match="http://a: 1 requests in a row failed there: it closed the connection"):
            await waiting
        with pytest.raises(WaitFailed):
            await fleet.wait("m", max_queue=10, timeout_s=60)

    asyncio.run(run())


def test_half_open_one_is_let_through_and_the_rest_wait_for_what_it_finds():
    async def run():
        fleet = fleet_of(("a", 5), failure_threshold=1)
        fleet.admit("m").server.went_wrong("x")
        fleet_of.now += 1.0
        trial = fleet.admit("m")
        assert trial is not None
        waiting = await queued(fleet, 2)
        assert not any(task.done() for task in waiting)
        trial.server.went_well()
        trial.release()
        assert [where(await task) for task in waiting] == ["a", "a"]

    asyncio.run(run())


def test_another_try_goes_to_another_server_and_there_are_so_many():
    fleet = fleet_of(("a", 9), ("b", 9), ("c", 9), max_retries=1)
    first = fleet.admit("m")
    second = fleet.again("m", (first.endpoint.engine_id,))
    assert where(second) != where(first)
    assert fleet.again("m", (first.endpoint.engine_id, second.endpoint.engine_id)) is None
    alone = fleet_of(("a", 9), max_retries=5)
    assert alone.again("m", (alone.admit("m").endpoint.engine_id,)) is None


def test_servers_that_stay_keep_what_is_known_and_those_that_go_finish_what_they_have():
    fleet = fleet_of(("a", 1), ("b", 1))
    grants = {where(grant): grant for grant in (fleet.admit("m"), fleet.admit("m"))}
    kept = fleet.servers["http://b"]
    fleet.apply([ServerSpec(url="http://b", max_concurrent_requests=2, api_key="k"), ServerSpec(url="http://c")],
                BalanceSpec())  # fmt: skip
    assert fleet.servers["http://b"] is kept
    again = fleet.admit("m")  # c has said nothing yet
    assert (where(again), again.endpoint.api_key) == ("b", "k")
    assert "k'" not in repr(again.endpoint)
    grants["a"].release()
    assert fleet.admit("m") is None


def test_names_here_go_before_names_there():
    fleet = Fleet(clock=lambda: 0.0)
    aliases = (("fast", "org/A"), ("mine", "org/A"))
    fleet.apply([ServerSpec(url="http://a", aliases=aliases)], BalanceSpec(queue=7))
    fleet.found(fleet.servers["http://a"], ("org/A", "mine", "org/B"))
    specs = {spec.model: spec for spec in fleet.specs({"mine", "org/B"})}
    assert list(specs) == ["org/A"]
    assert (specs["org/A"].aliases, specs["org/A"].max_queue) == (("fast",), 7)
    assert fleet.only == {"org/A"}


def test_a_fleet_that_is_shut_takes_nobody():
    async def run():
        fleet = fleet_of(("a", 1))
        fleet.admit("m")
        (waiting,) = await queued(fleet, 1)
        fleet.shut(Failure(status=503, code="shutting_down", message="vllama is shutting down."))
        with pytest.raises(WaitFailed, match="shutting down"):
            await waiting
        with pytest.raises(WaitFailed, match="shutting down"):
            await fleet.wait("m", max_queue=1, timeout_s=1)

    asyncio.run(run())


def test_who_waits_for_an_engine_here_goes_to_a_server_that_has_room_before_whoever_comes_later():
    async def run():
        fleet = fleet_of(("a", 1))
        board = Board(clock=lambda: fleet_of.now, bell=lambda: None, servers=fleet)
        first = board.admit("m")
        waiting = [asyncio.create_task(board.wait_until_ready("m", max_queue=9, timeout_s=60)) for _ in range(2)]
        await asyncio.sleep(0)
        assert board.demand_of("m").waiting == 2  # an engine here is to be started for them
        first.release()
        assert board.admit("m") is None
        second = await waiting[0]
        assert (where(second), board.demand_of("m").waiting) == ("a", 1)
        board.open("m", Endpoint(engine_id="e", host="here", port=1, served_name="m"))
        assert where(await waiting[1]) == "here"
        second.release()
        assert where(board.admit("m")) == "here"

    asyncio.run(run())
