"""NVIDIA devices through NVML. A device that cannot be read is a device whose memory is not known."""

from collections.abc import Callable, Mapping
from typing import Any

from vllama.domain.observed import Device, Node
from vllama.runtime.base import Reading
from vllama.runtime.local import host
from vllama.runtime.local.driver import Driver, Gpu
from vllama.runtime.local.holders import NOBODY_SEEN, holders
from vllama.runtime.local.links import linked
from vllama.runtime.local.visible import read_otherwise


class NvmlDevices:
    """Construct it in a thread; it raises RuntimeFailed where there is no driver or no GPU, with what to do."""

    def __init__(
        self, *, node: str, nvml: Any, environ: Mapping[str, str], clock: Callable[[], float], sees_every_process: bool
    ) -> None:
        """`nvml`: the module pynvml. CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER are read from `environ`."""
        self._node, self._nvml, self._sees_every_process = node, nvml, sees_every_process
        listed, order = environ.get("CUDA_VISIBLE_DEVICES"), environ.get("CUDA_DEVICE_ORDER")
        self._driver = Driver(nvml, listed=listed, clock=clock)
        self._linked = linked(nvml, {gpu.index: gpu.handle for gpu in self._driver.gpus})
        misread = read_otherwise(listed, order, self._driver.names)
        self._notes = (*self._driver.refused, *([misread] if misread else []))

    def indices(self) -> tuple[int, ...]:
        return tuple(gpu.index for gpu in self._driver.gpus)

    def used(self) -> dict[int, int | None]:
        self._driver.renew()
        return {gpu.index: self._driver.used_bytes(gpu) for gpu in self._driver.gpus}

    def read(self, sessions: Mapping[int, str]) -> Reading:
        self._driver.renew()
        on_host = host.engine_bytes(sessions)
        held: dict[str, list[int | None]] = {}
        devices = tuple(self._device(gpu, sessions, on_host, held) for gpu in self._driver.gpus)
        troubles = (gpu.trouble for gpu in self._driver.gpus if gpu.trouble is not None)
        return Reading(
            nodes=(self._node_with(devices),),
            measured_bytes={name: max(known) for name, sizes in held.items() if (known := _all_known(sizes))},
            host_bytes=on_host,
            troubles=tuple(dict.fromkeys((*self._notes, *troubles))),
        )

    def _node_with(self, devices: tuple[Device, ...]) -> Node:
        # a copy in host memory is for memory of the GPU's own only
        apart = any(not device.unified for device in devices)
        return Node(
            name=self._node, devices=devices, sleep_frees_memory=True, linked=self._linked,
            host_budget_bytes=int(host.total_bytes() * host.HOST_BUDGET_SHARE) if apart else 0,
            host_available_bytes=host.available_bytes(),
        )  # fmt: skip

    def _device(
        self, gpu: Gpu, sessions: Mapping[int, str], on_host: Mapping[str, int], held: dict[str, list[int | None]]
    ) -> Device:
        used = self._driver.used_bytes(gpu)
        here = NOBODY_SEEN
        if used is not None:
            here = holders(self._nvml, gpu.handle, sessions, sees_every_process=self._sees_every_process)
        for engine_id, size in here.engines.items():
            # of memory that is both, an engine holds what its GPU part and its processes take
            whole = size + on_host.get(engine_id, 0) if gpu.unified and size is not None else size
            held.setdefault(engine_id, []).append(whole)
        return Device(
            index=gpu.index, name=gpu.name, total_bytes=gpu.total_bytes, used_bytes=used, foreign=here.foreign,
            unified=gpu.unified,
        )  # fmt: skip


def _all_known(sizes: list[int | None]) -> list[int]:
    """Nothing, where one of them is not told: it may be the largest."""
    known = [size for size in sizes if size is not None]
    return known if len(known) == len(sizes) else []
