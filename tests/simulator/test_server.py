"""How engines end: signals, killed parts, and who is left."""

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.simulator.engines import CHAT, Engine, alive, streaming
from tests.waiting import wait_until
from vllama.domain.units import GIB
from vllama.simulator.devices import SimulatedDevices

DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_group", [False, True])
def test_a_signal_when_idle_ends_it_cleanly(start: Callable[..., Engine], number: int, to_group: bool) -> None:
    engine = start().wait_ready()
    core = engine.core_pid()
    (os.killpg if to_group else os.kill)(engine.process.pid, number)
    assert engine.wait_exit() == 0
    assert not alive(core)
    assert "[shutdown] API server: shutdown triggered" in engine.log()


def test_sigterm_with_a_stream_hangs_until_the_client_leaves(
    start: Callable[..., Engine], devices: SimulatedDevices
) -> None:
    engine = start(VLLAMA_SIM_DEVICES=str(devices.directory)).wait_ready()
    core = engine.core_pid()
    with streaming(engine, stall_s=0.5) as events:
        engine.process.terminate()
        engine.wait_log("INFO:     Waiting for connections to close. (CTRL+C to force quit)")
        assert not alive(core)  # a zombie, whose memory is free
        assert devices.read()[0].free_bytes == 4 * GIB
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{engine.port}/health")
        engine.process.terminate()
        with pytest.raises(httpx.ReadTimeout):
            list(events)  # no error, no [DONE]
        assert engine.process.poll() is None
    assert engine.wait_exit() == 0


def test_shutdown_timeout_drains(start: Callable[..., Engine]) -> None:
    engine = start("--shutdown-timeout", "20").wait_ready()
    with streaming(engine, max_tokens=300) as events:
        with httpx.Client(base_url=f"http://127.0.0.1:{engine.port}") as other:
            assert other.get("/health").status_code == 200
            engine.process.terminate()
            engine.wait_log("stopping engine client mode=drain timeout=20s")
            assert other.get("/health").status_code == 200
            refused = other.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code == 500
        assert refused.json()["error"]["message"] == "cannot schedule new futures after shutdown"
        *_, last, done = events
    assert (json.loads(last)["choices"][0]["finish_reason"], done) == ("length", "[DONE]")
    assert engine.wait_exit() == 0


def test_sigterm_to_the_group_fails_what_is_in_flight(start: Callable[..., Engine]) -> None:
    engine = start().wait_ready()
    with ThreadPoolExecutor(1) as pool:
        plain = pool.submit(engine.chat, max_tokens=4000)
        wait_until(lambda: engine.metric("vllm:num_requests_running") == 1, what="the request runs")
        os.killpg(engine.process.pid, signal.SIGTERM)
        response = plain.result(timeout=10)
    assert (response.status_code, response.json()["error"]["message"]) == (500, DEAD)
    assert engine.wait_exit() == 0


def test_a_killed_api_server_leaves_its_core(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    engine = start(VLLAMA_SIM_DEVICES=str(devices.directory)).wait_ready()
    core = engine.core_pid()
    engine.process.kill()
    assert engine.wait_exit() == -signal.SIGKILL
    assert engine.health() is None
    assert alive(core)
    assert [claim.pid for claim in devices.read()[0].claims] == [core]
    assert os.getpgid(core) == engine.process.pid
    start("--port", str(engine.port)).wait_log("Application startup complete")  # the port was free
    os.kill(core, signal.SIGKILL)
    wait_until(lambda: not alive(core), what="the orphan is gone")
    assert devices.read()[0].free_bytes == 4 * GIB


def test_a_core_left_while_loading_stays_too(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    engine = start(VLLAMA_SIM_DEVICES=str(devices.directory), VLLAMA_SIM_LOAD_S="0.2")
    engine.wait_log("Starting to load model")
    core = engine.core_pid()
    engine.process.kill()
    engine.wait_exit()
    engine.wait_log("init engine (")
    assert [claim.pid for claim in devices.read()[0].claims] == [core]
    # asked again and again: a signal that comes in the very moment in which loading ends may still be lost
    wait_until(lambda: not alive(core) or os.kill(core, signal.SIGTERM), what="the orphan ends when asked to")
    assert "Traceback" not in engine.log()


def test_a_killed_core_takes_the_api_server_with_it(start: Callable[..., Engine]) -> None:
    engine = start(VLLAMA_SIM_DEAD_S="0.5").wait_ready()
    with streaming(engine) as events:
        os.kill(engine.core_pid(), signal.SIGKILL)
        *_, error, done = events
        assert engine.health() == 503
        assert engine.chat().json()["error"]["message"] == DEAD
    assert error == (f'{{"error": {{"message": "{DEAD}", "type": "InternalServerError", "param": null, "code": 500}}}}')
    assert done == "[DONE]"
    assert engine.wait_exit() == 0


def test_a_killed_core_fails_plain_requests_and_calls(start: Callable[..., Engine]) -> None:
    engine = start("--shutdown-timeout", "1", VLLM_KEEP_ALIVE_ON_ENGINE_DEATH="1").wait_ready()
    with ThreadPoolExecutor(1) as pool:
        plain = pool.submit(engine.chat, max_tokens=4000)
        wait_until(lambda: engine.metric("vllm:num_requests_running") == 1, what="the request runs")
        os.kill(engine.core_pid(), signal.SIGKILL)
        assert plain.result(timeout=10).status_code == 500
    assert engine.http.post("/sleep").status_code == 500
    assert engine.health() == 503
    assert engine.process.poll() is None
    engine.process.terminate()
    assert engine.wait_exit() == 0


def test_a_stopped_core_hangs_what_it_should_answer(start: Callable[..., Engine]) -> None:
    engine = start().wait_ready()
    core = engine.core_pid()
    os.kill(core, signal.SIGSTOP)
    with pytest.raises(httpx.ReadTimeout):
        engine.http.post("/v1/chat/completions", json=CHAT, timeout=0.2)
    assert engine.health() == 200
    os.kill(core, signal.SIGCONT)
    assert engine.chat().status_code == 200


def test_it_notes_whom_it_serves_where_it_is_told_to(start: Callable[..., Engine], tmp_path: Path) -> None:
    engine = start(VLLAMA_SIM_SERVED=str(tmp_path / "served")).wait_ready()
    for name in ("one", "two", "one"):
        engine.http.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": name}).raise_for_status()
    engine.http.get("/v1/models", headers={"x-request-id": "three"}).raise_for_status()
    assert (tmp_path / "served").read_text().split() == ["one", "two", "one"]
