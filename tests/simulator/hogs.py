"""Foreign processes that hold memory of simulated devices."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vllama.simulator.devices import SimulatedDevices


@contextmanager
def hog(devices: SimulatedDevices, memory: str, device: int = 0) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "vllama.simulator.hog", "--directory", str(devices.directory)]
    process = subprocess.Popen(
        [*command, "--device", str(device), "--memory", memory], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
