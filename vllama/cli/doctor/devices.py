"""The driver, and the GPUs it gives us."""

from collections.abc import Iterator
from typing import Any

from vllama.cli.doctor.finding import Case, Finding, fail, ok, warn
from vllama.domain.observed import Device
from vllama.domain.units import format_bytes
from vllama.engine.platform import Platform

TAKEN_SHARE = 0.1  # by others; less is the driver's own, or a desktop's


def check_devices(case: Case) -> Iterator[Finding]:
    machine = case.machine
    if case.only_routes and (machine.vllm is None or machine.devices_problem is not None):
        yield ok("gpus", "none are needed: models.yaml has servers that others run, and no models")
        return
    if machine.devices_problem is not None and machine.platform is Platform.CUDA:
        first, *others = machine.devices_problem.splitlines()
        yield fail("gpus", first, " ".join(others))
        return
    if machine.platform is Platform.CPU:
        yield from _without_gpus(case)
        return
    yield ok("driver", _driver(case.nvml))
    for device in machine.devices:
        yield _device(device, ours=case.server.answer is not None)
    for trouble in machine.reading.troubles if machine.reading is not None else ():
        yield warn("gpus", trouble)


def _without_gpus(case: Case) -> Iterator[Finding]:
    if case.machine.vllm is None:
        said = (case.machine.devices_problem or "No GPU is seen").splitlines()[0]
        yield warn("gpus", f"{said} vllama would run vLLM's CPU build, if that were installed.")
        return
    try:
        case.nvml.nvmlInit()
        count = case.nvml.nvmlDeviceGetCount()
    except case.nvml.NVMLError:
        count = 0
    if count:
        yield warn(
            "gpus",
            f"the driver has {count}, and the vLLM that was found is built for the CPU: they are not used",
            "Install vLLM's build for GPUs (`pip install vllm`), or name one with VLLAMA_VLLM.",
        )
    else:
        yield ok("gpus", "none are needed: the memory of the host is the device of vLLM's CPU build")


def _driver(nvml: Any) -> str:
    try:
        nvml.nvmlInit()
        cuda, version = nvml.nvmlSystemGetCudaDriverVersion_v2(), nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError as error:
        return f"its version is not told ({error})"
    version = version.decode() if isinstance(version, bytes) else version
    return f"{version}, for CUDA up to {cuda // 1000}.{cuda % 1000 // 10}"


def _device(device: Device, *, ours: bool) -> Finding:
    name = f"gpu{device.index}"
    what = f"{device.name}, {format_bytes(device.total_bytes)}"
    if device.unified:
        what += " that are the host's too, so that sleep at level 1 would free nothing"
    if device.used_bytes is None:
        return fail(
            name, f"{what}; it cannot be read", "See `nvidia-smi` and `dmesg`; a reset or reboot may be needed."
        )
    free = format_bytes(device.total_bytes - device.used_bytes)
    if not ours and device.used_bytes > TAKEN_SHARE * device.total_bytes and not device.unified:
        holders = (
            ", ".join(f"{each.name} (pid {each.pid})" for each in device.foreign[:3])
            or "programs that the driver does not name"
        )
        return warn(
            name, f"{what}; others hold {format_bytes(device.used_bytes)} of it: {holders}",
            "vllama leaves them alone and plans with the rest.",
        )  # fmt: skip
    return ok(name, f"{what}, {free} free")
