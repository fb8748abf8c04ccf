"""No engine outlives its agent unnoticed: real keepers and engines; an agent is a lock that somebody holds."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until
from vllama.domain.action import Start
from vllama.domain.spec import ModelSpec
from vllama.domain.units import GIB
from vllama.runtime import clock
from vllama.runtime.local import proc
from vllama.runtime.local.runtime import LocalRuntime
from vllama.runtime.ray.presence import AGENT, KEEPER, Lock, start_keeper
from vllama.runtime.simulated.devices import SimulatedDeviceSource
from vllama.runtime.simulated.launcher import SimulatorLauncher

SPEC = ModelSpec(model="org/chat", memory_bytes=GIB)
START = Start(model="org/chat", spec_hash="abc", node="a", devices=(0,), memory_bytes=GIB, gpu_memory_utilization=0.5)


@pytest.fixture
def owner():
    name = f"keeper{os.getpid()}"
    yield name
    for pid in proc.tagged(name):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def agent(tmp_path):
    """A process that holds the agent's lock until it is killed."""
    program = (
        "import sys, time; from pathlib import Path; from vllama.runtime.ray.presence import *;"
        "lock = Lock(Path(sys.argv[1]) / AGENT); assert lock.take(); print(flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def keep(directory: Path, owner: str, *, grace_s: float = 1.0) -> None:
    start_keeper(directory, owner, grace_s=grace_s, environ=os.environ)


def an_engine(directory: Path, owner: str, **environ: str) -> int:
    """Its pid; it loads for ever, unless told otherwise."""

    async def start() -> int:
        runtime = LocalRuntime(
            owner=owner, logs=directory / "logs", ports=range(25300, 25320),
            devices=SimulatedDeviceSource(node="a", directory=directory / "simulated", totals=(8 * GIB,)),
            launcher=SimulatorLauncher(
                directory=directory / "simulated", parent_env=dict(os.environ) | {"VLLAMA_SIM_LOAD_S": "300"} | environ
            ), node="a",
        )  # fmt: skip
        return (await runtime.start("e1", SPEC, START)).pid

    return asyncio.run(start())


def test_engines_whose_agent_is_gone_are_ended_after_the_grace_and_then_the_keeper_ends(tmp_path, owner, agent):
    keep(tmp_path, owner)
    keeps = Lock(tmp_path / KEEPER)
    wait_until(lambda: not keeps.is_free(), what="the keeper to be there")
    an_engine(tmp_path, owner)
    wait_until(lambda: len(proc.tagged(owner)) == 2, what="the engine's core to be there")
    agent.kill()
    agent.wait()
    wait_until(lambda: not proc.tagged(owner), what="the engine to be gone")
    wait_until(keeps.is_free, what="the keeper to end")
    assert "The engine of org/chat is ended." in (tmp_path / "keeper.log").read_text()


def test_an_agent_that_comes_back_in_time_keeps_its_engines(tmp_path, owner, agent):
    keep(tmp_path, owner, grace_s=2.0)
    wait_until(lambda: not Lock(tmp_path / KEEPER).is_free(), what="the keeper to be there")
    an_engine(tmp_path, owner)
    agent.kill()
    agent.wait()
    again = Lock(tmp_path / AGENT)
    assert again.take_within(10.0, clock=clock.now)
    until = clock.now() + 3.0  # longer than the grace
    wait_until(lambda: clock.now() > until)
    assert proc.tagged(owner)
    assert not Lock(tmp_path / KEEPER).is_free()
    again.release()
    wait_until(lambda: Lock(tmp_path / KEEPER).is_free(), what="the keeper to end")


def test_there_is_one_keeper(tmp_path, owner, agent):
    keep(tmp_path, owner)
    wait_until(lambda: not Lock(tmp_path / KEEPER).is_free(), what="the keeper to be there")
    keep(tmp_path, owner)
    assert len(keepers(tmp_path)) == 1
    (only,) = keepers(tmp_path)
    assert os.getsid(only) != os.getsid(0)
    agent.kill()
    wait_until(lambda: Lock(tmp_path / KEEPER).is_free(), what="the keeper to end")


def keepers(directory: Path) -> list[int]:
    return [
        each.pid for each in proc.processes()
        if "vllama.runtime.ray.keeper" in (title := proc.title_of(each.pid)) and str(directory) in title
    ]  # fmt: skip
