"""NVIDIA devices through NVML. A device that cannot be read is a device whose memory is not known."""

from collections.abc import Mapping
from typing import Any

import pynvml

from vllama.domain.observed import Device, Node
from vllama.runtime.base import Reading, RuntimeFailed
from vllama.runtime.local import host
from vllama.runtime.local.proc import process


def visible(listed: str | None, uuids: list[str]) -> tuple[int, ...]:
    """The devices that CUDA_VISIBLE_DEVICES (None: unset) leaves us, as NVML indices. RuntimeFailed on MIG or nonsense.

    NVML counts in PCI order, so the numbers are taken as CUDA_DEVICE_ORDER=PCI_BUS_ID means them, which is also what
    engines are started with.
    """
    if listed is None:
        return tuple(range(len(uuids)))
    found: list[int] = []
    for entry in (part.strip() for part in listed.split(",")):
        if entry in {"", "-1"}:
            break
        if entry.startswith("MIG"):
            raise RuntimeFailed(f"CUDA_VISIBLE_DEVICES names {entry}: vLLM cannot be given MIG slices. Use whole GPUs.")
        matches = [i for i, uuid in enumerate(uuids) if uuid.startswith(entry)] if entry.startswith("GPU-") else []
        if entry.isdigit() and int(entry) < len(uuids):
            matches = [int(entry)]
        if len(matches) != 1:
            raise RuntimeFailed(
                f"CUDA_VISIBLE_DEVICES names {entry!r}, and this machine has GPUs 0 to {len(uuids) - 1}."
            )
        found += matches
    return tuple(found)


class NvmlDevices:
    """All that NVML tells. Construct it in a thread; it raises RuntimeFailed where there is no driver or no GPU."""

    def __init__(self, *, node: str, listed: str | None) -> None:
        self._node = node
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
            uuids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        except pynvml.NVMLError as error:
            raise RuntimeFailed(f"No NVIDIA GPU can be used: {error}.") from error
        self._handles = {index: handles[index] for index in visible(listed, uuids)}
        if not self._handles:
            raise RuntimeFailed("CUDA_VISIBLE_DEVICES leaves no GPU to use.")

    def indices(self) -> tuple[int, ...]:
        return tuple(self._handles)

    def read(self, sessions: Mapping[int, str]) -> Reading:
        measured: dict[str, int] = {}
        devices = tuple(self._device(index, handle, sessions, measured) for index, handle in self._handles.items())
        budget = int(host.total_bytes() * host.HOST_BUDGET_SHARE)
        node = Node(name=self._node, devices=devices, host_budget_bytes=budget, sleep_frees_memory=True)
        return Reading(nodes=(node,), measured_bytes=measured)

    def _device(self, index: int, handle: Any, sessions: Mapping[int, str], measured: dict[str, int]) -> Device:
        name, total, used = f"gpu{index}", 0, None
        try:
            name = _text(pynvml.nvmlDeviceGetName(handle))
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            total, used = int(memory.total), int(memory.used)
            for engine_id, held in self._held(handle, sessions).items():
                measured[engine_id] = max(held, measured.get(engine_id, 0))
        except pynvml.NVMLError:
            pass  # used stays unknown: nothing is started there until the driver answers again
        return Device(index=index, name=name, total_bytes=total, used_bytes=used)

    def _held(self, handle: Any, sessions: Mapping[int, str]) -> dict[str, int]:
        """Engine id -> bytes on this device, where the driver's pids are ours (in containers they are not)."""
        held: dict[str, int] = {}
        for user in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            seen = process(user.pid)
            engine_id = sessions.get(seen.sid) if seen else None
            if engine_id is not None and user.usedGpuMemory is not None:
                held[engine_id] = held.get(engine_id, 0) + int(user.usedGpuMemory)
        return held


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
