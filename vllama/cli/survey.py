"""What this machine has to run models with: a vLLM, and the devices it was built for. Changes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vllama.domain.observed import Device, Node
from vllama.engine.platform import EngineUnavailable, Platform, find_vllm, installed_version, platform_of
from vllama.runtime.base import Reading, RuntimeFailed
from vllama.runtime.local.devices import DeviceSource

Opens = Callable[[Platform, Mapping[str, str]], DeviceSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`platform`: what its vLLM was built for; without a vLLM, what its devices suggest. None for what is not there,
    and then a problem, for people. `version` None: only running it would tell.
    """

    platform: Platform
    vllm: str | None
    version: str | None
    vllm_problem: str | None
    reading: Reading | None
    devices_problem: str | None

    @property
    def node(self) -> Node | None:
        return self.reading.nodes[0] if self.reading is not None and self.reading.nodes else None

    @property
    def devices(self) -> tuple[Device, ...]:
        return () if self.node is None else self.node.devices


def look(environ: Mapping[str, str], opens: Opens) -> Machine:
    """Blocks (NVML, disk). `opens` gives the devices, or raises RuntimeFailed."""
    vllm, version, vllm_problem = None, None, None
    try:
        vllm = find_vllm(None, environ)
        version = installed_version(vllm)
    except EngineUnavailable as error:
        vllm_problem = str(error)
    platform = Platform.CUDA if version is None else platform_of(version)
    reading, devices_problem = _read(platform, environ, opens)
    if reading is None and vllm is None:  # nothing says that it should be GPUs
        platform = Platform.CPU
        reading, _ = _read(platform, environ, opens)
    return Machine(
        platform=platform,
        vllm=vllm,
        version=version,
        vllm_problem=vllm_problem,
        reading=reading,
        devices_problem=devices_problem,
    )


def _read(platform: Platform, environ: Mapping[str, str], opens: Opens) -> tuple[Reading | None, str | None]:
    try:
        return opens(platform, environ).read({}), None
    except (RuntimeFailed, OSError, ValueError, KeyError) as error:
        return None, str(error)
