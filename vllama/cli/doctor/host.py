"""What the machine or its container allows: memory, shared memory, open files, a clock."""

import ctypes
import os
import resource
import time
from collections.abc import Iterator

from vllama.cli.doctor.finding import Case, Finding, fail, ok, warn
from vllama.domain.units import GIB, format_bytes
from vllama.runtime.local import host
from vllama.runtime.local.cgroup import groups

SHM_BYTES = GIB  # NCCL and vLLM's workers talk through it
LITTLE_MEMORY_BYTES = 4 * GIB
FILES, FEWEST_FILES = 8192, 1024  # open at once: every request is two connections
BUILT_AT = 1_735_689_600.0  # 2025-01-01: a clock before that was never set

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 512  # more than any kernel's struct timex


def check_memory(case: Case) -> Iterator[Finding]:
    total, available = host.total_bytes(case.root), host.available_bytes(case.root)
    machine = host.meminfo(case.root)["MemTotal"]
    text = f"{format_bytes(total)}, of which {format_bytes(available)} are available"
    if groups(case.root) and total < machine:
        text += f" (the control group allows that; the machine has {format_bytes(machine)})"
    if available < LITTLE_MEMORY_BYTES:
        yield warn("memory", text, "A load needs several GiB of the host's; raise the limit, or end what else runs.")
    else:
        yield ok("memory", text)


def check_shared_memory(case: Case) -> Iterator[Finding]:
    path = case.root / "dev/shm"
    try:
        found = os.statvfs(path)
    except OSError as error:
        yield warn("shared memory", f"{path}: {error.strerror}", "vLLM with several GPUs needs it.")
        return
    size = found.f_blocks * found.f_frsize
    if size < SHM_BYTES:
        yield warn(
            "shared memory",
            f"{path} has {format_bytes(size)}; engines across several GPUs fail with so little",
            "In a container: docker run --shm-size=8g, or --ipc=host; in Kubernetes an emptyDir of medium Memory.",
        )
    else:
        yield ok("shared memory", f"{path} has {format_bytes(size)}")


def check_open_files(_: Case) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = "any number" if hard == resource.RLIM_INFINITY else f"{hard}"
    text = f"{said} may be open at once (now {soft}; `vllama serve` raises that itself)"
    mend = "ulimit -Hn 65536, LimitNOFILE=65536 in a systemd unit, or docker run --ulimit nofile=65536."
    if hard == resource.RLIM_INFINITY or hard >= FILES:
        yield ok("open files", text)
    else:
        yield (fail if hard < FEWEST_FILES else warn)("open files", text, mend)


def check_clock(case: Case) -> Iterator[Finding]:
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(case.now))
    if case.now < BUILT_AT:
        yield fail(
            "clock", f"it says {shown}, so certificates and tokens are refused", "Set it, e.g. with chrony or NTP."
        )
    elif _synchronised() is False:
        yield warn("clock", f"{shown}; the kernel says that nothing keeps it right", "Run chrony or systemd-timesyncd.")
    else:
        yield ok("clock", shown)


def _synchronised() -> bool | None:
    """None: the kernel does not tell, as in some containers."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR
