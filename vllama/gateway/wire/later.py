"""What a request must wait for, in a task of its own."""

import asyncio
from collections.abc import Callable, Coroutine

from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused


def later(
    work: Coroutine[None, None, None], *, refuse: Callable[[ErrorAnswer], None], failed: Callable[[], None]
) -> asyncio.Task[None]:
    """However `work` ends, its client gets an answer: `failed` is called where it is a fault of ours."""
    task = asyncio.get_running_loop().create_task(_guarded(work, refuse, failed))
    task.add_done_callback(lambda _: work.close())  # cancelled before it began, it would never be
    return task


async def _guarded(
    work: Coroutine[None, None, None], refuse: Callable[[ErrorAnswer], None], failed: Callable[[], None]
) -> None:
    try:
        await work
    except Refused as refused:
        refuse(refused.answer)
    except Exception:  # noqa: BLE001  # whatever it is, its client gets an answer
        failed()
