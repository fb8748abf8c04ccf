"""Memory moves a little later than who moved it says: wait for it to stand still, but not for ever."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from vllama.domain.units import MIB

LOOK_S = 0.05
LONGEST_S = 5.0
TOLERANCE_BYTES = 256 * MIB
TOLERANCE_SHARE = 0.02


async def memory_settles(
    used: Callable[[], Awaitable[Mapping[int, int | None]]], devices: Collection[int], *, clock: Callable[[], float]
) -> bool:
    """Whether two looks in a row agreed on what `devices` have in use, within 5 s. Unreadable agrees with itself."""
    end = clock() + LONGEST_S
    before = await used()
    while clock() < end:
        await asyncio.sleep(LOOK_S)
        after = await used()
        if all(_agree(before.get(index), after.get(index)) for index in devices):
            return True
        before = after
    return False


def _agree(before: int | None, after: int | None) -> bool:
    if before is None or after is None:
        return before is after
    return abs(before - after) <= max(TOLERANCE_BYTES, TOLERANCE_SHARE * before)
