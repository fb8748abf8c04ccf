"""Tasks that must not end. Whoever ends all the same is begun again after a pause, and it shows."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from vllama.controller.condition import Condition
from vllama.controller.events import Events, log

FIRST_S = 1.0
LONGEST_S = 60.0
FORGIVEN_AFTER_S = 120.0  # since it died last


class Tending:
    """`deaths`: how often each ended, by name, since the start of the server."""

    def __init__(self, *, events: Events, clock: Callable[[], float]) -> None:
        self._events, self._clock = events, clock
        self.deaths: Counter[str] = Counter()
        self._died: dict[str, tuple[float, str]] = {}  # by name: when last, and why

    async def keep(self, name: str, work: Callable[[], Awaitable[None]], *, model: str | None = None) -> None:
        """Until cancelled. The pause doubles while it goes on dying."""
        pause_s = FIRST_S
        while True:
            began = self._clock()
            why = await _end_of(name, work)
            if self._clock() - began >= FORGIVEN_AFTER_S:
                pause_s = FIRST_S
            self.deaths[name] += 1
            self._died[name] = self._clock(), why
            message = f"The task {name!r} ended ({why}); it is begun again in {pause_s:g} s."
            self._events.record("TaskDied", message, model=model, warning=True)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_S)

    def condition(self) -> Condition:
        now = self._clock()
        lately = [f"{name} ({why})" for name, (at, why) in self._died.items() if now < at + FORGIVEN_AFTER_S]
        if lately:
            text = f"Ended by a fault of ours, and begun again: {'; '.join(lately)}. The log has the details."
            return Condition(type="TasksRun", ok=False, reason="Died", message=text)
        return Condition(type="TasksRun", ok=True, reason="Running", message="All background tasks run.")


async def _end_of(name: str, work: Callable[[], Awaitable[None]]) -> str:
    """Why it ended. Raises CancelledError only where we are cancelled, not where the work gave itself up."""
    try:
        await work()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return "it was cancelled by nobody"
    except Exception as error:  # noqa: BLE001  # whatever it is, it is begun again
        log.exception("TaskDied", task=name)
        return f"{type(error).__name__}: {error}"[:500]
    return "it returned"
