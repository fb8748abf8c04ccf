"""A real `vllama serve` as a process, for tests that look at it from outside."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.waiting import wait_until
from vllama.runtime.local import proc
from vllama.runtime.local.identity import owner_of
from vllama.simulator.changes import Changes
from vllama.simulator.devices import SimulatedDevices

QUICK = {"VLLAMA_SIM_LOAD_S": "0.2", "VLLAMA_SIM_SLEEP_S": "0.05", "VLLAMA_SIM_WAKE_S": "0.05"}


@dataclass
class Server:
    config_dir: Path
    process: subprocess.Popen
    url: str = ""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30))

    def ps(self) -> dict[str, dict]:
        """Model -> its status, as the admin API tells it."""
        return {each["model"]: each for each in self.http.get(f"{self.url}/admin/status").json()["models"]}

    def phases(self) -> dict[str, str]:
        return {model: status["phase"] for model, status in self.ps().items()}

    def plan(self, **params) -> list[dict]:
        return self.http.get(f"{self.url}/admin/plan", params=params).json()["plans"]

    def chat(self, model: str, **body) -> httpx.Response:
        body = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]} | body
        return self.http.post(f"{self.url}/v1/chat/completions", json=body)

    def ask(self, model: str, **body) -> str:
        """The text of a streamed answer, which must be a good one: whole events, one [DONE], and that last."""
        body = {"model": model, "prompt": "hello", "max_tokens": 4, "stream": True} | body
        with self.http.stream("POST", f"{self.url}/v1/completions", json=body) as answer:
            lines = [line for line in answer.iter_lines() if line]
        assert answer.status_code == 200, lines
        *events, done = [line.removeprefix("data: ") for line in lines]
        assert done == "[DONE]"
        return "".join(json.loads(event)["choices"][0]["text"] for event in events)

    def act(self, verb: str, model: str, **body) -> None:
        """As the commands do: start, stop, sleep."""
        self.http.post(f"{self.url}/admin/models/{model}/{verb}", json=body or None).raise_for_status()

    @property
    def devices(self) -> SimulatedDevices:
        return SimulatedDevices(self.config_dir / "simulated")

    def cli(self, *args: str) -> subprocess.CompletedProcess:
        return vllama(*args, "--server", self.url)

    def engines(self) -> dict[int, proc.Process]:
        """Living processes of this server's engines, children and orphans included."""
        return {pid: each for pid, (each, _) in proc.tagged(owner_of(self.config_dir)).items()}

    def log(self) -> str:
        return (self.config_dir / "serve.out").read_text()

    def terminate(self, *, deadline_s: float = 30) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(deadline_s)

    def close(self) -> None:
        """The end of a test: nothing may be left, however the test went; and no two engines were ever in each other's
        way, which vLLM does not survive.
        """
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.engines():
            os.kill(pid, signal.SIGKILL)
        assert Changes(self.devices).collisions() == ()


def environment(**more: str) -> dict[str, str]:
    """What the test's processes see: nothing of the user's vllama, and no terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VLLAMA_", "HF_"))}
    return kept | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | more


def vllama(*args: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "vllama", *args], env=environment(**env), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def serve(
    config_dir: Path, models: str, *args: str, ready: bool = True, http: httpx.Client | None = None,
    cwd: Path | None = None, program: tuple[str, ...] = ("-m", "vllama"), **env: str,
) -> Server:  # fmt: skip
    """Start a server on a free port of loopback; returns when it answers. `http`: who asks it.

    `program`: what Python runs in place of vllama itself.
    """
    config_dir.mkdir(exist_ok=True)
    (config_dir / "models.yaml").write_text(textwrap.dedent(models))
    with (config_dir / "serve.out").open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, *program, "serve", "--host", "127.0.0.1", "--port", "0",
             "--config-dir", str(config_dir), *args],
            env=environment(**(QUICK | env)), stdout=out, stderr=out, cwd=cwd,
        )  # fmt: skip
    server = Server(config_dir=config_dir, process=process)
    server.http = http or server.http
    if ready:
        with _killed_if_not(process):
            wait_until(
                lambda: _answers(server), deadline_s=60, what=f"vllama serve to answer; it said:\n{server.log()}"
            )
    return server


@contextmanager
def _killed_if_not(process: subprocess.Popen) -> Iterator[None]:
    """Nobody else knows of it yet."""
    try:
        yield
    except BaseException:
        process.kill()
        process.wait()
        raise


def _answers(server: Server) -> bool:
    assert server.process.poll() is None, f"vllama serve ended:\n{server.log()}"
    try:
        server.url = json.loads((server.config_dir / "server.pid").read_text())["url"]
        return server.http.get(f"{server.url}/health").status_code == 200
    except (OSError, ValueError, httpx.HTTPError):
        return False
