"""Engines as processes of this machine, run by the real runtime: the simulator's engine on made-up devices."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.fake_nvml import FakeGpu, FakeNvml
from tests.waiting import async_wait_until, wait_until
from vllama.domain.action import Start
from vllama.domain.spec import LaunchSpec, ModelSpec
from vllama.domain.units import GIB, MIB
from vllama.runtime.base import LOCAL as NODE
from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local import proc
from vllama.runtime.local.identity import owner_of
from vllama.runtime.local.nvml import NvmlDevices
from vllama.runtime.local.ports import claim, free_port
from vllama.runtime.local.runtime import LocalRuntime, log_name
from vllama.runtime.simulated.devices import SimulatedDeviceSource
from vllama.runtime.simulated.launcher import SimulatorLauncher

SPEC = ModelSpec(model="org/chat", memory_bytes=4 * GIB)
START = Start(
    model="org/chat", spec_hash="abc", node=NODE, devices=(0,), memory_bytes=4 * GIB, gpu_memory_utilization=0.5
)  # fmt: skip


@pytest.fixture
def build(tmp_path):
    """`build()`: a runtime on one device of 8 GiB; a second one is the manager after the first."""

    def runtime(**env) -> LocalRuntime:
        environ = dict(os.environ) | {"VLLAMA_SIM_LOAD_S": "0"} | env
        directory = tmp_path / "simulated"
        return LocalRuntime(
            owner=owner_of(tmp_path), logs=tmp_path / "logs", ports=range(42300, 42400),
            devices=SimulatedDeviceSource(node=NODE, directory=directory, totals=(8 * GIB,)),
            launcher=SimulatorLauncher(directory=directory, parent_env=environ),
        )  # fmt: skip

    yield runtime
    for pid in proc.tagged(owner_of(tmp_path)):
        os.kill(pid, signal.SIGKILL)


def mine(tmp_path: Path) -> set[int]:
    return set(proc.tagged(owner_of(tmp_path)))


async def ready(runtime: LocalRuntime, engine_id: str) -> None:
    await async_wait_until(lambda: runtime.listening(engine_id), what="the engine to listen")


async def used_gib(runtime: LocalRuntime) -> float:
    return (await runtime.read()).nodes[0].devices[0].used_bytes / GIB


def test_an_engine_runs_in_a_session_of_its_own_and_is_gone_with_its_memory_after_stop(build, tmp_path):
    async def run():
        runtime = build()
        engine = await runtime.start("e1", SPEC, START)
        assert engine == await runtime.start("e1", SPEC, START)  # idempotent by id
        await ready(runtime, "e1")
        assert proc.process(engine.pid).sid == engine.pid
        assert await used_gib(runtime) == 4
        reading = await runtime.read()
        assert reading.measured_bytes == {"e1": 4 * GIB}
        assert len(mine(tmp_path)) == 2
        await runtime.stop("e1", deadline_s=10)
        assert mine(tmp_path) == set()
        assert await used_gib(runtime) == 0
        assert await runtime.engines() == ()

    asyncio.run(run())


def test_a_stop_while_it_loads_gets_through_although_the_first_sigterm_is_lost(build, tmp_path):
    async def run():
        runtime = build(VLLAMA_SIM_LOAD_S="300")
        await runtime.start("e1", SPEC, START)
        wait_until(lambda: len(mine(tmp_path)) == 2, what="the core to be there")
        await runtime.stop("e1", deadline_s=20)
        assert mine(tmp_path) == set()

    asyncio.run(run())


def test_an_engine_that_ignores_sigterm_is_killed_after_the_deadline(build, tmp_path):
    async def run():
        runtime = build(VLLAMA_SIM_FAULTS="ignore_sigterm")
        await runtime.start("e1", SPEC, START)
        await ready(runtime, "e1")
        await runtime.stop("e1", deadline_s=0.2)
        assert mine(tmp_path) == set()

    asyncio.run(run())


def test_a_killed_api_server_is_seen_at_once_and_its_orphan_keeps_the_memory_until_stop(build, tmp_path):
    async def run():
        runtime = build()
        rung = asyncio.Event()
        engine = await runtime.start("e1", SPEC, START)
        await ready(runtime, "e1")
        runtime.watch(rung.set)
        os.kill(engine.pid, signal.SIGKILL)
        await asyncio.wait_for(rung.wait(), 10)
        (seen,) = await runtime.engines()
        assert seen.exit.code == -signal.SIGKILL
        assert len(mine(tmp_path)) == 1
        assert await used_gib(runtime) == 4
        await runtime.stop("e1", deadline_s=10)
        assert mine(tmp_path) == set()
        assert await used_gib(runtime) == 0

    asyncio.run(run())


def test_the_next_manager_finds_what_the_last_one_left(build, tmp_path):
    async def run():
        first = build()
        left = await first.start("e1", SPEC, START)
        await ready(first, "e1")  # one at a time: neighbours on one device that load together spoil each other's load
        orphaned = await first.start("e2", replace(SPEC, model="org/other"), replace(START, model="org/other"))
        await ready(first, "e2")
        os.kill(orphaned.pid, signal.SIGKILL)
        wait_until(lambda: orphaned.pid not in mine(tmp_path), what="the API server to be gone")
        await first.close()
        second = build()
        await second.recover()
        found = {engine.engine_id: engine for engine in await second.engines()}
        assert found["e1"] == replace(left, adopted=True, exit=None)
        assert found["e2"].exit is not None
        assert await second.listening("e1")
        await second.stop("e2", deadline_s=10)
        await second.stop("e1", deadline_s=10)
        assert mine(tmp_path) == set()

    asyncio.run(run())


def test_the_engines_of_another_directory_are_not_ours(build, tmp_path):
    async def run():
        runtime = build()
        await runtime.start("e1", SPEC, START)
        other = LocalRuntime(
            owner=owner_of(tmp_path / "other"), logs=tmp_path, ports=range(42300, 42400),
            devices=SimulatedDeviceSource(node=NODE, directory=tmp_path / "simulated", totals=(8 * GIB,)),
            launcher=SimulatorLauncher(directory=tmp_path / "simulated", parent_env=dict(os.environ)),
        )  # fmt: skip
        await other.recover()
        assert await other.engines() == ()
        await ready(runtime, "e1")
        reading = await other.read()
        assert reading.nodes[0].devices[0].used_bytes == 4 * GIB  # what they hold counts all the same
        assert reading.measured_bytes == {}
        await runtime.stop("e1", deadline_s=10)

    asyncio.run(run())


def test_a_port_that_another_program_took_is_not_taken_for_the_engines_own(build):
    async def run():
        runtime = build(VLLAMA_SIM_LOAD_S="300")
        engine = await runtime.start("e1", SPEC, START)
        with socket.socket() as squatter:  # it is not the engine's own process that listens
            squatter.bind(("127.0.0.2", engine.port))
            squatter.listen()
            assert not await runtime.listening("e1")
        await runtime.stop("e1", deadline_s=10)

    asyncio.run(run())


def test_a_port_given_in_models_yaml_that_is_in_use_is_an_error_with_advice(build):
    async def run():
        runtime = build()
        engine = await runtime.start("e1", SPEC, START)
        fixed = replace(SPEC, model="org/fixed", launch=LaunchSpec(port=engine.port))
        with pytest.raises(RuntimeFailed, match=rf"Port {engine.port}, .* is in use\. Choose another"):
            await runtime.start("e2", fixed, START)
        await runtime.stop("e1", deadline_s=10)

    asyncio.run(run())


def test_memory_of_simulated_devices_settles(build):
    async def run():
        runtime = build()
        await runtime.start("e1", SPEC, START)
        await ready(runtime, "e1")
        assert await runtime.settled(NODE, (0,))
        await runtime.stop("e1", deadline_s=10)

    asyncio.run(run())


def test_a_driver_that_hangs_stops_whoever_asks_it_and_nobody_else(tmp_path):
    async def run():
        nvml = FakeNvml(FakeGpu(used=2 * GIB))
        devices = NvmlDevices(node=NODE, nvml=nvml, environ={}, clock=lambda: 0.0, sees_every_process=True)
        runtime = LocalRuntime(
            owner=owner_of(tmp_path), logs=tmp_path, ports=range(42300, 42400), devices=devices,
            launcher=SimulatorLauncher(directory=tmp_path, parent_env={}), read_within_s=0.05,
        )  # fmt: skip
        nvml.hangs = threading.Event()
        for _ in range(40):  # more than a pool has threads: none of them is used up by it
            with pytest.raises(RuntimeFailed, match="do not tell their memory"):
                await runtime.read()
        assert not await runtime.settled(NODE, (0,))
        assert await asyncio.to_thread(lambda: "free") == "free"
        nvml.hangs.set()
        await async_wait_until(lambda: _reads(runtime, 2 * GIB), what="memory to be read again")
        await runtime.close()

    asyncio.run(run())


async def _reads(runtime: LocalRuntime, used_bytes: int) -> bool:
    try:
        return (await runtime.read()).nodes[0].devices[0].used_bytes == used_bytes
    except RuntimeFailed:
        return False


def test_logs_of_any_model_name_stay_inside_their_directory():
    names = ["../../etc/passwd", "/abs/olute", "a" * 500, "nul\0byte", ".hidden", "org/model", "org_model", "名前"]
    assert len({log_name(name) for name in names}) == len(names)
    for name in names:
        assert "/" not in log_name(name)
        assert not log_name(name).startswith(".")
        assert len(log_name(name)) < 120


def test_two_managers_that_choose_at_the_same_moment_choose_different_ports():
    ports = range(42400, 42403)
    mine = free_port(ports, (), after=0)
    theirs = free_port(ports, (), after=0)  # no engine has bound anything yet
    assert mine.number != theirs.number
    assert claim(mine.number) is None
    mine.release()
    assert free_port(ports, (), after=0).number == mine.number
    theirs.release()


def test_what_would_be_run_is_told_without_secrets_and_nothing_is_run(build, tmp_path):
    async def test():
        runtime = build()
        spec = replace(SPEC, launch=LaunchSpec(env=(("HF_TOKEN", "hf_x"), ("MINE", "1"))))
        seen = await runtime.preview(spec, START, port=None)
        assert seen.argv[seen.argv.index("serve") + 1] == "org/chat"
        assert seen.argv[seen.argv.index("--port") + 1] == "PORT"
        env = dict(seen.env)
        assert (env["HF_TOKEN"], env["MINE"], env["CUDA_VISIBLE_DEVICES"]) == ("***", "1", "0")
        assert not {"PATH", "HOME", "VLLAMA_ENGINE"} & env.keys()
        assert "4242" in (await runtime.preview(spec, START, port=4242)).argv
        assert runtime.log_of("org/chat").path == tmp_path / "logs" / log_name("org/chat")
        assert not mine(tmp_path)
        assert not (tmp_path / "logs").exists()

    asyncio.run(test())


@contextlib.contextmanager
def no_file_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_file_descriptors_nothing_is_taken_for_gone(build, tmp_path):
    async def run():
        runtime = build()
        await runtime.start("e1", SPEC, START)
        await ready(runtime, "e1")
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(40)))  # all threads that there may be
        with no_file_descriptors():
            with pytest.raises(RuntimeFailed, match="Too many open files"):
                await runtime.start("e2", replace(SPEC, model="org/other"), START)
            with pytest.raises(RuntimeFailed, match="Too many open files"):
                await runtime.listening("e1")
            with pytest.raises(RuntimeFailed, match="Nobody can see whether the engine of org/chat is gone"):
                await runtime.stop("e1", deadline_s=1)
            assert [engine.engine_id for engine in await runtime.engines()] == ["e1"]
        assert len(await runtime.engines()) == 1
        await runtime.stop("e1", deadline_s=10)
        assert mine(tmp_path) == set()
        await runtime.start("e2", replace(SPEC, model="org/other"), START)
        await ready(runtime, "e2")
        await runtime.stop("e2", deadline_s=10)

    asyncio.run(run())


def test_what_an_engine_reads_writes_and_fetches_is_seen(build, tmp_path):
    hub = tmp_path / "hub"
    blobs = hub / "models--org--chat" / "blobs"
    blobs.mkdir(parents=True)

    async def run():
        runtime = build(VLLAMA_TRANSFORMERS_CACHE=str(hub))
        assert await runtime.moved_bytes("e1") == 0
        await runtime.start("e1", SPEC, START)
        await ready(runtime, "e1")
        before = await runtime.moved_bytes("e1")
        assert before > MIB  # what Python reads to begin
        (blobs / "abc.incomplete").write_bytes(bytes(8 * MIB))
        assert await runtime.moved_bytes("e1") >= before + 8 * MIB
        await runtime.stop("e1", deadline_s=10)

    asyncio.run(run())
