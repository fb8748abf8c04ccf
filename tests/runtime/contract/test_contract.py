"""What the controller relies on, wherever engines run."""

import asyncio
import os
import signal
import socket
from dataclasses import replace

import httpx
import pytest

from tests.runtime.contract.places import Place
from tests.waiting import async_wait_until
from vllama.domain.action import Start
from vllama.domain.observed import NodeState
from vllama.domain.spec import LaunchSpec, ModelSpec, SleepLevel
from vllama.domain.units import GIB
from vllama.engine.client import EngineClient, Healthy
from vllama.engine.logs import LogLines, LogMark
from vllama.runtime import clock
from vllama.runtime.base import EngineProcess, Runtime, RuntimeFailed
from vllama.runtime.ray.runtime import RayRuntime
from vllama.runtime.ray.transport import AgentTransport

SPEC = ModelSpec(model="org/chat", memory_bytes=4 * GIB)


def start(place: Place, spec: ModelSpec = SPEC, *, device: int = 0) -> Start:
    return Start(
        model=spec.model, spec_hash="abc", node=place.node, devices=(device,), memory_bytes=4 * GIB,
        gpu_memory_utilization=0.5,
    )  # fmt: skip


async def ready(runtime: Runtime, engine_id: str) -> None:
    await async_wait_until(lambda: runtime.listening(engine_id), what="the engine to listen")


async def the_engine(runtime: Runtime) -> EngineProcess:
    (engine,) = await runtime.engines()
    return engine


def client(runtime: Runtime) -> httpx.AsyncClient:
    mounts = {"agent://": AgentTransport(runtime)} if isinstance(runtime, RayRuntime) else {}
    return httpx.AsyncClient(trust_env=False, mounts=mounts)


def test_an_engine_starts_once_serves_and_is_gone_with_its_memory_when_it_is_stopped(place: Place) -> None:
    async def run() -> None:
        async with place.manager() as runtime:
            assert await runtime.engines() == ()
            before = clock.now()
            engine = await runtime.start("e1", SPEC, start(place))
            assert engine == await runtime.start("e1", SPEC, start(place)) == await the_engine(runtime)
            assert (engine.engine_id, engine.name, engine.spec_hash) == ("e1", "org/chat", "abc")
            assert (engine.node, engine.devices, engine.memory_bytes) == (place.node, (0,), 4 * GIB)
            assert before - 1 <= engine.started_at <= clock.now()
            assert (engine.exit, engine.adopted, engine.further) == (None, False, ())
            await ready(runtime, "e1")
            if place.tells_memory:
                assert (await runtime.read()).measured_bytes == {"e1": 4 * GIB}
            await runtime.stop("e1", deadline_s=10)
            assert place.processes() == set()
            assert await runtime.engines() == ()
            assert (await runtime.read()).measured_bytes.get("e1") is None
            await runtime.stop("e1", deadline_s=10)  # nothing to do is done

    asyncio.run(run())


def test_memory_is_read_and_settles(place: Place) -> None:
    async def run() -> None:
        async with place.manager() as runtime:
            (node,) = (await runtime.read()).nodes
            assert (node.name, node.state, node.said) == (place.node, NodeState.READY, "")
            assert node.devices
            assert all(device.used_bytes is not None for device in node.devices)
            assert await runtime.settled(place.node, [device.index for device in node.devices])

    asyncio.run(run())


def test_it_answers_where_it_says_and_is_told_to_sleep_where_it_says(place: Place) -> None:
    async def run() -> None:
        async with place.manager() as runtime, client(runtime) as http:
            engine = await runtime.start("e1", SPEC, start(place))
            await ready(runtime, "e1")
            asked, at = EngineClient(http), engine.address
            assert await asked.health(at, timeout_s=10) == Healthy()
            assert "org/chat" in await asked.served_models(at, timeout_s=10)
            await asked.sleep(at, SleepLevel.WEIGHTS_OFFLOADED, "wait", timeout_s=10)
            assert await asked.is_sleeping(at, timeout_s=10)
            assert await asked.sleep_level(at, timeout_s=10) is SleepLevel.WEIGHTS_OFFLOADED
            await asked.wake(at, SleepLevel.WEIGHTS_OFFLOADED, timeout_s=10)
            assert not await asked.is_sleeping(at, timeout_s=10)
            without_key = await http.get(f"{engine.base_url}/v1/models")
            assert without_key.status_code == (200 if engine.key is None else 401)
            await runtime.stop("e1", deadline_s=10)

    asyncio.run(run())


def test_an_engine_that_dies_rings_and_is_told_of_until_it_is_stopped(place: Place) -> None:
    async def run() -> None:
        async with place.manager() as runtime:
            engine = await runtime.start("e1", SPEC, start(place))
            await ready(runtime, "e1")
            rung = asyncio.Event()
            runtime.watch(rung.set)
            os.kill(engine.pid, signal.SIGKILL)
            await asyncio.wait_for(rung.wait(), 20)
            exited = (await the_engine(runtime)).exit
            assert exited is not None
            assert exited.code == -signal.SIGKILL
            assert place.processes()  # its core holds what it held
            assert not await runtime.listening("e1")
            await runtime.stop("e1", deadline_s=10)
            assert place.processes() == set()
            assert await runtime.engines() == ()

    asyncio.run(run())


def test_the_next_manager_finds_what_the_last_one_left(place: Place) -> None:
    async def run() -> None:
        async with place.manager() as runtime:
            left = await runtime.start("e1", replace(SPEC, replica=2), start(place))
            await ready(runtime, "e1")
        async with place.manager() as runtime:
            found = await the_engine(runtime)
            assert replace(found, adopted=False, started_at=0.0) == replace(left, started_at=0.0)
            assert abs(found.started_at - left.started_at) < 5
            assert found.name == "org/chat#2"
            assert await runtime.listening("e1")
            assert found == await runtime.start("e1", SPEC, start(place))  # it is there already
            await runtime.stop("e1", deadline_s=10)
            assert place.processes() == set()

    asyncio.run(run())


def test_what_engines_write_can_be_read_as_it_comes_and_from_its_end(place: Place) -> None:
    async def run() -> None:
        async with place.manager() as runtime:
            nothing = runtime.log_of("org/never")
            assert await runtime.log_tail(nothing, limit_bytes=1000) == ()
            assert (await runtime.read_log(nothing, LogMark())).data == b""
            engine = await runtime.start("e1", SPEC, start(place))
            await ready(runtime, "e1")
            lines, found = LogLines(begin=engine.log_offset), ""

            async def says_it_serves() -> bool:
                nonlocal found
                found += "\n".join(lines.take(await runtime.read_log(engine.log_file, lines.mark)))
                return "Starting vLLM server" in found

            await async_wait_until(says_it_serves, what="the log to tell of the server")
            assert found.count("non-default args") == 1
            assert runtime.log_of("org/chat").path.name == engine.log_file.path.name
            tail = await runtime.log_tail(runtime.log_of("org/chat"), limit_bytes=100_000)
            assert any("Starting vLLM server" in line for line in tail)
            await runtime.stop("e1", deadline_s=10)

    asyncio.run(run())


def test_what_cannot_be_started_says_why_and_leaves_nothing(place: Place) -> None:
    async def run() -> None:
        async with place.manager() as runtime:
            with socket.socket() as squatter:
                squatter.bind(("0.0.0.0", 0))
                squatter.listen()
                taken = squatter.getsockname()[1]
                with pytest.raises(RuntimeFailed, match=rf"Port {taken}, .* is in use"):
                    await runtime.start("e1", replace(SPEC, launch=LaunchSpec(port=taken)), start(place))
            assert await runtime.engines() == ()
            assert place.processes() == set()

    asyncio.run(run())


def test_what_would_be_run_is_told_and_nothing_is_run(place: Place) -> None:
    async def run() -> None:
        async with place.manager() as runtime:
            spec = replace(SPEC, launch=LaunchSpec(env=(("HF_TOKEN", "hf_x"),)))
            seen = await runtime.preview(spec, start(place), port=None)
            assert seen.argv[seen.argv.index("serve") + 1] == "org/chat"
            assert dict(seen.env)["HF_TOKEN"] == "***"
            assert "VLLAMA_ENGINE" not in dict(seen.env)
            assert place.processes() == set()

    asyncio.run(run())


def test_what_moves_what_it_takes_and_what_is_there_can_be_asked(place: Place) -> None:
    async def run() -> None:
        async with place.manager() as runtime:
            assert await runtime.moved_bytes("e1") == 0
            assert not await runtime.listening("e1")
            footprint = await runtime.footprint(SPEC)
            assert footprint is not None
            assert footprint.awake_bytes == 4 * GIB
            assert isinstance(await runtime.cached_models(), tuple)
            await runtime.start("e1", SPEC, start(place))
            await ready(runtime, "e1")
            assert await runtime.moved_bytes("e1") > 0
            await runtime.stop("e1", deadline_s=10)

    asyncio.run(run())
