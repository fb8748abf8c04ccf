"""The host's memory: the device of engines on the CPU, and the budget of level-1 sleepers on GPUs."""

import platform
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from vllama.domain.observed import Device, Node
from vllama.runtime.base import Reading
from vllama.runtime.local.cgroup import groups
from vllama.runtime.local.proc import members, private_bytes

ROOT = Path("/")
HOST_BUDGET_SHARE = 0.5


def meminfo(root: Path = ROOT) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return found


def total_bytes(root: Path = ROOT) -> int:
    """What this machine, or the control groups we are in, let us use."""
    return min([meminfo(root)["MemTotal"], *(group.limit_bytes for group in groups(root))])


def available_bytes(root: Path = ROOT) -> int:
    """What could be taken now: neither the machine nor any of our groups has less left."""
    return min([meminfo(root)["MemAvailable"], *(group.available_bytes for group in groups(root))])


def used_bytes(root: Path = ROOT) -> int:
    """What is taken of `total_bytes` and would not come back by itself (page cache does)."""
    return max(0, total_bytes(root) - available_bytes(root))


def engine_bytes(sessions: Mapping[int, str]) -> dict[str, int]:
    """Engine id -> host memory of all its processes. `sessions`: session id -> engine id."""
    held = dict.fromkeys(sessions.values(), 0)
    for pid, engine_id in members(sessions):
        held[engine_id] += _host_bytes(pid)
    return held


def _host_bytes(pid: int) -> int:
    try:
        return own_bytes((ROOT / "proc" / str(pid) / "status").read_text(errors="replace"))
    except OSError:
        return 0


def own_bytes(status: str) -> int:
    """What a process takes of the host, from its /proc/PID/status: anonymous and shared memory, not mapped files.

    Pinned host memory (the copies of level-1 sleepers) is shared memory to the kernel. Locked and pinned pages are
    resident ones, so they are not added, but are the least that is taken.
    """
    size: dict[str, int] = defaultdict(int)
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        if name.startswith(("Vm", "Rss")):
            size[name] = int(rest.split()[0]) * 1024
    return max(size["RssAnon"] + size["RssShmem"], size["VmLck"], size["VmPin"])


class HostMemory:
    """The host's memory as device 0, for vLLM's CPU build."""

    def __init__(self, *, node: str) -> None:
        self._node = node

    def indices(self) -> tuple[int, ...]:
        return (0,)

    def used(self) -> dict[int, int | None]:
        try:
            return {0: used_bytes()}
        except (OSError, ValueError, KeyError):
            return {0: None}

    def read(self, sessions: Mapping[int, str]) -> Reading:
        total, used = total_bytes(), self.used()[0]
        device = Device(index=0, name=platform.machine(), total_bytes=total, used_bytes=used)
        # Copies of sleepers would be charged to the device itself, so they get no budget of their own; for the same
        # reason what engines take of the host is told once, as what they hold of the device.
        node = Node(
            name=self._node, devices=(device,), host_budget_bytes=0, sleep_frees_memory=False,
            host_available_bytes=None if used is None else total - used,
        )  # fmt: skip
        held: dict[str, int] = defaultdict(int)
        for pid, engine_id in members(sessions):
            held[engine_id] += private_bytes(pid)
        return Reading(nodes=(node,), measured_bytes=dict(held))
