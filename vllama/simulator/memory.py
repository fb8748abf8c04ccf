"""What the core of an engine holds on the simulated devices it sees."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from vllama.simulator.changes import Changes
from vllama.simulator.command import ServeCommand
from vllama.simulator.devices import DeviceReading, OutOfMemory, SimulatedDevices
from vllama.simulator.log import gib
from vllama.simulator.settings import Settings


class DeviceMemory:
    """The claims of this process: the same number of bytes on every device it sees, as tensor parallel engines do."""

    def __init__(self, settings: Settings, *, tensor_parallel_size: int) -> None:
        self.devices = SimulatedDevices(settings.devices) if settings.devices else None
        self.indices = settings.visible_devices or tuple(range(tensor_parallel_size))
        self.held_bytes = 0
        self.elsewhere: Callable[[int], bool] = lambda _: True  # the same on other nodes; False: not so much is there

    def hold(self, memory_bytes: int) -> None:
        """Change what is held. OutOfMemory leaves everything as it was."""
        if not self.elsewhere(memory_bytes):
            self.elsewhere(self.held_bytes)
            raise OutOfMemory(index=0, wanted_bytes=memory_bytes, free_bytes=0)
        for done, index in enumerate(self.indices if self.devices else ()):
            try:
                self._claim(index, memory_bytes)
            except OutOfMemory:
                for changed in self.indices[:done]:
                    self._claim(changed, self.held_bytes)
                raise
        self.held_bytes = memory_bytes

    def changing(self, what: str) -> AbstractContextManager[None]:
        """While inside, nobody else may change what they hold of these devices: else Collided, here and there."""
        return Changes(self.devices).change(what, self.indices) if self.devices else nullcontext()

    def note_the_gone(self, before: Iterable[DeviceReading]) -> None:
        """A neighbouring engine that ended meanwhile has changed the memory as well: that counts as a collision."""
        if self.devices is None or Changes(self.devices).noted():
            return
        for then, now in zip(before, self.readings(), strict=True):
            here = {claim.pid for claim in now.claims}
            for gone in (claim.pid for claim in then.claims if not claim.foreign and claim.pid not in here):
                Changes(self.devices).note(f"end of {gone} during the load of {os.getpid()}")

    def readings(self) -> Iterator[DeviceReading]:
        if self.devices:
            everything = self.devices.read()
            if max(self.indices) >= len(everything):
                raise ValueError(
                    f"device {max(self.indices)} is not there: {self.devices.directory} has {len(everything)}"
                )
            yield from (everything[index] for index in self.indices)

    def _claim(self, index: int, memory_bytes: int) -> None:
        if self.devices:
            self.devices.claim(index, os.getpid(), memory_bytes)


def start_check(rank: int, reading: DeviceReading, command: ServeCommand, settings: Settings) -> str | None:
    """The check that vLLM makes before it loads: the error, or None if there is room. `rank` counts visible devices."""
    total_bytes = reading.total_bytes
    utilization = command.gpu_memory_utilization or math.ceil(settings.memory_bytes / total_bytes * 100) / 100
    wanted_bytes = (
        settings.memory_bytes
        if command.gpu_memory_utilization is None
        else math.ceil(total_bytes * command.gpu_memory_utilization)
    )
    if reading.free_bytes >= wanted_bytes:
        return None
    return (
        f"ValueError: Free memory on device cuda:{rank} ({gib(reading.free_bytes)}/{gib(total_bytes)} GiB) "
        f"on startup is less than desired GPU memory utilization ({utilization}, {gib(wanted_bytes)} GiB). "
        "Decrease GPU memory utilization or reduce GPU memory used by other processes."
    )
