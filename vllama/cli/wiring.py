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


def _simulated(settings: Settings) -> tuple[DeviceSource, Launcher, str, str]:
    """Devices, what runs on them, how to call them, and what measurements there hold for."""
    try:
        totals = parse_devices(settings.simulate or "")
    except ValueError as error:
        raise CannotServe(f"--simulate: {error}") from error
    directory = settings.config_dir / "simulated"
    hides = settings.environ.get("VLLAMA_SIM_HIDES_PROCESSES", "0") not in {"", "0"}
    source = SimulatedDeviceSource(node=NODE, directory=directory, totals=totals, tells_processes=not hides)
    launcher = SimulatorLauncher(directory=directory, parent_env=settings.environ)
    return source, launcher, f"simulated {settings.simulate}", "simulated"


def _real(settings: Settings) -> tuple[DeviceSource, Launcher, str, str]:
    environ = settings.environ
    try:
        version = installed_version(find_vllm(None, environ))
    except EngineUnavailable as error:
        if load(settings.manifest, environ=environ).only_routes:
            return _nowhere(environ)
        raise CannotServe(f"{error}\nTo try vllama without vLLM: vllama serve --simulate 2x24GiB") from error
    platform = Platform.CUDA if version is None else platform_of(version)
    try:
        source = real_devices(platform, environ)
    except RuntimeFailed as error:
        if load(settings.manifest, environ=environ).only_routes:
            return _nowhere(environ)
        raise CannotServe(
            f"{error}\nvLLM {version or ''} is built for GPUs. Check with `nvidia-smi`.\n"
            "To run on the CPU install vLLM's CPU build; to try vllama: vllama serve --simulate 2x24GiB"
        ) from error
    on_cpu = platform is Platform.CPU
    describe = "the host's memory (vLLM's CPU build)" if on_cpu else "GPUs " + ", ".join(map(str, source.indices()))
    kinds = {device.name for node in source.read({}).nodes for device in node.devices}
    place = f"vllm {version or 'of unknown version'} | {', '.join(sorted(kinds))}"
    return source, VllmLauncher(platform=platform, cache_root=_cache_root(environ), parent_env=environ), describe, place


def _nowhere(environ: Mapping[str, str]) -> tuple[DeviceSource, Launcher, str, str]:
    """A model that is declared later is told, when it starts, what is missing."""
    launcher = VllmLauncher(platform=Platform.CPU, cache_root=_cache_root(environ), parent_env=environ)
    return HostMemory(node=NODE), launcher, "no engines of its own, only servers that others run", "nowhere"


def _cache_root(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vllm"


def real_devices(platform: Platform, environ: Mapping[str, str]) -> DeviceSource:
    """Blocks. RuntimeFailed where the driver gives us no GPU, with what to do."""
    if platform is Platform.CPU:
        return HostMemory(node=NODE)
    return NvmlDevices(
        node=NODE, nvml=pynvml, environ=environ, clock=clock.now, sees_every_process=proc.sees_every_process()
    )  # fmt: skip


def environment() -> Mapping[str, str]:
    return dict(os.environ)
