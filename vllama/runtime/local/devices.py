"""Whatever tells memory: NVML, the host, or made-up devices."""

from collections.abc import Mapping
from typing import Protocol

from vllama.runtime.base import Reading


class DeviceSource(Protocol):
    """Blocks; the runtime calls it in a thread of its own, one call at a time."""

    def read(self, sessions: Mapping[int, str]) -> Reading:
        """Memory now. `sessions`: session id -> engine id of the engines that are ours. Never raises."""
        ...

    def used(self) -> Mapping[int, int | None]:
        """Device index -> bytes in use, and nothing else, so quick. None: not known. Never raises."""
        ...

    def indices(self) -> tuple[int, ...]:
        """The devices there are, as the kernel or driver numbers them."""
        ...
