"""What a GPU has in use, asked of the driver by the shortest way: vllama's own reading is held against it."""

from collections.abc import Mapping
from typing import Any

from tests.waiting import wait_until
from vllama.domain.units import MIB
from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local.visible import visible

STILL_BYTES = 64 * MIB


class Gauge:
    def __init__(self, nvml: Any, environ: Mapping[str, str]) -> None:
        """RuntimeFailed where there is no GPU for us."""
        self._nvml = nvml
        try:
            nvml.nvmlInit()
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            uuids = [nvml.nvmlDeviceGetUUID(handle) for handle in handles]
        except nvml.NVMLError as error:
            raise RuntimeFailed(str(error)) from error
        self.indices = visible(environ.get("CUDA_VISIBLE_DEVICES"), uuids)
        if not self.indices:
            raise RuntimeFailed("none is visible")
        self._handles = {index: handles[index] for index in self.indices}

    def used_bytes(self, index: int) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handles[index]).used)

    def total_bytes(self, index: int) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handles[index]).total)

    def free_bytes(self, index: int) -> int:
        return self.total_bytes(index) - self.used_bytes(index)

    def still_bytes(self, index: int) -> int:
        """What is in use once it moves no more."""
        looks = [self.used_bytes(index)]

        def still() -> bool:
            looks.append(self.used_bytes(index))
            return len(looks) > 20 and max(looks[-20:]) - min(looks[-20:]) <= STILL_BYTES

        wait_until(still, deadline_s=30, what="the GPU's memory to stand still")
        return looks[-1]
