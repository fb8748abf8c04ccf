"""Limits of the kernel's on a process that runs, and how they are lifted again."""

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def no_more_processes(pid: int) -> Callable[[], object]:
    """Every fork of `pid` fails with EAGAIN until what is returned is called. Skips where nothing does that.

    The usual limit does not hold for root; a cgroup's does.
    """
    if os.geteuid():
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NPROC)
        resource.prlimit(pid, resource.RLIMIT_NPROC, (1, hard))
        return lambda: resource.prlimit(pid, resource.RLIMIT_NPROC, (soft, hard))
    for parent in _cgroups():
        group = parent / f"vllama-fault-{pid}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / "pids.max").write_text("0")  # those that are there stay
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            group.rmdir()
            continue

        def lift(group: Path = group, parent: Path = parent) -> None:
            (group / "pids.max").write_text("max")
            with contextlib.suppress(ProcessLookupError):
                (parent / "cgroup.procs").write_text(str(pid))
            group.rmdir()

        return lift
    pytest.skip("!!! FORKS THAT FAIL WERE NOT PLAYED: to root only a cgroup says so, and none can be made here !!!")


def _cgroups() -> Iterator[Path]:
    """Where this process is, as far as the number of processes goes: of version 1 if there is one, else of 2."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in lines:
        if "pids" in controllers.split(","):
            yield Path("/sys/fs/cgroup/pids") / path.lstrip("/")
        elif not controllers:
            yield Path("/sys/fs/cgroup") / path.lstrip("/")
