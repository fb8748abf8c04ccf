"""Who holds a GPU's memory, as far as the driver tells: a hint. What a GPU has in use in all is the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllama.domain.observed import ForeignProcess
from vllama.runtime.local.proc import name_of, process, tag_of

UNSEEN = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """`engines`: engine id -> bytes on this GPU; None: it is there, and how much it holds is not told."""

    engines: Mapping[str, int | None]
    foreign: tuple[ForeignProcess, ...]


NOBODY_SEEN = Holders(engines={}, foreign=())


def holders(nvml: Any, handle: Any, sessions: Mapping[int, str], *, sees_every_process: bool) -> Holders:
    """`sessions`: session id -> engine id. `sees_every_process`: process numbers here are the machine's own."""
    sizes = _sizes(nvml, handle)
    if not sees_every_process and any(process(pid) is None for pid in sizes):
        return NOBODY_SEEN  # these are numbers of another namespace: here they may be anybody's
    engines: dict[str, int | None] = {}
    foreign = []
    for pid, size in sizes.items():
        engine_id = _engine_of(pid, sessions)
        if engine_id is None:
            foreign.append(ForeignProcess(pid=pid, name=name_of(pid) or UNSEEN, memory_bytes=size))
        elif size is None or engines.get(engine_id, 0) is None:
            engines[engine_id] = None
        else:
            engines[engine_id] = (engines.get(engine_id) or 0) + size
    foreign.sort(key=lambda each: (-(each.memory_bytes or 0), each.pid))
    return Holders(engines=engines, foreign=tuple(foreign))


def _sizes(nvml: Any, handle: Any) -> dict[int, int | None]:
    """By process number, in bytes. A process that computes and draws is in both lists, with the same bytes in each.

    0 is what some drivers tell in containers instead of nothing; whoever is listed holds a context at least.
    """
    found: dict[int, int | None] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        try:
            users = ask(handle)
        except (nvml.NVMLError, nvml.NVMLLibraryMismatchError):
            continue
        for user in users:
            size = int(user.usedGpuMemory) if user.usedGpuMemory else None
            found[user.pid] = max(size or 0, found.get(user.pid) or 0) or None
    return found


def _engine_of(pid: int, sessions: Mapping[int, str]) -> str | None:
    seen = process(pid)
    if seen is None or seen.sid in sessions:
        return None if seen is None else sessions[seen.sid]
    tag = tag_of(pid)  # a worker in a session of its own still carries it
    return tag.engine_id if tag is not None and tag.engine_id in sessions.values() else None
