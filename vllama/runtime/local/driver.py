"""The NVIDIA driver, through NVML: opened, lost, opened again. Which GPUs it gives us and what keeps it from that."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local.host import meminfo
from vllama.runtime.local.visible import visible

RENEW_AFTER_S = 10.0  # twice as long each time: opening takes up to seconds where nothing keeps the GPUs awake
RENEW_AFTER_AT_MOST_S = 300.0


@dataclass(slots=True, kw_only=True)
class Gpu:
    """`trouble`: why it cannot be read now. `unified`: its memory is the host's."""

    index: int
    uuid: str
    name: str
    handle: Any
    total_bytes: int = 0
    unified: bool = False
    trouble: str | None = None

    def __str__(self) -> str:
        return f"gpu{self.index} ({self.name})"


class Driver:
    """`gpus` are those to be used; they stay the same GPUs for as long as this lives. `refused`: why others are not."""

    def __init__(self, nvml: Any, *, listed: str | None, clock: Callable[[], float]) -> None:
        """`listed`: CUDA_VISIBLE_DEVICES (None: unset). RuntimeFailed where no GPU can be used, with what to do."""
        self.nvml, self._clock = nvml, clock
        self.refused: list[str] = []
        self._renewed, self._renew_at = 0, 0.0
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise RuntimeFailed(f"No NVIDIA GPU can be used: {_said(nvml, error)}") from error
        if not count:
            raise RuntimeFailed(f"The NVIDIA driver is there and sees no GPU. {_IN_CONTAINER}")
        found = [self._open(index) for index in range(count)]
        self.names = tuple(gpu.name for gpu in found if gpu is not None)
        indices = visible(listed, [gpu.uuid if gpu else "" for gpu in found])
        if not indices:
            raise RuntimeFailed(f"CUDA_VISIBLE_DEVICES={listed} leaves no GPU to use. Unset it to use all.")
        self.gpus = tuple(gpu for index in indices if (gpu := found[index]) is not None and self._usable(gpu))
        for index in indices:
            if found[index] is None:
                self.refused.append(f"gpu{index} is left out: the driver does not open it. {_SEE_XID}")
        if not self.gpus:
            raise RuntimeFailed("No GPU can be used.\n" + "\n".join(self.refused))

    def _open(self, index: int) -> Gpu | None:
        nvml = self.nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            return Gpu(
                index=index, handle=handle, uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
                name=_text(nvml.nvmlDeviceGetName(handle)),
            )  # fmt: skip
        except nvml.NVMLError:
            return None

    def _usable(self, gpu: Gpu) -> bool:
        """Whole, and with memory to speak of: finds out how much, and whose."""
        if self._is_sliced(gpu):
            self.refused.append(
                f"{gpu} is left out: it is in MIG mode, and vLLM cannot be given slices. Leave it out of "
                f"CUDA_VISIBLE_DEVICES, or end MIG mode: nvidia-smi -i {gpu.index} -mig 0"
            )
            return False
        try:
            gpu.total_bytes = int(self.nvml.nvmlDeviceGetMemoryInfo(gpu.handle).total)
        except self.nvml.NVMLError_NotSupported:
            pass  # GB10, Jetson: it has none of its own
        except self.nvml.NVMLError as error:
            self.refused.append(f"{gpu} is left out: {error}. {_SEE_XID}")
            return False
        if not gpu.total_bytes:
            # the machine's, not our control group's: what a GPU takes of it is charged to no group
            gpu.unified, gpu.total_bytes = True, meminfo()["MemTotal"]
        return True

    def _is_sliced(self, gpu: Gpu) -> bool:
        try:
            current, _ = self.nvml.nvmlDeviceGetMigMode(gpu.handle)
        except self.nvml.NVMLError:
            return False  # a GPU that knows no MIG
        return bool(current == self.nvml.NVML_DEVICE_MIG_ENABLE)

    def used_bytes(self, gpu: Gpu) -> int | None:
        """None: it cannot be read now, and `gpu.trouble` says why."""
        if gpu.handle is None:
            return None
        try:
            if gpu.unified:
                info = meminfo()
                used = info["MemTotal"] - info["MemAvailable"]
                _text(self.nvml.nvmlDeviceGetUUID(gpu.handle))  # memory is told by another: is it there at all?
            else:
                used = int(self.nvml.nvmlDeviceGetMemoryInfo(gpu.handle).used)
        except self.nvml.NVMLError as error:
            self._note(gpu, error)
            return None
        gpu.trouble = None
        return used

    def _note(self, gpu: Gpu, error: Any) -> None:
        now = self._clock()
        if not any(each.trouble for each in self.gpus):
            self._renewed, self._renew_at = 0, now + RENEW_AFTER_S  # it may pass by itself
        if error.value == self.nvml.NVML_ERROR_UNINITIALIZED and not self._renewed:
            self._renew_at = now  # this does not
        gpu.trouble = f"{gpu} cannot be read, and nothing is started there until it can: {error}. {_SEE_XID}"

    def renew(self) -> None:
        """Open the driver anew while a GPU is in trouble: handles from before a reset or restart never work again."""
        now = self._clock()
        if not any(gpu.trouble for gpu in self.gpus) or now < self._renew_at:
            return
        self._renewed += 1
        self._renew_at = now + min(RENEW_AFTER_S * 2**self._renewed, RENEW_AFTER_AT_MOST_S)
        nvml = self.nvml
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            names = ", ".join(map(str, self.gpus))
            for gpu in self.gpus:
                gpu.handle = None
                gpu.trouble = f"The NVIDIA driver is gone, and with it {names}: {_said(nvml, error)}"
            return
        for gpu in self.gpus:
            self._find_again(gpu)

    def _find_again(self, gpu: Gpu) -> None:
        """By number, as engines are given numbers: when these have shifted, engines would start on another GPU."""
        found = self._open(gpu.index)
        gpu.handle = found.handle if found is not None and found.uuid == gpu.uuid else None
        if found is None:
            gpu.trouble = f"{gpu} is gone. {_SEE_XID}"
        elif gpu.handle is None:
            gpu.trouble = f"{gpu} is another GPU now: they were counted anew. Restart vllama to use them as they are."


_IN_CONTAINER = "In a container: start it with its GPUs (docker run --gpus all)."
_SEE_XID = "The driver says more: dmesg | grep -i -e xid -e nvrm"


def _said(nvml: Any, error: Any) -> str:
    """What the driver said, and what to do about it."""
    return f"{error}. {_advice(nvml, error)}".strip()


def _advice(nvml: Any, error: Any) -> str:
    match error.value:
        case nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return f"Install the NVIDIA driver (libnvidia-ml.so.1 is part of it). {_IN_CONTAINER}"
        case nvml.NVML_ERROR_DRIVER_NOT_LOADED:
            return "The driver is installed and not running: try `modprobe nvidia`, or reboot."
        case nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            return "The driver was updated, and the old one still runs: reboot."
        case nvml.NVML_ERROR_NO_PERMISSION:
            return "This user may not open /dev/nvidia*: see `ls -l /dev/nvidia*`."
        case _:
            return ""


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
