"""Memory of a dead process comes back when the driver gets to it: wait for that, but not for ever."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from vllama.domain.units import MIB
from vllama.runtime.base import Reading

LOOK_S = 0.05
LONGEST_S = 5.0
TOLERANCE_BYTES = 256 * MIB
TOLERANCE_SHARE = 0.02


async def memory_settles(
    read: Callable[[], Awaitable[Reading]], devices: Collection[int], *, clock: Callable[[], float]
) -> bool:
    """Whether two readings in a row agreed on what `devices` have in use, within 5 s. Unreadable agrees with itself."""
    end = clock() + LONGEST_S
    before = _used(await read(), devices)
    while clock() < end:
        await asyncio.sleep(LOOK_S)
        after = _used(await read(), devices)
        if all(_agree(before.get(index), after.get(index)) for index in devices):
            return True
        before = after
    return False


def _used(reading: Reading, devices: Collection[int]) -> dict[int, int | None]:
    return {d.index: d.used_bytes for node in reading.nodes for d in node.devices if d.index in devices}


def _agree(before: int | None, after: int | None) -> bool:
    if before is None or after is None:
        return before is after
    return abs(before - after) <= max(TOLERANCE_BYTES, TOLERANCE_SHARE * before)
