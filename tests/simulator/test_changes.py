"""Two engines that change their memory on one device at a time: vLLM survives it on neither side, so nor do these."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulator.engines import Engine
from tests.simulator.hogs import hog
from tests.waiting import wait_until
from vllama.domain.units import GIB
from vllama.simulator.changes import Changes
from vllama.simulator.devices import SimulatedDevices

Start = Callable[..., Engine]
SLOW = {"VLLAMA_SIM_SLEEP_S": "1", "VLLAMA_SIM_WAKE_S": "1"}


def launch(start: Start, devices: SimulatedDevices, **more: str) -> Engine:
    return start("--enable-sleep-mode", VLLAMA_SIM_DEVICES=str(devices.directory), **more)


def collisions(devices: SimulatedDevices) -> tuple[str, ...]:
    return Changes(devices).collisions()


def loads(devices: SimulatedDevices, engines: int = 1) -> bool:
    return sum(len(reading.claims) for reading in devices.read()) == engines


def test_two_loads_at_once_both_fail(start: Start, devices: SimulatedDevices) -> None:
    engines = [launch(start, devices, VLLAMA_SIM_LOAD_S="2") for _ in range(2)]
    for engine in engines:
        assert engine.wait_exit() == 1
        assert "AssertionError: Error in memory profiling." in engine.log()
    (only,) = collisions(devices)
    assert only.startswith("load of ")
    assert devices.read()[0].free_bytes == 4 * GIB


@pytest.mark.parametrize("path", ["/sleep", "/wake_up"])
def test_a_neighbour_that_sleeps_or_wakes_during_a_load_dies_with_it(
    start: Start, devices: SimulatedDevices, path: str
) -> None:
    neighbour = launch(start, devices, **(SLOW if path == "/sleep" else {"VLLAMA_SIM_WAKE_S": "1"})).wait_ready()
    if path == "/wake_up":
        neighbour.http.post("/sleep")
    engine = launch(start, devices, VLLAMA_SIM_LOAD_S="1")
    wait_until(lambda: loads(devices, 2), what="the load to begin")
    answer = neighbour.http.post(path)
    assert answer.status_code == 500
    assert "illegal memory access" in answer.json()["error"]["message"]
    assert (engine.wait_exit(), neighbour.wait_exit()) == (1, 0)
    assert len(collisions(devices)) == 1


def test_one_that_sleeps_while_another_wakes_takes_both_down(start: Start, devices: SimulatedDevices) -> None:
    one = launch(start, devices, **SLOW).wait_ready()
    other = launch(start, devices, **SLOW).wait_ready()
    one.http.post("/sleep")
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(each.http.post, path) for each, path in ((one, "/wake_up"), (other, "/sleep"))]
        assert [answer.result().status_code for answer in answers] == [500, 500]
    assert len(collisions(devices)) == 1


def test_a_neighbour_that_ends_during_a_load_counts_and_a_foreign_program_does_not(
    start: Start, devices: SimulatedDevices
) -> None:
    neighbour = launch(start, devices).wait_ready()
    with hog(devices, "1GiB") as program:
        wait_until(lambda: len(devices.read()[0].claims) == 2, what="the hog to hold memory")
        for ends, counted in ((program.kill, 0), (neighbour.stop, 1)):
            engine = launch(start, devices, VLLAMA_SIM_LOAD_S="1")
            engine.wait_log("Starting to load model")
            ends()
            assert engine.wait_exit() == 1
            assert "Error in memory profiling" in engine.log()
            assert len(collisions(devices)) == counted


def test_on_different_devices_nobody_is_disturbed(start: Start, devices: SimulatedDevices) -> None:
    engines = [launch(start, devices, VLLAMA_SIM_LOAD_S="0.5", CUDA_VISIBLE_DEVICES=index) for index in "01"]
    for engine in engines:
        engine.wait_ready()
    assert collisions(devices) == ()
