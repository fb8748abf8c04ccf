"""What this machine has to run engines on, and what runs them: real, or made up. Looked at once, where it starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pynvml

from vllama.engine.platform import EngineUnavailable, Platform, find_vllm, installed_version, platform_of
from vllama.runtime import clock
from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local import proc
from vllama.runtime.local.devices import DeviceSource
from vllama.runtime.local.host import HostMemory
from vllama.runtime.local.launcher import VllmLauncher
from vllama.runtime.local.nvml import NvmlDevices
from vllama.runtime.local.runtime import Launcher
from vllama.runtime.simulated.devices import SimulatedDeviceSource
from vllama.runtime.simulated.launcher import SimulatorLauncher
from vllama.simulator.devices import parse_devices


class NothingToRunOn(RuntimeFailed):
    """There is no vLLM here, or none of the devices that it is built for. The text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`describe`: what it is, for people. `place`: what measurements there hold for."""

    devices: DeviceSource
    launcher: Launcher
    describe: str
    place: str


def simulated(node: str, directory: Path, devices: str, environ: Mapping[str, str]) -> Machine:
    """`devices` as in `2x24GiB`, kept in `directory`. Blocks. ValueError says what is wrong with it."""
    totals = parse_devices(devices)
    hides = environ.get("VLLAMA_SIM_HIDES_PROCESSES", "0") not in {"", "0"}
    return Machine(
        devices=SimulatedDeviceSource(node=node, directory=directory, totals=totals, tells_processes=not hides),
        launcher=SimulatorLauncher(directory=directory, parent_env=environ),
        describe=f"simulated {devices}", place="simulated",
    )  # fmt: skip


def real(node: str, environ: Mapping[str, str]) -> Machine:
    """Blocks (vLLM's files, NVML). NothingToRunOn says what is missing."""
    try:
        version = installed_version(find_vllm(None, environ))
    except EngineUnavailable as error:
        raise NothingToRunOn(f"{error}\nTo try vllama without vLLM: vllama serve --simulate 2x24GiB") from error
    platform = Platform.CUDA if version is None else platform_of(version)
    try:
        devices = real_devices(platform, environ, node=node)
    except RuntimeFailed as error:
        raise NothingToRunOn(
            f"{error}\nvLLM {version or ''} is built for GPUs. Check with `nvidia-smi`.\n"
            f"To run on the CPU install vLLM's CPU build; to try vllama: vllama serve --simulate 2x24GiB"
        ) from error
    on_cpu = platform is Platform.CPU
    describe = "the host's memory (vLLM's CPU build)" if on_cpu else "GPUs " + ", ".join(map(str, devices.indices()))
    kinds = {device.name for each in devices.read({}).nodes for device in each.devices}
    return Machine(
        devices=devices, launcher=VllmLauncher(platform=platform, cache_root=_cache_root(environ), parent_env=environ),
        describe=describe, place=f"vllm {version or 'of unknown version'} | {', '.join(sorted(kinds))}",
    )  # fmt: skip


def nowhere(node: str, environ: Mapping[str, str]) -> Machine:
    """A model that is declared later is told, when it starts, what is missing."""
    launcher = VllmLauncher(platform=Platform.CPU, cache_root=_cache_root(environ), parent_env=environ)
    describe = "no engines of its own, only servers that others run"
    return Machine(devices=HostMemory(node=node), launcher=launcher, describe=describe, place="nowhere")


def real_devices(platform: Platform, environ: Mapping[str, str], *, node: str) -> DeviceSource:
    """Blocks. RuntimeFailed where the driver gives us no GPU, with what to do."""
    if platform is Platform.CPU:
        return HostMemory(node=node)
    return NvmlDevices(
        node=node, nvml=pynvml, environ=environ, clock=clock.now, sees_every_process=proc.sees_every_process()
    )  # fmt: skip


def _cache_root(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    return Path(environ.get("XDG_CACHE_HOME") or (Path(home) if home else Path.home()) / ".cache") / "vllm"
