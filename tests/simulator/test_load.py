"""How engines start, and fail to."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.simulator.engines import Engine, alive, command_line
from tests.simulator.hogs import hog
from tests.waiting import wait_until
from vllama.domain.units import GIB, MIB
from vllama.simulator.devices import SimulatedDevices


def test_refused_while_loading_then_ready(start: Callable[..., Engine]) -> None:
    engine = start(VLLAMA_SIM_LOAD_S="0.3")
    engine.wait_log("Starting to load model tiny/chat...")
    assert engine.health() is None
    engine.wait_ready()
    log = engine.wait_log("INFO:     Application startup complete.")
    assert f"Starting vLLM server on http://127.0.0.1:{engine.port}\n" in log


def test_a_port_has_one_engine(start: Callable[..., Engine]) -> None:
    first = start().wait_ready()
    second = start("--port", str(first.port))
    assert second.wait_exit() == 1
    assert "OSError: [Errno 98] Address already in use" in second.log()
    assert first.health() == 200


def test_the_process_tree(start: Callable[..., Engine]) -> None:
    engine = start().wait_ready()
    core = engine.core_pid()
    assert command_line(engine.process.pid).split()[1:5] == ["-m", "vllama.simulator.engine", "serve", "tiny/chat"]
    assert os.getpgid(core) == os.getsid(core) == engine.process.pid
    assert b"SPT_NOENV=1" in Path(f"/proc/{core}/environ").read_bytes().split(b"\0")
    assert Path(f"/proc/{core}/comm").read_text() == "VLLM::EngineCor\n"


def test_the_core_holds_the_memory(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    engine = start(
        "-tp",
        "2",
        VLLAMA_SIM_DEVICES=str(devices.directory),
        VLLAMA_SIM_MEMORY="3GiB",
    ).wait_ready()
    for reading in devices.read():
        assert [(claim.pid, claim.memory_bytes) for claim in reading.claims] == [(engine.core_pid(), 3 * GIB)]


def test_only_visible_devices_are_touched(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    start(VLLAMA_SIM_DEVICES=str(devices.directory), CUDA_VISIBLE_DEVICES="1").wait_ready()
    assert [reading.free_bytes for reading in devices.read()] == [4 * GIB, 3 * GIB]


def test_lines_to_learn_from(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    engine = start("--gpu-memory-utilization", "0.75", VLLAMA_SIM_DEVICES=str(devices.directory)).wait_ready()
    log = engine.log()
    prefix = rf"\(EngineCore pid={engine.core_pid()}\) INFO \d\d-\d\d \d\d:\d\d:\d\d \[\w+\.py:\d+\] "
    for pattern in (
        r"Model loading took 0\.6 GiB memory and \d\.\d{6} seconds",
        r"Available KV cache memory: 0\.3 GiB",
        r"GPU KV cache size: 19,660 tokens, Maximum concurrency for 4,096 tokens per request: 4\.80x",
        r"Graph capturing finished in 0 secs, took 0\.05 GiB",
        r"Free memory on device \(4\.0/4\.0 GiB\) on startup\. Desired GPU memory utilization is \(0\.75, 3\.0 GiB\).*",
        r".* Actual usage is 0\.6 GiB .* Current kv cache memory in use is 0\.3 GiB\.",
        r"init engine \(profile, create kv cache, warmup model\) took \d\.\d\d s",
    ):
        assert re.search(f"^{prefix}{pattern}$", log, re.MULTILINE), pattern


def test_a_device_that_is_too_small(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    with hog(devices, "3GiB"):
        wait_until(lambda: devices.read()[0].claims, what="the hog holds memory")
        room = {"VLLAMA_SIM_DEVICES": str(devices.directory)}
        asked = start("--gpu-memory-utilization", "0.5", **room)
        needed = start(VLLAMA_SIM_MEMORY="2GiB", **room)
        assert (asked.wait_exit(), needed.wait_exit()) == (1, 1)
    text = (
        "ValueError: Free memory on device cuda:0 (1.0/4.0 GiB) on startup is less than desired GPU memory utilization "
        "(0.5, 2.0 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
    )
    for engine in (asked, needed):
        assert text in engine.log()
        assert "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}" in (
            engine.log()
        )


def test_more_than_the_device_has_left_is_out_of_memory(
    start: Callable[..., Engine], devices: SimulatedDevices
) -> None:
    engine = start(
        "--gpu-memory-utilization", "0.5", VLLAMA_SIM_DEVICES=str(devices.directory), VLLAMA_SIM_MEMORY="5GiB"
    )
    assert engine.wait_exit() == 1
    assert "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization" in engine.log()


def test_a_device_that_is_not_there(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    engine = start(VLLAMA_SIM_DEVICES=str(devices.directory), CUDA_VISIBLE_DEVICES="7")
    assert engine.wait_exit() == 1
    assert "device 7 is not there" in engine.log()


def test_a_neighbour_that_moves_spoils_the_profiling(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    with hog(devices, "1GiB") as neighbour:
        wait_until(lambda: devices.read()[0].claims, what="the hog holds memory")
        engine = start(VLLAMA_SIM_DEVICES=str(devices.directory), VLLAMA_SIM_LOAD_S="0.4")
        wait_until(lambda: devices.read()[0].free_bytes == 2 * GIB, what="the engine holds memory")
        neighbour.kill()
        assert engine.wait_exit() == 1
    text = "AssertionError: Error in memory profiling. Initial free memory 3.0 GiB, current free memory 3.0 GiB. "
    assert text in engine.log()
    assert devices.read()[0].free_bytes == 4 * GIB


def test_errors_count_visible_devices(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    room = {"VLLAMA_SIM_DEVICES": str(devices.directory), "VLLAMA_SIM_MEMORY": "5GiB"}
    engine = start(CUDA_VISIBLE_DEVICES="1", **room)
    assert engine.wait_exit() == 1
    assert "Free memory on device cuda:0 (4.0/4.0 GiB)" in engine.log()


def test_one_signal_while_loading_is_lost(start: Callable[..., Engine]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        engine = start(VLLAMA_SIM_LOAD_S="0.2")
        engine.wait_log("Starting to load model")
        engine.process.send_signal(number)
        engine.wait_ready()
        assert engine.chat().status_code == 200


def test_a_second_signal_while_loading_works(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    engine = start(VLLAMA_SIM_LOAD_S="30", VLLAMA_SIM_DEVICES=str(devices.directory))
    engine.wait_log("Starting to load model")
    core = engine.core_pid()
    engine.process.send_signal(signal.SIGTERM)
    engine.process.send_signal(signal.SIGINT)  # another one, so that the two cannot arrive as one
    assert engine.wait_exit() == -signal.SIGINT
    assert "KeyboardInterrupt: terminated" in engine.log()
    assert not alive(core)
    assert devices.read()[0].free_bytes == 4 * GIB


def test_a_core_that_loads_goes_on_loading(start: Callable[..., Engine]) -> None:
    engine = start(VLLAMA_SIM_LOAD_S="0.3")
    engine.wait_log("Starting to load model")
    os.killpg(engine.process.pid, signal.SIGTERM)
    engine.wait_log("[shutdown] EngineCore: trigger received signal=SIGTERM")
    assert engine.wait_exit() == 1
    assert "init engine (" in engine.log()


def test_uds(start: Callable[..., Engine], tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    engine = start("--uds", str(path))
    engine.wait_log("INFO:     Application startup complete.")
    assert f"Starting vLLM server on unix:{path}" in engine.log()
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://engine") as client:
        assert client.get("/health").status_code == 200
    engine.process.terminate()
    assert engine.wait_exit() == 0
    assert path.exists()  # left behind, as vLLM leaves it


def test_arguments_that_cannot_be(start: Callable[..., Engine]) -> None:
    engine = start(VLLAMA_SIM_FAULTS="explode")
    assert engine.wait_exit() == 2
    assert "error: VLLAMA_SIM_FAULTS=explode: unknown fault 'explode'; known: " in engine.log()


def test_kv_cache_bytes_are_what_was_asked_for(start: Callable[..., Engine]) -> None:
    engine = start("--kv-cache-memory-bytes", str(512 * MIB)).wait_ready()
    assert "Available KV cache memory: 0.5 GiB" in engine.log()
    assert "Replace gpu_memory_utilization config" not in engine.log()
