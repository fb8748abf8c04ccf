"""One test for each fault that can be switched on."""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.simulator.engines import CHAT, Engine, alive, streaming
from tests.waiting import wait_until
from vllama.domain.units import GIB, MIB
from vllama.simulator.devices import SimulatedDevices

Start = Callable[..., Engine]


def first_held(devices: SimulatedDevices) -> int:
    return sum(claim.memory_bytes for claim in devices.read()[0].claims)


def sleeper(start: Start, devices: SimulatedDevices, faults: str) -> Engine:
    room = {"VLLAMA_SIM_DEVICES": str(devices.directory), "VLLAMA_SIM_MEMORY": "2GiB", "VLLAMA_SIM_RESIDUE": "200MiB"}
    return start("--enable-sleep-mode", VLLAMA_SIM_FAULTS=faults, **room).wait_ready()


@pytest.mark.parametrize("code", [0, 1, 3])
def test_exit_at_load(start: Start, code: int) -> None:
    assert start(VLLAMA_SIM_FAULTS=f"exit_at_load:{code}").wait_exit() == code


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("oom_at_load", "torch.OutOfMemoryError: CUDA out of memory."),
        (
            "kv_error_at_load",
            "ValueError: To serve at least one request with the model's max seq len (4096), (0.6 GiB KV",
        ),
    ],
)
def test_load_errors(start: Start, fault: str, text: str) -> None:
    engine = start(VLLAMA_SIM_FAULTS=fault)
    assert engine.wait_exit() == 1
    assert text in engine.log()


def test_hang_at_load(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="hang_at_load")
    engine.wait_log("Starting to load model")
    assert engine.health() is None
    wait_until(lambda: engine.process.send_signal(signal.SIGTERM) or engine.process.poll(), what="the engine ends")


def test_health_never(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="health_never")
    wait_until(lambda: engine.health() is not None, what="the port opens")
    assert engine.health() == 503
    assert engine.http.get("/v1/models").status_code == 200


def test_health_flaps(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="health_flaps")
    for status in (200, 503, 200):
        wait_until(lambda status=status: engine.health() == status, what=f"/health says {status}")


def test_sleep_frees_nothing(start: Start, devices: SimulatedDevices) -> None:
    engine = sleeper(start, devices, "sleep_frees_nothing")
    assert engine.http.post("/sleep").status_code == 200
    assert engine.http.get("/is_sleeping").json() == {"is_sleeping": True}
    assert first_held(devices) == 2 * GIB
    assert "Sleep mode freed 0.0 GiB memory" in engine.log()


def test_sleep_hangs(start: Start, devices: SimulatedDevices) -> None:
    engine = sleeper(start, devices, "sleep_hangs")
    for method, path in (("POST", "/sleep"), ("GET", "/is_sleeping")):
        with pytest.raises(httpx.ReadTimeout):
            engine.http.request(method, path, timeout=0.2)
    assert engine.health() == 200


def test_wake_hangs(start: Start, devices: SimulatedDevices) -> None:
    engine = sleeper(start, devices, "wake_hangs")
    engine.http.post("/sleep")
    for method, path in (("POST", "/wake_up"), ("GET", "/is_sleeping")):
        with pytest.raises(httpx.ReadTimeout):
            engine.http.request(method, path, timeout=0.2)
    assert engine.health() == 200


def test_sleep_exits(start: Start, devices: SimulatedDevices) -> None:
    engine = sleeper(start, devices, "sleep_exits")
    assert engine.http.post("/sleep").status_code == 500
    assert engine.wait_exit() == 0
    assert first_held(devices) == 0


def test_wake_500(start: Start, devices: SimulatedDevices) -> None:
    engine = sleeper(start, devices, "wake_500")
    engine.http.post("/sleep")
    response = engine.http.post("/wake_up")
    assert response.status_code == 500
    assert response.json()["error"]["message"].startswith(
        "Call to wake_up method failed: CUDA Error: out of memory at "
    )
    assert engine.wait_exit() == 0


def test_wake_garbage(start: Start, devices: SimulatedDevices) -> None:
    engine = sleeper(start, devices, "wake_garbage")
    assert engine.text(max_tokens=3) != "!!!"
    engine.http.post("/sleep")
    assert engine.http.post("/wake_up").status_code == 200
    assert engine.text(max_tokens=3) == "!!!"
    engine.http.post("/collective_rpc", json={"method": "reload_weights"})
    assert engine.text(max_tokens=3) == "!!!"


def sleeps(engine: Engine) -> bool:
    return engine.http.get("/is_sleeping").json()["is_sleeping"]


def test_denies_sleep(start: Start, devices: SimulatedDevices) -> None:
    engine = sleeper(start, devices, "denies_sleep")
    assert engine.http.post("/sleep").status_code == 200
    assert not sleeps(engine)
    assert first_held(devices) == 200 * MIB


def test_denies_wake(start: Start, devices: SimulatedDevices) -> None:
    engine = sleeper(start, devices, "denies_wake")
    assert not sleeps(engine)
    engine.http.post("/sleep")
    assert engine.http.post("/wake_up").json()["status"] == "awake"
    assert sleeps(engine)
    assert first_held(devices) == 2 * GIB


def test_residue_grows(start: Start, devices: SimulatedDevices) -> None:
    engine = sleeper(start, devices, "residue_grows:256MiB")
    held = []
    for _ in range(3):
        engine.http.post("/sleep")
        held.append(first_held(devices))
        engine.http.post("/wake_up")
        assert first_held(devices) == 2 * GIB
    assert held == [200 * MIB, 456 * MIB, 712 * MIB]


def test_ignore_sigterm(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="ignore_sigterm").wait_ready()
    core = engine.core_pid()
    for _ in range(3):
        os.killpg(engine.process.pid, signal.SIGTERM)
        assert engine.chat().status_code == 200
    assert alive(core)
    assert engine.process.poll() is None


def test_completions_hang(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="completions_hang").wait_ready()
    with pytest.raises(httpx.ReadTimeout):
        engine.http.post("/v1/chat/completions", json=CHAT, timeout=0.2)
    assert engine.health() == 200


def test_die_mid_stream(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="die_mid_stream:5").wait_ready()
    assert engine.chat(max_tokens=4).status_code == 200
    with streaming(engine) as events:
        *words, error, done = events
    assert (len(words), done) == (4, "[DONE]")
    assert error.startswith('{"error": ')
    assert engine.wait_exit() == 0


def test_die_before_the_first_byte(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="die_mid_stream:0").wait_ready()
    assert engine.chat().status_code == 500
    assert engine.wait_exit() == 0


def test_log_flood(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="log_flood").wait_ready()
    wait_until(lambda: engine.log_path.stat().st_size > 1 << 20, what="a MiB of log")
    assert b"\xff\xfe" in engine.log_path.read_bytes()
    assert engine.chat().status_code == 200


def test_log_halves(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="log_halves").wait_ready()
    log = engine.log_path.read_bytes()
    assert b"\x00\xff\xfe no text" in log
    assert b"Model loading took" in log  # whole in the end


def raw_answer(engine: Engine, path: str = "/v1/chat/completions") -> bytes:
    """What comes over the wire until the connection ends."""
    body = b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 9, "stream": true}'
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as connection:
        connection.sendall(f"{head}connection: close\r\n\r\n".encode() + body)
        pieces = []
        with suppress(ConnectionResetError):
            while piece := connection.recv(1 << 20):
                pieces.append(piece)
    return b"".join(pieces)


def test_not_http(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="not_http").wait_ready()
    assert raw_answer(engine).startswith(b"SSH-2.0-")
    with pytest.raises(httpx.RemoteProtocolError):
        engine.chat()
    assert engine.health() == 200


def test_huge_header(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="huge_header").wait_ready()
    assert b"x-huge: " + b"A" * 10_000_000 in raw_answer(engine)
    assert engine.health() == 200


def test_long_line(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="long_line").wait_ready()
    assert b"data: " + b"A" * 10_000_000 in raw_answer(engine)
    assert engine.health() == 200


def test_die_mid_utf8(start: Start, devices: SimulatedDevices) -> None:
    engine = start(VLLAMA_SIM_FAULTS="die_mid_utf8:3", VLLAMA_SIM_DEVICES=str(devices.directory)).wait_ready()
    answer = raw_answer(engine)
    assert answer.count(b"data: ") == 4
    assert answer.rstrip(b"\r\n").endswith("café".encode()[:-1])
    assert engine.wait_exit() == -signal.SIGKILL
    wait_until(lambda: first_held(devices) == 0, what="the core is gone too")


def test_die_after_done(start: Start) -> None:
    engine = start(VLLAMA_SIM_FAULTS="die_after_done").wait_ready()
    answer = raw_answer(engine)
    assert b"data: [DONE]\n\n" in answer
    assert not answer.endswith(b"0\r\n\r\n")  # the end of the body never came
    assert engine.wait_exit() == -signal.SIGKILL


def test_own_session(start: Start, devices: SimulatedDevices) -> None:
    engine = start(VLLAMA_SIM_FAULTS="own_session", VLLAMA_SIM_DEVICES=str(devices.directory)).wait_ready()
    core = engine.core_pid()
    assert os.getsid(core) == os.getpgid(core) == core != engine.process.pid
    os.killpg(engine.process.pid, signal.SIGKILL)
    engine.wait_exit()
    assert alive(core)
    assert first_held(devices) == GIB
    os.kill(core, signal.SIGKILL)


def test_double_fork(start: Start, devices: SimulatedDevices) -> None:
    engine = start(VLLAMA_SIM_FAULTS="double_fork", VLLAMA_SIM_DEVICES=str(devices.directory)).wait_ready()
    (core,) = (claim.pid for claim in devices.read()[0].claims)
    assert Path(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children").read_text() == ""
    assert os.getpgid(core) == engine.process.pid
    assert engine.chat().status_code == 200
    os.kill(core, signal.SIGKILL)
    assert engine.wait_exit() == 0


@pytest.mark.parametrize("fault", ["oom_at_load", "exit_at_load:3"])
def test_a_double_fork_that_fails_to_load(start: Start, fault: str) -> None:
    engine = start(VLLAMA_SIM_FAULTS=f"double_fork,own_session,{fault}")
    assert engine.wait_exit() == (3 if ":" in fault else 1)
