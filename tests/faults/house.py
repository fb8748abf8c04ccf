"""A `vllama serve` with everything that it could touch around it, each in a place of its own."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults import wall_clock
from tests.whole.server import Server, environment, serve

VICTIM, RIVAL = "org/victim", "org/rival"  # one device, where only one of them fits awake
STEADY, STREAMING = "org/steady", "org/streaming"  # the other device
DEVICES = "2x8GiB"
REPOSITORY = Path(__file__).parents[2]
BASE: dict[str, Any] = {
    "policy": {
        "sleep_deadline": "2s", "wake_deadline": "2s", "stop_deadline": "1s", "drain_deadline": "10s",
        "probe_deadline": "2s", "fairness": "2s",
    },
    "defaults": {"memory": "6GiB", "devices": [0]},
    "models": {
        STEADY: {"memory": "2GiB", "devices": [1]},
        STREAMING: {"memory": "2GiB", "devices": [1]},
        VICTIM: {},
        RIVAL: {},
    },
}  # fmt: skip


class House:
    """`root` holds all of it: `config` is vllama's, `home` and `cwd` are to stay empty, `served` says who was asked."""

    def __init__(
        self, root: Path, *args: str, simulate: str | None = DEVICES, program: tuple[str, ...] = ("-m", "vllama"),
        clocked: bool = False, **env: str,
    ) -> None:  # fmt: skip
        self.root, self.args, self.env, self.program = root, args, env, program
        self.simulate = () if simulate is None else ("--simulate", simulate)
        self.config_dir, self.served = root / "config", root / "served"
        for name in ("home", "cwd"):
            (root / name).mkdir(parents=True)
        if clocked:
            self.env |= wall_clock.environment(root / "clock")
        self._numbers = itertools.count(1)
        self.server: Server | None = None
        self.starts = 0

    def start(self, config: dict[str, Any] = BASE) -> Server:
        if not self.simulate:  # what else would be run
            self.env["VLLAMA_VLLM"] = str(stand_in(self.root / "bin"))
        quick = {"VLLAMA_SIM_RESIDUE": "100MiB", "VLLAMA_SIM_TOKEN_S": "0.01", "VLLAMA_LOG_MAX_SIZE": "1"}
        self.server = serve(
            self.config_dir, json.dumps(config), *self.simulate, *self.args, cwd=self.root / "cwd",
            program=self.program, FAULTS_ELSEWHERE=str(self.root / "elsewhere"),
            PYTHONPATH=str(REPOSITORY), HOME=str(self.root / "home"), VLLAMA_SIM_SERVED=str(self.served),
            **(quick | self.env),
        )  # fmt: skip
        self.starts += 1
        return self.server

    @property
    def up(self) -> Server:
        if self.server is None or self.server.process.poll() is not None:
            raise AssertionError(f"vllama serve has ended: {self.log()[-3000:]}")
        return self.server

    @property
    def up_or_ended(self) -> Server:
        assert self.server is not None
        return self.server

    @property
    def is_up(self) -> bool:
        return self.server is not None and self.server.process.poll() is None

    def run_once(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`vllama serve` where it is expected to end by itself."""
        return subprocess.run(
            [sys.executable, "-m", "vllama", "serve", "--port", "0", "--config-dir", str(self.config_dir), *args],
            env=environment(PYTHONPATH=str(REPOSITORY), **env), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def kill(self) -> None:
        """As the kernel does: nothing is cleaned up."""
        server = self.up
        server.process.kill()
        server.process.wait()
        server.http.close()

    def write(self, config: dict[str, Any]) -> None:
        """By rename, as careful editors do."""
        fresh = self.config_dir / "models.yaml.fresh"
        fresh.write_text(json.dumps(config))
        fresh.replace(self.config_dir / "models.yaml")

    def bend(self, **how: object) -> None:
        """What `elsewhere` makes of the clock and the driver, from now on."""
        fresh = self.root / "elsewhere.fresh"
        fresh.write_text(json.dumps(how))
        fresh.replace(self.root / "elsewhere")

    def set_clock(self, hours: int) -> None:
        """How far its wall clock, and that of all that it starts, is off."""
        wall_clock.set_by(self.root / "clock", 3600 * hours)

    def next_id(self) -> str:
        return f"{os.getpid()}-{next(self._numbers)}"

    def times_served(self) -> Counter[str]:
        """Request id -> how many engines, or how often one, began to answer it."""
        try:
            return Counter(self.served.read_text().split())
        except FileNotFoundError:
            return Counter()

    def log(self) -> str:
        try:
            return (self.config_dir / "serve.out").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def events(self, name: str, model: str | None = None, *, since: int = 0) -> list[str]:
        """The messages of the log's lines of one kind, from a length of the log on."""
        lines = (json.loads(line) for line in self.log()[since:].splitlines() if line.startswith("{"))
        return [each["message"] for each in lines if each["event"] == name and model in {None, each.get("model")}]

    def memory_bytes(self) -> int:
        """Resident memory of vllama itself."""
        status = Path(f"/proc/{self.up.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.up.process.pid}/fd").iterdir()))

    def close(self) -> None:
        if self.server is not None:
            self.server.close()


def stand_in(directory: Path) -> Path:
    """A `vllm` for where there are no simulated devices."""
    directory.mkdir(exist_ok=True)
    program = directory / "vllm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vllama.simulator.engine "$@"\n')
    program.chmod(0o755)
    return program


def stranger() -> subprocess.Popen[bytes]:
    """A process that has nothing to do with vllama."""
    pauses = [sys.executable, "-c", "import signal; signal.pause()"]
    return subprocess.Popen(pauses, env={"PATH": os.environ["PATH"]}, start_new_session=True)


def kill(*pids: int, number: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
