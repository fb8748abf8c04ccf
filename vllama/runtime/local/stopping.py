"""The end of an engine: asked, asked again, killed; and over only when nothing of it is left."""

import asyncio
import signal
from collections.abc import Callable

from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local.proc import Process, title_of, tree
from vllama.runtime.local.signals import send
from vllama.runtime.local.spawn import Leader

ASK_AGAIN_S = 1.0  # vLLM loses a SIGTERM that comes while it loads
WORKERS_LEAVE_S = 3.0  # vLLM's own children notice within about two seconds that their parent is gone
TRACKER_LEAVES_S = 2.0  # Python's resource tracker cleans up /dev/shm if it is spared for that long
KILLED_WITHIN_S = 10.0
LOOK_S = 0.05


async def stop_tree(leader: Leader, *, deadline_s: float, clock: Callable[[], float]) -> None:
    """SIGTERM every second until the leader is gone or `deadline_s` is over, then SIGKILL for all who are left.

    RuntimeFailed if something survives even that (a process in uninterruptible sleep).
    """
    asked = not leader.gone.is_set()
    await _ask(leader, deadline_s=deadline_s, clock=clock)
    if asked and leader.gone.is_set() and not await _left_within(leader, WORKERS_LEAVE_S, clock=clock):
        return
    await _kill(leader, clock=clock)


async def _ask(leader: Leader, *, deadline_s: float, clock: Callable[[], float]) -> None:
    end = clock() + deadline_s
    while not leader.gone.is_set() and leader.process is not None and clock() < end:
        if not send(leader.process, signal.SIGTERM):
            break
        try:
            async with asyncio.timeout(min(ASK_AGAIN_S, max(0.0, end - clock()))):
                await leader.gone.wait()
        except TimeoutError:
            continue


async def _left(leader: Leader) -> tuple[Process, ...]:
    return await asyncio.to_thread(tree, leader.sid, leader.since_ticks, leader.identity.engine_id)


async def _left_within(leader: Leader, seconds: float, *, clock: Callable[[], float]) -> tuple[Process, ...]:
    end = clock() + seconds
    while (left := await _left(leader)) and clock() < end:  # noqa: ASYNC110  # nothing rings for grandchildren
        await asyncio.sleep(LOOK_S)
    return left


async def _kill(leader: Leader, *, clock: Callable[[], float]) -> None:
    """The engine first, Python's resource tracker last: left alone it removes what the others leave in /dev/shm."""
    left = await _left(leader)
    trackers = [each for each in left if "resource_tracker" in title_of(each.pid)]
    for each in left:
        if each not in trackers:
            send(each, signal.SIGKILL)
    if trackers and await _left_within(leader, TRACKER_LEAVES_S, clock=clock):
        for each in trackers:
            send(each, signal.SIGKILL)
    end = clock() + KILLED_WITHIN_S
    while left := await _left(leader):
        if clock() >= end:
            pids = ", ".join(str(each.pid) for each in left)
            raise RuntimeFailed(f"Processes {pids} of {leader.identity.model} survive SIGKILL; the kernel holds them.")
        for each in left:  # whoever was forked in between
            send(each, signal.SIGKILL)
        await asyncio.sleep(LOOK_S)
