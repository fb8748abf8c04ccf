"""The composition root: the only place that builds. Everything else is handed what it needs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from vllama.cli.doors import Doors, DoorSettings, open_doors
from vllama.cli.logging import LogSettings
from vllama.controller.controller import Controller
from vllama.controller.manifest import ManifestInvalid, load
from vllama.domain.units import parse_duration
from vllama.engine.client import EngineClient
from vllama.engine.platform import Platform
from vllama.gateway.tls import CertificateUnusable
from vllama.gateway.wire.trust import trust
from vllama.runtime import clock, machine
from vllama.runtime.base import LOCAL, Runtime, RuntimeFailed
from vllama.runtime.local.devices import DeviceSource
from vllama.runtime.local.identity import owner_of
from vllama.runtime.local.runtime import LocalRuntime
from vllama.runtime.machine import Machine
from vllama.runtime.ray.link import Link
from vllama.runtime.ray.runtime import RayRuntime
from vllama.runtime.ray.settings import GRACE_S, SILENCE_S, RaySettings
from vllama.runtime.ray.transport import AgentTransport
from vllama.simulator.devices import parse_devices

DEFAULT_PORTS = (33300, 34300)


class CannotServe(Exception):
    """`vllama serve` cannot begin; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `vllama serve` was told. `simulate` as in `2x24GiB`; None: real devices. `ray` None: this machine only."""

    config_dir: Path
    simulate: str | None
    environ: Mapping[str, str]
    doors: DoorSettings = field(default_factory=DoorSettings)
    ray: RaySettings | None = None

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
    runtime: Runtime
    doors: Doors
    http: httpx.AsyncClient
    describe: str


def build(settings: Settings) -> House:
    """Blocks (NVML, disk): call it before there is a loop to block. Raises CannotServe."""
    transports: dict[str, httpx.AsyncBaseTransport | None] = {}
    if settings.ray is None:
        runtime, describe, place = _local(settings)
    else:
        runtime, describe, place = _ray(settings, settings.ray)
        transports["agent://"] = AgentTransport(runtime)
    http = httpx.AsyncClient(
        trust_env=False, verify=trust(), limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        mounts=transports,
    )  # fmt: skip
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


def _local(settings: Settings) -> tuple[Runtime, str, str]:
    here = _machine(settings)
    runtime = LocalRuntime(
        owner=owner_of(settings.config_dir), logs=settings.config_dir / "logs", ports=settings.ports,
        devices=here.devices, launcher=here.launcher,
    )  # fmt: skip
    return runtime, here.describe, here.place


def _ray(settings: Settings, ray: RaySettings) -> tuple[RayRuntime, str, str]:
    """What measurements hold for is not told apart by node: machines of one cluster are taken to be alike."""
    if settings.simulate:
        try:
            parse_devices(settings.simulate)
        except ValueError as error:
            raise CannotServe(f"--simulate: {error}") from error
    try:
        link = Link(ray, environ=settings.environ, log=settings.config_dir / "logs" / "ray.log", clock=clock.now)
        runtime = RayRuntime(
            link=link, settings=ray, owner=owner_of(settings.config_dir), simulate=settings.simulate,
            environ=settings.environ, ports=settings.ports, clock=clock.now,
        )  # fmt: skip
    except RuntimeFailed as error:
        raise CannotServe(str(error)) from error
    each = f"simulated {settings.simulate} on each machine" if settings.simulate else "the machines"
    return runtime, f"{each} of the Ray cluster at {ray.address}", "simulated" if settings.simulate else "cluster"


def ray_settings(*, address: str, insecure: bool, environ: Mapping[str, str], logs: LogSettings) -> RaySettings:
    """Raises CannotServe where the environment says nonsense."""
    try:
        silence_s, grace_s = (
            parse_duration(environ.get(name) or str(usual))
            for name, usual in (("VLLAMA_RAY_SILENCE", SILENCE_S), ("VLLAMA_RAY_GRACE", GRACE_S))
        )
    except ValueError as error:
        raise CannotServe(f"VLLAMA_RAY_SILENCE or VLLAMA_RAY_GRACE: {error}") from error
    return RaySettings(
        address=address, insecure=insecure, silence_s=silence_s, grace_s=grace_s, log_max_bytes=logs.max_bytes,
        log_backups=logs.backup_count,
    )  # fmt: skip


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
