"""The controller over machines whose agents are real and whose cluster is made up: engines are real processes."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.runtime.ray.made_up import MadeUpCluster, end_keepers
from tests.waiting import async_wait_until
from vllama.controller.controller import Controller
from vllama.domain.observed import Place
from vllama.domain.status import ModelStatus, Phase
from vllama.engine.client import EngineClient
from vllama.runtime import clock
from vllama.runtime.local import proc
from vllama.runtime.ray.runtime import RayRuntime
from vllama.runtime.ray.settings import RaySettings
from vllama.runtime.ray.transport import AgentTransport

MODELS = """
models:
  org/large: { memory: 5GiB, tensor_parallel_size: 4 }
  org/small: { memory: 2GiB }
"""


@pytest.fixture
def house(tmp_path):
    """`async with house("a", "b") as (cluster, runtime, controller)`; each machine has two devices of 8 GiB."""
    (tmp_path / "models.yaml").write_text(MODELS)
    owners = set()

    @asynccontextmanager
    async def built(*names: str):
        cluster = MadeUpCluster(tmp_path, *names)
        runtime = RayRuntime(
            link=cluster, settings=RaySettings(silence_s=2.0), owner=f"c{os.getpid()}", simulate="2x8GiB", environ={},
            ports=range(26500, 26700), clock=clock.now,
        )  # fmt: skip
        owners.update(runtime._agent_settings(node).engine_owner for node in cluster.nodes.values())
        await runtime.recover()
        async with httpx.AsyncClient(trust_env=False, mounts={"agent://": AgentTransport(runtime)}) as http:
            controller = Controller(
                runtime=runtime, client=EngineClient(http), manifest=tmp_path / "models.yaml", environ={},
                clock=clock.now, simulated=True, http=http,
            )  # fmt: skip
            await controller.start_up()
            running = asyncio.create_task(controller.run())
            try:
                yield cluster, runtime, controller
            finally:
                running.cancel()
                await asyncio.wait({running})
                await controller.shut_down(hurry=asyncio.Event())
                await cluster.end()

    yield built
    end_keepers(tmp_path)
    left = [pid for owner in owners for pid in proc.tagged(owner)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def status(controller: Controller, model: str) -> ModelStatus:
    return next(each for each in controller.statuses() if each.model == model)


def is_in(controller: Controller, model: str, *phases: Phase) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return status(controller, model).phase in phases

    return look


async def held_gib(runtime: RayRuntime) -> dict[str, list[float]]:
    nodes = (await runtime.read()).nodes
    return {node.name: [round((device.used_bytes or 0) / 2**30, 1) for device in node.devices] for node in nodes}


def test_an_engine_larger_than_a_machine_is_started_and_stopped_as_one(house):
    async def test():
        async with house("a", "b") as (_, runtime, controller):
            controller.start("org/large")
            await async_wait_until(is_in(controller, "org/large", Phase.READY), what="it to be ready")
            (engine,) = await runtime.engines()
            assert engine.places == (Place(node="a", devices=(0, 1)), Place(node="b", devices=(0, 1)))
            assert await held_gib(runtime) == {"a": [5, 5], "b": [5, 5]}
            controller.stop("org/large")
            await async_wait_until(is_in(controller, "org/large", Phase.STOPPED), what="it to be stopped")
            assert await held_gib(runtime) == {"a": [0, 0], "b": [0, 0]}

    asyncio.run(test())


def test_where_one_rank_ends_the_engine_is_stopped_everywhere_and_its_model_comes_again(house):
    async def test():
        async with house("a", "b") as (_, runtime, controller):
            controller.start("org/large")
            await async_wait_until(is_in(controller, "org/large", Phase.READY), what="it to be ready")
            (headless,) = runtime._members["b"].engines()
            os.kill(headless.pid, signal.SIGKILL)
            await async_wait_until(is_in(controller, "org/large", Phase.STOPPED), what="all of it to be stopped")
            assert await held_gib(runtime) == {"a": [0, 0], "b": [0, 0]}
            crash = next(event for event in controller.events if event.reason == "Crashed")
            assert "b:" in crash.message  # where to look
            controller.start("org/large")
            await async_wait_until(is_in(controller, "org/large", Phase.READY), what="it to be ready again")

    asyncio.run(test())


def test_what_a_lost_machine_had_is_started_on_another(house):
    async def test():
        async with house("a", "b") as (cluster, runtime, controller):
            controller.start("org/small")
            await async_wait_until(is_in(controller, "org/small", Phase.READY), what="it to be ready")
            first = status(controller, "org/small").node
            assert first is not None
            cluster.silent.add(first)

            async def is_elsewhere() -> bool:
                now = status(controller, "org/small")
                return now.phase is Phase.READY and now.node not in {None, first}

            async def is_lost() -> bool:
                return any(node.name == first and node.state == "lost" for node in (await runtime.read()).nodes)

            await async_wait_until(is_lost, what="the silence to be noticed")
            controller.start("org/small")
            await async_wait_until(is_elsewhere, what="it to be ready elsewhere")
            cluster.silent.clear()

            async def is_one() -> bool:
                return len(await runtime.engines()) == 1

            await async_wait_until(is_one, what="the surplus engine to be stopped")

    asyncio.run(test())
