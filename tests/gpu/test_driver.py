"""The driver as it is here: what vllama reads of it is what it says, and who holds what can be told or is unknown."""

import time

import pynvml
import pytest

from tests.gpu.rig import GIVEN, SAME_BYTES, rig
from vllama.domain.units import format_bytes
from vllama.runtime.local import proc
from vllama.runtime.local.nvml import NvmlDevices

MODELS = "models: {{gpu/dummy: {{path: {dummy}, devices: [{gpu}], memory: 8GiB, extra_args: {{load-format: dummy}}}}}}"


@pytest.fixture(scope="module")
def devices(gauge):
    return NvmlDevices(
        node="local", nvml=pynvml, environ=GIVEN, clock=time.monotonic, sees_every_process=proc.sees_every_process()
    )  # fmt: skip


def test_memory_is_what_the_driver_says(devices, gauge):
    (node,) = devices.read({}).nodes
    for device in node.devices:
        assert abs(device.used_bytes - gauge.used_bytes(device.index)) < SAME_BYTES
        holders = [(each.pid, each.name, each.memory_bytes) for each in device.foreign]
        sizes = f"{format_bytes(device.used_bytes)} of {format_bytes(device.total_bytes)}"
        print(f"\ngpu{device.index} {device.name}: {sizes}, the host's own: {device.unified}; held by {holders}")
    print(f"linked: {node.linked}; every process is seen: {proc.sees_every_process()}")
    assert devices.used().keys() == set(devices.indices()) == set(gauge.indices)


def test_what_an_engine_holds_is_what_the_gpu_has_more_or_is_unknown(vllm, gauge, models, devices, tmp_path):
    with rig(tmp_path / "config", gauge, vllm, MODELS.format(gpu=gauge.indices[0], **models)) as running:
        empty = running.used_bytes()
        running.ask("gpu/dummy")
        reading = devices.read({running.server.ps()["gpu/dummy"]["pid"]: "it"})
        held, told = running.used_bytes() - empty, reading.measured_bytes.get("it")
        print(f"\nthe engine: {format_bytes(held)} by the GPU, {told and format_bytes(told)} by the list of processes")
        assert told is None or abs(told - held) < SAME_BYTES
        assert told is not None or not proc.sees_every_process()
