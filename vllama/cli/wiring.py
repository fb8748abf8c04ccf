"""The composition root: the only place that builds. Everything else is handed what it needs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pynvml

from vllama.cli.doors import Doors, DoorSettings, open_doors
from vllama.controller.controller import Controller
from vllama.controller.manifest import ManifestInvalid, load
from vllama.engine.client import EngineClient
from vllama.engine.platform import EngineUnavailable, Platform, find_vllm, installed_version, platform_of
from vllama.gateway.tls import CertificateUnusable
from vllama.gateway.wire.trust import trust
from vllama.runtime import clock
from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local import proc
from vllama.runtime.local.devices import DeviceSource
from vllama.runtime.local.host import HostMemory
from vllama.runtime.local.identity import owner_of
from vllama.runtime.local.launcher import VllmLauncher
from vllama.runtime.local.nvml import NvmlDevices
from vllama.runtime.local.runtime import NODE, Launcher, LocalRuntime
from vllama.runtime.simulated.devices import SimulatedDeviceSource
from vllama.runtime.simulated.launcher import SimulatorLauncher
from vllama.simulator.devices import parse_devices

DEFAULT_PORTS = (33300, 34300)


class CannotServe(Exception):
    """`vllama serve` cannot begin; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `vllama serve` was told. `simulate` as in `2x24GiB`; None: real devices."""

    config_dir: Path
    simulate: str | None
    environ: Mapping[str, str]
    doors: DoorSettings = field(default_factory=DoorSettings)

    @property
    def manifest(self) -> Path:
        return self.config_dir / "models.yaml"

    @property
    def ports(self) -> range:
        """Raises CannotServe where the environment says nonsense."""
        names = ("VLLAMA_VLLM_PORT_START", "VLLAMA_VLLM_PORT_END")
        try:
            first, end = (int(self.environ.get(n, d)) for n, d in zip(names, DEFAULT_PORTS, strict=True))
        except ValueError as error:
            raise CannotServe(f"{' and '.join(names)} must be port numbers: {error}.") from error
        if not 0 < first < end <= 65536:
            raise CannotServe(f"{names[0]}={first} and {names[1]}={end} leave no port for an engine.")
        return range(first, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """All that a running server is made of."""

    controller: Controller
    runtime: LocalRuntime
    doors: Doors
    http: httpx.AsyncClient
    describe: str


def build(settings: Settings) -> House:
    """Blocks (NVML, disk): call it before there is a loop to block. Raises CannotServe."""
    devices, launcher, describe, place = _simulated(settings) if settings.simulate else _real(settings)
    runtime = LocalRuntime(
        owner=owner_of(settings.config_dir), logs=settings.config_dir / "logs", ports=settings.ports,
        devices=devices, launcher=launcher,
    )  # fmt: skip
    http = httpx.AsyncClient(
        trust_env=False, verify=trust(), limits=httpx.Limits(max_connections=None, max_keepalive_connections=64)
    )
    controller = Controller(
        runtime=runtime, client=EngineClient(http), manifest=settings.manifest, environ=settings.environ,
        clock=clock.now, simulated=settings.simulate is not None, place=place, http=http,
    )  # fmt: skip
    try:
        doors = open_doors(settings.doors, settings.config_dir, controller.events)
    except (ValueError, ManifestInvalid, CertificateUnusable) as error:
        raise CannotServe(f"{error}\nNothing was started.") from error
    controller.further_conditions.extend(doors.conditions)
    return House(controller=controller, runtime=runtime, doors=doors, http=http, describe=describe)


def _machine(settings: Settings) -> Machine:
    environ = settings.environ
    try:
        if settings.simulate:
            return machine.simulated(LOCAL, settings.config_dir / "simulated", settings.simulate, environ)
        return machine.real(LOCAL, environ)
    except ValueError as error:
        raise CannotServe(f"--simulate: {error}") from error
    except machine.NothingToRunOn as error:
        if load(settings.manifest, environ=environ).only_routes:
            return machine.nowhere(LOCAL, environ)
        raise CannotServe(str(error)) from error


def real_devices(platform: Platform, environ: Mapping[str, str]) -> DeviceSource:
    """Of this machine. Blocks. RuntimeFailed where the driver gives us no GPU, with what to do."""
    return machine.real_devices(platform, environ, node=LOCAL)


def environment() -> Mapping[str, str]:
    return dict(os.environ)
