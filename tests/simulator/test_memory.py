import os

import pytest

from tests.simulator.hogs import hog
from tests.waiting import wait_until
from vllama.domain.units import GIB
from vllama.simulator.devices import Claim, OutOfMemory, SimulatedDevices
from vllama.simulator.memory import DeviceMemory
from vllama.simulator.settings import read_settings


def make_memory(devices: SimulatedDevices, **environment: str) -> DeviceMemory:
    settings = read_settings({"VLLAMA_SIM_DEVICES": str(devices.directory), **environment}, model="m")
    return DeviceMemory(settings, tensor_parallel_size=2)


def test_the_same_on_every_device(devices: SimulatedDevices) -> None:
    memory = make_memory(devices)
    memory.hold(3 * GIB)
    assert [reading.claims for reading in memory.readings()] == [(Claim(pid=os.getpid(), memory_bytes=3 * GIB),)] * 2


def test_all_or_nothing(devices: SimulatedDevices) -> None:
    memory = make_memory(devices)
    memory.hold(GIB)
    with hog(devices, "2GiB", device=1):
        wait_until(lambda: devices.read()[1].free_bytes == GIB, what="the hog holds memory")
        with pytest.raises(OutOfMemory, match="device 1"):
            memory.hold(3 * GIB)
    assert [reading.free_bytes for reading in memory.readings()] == [3 * GIB, 3 * GIB]
    assert memory.held_bytes == GIB


def test_without_devices_nothing_is_held() -> None:
    memory = DeviceMemory(read_settings({}, model="m"), tensor_parallel_size=1)
    memory.hold(10**15)
    assert list(memory.readings()) == []


def test_visible_devices_come_in_their_order(devices: SimulatedDevices) -> None:
    memory = make_memory(devices, CUDA_VISIBLE_DEVICES="1,0")
    assert [reading.index for reading in memory.readings()] == [1, 0]
