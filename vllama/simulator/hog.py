"""A foreign process on a simulated device: holds memory until it is killed.

python -m vllama.simulator.hog --directory D --device 0 --memory 3GiB
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from vllama.domain.units import format_bytes, parse_bytes
from vllama.simulator.devices import OutOfMemory, SimulatedDevices


def main() -> int:
    parser = argparse.ArgumentParser(description="Hold memory of a simulated device until killed.")
    parser.add_argument("--directory", type=Path, required=True, help="where the simulated devices are")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--memory", type=parse_bytes, required=True, help="for example 3GiB")
    arguments = parser.parse_args()
    try:
        devices = SimulatedDevices(arguments.directory)
        devices.claim(arguments.device, os.getpid(), arguments.memory, foreign=True)
    except OutOfMemory as error:
        print(error, file=sys.stderr)
        return 1
    print(f"holding {format_bytes(arguments.memory)} of device {arguments.device}", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
