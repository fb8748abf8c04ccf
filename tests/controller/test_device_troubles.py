"""What people learn of a GPU that fails: an event when it comes and when it is over, and a condition in between."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pynvml

from tests.runtime.fake_nvml import FakeGpu, FakeNvml
from vllama.controller.controller import Controller
from vllama.engine.client import EngineClient
from vllama.gateway.health import health_of
from vllama.runtime.local.nvml import NvmlDevices
from vllama.runtime.local.runtime import LocalRuntime
from vllama.runtime.simulated.launcher import SimulatorLauncher


@asynccontextmanager
async def controller_of(nvml: FakeNvml, directory: Path):
    (directory / "models.yaml").write_text("policy: {only_declared: true}\n")
    devices = NvmlDevices(node="local", nvml=nvml, environ={}, clock=lambda: 0.0, sees_every_process=True)
    runtime = LocalRuntime(
        owner="nobody", logs=directory, ports=range(42500, 42501), devices=devices,
        launcher=SimulatorLauncher(directory=directory, parent_env={}),
    )  # fmt: skip
    async with httpx.AsyncClient() as http:
        controller = Controller(
            runtime=runtime, client=EngineClient(http), manifest=directory / "models.yaml", environ={},
            clock=lambda: 0.0, simulated=False,
        )  # fmt: skip
        await controller.start_up()
        yield controller
        await runtime.close()


def told(controller: Controller) -> list[tuple[str, bool]]:
    return [(event.reason, event.warning) for event in controller.events if event.reason.startswith("Device")]


def test_a_lost_gpu_shows_until_it_answers_again_and_the_others_serve(tmp_path):
    async def run():
        gpu = FakeGpu()
        async with controller_of(FakeNvml(gpu, FakeGpu(uuid="GPU-bbbb")), tmp_path) as controller:
            assert health_of(controller, in_full=True)[1]["status"] == "ok"
            gpu.fails = pynvml.NVML_ERROR_GPU_IS_LOST
            for _ in range(3):  # looked at again and again, said once
                await controller._observer.look()
            status, health = health_of(controller, in_full=True)
            assert (status, health["status"]) == (200, "degraded")
            (wrong,) = [each for each in health["conditions"] if not each["ok"]]
            assert (wrong["type"], wrong["reason"]) == ("DevicesSound", "Trouble")
            assert wrong["message"].startswith("gpu0 (NVIDIA H100) cannot be read")
            assert told(controller) == [("DeviceTrouble", True)]
            gpu.fails = None
            await controller._observer.look()
            assert health_of(controller, in_full=True)[1]["status"] == "ok"
            assert told(controller) == [("DeviceTrouble", True), ("DevicesSound", False)]

    asyncio.run(run())


def test_a_gpu_that_was_left_out_is_named_from_the_start(tmp_path):
    async def run():
        async with controller_of(FakeNvml(FakeGpu(mig=True), FakeGpu(uuid="GPU-bbbb")), tmp_path) as controller:
            (event,) = [event for event in controller.events if event.reason == "DeviceTrouble"]
            assert "gpu0 (NVIDIA H100) is left out: it is in MIG mode" in event.message

    asyncio.run(run())
