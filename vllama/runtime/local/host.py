"""The host's memory: the device of engines on the CPU, and the budget of level-1 sleepers on GPUs."""

import platform
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from vllama.domain.observed import Device, Node
from vllama.runtime.base import Reading
from vllama.runtime.local.proc import private_bytes, processes

_CGROUP = Path("/sys/fs/cgroup")
HOST_BUDGET_SHARE = 0.5


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return found


def _cgroup_bytes(name: str) -> int | None:
    try:
        text = (_CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def total_bytes() -> int:
    """What this machine, or the container we are in, may use."""
    total = meminfo()["MemTotal"]
    limit = _cgroup_bytes("memory.max")
    return total if limit is None else min(total, limit)


def used_bytes() -> int:
    """What is taken and would not come back by itself (page cache does)."""
    info = meminfo()
    used = info["MemTotal"] - info["MemAvailable"]
    current = _cgroup_bytes("memory.current")
    if _cgroup_bytes("memory.max") is None or current is None:
        return used
    return current - _inactive_file_bytes()


def _inactive_file_bytes() -> int:
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


class HostMemory:
    """The host's memory as device 0, for vLLM's CPU build."""

    def __init__(self, *, node: str) -> None:
        self._node = node

    def indices(self) -> tuple[int, ...]:
        return (0,)

    def read(self, sessions: Mapping[int, str]) -> Reading:
        try:
            used: int | None = used_bytes()
        except (OSError, ValueError, KeyError):
            used = None
        device = Device(index=0, name=platform.machine(), total_bytes=total_bytes(), used_bytes=used)
        # the copies of sleepers would be charged to the device itself, so they get no budget of their own
        node = Node(name=self._node, devices=(device,), host_budget_bytes=0, sleep_frees_memory=False)
        held: dict[str, int] = defaultdict(int)
        for each in processes():
            if each.sid in sessions:
                held[sessions[each.sid]] += private_bytes(each.pid)
        return Reading(nodes=(node,), measured_bytes=dict(held))
