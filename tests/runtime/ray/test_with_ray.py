"""What only Ray itself can show, on a cluster of one machine with made-up GPUs: leases, restarts, tokens."""

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.runtime.contract.places import WithRay
from tests.runtime.contract.test_contract import SPEC, ready, start
from tests.waiting import async_wait_until
from vllama.domain.observed import NodeState
from vllama.runtime.base import Runtime, RuntimeFailed

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300), pytest.mark.skipif(not find_spec("ray"), reason="no Ray here")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[WithRay]:
    directory = Path(tempfile.mkdtemp(prefix="vr-", dir="/tmp"))
    here = WithRay(
        directory=directory,
        ports=range(26000, 26100),
        ray_directory=directory,
        port=free_port(),
        gpus=2,
        silence_s=1.0,
        grace_s=60.0,
    )
    here.start_ray()
    yield here
    asyncio.run(here.end())
    here.end_ray()
    shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Job:
    """Another program of the cluster, which does one thing at a word."""

    def __init__(self, cluster: WithRay, program: str) -> None:
        begin = f"import ray; ray.init('127.0.0.1:{cluster.port}', namespace='vllama', log_to_driver=False)\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", begin + program], env=cluster.environ, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


TAKE = """
from ray.util import placement_group
group = placement_group([{"GPU": 1}])
print("has" if group.wait(float(%s)) else "has not", flush=True)
input()
"""


async def state(runtime: Runtime) -> tuple[NodeState, str]:
    (node,) = (await runtime.read()).nodes
    return node.state, node.said


def test_gpus_are_leased_while_vllama_is_there_and_given_back_when_nothing_is_left(cluster: WithRay) -> None:
    async def run() -> None:
        async with cluster.manager() as runtime:
            assert await state(runtime) == (NodeState.READY, "")
            other = Job(cluster, TAKE % 3)
            assert await asyncio.to_thread(other.says) == "has not"
            other.end()
        other = Job(cluster, TAKE % 30)
        assert await asyncio.to_thread(other.says) == "has"
        async with cluster.manager() as runtime:  # waits for what others hold, and says so
            found, said = await state(runtime)
            assert found is NodeState.LOST
            assert said == "Ray does not give vllama its 2 GPUs: other jobs of Ray hold some of them (`ray status`)."
            other.end()

            async def is_ready() -> bool:
                return (await state(runtime))[0] is NodeState.READY

            await async_wait_until(is_ready, deadline_s=60, what="the machine to be ready")

    asyncio.run(run())


KILL = 'ray.kill(ray.get_actor("vllama-agent-alpha"), no_restart=%s); print("done", flush=True)'


@pytest.mark.parametrize("for_good", [False, True], ids=["it crashes", "it is killed for good"])
def test_an_engine_does_not_notice_that_its_agent_is_started_anew(cluster: WithRay, for_good: bool) -> None:
    async def run() -> None:
        async with cluster.manager() as runtime:
            engine = await runtime.start("e1", SPEC, start(cluster))
            await ready(runtime, "e1")
            killer = Job(cluster, KILL % for_good)
            assert await asyncio.to_thread(killer.says) == "done"
            killer.process.wait()

            async def is_adopted() -> bool:
                engines = [(each.pid, each.adopted) for each in await runtime.engines()]
                return (await state(runtime))[0] is NodeState.READY and engines == [(engine.pid, True)]

            await async_wait_until(is_adopted, deadline_s=90, what="the next agent to adopt the engine")
            (found,) = await runtime.engines()
            assert (found.exit, found.adopted) == (None, True)
            assert await runtime.listening("e1")
            await runtime.stop("e1", deadline_s=10)
            assert cluster.processes() == set()

    asyncio.run(run())


def test_who_has_another_token_is_told(cluster: WithRay) -> None:
    async def run() -> None:
        stranger = WithRay(
            directory=cluster.directory, ports=cluster.ports, ray_directory=cluster.ray_directory, port=cluster.port,
            token="f" * 64,
        )  # fmt: skip
        with pytest.raises(RuntimeFailed, match="cannot be joined: it does not take this token"):
            await stranger.build().recover()

    asyncio.run(run())


def test_a_cluster_that_lets_everybody_in_is_not_joined_unless_that_is_said() -> None:
    directory = Path(tempfile.mkdtemp(prefix="vr-", dir="/tmp"))
    here = WithRay(directory=directory, ports=range(1), ray_directory=directory, port=free_port())

    async def run() -> None:
        with pytest.raises(RuntimeFailed, match="lets in whoever comes, without a token"):
            await here.build().recover()

    here.start_ray(RAY_AUTH_MODE="disabled")
    try:
        asyncio.run(run())
    finally:
        here.end_ray()
        shutil.rmtree(directory, ignore_errors=True)
