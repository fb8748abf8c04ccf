"""`vllama serve` where the wall clock and the driver are what a file says. python -m tests.faults.elsewhere serve ...

The file (FAULTS_ELSEWHERE) is JSON: {"clock_s": 3600, "gpu": 0, "fails": 15, "driver": 9, "hangs": true}; what is left
out is as it should be. The GPUs are those of fake_nvml.
"""

import json
import os
import threading
import time
from pathlib import Path

import pynvml

from tests.runtime.fake_nvml import FakeGpu, FakeNvml
from vllama.cli import app
from vllama.runtime import machine

LOOK_EVERY_S = 0.05
_real_time = time.time


def follow(path: Path, nvml: FakeNvml) -> None:
    offset_s = [0.0]
    time.time = lambda: _real_time() + offset_s[0]
    driver = None
    while True:
        try:
            says = json.loads(path.read_text())
        except FileNotFoundError:
            says = {}
        offset_s[0] = says.get("clock_s", 0.0)
        for index, gpu in enumerate(nvml.gpus):
            mine = says.get("gpu") in {None, index}
            gpu.fails = says.get("fails") if mine else None
            gpu.lists_processes = not (mine and says.get("lists_nothing"))
        if says.get("driver") != driver:
            driver = says.get("driver")
            nvml.start_driver() if driver is None else nvml.stop_driver(driver)
        if says.get("hangs") and nvml.hangs is None:
            nvml.hangs = threading.Event()
        elif not says.get("hangs") and nvml.hangs is not None:
            nvml.hangs.set()
            nvml.hangs = None
        time.sleep(LOOK_EVERY_S)


def main() -> None:
    nvml = FakeNvml(FakeGpu(), FakeGpu(uuid="GPU-bbbb"))
    assert pynvml.NVML_ERROR_GPU_IS_LOST
    machine.pynvml = nvml  # type: ignore[assignment]
    threading.Thread(target=follow, args=(Path(os.environ["FAULTS_ELSEWHERE"]), nvml), daemon=True).start()
    app.main()


if __name__ == "__main__":
    main()
