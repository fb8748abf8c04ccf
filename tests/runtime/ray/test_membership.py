"""What is believed of machines: silent ones are lost, those that return are fenced, and calls have a generation."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.runtime.ray.made_up import MadeUpCluster, end_keepers
from tests.waiting import async_wait_until
from vllama.domain.action import Start
from vllama.domain.observed import Node, NodeState, Place
from vllama.domain.spec import ModelSpec
from vllama.domain.units import GIB
from vllama.runtime import clock
from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local import proc
from vllama.runtime.ray.runtime import RayRuntime
from vllama.runtime.ray.settings import RaySettings

SPEC = ModelSpec(model="org/chat", memory_bytes=4 * GIB)


def start(*nodes: str) -> Start:
    return Start(
        model="org/chat", spec_hash="abc", node=nodes[0], devices=(0,), memory_bytes=4 * GIB,
        gpu_memory_utilization=0.5, further=tuple(Place(node=name, devices=(0,)) for name in nodes[1:]),
    )  # fmt: skip


def build(cluster: MadeUpCluster, *, silence_s: float = 2.0) -> RayRuntime:
    return RayRuntime(
        link=cluster, settings=RaySettings(silence_s=silence_s, grace_s=60.0), owner=f"o{os.getpid()}",
        simulate="2x8GiB", environ={}, ports=range(25000, 25200), clock=clock.now,
    )  # fmt: skip


@pytest.fixture
def machines(tmp_path):
    """`async with machines("a", "b") as (cluster, runtime)`; engines of theirs do not outlive the test."""
    owners = set()

    @asynccontextmanager
    async def of(*names: str, silence_s: float = 2.0):
        cluster = MadeUpCluster(tmp_path, *names)
        runtime = build(cluster, silence_s=silence_s)
        owners.update(runtime._agent_settings(node).engine_owner for node in cluster.nodes.values())
        await runtime.recover()
        try:
            yield cluster, runtime
        finally:
            await runtime.close()
            await cluster.end()

    yield of
    end_keepers(tmp_path)
    for owner in owners:
        for pid in proc.tagged(owner):
            os.kill(pid, signal.SIGKILL)


async def nodes(runtime: RayRuntime) -> dict[str, Node]:
    return {node.name: node for node in (await runtime.read()).nodes}


async def becomes(runtime: RayRuntime, name: str, state: NodeState) -> Node:
    async def is_so() -> Node | None:
        node = (await nodes(runtime))[name]
        return node if node.state is state else None

    node = await async_wait_until(is_so, what=f"{name} to be {state}")
    assert node is not None
    return node


def test_a_silent_machine_is_lost_whatever_ray_says_and_comes_back_with_its_engines(machines):
    async def test():
        async with machines("a", "b") as (cluster, runtime):
            engine = await runtime.start("e1", SPEC, start("a"))
            assert len((await nodes(runtime))["a"].devices) == 2
            rung = asyncio.Event()
            runtime.watch(rung.set)
            cluster.silent.add("a")
            lost = await becomes(runtime, "a", NodeState.LOST)
            assert rung.is_set()
            assert lost.said == "Its agent does not answer."
            assert len(lost.devices) == 2  # what it had is not forgotten
            assert (await nodes(runtime))["b"].state is NodeState.READY
            assert await runtime.engines() == (engine,)
            assert any(trouble == "a: Its agent does not answer." for trouble in (await runtime.read()).troubles)
            with pytest.raises(RuntimeFailed, match="a cannot be asked: Its agent"):
                await runtime.stop("e1", deadline_s=5)
            assert not await runtime.settled("a", (0,))
            cluster.silent.clear()
            back = await becomes(runtime, "a", NodeState.READY)
            assert (back.said, await runtime.engines()) == ("", (engine,))
            await runtime.stop("e1", deadline_s=5)

    asyncio.run(test())


def test_a_machine_that_was_declared_dead_ends_all_it_has_before_it_is_ready_again(machines):
    async def test():
        async with machines("a") as (cluster, runtime):
            engine = await runtime.start("e1", SPEC, start("a"))
            cluster.dies("a")
            lost = await becomes(runtime, "a", NodeState.LOST)
            assert lost.said == "Ray declared it dead."
            assert await runtime.engines() == (engine,)  # which may live there, for all that anybody knows
            assert proc.process(engine.pid) is not None
            await cluster.returns("a")
            await becomes(runtime, "a", NodeState.READY)
            assert await runtime.engines() == ()
            assert (found := proc.process(engine.pid)) is None or found.zombie

    asyncio.run(test())


def test_while_it_ends_what_was_left_it_is_fenced(machines, monkeypatch):
    monkeypatch.setattr("vllama.runtime.ray.agent.STOP_ALL_WITHIN_S", 2.0)

    async def test():
        async with machines("a") as (cluster, runtime):
            await runtime.start("e1", replace(SPEC, launch=replace(SPEC.launch, env=_DEAF)), start("a"))
            cluster.nodes["a"] = replace(cluster.nodes["a"], ray_id="2")  # it joined anew, its agent lived on
            fenced = await becomes(runtime, "a", NodeState.FENCED)
            assert fenced.said == "It is back; what was left there is ended before it is used again."
            await becomes(runtime, "a", NodeState.READY)
            assert await runtime.engines() == ()

    asyncio.run(test())


_DEAF = (("VLLAMA_SIM_FAULTS", "ignore_sigterm"),)


def test_an_agent_that_crashed_is_started_again_and_adopts_what_runs(machines):
    async def test():
        async with machines("a") as (cluster, runtime):
            engine = await runtime.start("e1", SPEC, start("a"))
            await async_wait_until(lambda: runtime.listening("e1"), what="the engine to listen")
            await cluster.end_agent("a")
            await becomes(runtime, "a", NodeState.LOST)
            cluster.restarts_agent("a")
            await becomes(runtime, "a", NodeState.READY)
            assert await runtime.listening("e1")
            (found,) = await runtime.engines()
            assert (found.pid, found.exit) == (engine.pid, None)
            await runtime.stop("e1", deadline_s=5)

    asyncio.run(test())


def test_a_manager_that_was_superseded_is_refused(machines):
    async def test():
        async with machines("a") as (cluster, runtime):
            newer = build(cluster)
            await newer.recover()
            assert (await nodes(newer))["a"].state is NodeState.READY
            lost = await becomes(runtime, "a", NodeState.LOST)
            assert lost.said == "Another vllama has taken over the machine a."
            with pytest.raises(RuntimeFailed, match="taken over"):
                await runtime.start("e1", SPEC, start("a"))
            assert (await nodes(newer))["a"].state is NodeState.READY
            await newer.close()
            cluster.is_up = True

    asyncio.run(test())


def test_a_manager_that_is_blind_itself_takes_no_machine_for_lost(machines):
    async def test():
        async with machines("a", silence_s=0.5) as (cluster, runtime):
            cluster.is_up = False
            asked = len(cluster.asked)
            with pytest.raises(RuntimeFailed, match="Ray cannot be asked"):
                await runtime.start("e1", SPEC, start("a"))
            until = clock.now() + 1.5  # of silence, which is not the machine's

            async def later() -> bool:
                return clock.now() > until

            await async_wait_until(later)
            reading = await runtime.read()
            assert reading.nodes[0].state is NodeState.READY
            assert "Ray cannot be asked" in reading.troubles[-1]
            assert len(cluster.asked) == asked
            cluster.is_up = True
            assert await runtime.settled("a", (0,))

    asyncio.run(test())


def test_while_the_head_says_nothing_agents_are_asked_as_ever_and_it_is_told(machines, monkeypatch):
    monkeypatch.setattr("vllama.runtime.ray.runtime.HEAD_SILENT_AFTER_S", 0.5)
    monkeypatch.setattr("vllama.runtime.ray.runtime.NODES_WITHIN_S", 0.2)

    async def test():
        async with machines("a") as (cluster, runtime):
            cluster.head_is_gone = True

            async def is_told() -> bool:
                return any(trouble.startswith("The head") for trouble in (await runtime.read()).troubles)

            await async_wait_until(is_told, what="the head's silence to be told")
            await runtime.start("e1", SPEC, start("a"))
            assert (await nodes(runtime))["a"].state is NodeState.READY
            await runtime.stop("e1", deadline_s=5)
            cluster.head_is_gone = False

            async def is_over() -> bool:
                return not (await runtime.read()).troubles

            await async_wait_until(is_over, what="the head to be heard again")

    asyncio.run(test())


def test_a_machine_that_joins_later_is_found_and_one_without_an_agent_says_why(machines):
    async def test():
        async with machines("a") as (cluster, runtime):
            cluster.refused["b"] = "vllama is not installed there."
            cluster.nodes["b"] = replace(cluster.nodes["a"], name="b")

            async def says_why() -> bool:
                there = await nodes(runtime)
                return "b" in there and there["b"].said == "vllama is not installed there."

            await async_wait_until(says_why, what="the reason to be told")
            assert (await nodes(runtime))["b"].state is NodeState.LOST
            cluster.refused.clear()
            await becomes(runtime, "b", NodeState.READY)

    asyncio.run(test())


def test_nothing_that_hangs_holds_up_the_rest(machines):
    async def test():
        async with machines("a", "b") as (cluster, runtime):
            cluster.silent.add("a")
            began = clock.now()
            await runtime.start("e1", SPEC, start("b"))
            reading = await runtime.read()
            assert clock.now() - began < 20  # a deadline, not a speed: for ever is what it must not take
            assert {node.name for node in reading.nodes} == {"a", "b"}
            await runtime.stop("e1", deadline_s=5)

    asyncio.run(test())


def test_an_engine_that_spans_machines_starts_serves_and_stops_as_one(machines):
    async def test():
        async with machines("a", "b") as (_, runtime):
            engine = await runtime.start("e1", SPEC, start("a", "b"))
            assert (engine.node, engine.further) == ("a", (Place(node="b", devices=(0,)),))
            await async_wait_until(lambda: runtime.listening("e1"), what="the engine to listen")
            (found,) = await runtime.engines()
            assert (found.exit, found.places) == (None, engine.places)
            assert await held_gib(runtime) == {"a": 4, "b": 4}
            await runtime.stop("e1", deadline_s=10)
            assert await runtime.engines() == ()
            assert await held_gib(runtime) == {"a": 0, "b": 0}

    asyncio.run(test())


def test_where_a_rank_is_gone_the_engine_is_and_the_rest_is_stopped(machines):
    async def test():
        async with machines("a", "b") as (_, runtime):
            await runtime.start("e1", SPEC, start("a", "b"))
            await async_wait_until(lambda: runtime.listening("e1"), what="the engine to listen")
            (headless,) = runtime._members["b"].engines()
            os.kill(headless.pid, signal.SIGKILL)

            async def is_over() -> bool:
                (engine,) = await runtime.engines()
                return engine.exit is not None

            await async_wait_until(is_over, what="the engine to be over")
            assert (await held_gib(runtime))["a"] == 4  # nobody told rank 0
            await runtime.stop("e1", deadline_s=10)
            assert await held_gib(runtime) == {"a": 0, "b": 0}

    asyncio.run(test())


def test_ranks_that_cannot_all_be_started_are_none(machines):
    async def test():
        async with machines("a", "b") as (_, runtime):
            with pytest.raises(RuntimeFailed, match="There is no machine c"):
                await runtime.start("e1", SPEC, start("a", "b", "c"))
            assert await runtime.engines() == ()
            assert await held_gib(runtime) == {"a": 0, "b": 0}

    asyncio.run(test())


async def held_gib(runtime: RayRuntime) -> dict[str, float]:
    return {name: node.devices[0].used_bytes / GIB for name, node in (await nodes(runtime)).items()}


def test_a_machine_that_has_nothing_to_run_engines_on_says_so_and_is_no_trouble(tmp_path):
    async def test():
        cluster = MadeUpCluster(tmp_path, "head", environ={"PATH": "", "VLLAMA_VLLM": "/nowhere/vllm"})
        runtime = RayRuntime(
            link=cluster, settings=RaySettings(silence_s=2.0), owner=f"n{os.getpid()}", simulate=None, environ={},
            ports=range(25000, 25200), clock=clock.now,
        )  # fmt: skip
        await runtime.recover()
        head = (await nodes(runtime))["head"]
        assert (head.state, head.devices) == (NodeState.READY, ())
        assert "/nowhere/vllm" in head.said
        assert (await runtime.read()).troubles == ()
        with pytest.raises(RuntimeFailed, match="/nowhere/vllm"):
            await runtime.start("e1", SPEC, start("head"))
        await runtime.close()
        await cluster.end()
        end_keepers(tmp_path)

    asyncio.run(test())
