"""Simulated engines as real processes, for tests."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import wait_until
from vllama.simulator.devices import SimulatedDevices, parse_devices, process_start_time

CHAT = {"messages": [{"role": "user", "content": "tell me something"}]}
_FAST = {
    "VLLAMA_SIM_LOAD_S": "0",
    "VLLAMA_SIM_SLEEP_S": "0",
    "VLLAMA_SIM_WAKE_S": "0",
    "VLLAMA_SIM_TOKEN_S": "0.002",
    "VLLAMA_SIM_DEAD_S": "0.2",
    "VLLM_SERVER_DEV_MODE": "1",
    "SPT_NOENV": "1",
}


class Engine:
    """One engine, its log, and a client for it. `patience_s` bounds every wait for it."""

    def __init__(
        self, process: subprocess.Popen[bytes], hold: socket.socket, log_path: Path, *, patience_s: float = 10
    ) -> None:
        self.process = process
        self._hold = hold
        self.port = port = int(hold.getsockname()[1])
        self.log_path = log_path
        self.patience_s = patience_s
        # No connection twice: none can then be found just being closed by a busy engine.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=patience_s, limits=limits)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def health(self) -> int | None:
        """The status, or None while connections are refused."""
        try:
            return self.http.get("/health").status_code
        except httpx.TransportError:
            return None

    def wait_ready(self) -> "Engine":
        def answers() -> bool:
            assert self.process.poll() is None, f"the engine ended with {self.process.returncode}:\n{self.log()}"
            return self.health() == 200

        wait_until(answers, deadline_s=self.patience_s, what="the engine answers /health with 200")
        return self

    def wait_log(self, text: str) -> str:
        wait_until(lambda: text in self.log(), deadline_s=self.patience_s, what=f"the log says {text!r}")
        return self.log()

    def wait_exit(self) -> int:
        wait_until(lambda: self.process.poll() is not None, deadline_s=self.patience_s, what="the engine ends")
        return self.process.wait()

    def core_pid(self) -> int:
        """The living child titled VLLM::EngineCore."""

        def find() -> int | None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return next((int(child) for child in children if command_line(int(child)) == "VLLM::EngineCore"), None)

        return wait_until(find, deadline_s=self.patience_s, what="the engine has its core")

    def chat(self, **more: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=CHAT | more)

    def text(self, **more: Any) -> str:
        return self.chat(**more).json()["choices"][0]["message"]["content"]

    def metric(self, name: str, label: str = "") -> float:
        """The first sample of a family that carries the label."""
        lines = self.http.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(name + "{") and label in line).split()[-1])

    def stop(self) -> None:
        self.http.close()
        self._hold.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def streaming(engine: Engine, *, stall_s: float = 10, **more: Any) -> Iterator[Iterator[str]]:
    """A chat stream that has begun: the events after the first one with text. ReadTimeout if it stalls."""
    body = CHAT | {"stream": True, "max_tokens": 4000} | more
    with engine.http.stream("POST", "/v1/chat/completions", json=body, timeout=stall_s) as response:
        assert response.status_code == 200
        events = sse_events(response)
        next(events)
        assert json.loads(next(events))["choices"][0]["delta"]["content"]
        yield events


def sse_events(response: httpx.Response) -> Iterator[str]:
    return (line.removeprefix("data: ") for line in response.iter_lines() if line)


def launch(log_path: Path, *arguments: str, model: str = "tiny/chat", **environment: str) -> Engine:
    """Start an engine in a session of its own, without waiting for it."""
    program = [sys.executable, "-m", "vllama.simulator.engine"]
    return run_engine(program, log_path, [model, *arguments], _FAST | environment, patience_s=10)


def run_engine(
    program: Sequence[str | Path],
    log_path: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    patience_s: float,
) -> Engine:
    """`program serve` with these arguments on a free port, in a session of its own."""
    hold = held_port()
    port = hold.getsockname()[1]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*program, "serve", arguments[0], "--port", str(port), "--host", "127.0.0.1", *arguments[1:]],
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    return Engine(process, hold, log_path, patience_s=patience_s)


def make_devices(directory: Path, totals: str) -> SimulatedDevices:
    devices = SimulatedDevices(directory)
    devices.create(parse_devices(totals))
    return devices


def held_port() -> socket.socket:
    """Bound, so that the kernel gives the port to nobody who connects somewhere; one may listen there all the same."""
    hold = socket.socket()
    hold.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    hold.bind(("127.0.0.1", 0))
    return hold


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    return process_start_time(pid) is not None
