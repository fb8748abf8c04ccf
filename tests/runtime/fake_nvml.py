# ruff: noqa: N802, N803, N815  # the names are the driver's
"""What stands for the module pynvml where there is no driver: its names, its errors, and GPUs that are made up.

    FakeNvml(FakeGpu(), FakeGpu(uuid="GPU-bbbb"))

A test holds every name and signature here against the real module. The errors and constants are the real ones.
"""

import threading
from dataclasses import dataclass, field

import pynvml

from vllama.domain.units import GIB


@dataclass
class FakeUser:
    """One entry of a list of processes. `usedGpuMemory` None: not available; some drivers say 0 for that."""

    pid: int
    usedGpuMemory: int | None


@dataclass
class FakeMemory:
    total: int
    used: int

    @property
    def free(self) -> int:
        return self.total - self.used


@dataclass
class FakeGpu:
    """`fails`: the error (a number) that everything asked of this GPU ends in; `no_memory_of_its_own`: as on GB10."""

    uuid: str = "GPU-aaaa"
    name: str = "NVIDIA H100"
    total: int = 80 * GIB
    used: int = GIB
    compute: list[FakeUser] = field(default_factory=list)
    graphics: list[FakeUser] = field(default_factory=list)
    mig: bool | None = None  # None: it knows no MIG
    linked: set[str] = field(default_factory=set)  # UUIDs at the other ends of its NVLinks
    fails: int | None = None
    no_memory_of_its_own: bool = False
    lists_processes: bool = True


@dataclass(frozen=True)
class _Handle:
    """Good until the driver that gave it is gone."""

    gpu: FakeGpu
    life: int


class FakeNvml:
    """`init_error`: what nvmlInit ends in. `hangs`: nothing answers until that event is set."""

    NVMLError = pynvml.NVMLError
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported
    NVMLLibraryMismatchError = pynvml.NVMLLibraryMismatchError
    NVML_ERROR_UNINITIALIZED = pynvml.NVML_ERROR_UNINITIALIZED
    NVML_ERROR_NO_PERMISSION = pynvml.NVML_ERROR_NO_PERMISSION
    NVML_ERROR_DRIVER_NOT_LOADED = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    NVML_ERROR_LIBRARY_NOT_FOUND = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE
    NVML_P2P_CAPS_INDEX_NVLINK = pynvml.NVML_P2P_CAPS_INDEX_NVLINK
    NVML_P2P_STATUS_OK = pynvml.NVML_P2P_STATUS_OK

    def __init__(self, *gpus: FakeGpu, init_error: int | None = None) -> None:
        self.gpus, self.init_error = list(gpus), init_error
        self._life, self._open = 0, False
        self.inits = 0
        self.hangs: threading.Event | None = None

    # what tests do to it

    def stop_driver(self, error: int) -> None:
        """Every handle is dead, and the driver cannot be opened until `start_driver`."""
        self._life, self._open, self.init_error = self._life + 1, False, error

    def start_driver(self) -> None:
        self.init_error = None

    # what pynvml has

    def nvmlInit(self) -> None:
        self.inits += 1
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)
        self._open = True

    def nvmlShutdown(self) -> None:
        self._check()
        self._open, self._life = False, self._life + 1

    def nvmlSystemGetDriverVersion(self) -> str:
        self._check()
        return "570.86.15"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        self._check()
        return 12080

    def nvmlDeviceGetCount(self) -> int:
        self._check()
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> _Handle:
        self._check()
        if not 0 <= index < len(self.gpus):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return self._handle(_Handle(self.gpus[index], self._life))

    def nvmlDeviceGetUUID(self, handle: _Handle) -> str:
        return self._handle(handle).gpu.uuid

    def nvmlDeviceGetName(self, handle: _Handle) -> str:
        return self._handle(handle).gpu.name

    def nvmlDeviceGetMigMode(self, device: _Handle) -> list[int]:
        mig = self._handle(device).gpu.mig
        if mig is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(mig), int(mig)]

    def nvmlDeviceGetMemoryInfo(self, handle: _Handle, version: int | None = None) -> FakeMemory:
        gpu = self._handle(handle).gpu
        if gpu.no_memory_of_its_own:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return FakeMemory(total=gpu.total, used=gpu.used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: _Handle) -> list[FakeUser]:
        return self._listed(handle, self._handle(handle).gpu.compute)

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: _Handle) -> list[FakeUser]:
        return self._listed(handle, self._handle(handle).gpu.graphics)

    def nvmlDeviceGetP2PStatus(self, device1: _Handle, device2: _Handle, p2pIndex: int) -> int:
        one, other = self._handle(device1).gpu, self._handle(device2).gpu
        assert p2pIndex == pynvml.NVML_P2P_CAPS_INDEX_NVLINK
        if not one.linked:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return pynvml.NVML_P2P_STATUS_OK if other.uuid in one.linked else pynvml.NVML_P2P_STATUS_NOT_SUPPORTED

    def _listed(self, handle: _Handle, users: list[FakeUser]) -> list[FakeUser]:
        if not self._handle(handle).gpu.lists_processes:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return list(users)

    def _check(self) -> None:
        if self.hangs is not None:
            self.hangs.wait()
        if not self._open:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    def _handle(self, handle: _Handle) -> _Handle:
        self._check()
        if handle.life != self._life:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        if handle.gpu.fails is not None:
            raise pynvml.NVMLError(handle.gpu.fails)
        return handle
