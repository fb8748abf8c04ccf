"""Where the contract of a Runtime is tried: each place gives one runtime after another over the same engines."""

import contextlib
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.runtime.ray.made_up import MadeUpCluster, end_keepers
from vllama.domain.units import GIB
from vllama.engine.platform import Platform
from vllama.runtime import clock
from vllama.runtime.base import LOCAL, Runtime
from vllama.runtime.local import proc
from vllama.runtime.local.host import HostMemory
from vllama.runtime.local.identity import owner_of
from vllama.runtime.local.launcher import VllmLauncher
from vllama.runtime.local.runtime import LocalRuntime
from vllama.runtime.ray.link import Link
from vllama.runtime.ray.runtime import RayRuntime
from vllama.runtime.ray.settings import AgentSettings, RaySettings
from vllama.runtime.simulated.devices import SimulatedDeviceSource
from vllama.runtime.simulated.launcher import SimulatorLauncher

DEVICES = "2x8GiB"
SIMULATED = {"VLLAMA_SIM_LOAD_S": "0"}
ROOT = Path(__file__).parents[3]


@dataclass
class Place(ABC):
    """`node`: the name of the one machine there. `tells_memory`: what engines hold of devices can be seen."""

    directory: Path
    ports: range
    node: str = LOCAL
    tells_memory: bool = True

    @property
    def owner(self) -> str:
        """Whose tag the engines there carry."""
        return owner_of(self.directory)

    @abstractmethod
    def build(self) -> Runtime: ...

    @asynccontextmanager
    async def manager(self) -> AsyncIterator[Runtime]:
        """A runtime as one manager has it. At its end engines stay as they are."""
        runtime = self.build()
        await runtime.recover()
        try:
            yield runtime
        finally:
            await runtime.close()

    def processes(self) -> set[int]:
        return set(proc.tagged(self.owner))

    async def end(self) -> None:
        end_keepers(self.directory)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class OnTheHost(Place):
    """Engines in the host's memory, as with vLLM's CPU build: `vllm` is a program that looks like it."""

    tells_memory: bool = False

    def build(self) -> Runtime:
        vllm = self.directory / "vllm"
        vllm.write_text(f'#!/bin/sh\nexec {sys.executable} -m vllama.simulator.engine "$@"\n')
        vllm.chmod(0o755)
        environ = dict(os.environ) | SIMULATED | {"VLLAMA_VLLM": str(vllm), "PYTHONPATH": str(ROOT)}
        return LocalRuntime(
            owner=self.owner, logs=self.directory / "logs", ports=self.ports, devices=HostMemory(node=LOCAL),
            launcher=VllmLauncher(platform=Platform.CPU, cache_root=self.directory, parent_env=environ),
        )  # fmt: skip


@dataclass
class OnMadeUpDevices(Place):
    def build(self) -> Runtime:
        directory = self.directory / "simulated"
        return LocalRuntime(
            owner=self.owner, logs=self.directory / "logs", ports=self.ports,
            devices=SimulatedDeviceSource(node=LOCAL, directory=directory, totals=(8 * GIB, 8 * GIB)),
            launcher=SimulatorLauncher(directory=directory, parent_env=dict(os.environ) | SIMULATED),
        )  # fmt: skip


@dataclass
class OnAMachineOfRay(Place):
    node: str = "alpha"

    @property
    def owner(self) -> str:
        return AgentSettings(
            owner=owner_of(self.directory), node=self.node, ray_node="", address="", version="", simulate=None,
            ports=(0, 0), grace_s=0, log_max_bytes=0, log_backups=0,
        ).engine_owner  # fmt: skip

    def built(self, link, settings: RaySettings) -> Runtime:
        return RayRuntime(
            link=link, settings=settings, owner=owner_of(self.directory), simulate=DEVICES, environ=SIMULATED,
            ports=self.ports, clock=clock.now,
        )  # fmt: skip


@dataclass
class ByAnAgent(OnAMachineOfRay):
    """All of the ray runtime but Ray."""

    cluster: MadeUpCluster = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = MadeUpCluster(self.directory / "homes", self.node)

    def build(self) -> Runtime:
        self.cluster.is_up = True
        return self.built(self.cluster, RaySettings(silence_s=10.0, grace_s=2.0))

    async def end(self) -> None:
        await self.cluster.end()
        await super().end()


@dataclass
class WithRay(OnAMachineOfRay):
    """A cluster of one machine, this one."""

    ray_directory: Path = Path()
    port: int = 0
    gpus: int = 0
    silence_s: float = 10.0
    grace_s: float = 2.0
    token: str = "0123456789abcdef" * 4

    @property
    def environ(self) -> dict[str, str]:
        """`HOME`: nothing of the user's own."""
        ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "HOME": str(self.ray_directory)}
        return dict(os.environ) | ray | {"PYTHONPATH": str(ROOT)}

    def start_ray(self, **environ: str) -> None:
        """Its socket names may not be long, so its directory must not be deep."""
        program = [str(Path(sys.executable).parent / "ray"), "start", "--head", f"--port={self.port}"]
        flags = ["--node-ip-address=127.0.0.1", f"--temp-dir={self.ray_directory}/t", f"--node-name={self.node}"]
        flags += [
            "--num-cpus=1",
            f"--num-gpus={self.gpus}",
            "--include-dashboard=false",
            "--object-store-memory=80000000",
        ]
        flags += ["--disable-usage-stats", "--include-log-monitor=false"]
        done = subprocess.run(
            [*program, *flags], env=self.environ | environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def end_ray(self) -> None:
        """Only this one: by the directory that all of its processes name."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and f"{self.ray_directory}/t".encode() in _command_of(entry):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)

    def build(self) -> Runtime:
        settings = RaySettings(address=f"127.0.0.1:{self.port}", silence_s=self.silence_s, grace_s=self.grace_s)
        log = self.directory / "logs" / "ray.log"
        return self.built(Link(settings, environ=self.environ, log=log, clock=clock.now), settings)


def _command_of(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""
