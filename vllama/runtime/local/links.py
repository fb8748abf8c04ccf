"""Which GPUs are linked directly. Asked once: cables do not change while we run."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any


def linked(nvml: Any, handles: Mapping[int, Any]) -> tuple[tuple[int, ...], ...]:
    """As Node.linked. It asks what vLLM asks before it trusts in NVLink: whether two GPUs reach each other over it."""
    peers: dict[int, set[int]] = {index: set() for index in handles}
    for one, other in itertools.combinations(handles, 2):
        try:
            status = nvml.nvmlDeviceGetP2PStatus(handles[one], handles[other], nvml.NVML_P2P_CAPS_INDEX_NVLINK)
        except nvml.NVMLError:
            continue  # without NVLink, or too old to tell
        if status == nvml.NVML_P2P_STATUS_OK:
            peers[one].add(other)
            peers[other].add(one)
    return tuple(sorted(_groups(peers, frozenset(), set(peers), set())))


def _groups(
    peers: Mapping[int, set[int]], group: frozenset[int], candidates: set[int], done: set[int]
) -> Iterator[tuple[int, ...]]:
    """Every largest set of which all are each other's peers (Bron and Kerbosch 1973, with a pivot)."""
    if not candidates and not done:
        if len(group) > 1:
            yield tuple(sorted(group))
        return
    pivot = max(candidates | done, key=lambda each: len(peers[each] & candidates), default=None)
    for each in sorted(candidates - (peers[pivot] if pivot is not None else set())):
        yield from _groups(peers, group | {each}, candidates & peers[each], done & peers[each])
        candidates = candidates - {each}
        done = done | {each}
