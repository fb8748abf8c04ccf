"""What a snapshot makes of what was read."""

import asyncio
from pathlib import Path

import httpx
import pytest

from vllama.controller.events import Events
from vllama.controller.observer import Observer
from vllama.domain.observed import Node
from vllama.domain.spec import Policy
from vllama.domain.units import GIB
from vllama.engine.client import EngineClient
from vllama.runtime.local.devices import DeviceSource
from vllama.runtime.local.host import HostMemory
from vllama.runtime.local.runtime import LocalRuntime
from vllama.runtime.simulated.devices import SimulatedDeviceSource
from vllama.runtime.simulated.launcher import SimulatorLauncher


def observed(source: DeviceSource, directory: Path, policy: Policy) -> Node:
    async def look() -> Node:
        runtime = LocalRuntime(
            owner="nobody", logs=directory, ports=range(42500, 42501), devices=source,
            launcher=SimulatorLauncher(directory=directory, parent_env={}),
        )  # fmt: skip
        async with httpx.AsyncClient() as http:
            observer = Observer(
                runtime=runtime, client=EngineClient(http), clock=lambda: 0.0, bell=lambda: None, events=Events(),
                canary_of=lambda _: None,
            )  # fmt: skip
            await observer.look()
            snapshot = observer.snapshot(
                now=0.0, policy=policy, simulated=False, operations=(), footprints={}, crashes={}
            )  # fmt: skip
        await runtime.close()
        return snapshot.nodes[0]

    return asyncio.run(look())


@pytest.mark.parametrize("asked", [None, 64 * GIB])
def test_on_the_cpu_no_policy_gives_sleepers_host_memory_beside_the_device(tmp_path, asked):
    """Their copies would lie in the memory that the device is made of: it would be counted twice."""
    node = observed(HostMemory(node="local"), tmp_path, Policy(host_memory_bytes=asked))
    assert not node.sleep_frees_memory
    assert node.host_budget_bytes == 0


def test_on_gpus_policy_says_how_much_of_the_host_sleepers_may_keep(tmp_path):
    source = SimulatedDeviceSource(node="local", directory=tmp_path, totals=(8 * GIB,))
    assert observed(source, tmp_path, Policy(host_memory_bytes=3 * GIB)).host_budget_bytes == 3 * GIB
    assert observed(source, tmp_path, Policy()).host_budget_bytes > 3 * GIB
