"""An event loop that owns its time: where a real one would sleep, this one moves its clock.

Everything else is asyncio's own. Threads do not exist: what is sent to one runs at once, and its answer arrives a
moment later, as from a thread. With the same inputs every step happens in the same order, at the same virtual second.
"""

import asyncio
import contextvars
import selectors
from collections.abc import Callable
from typing import Any

OWNER: contextvars.ContextVar[str] = contextvars.ContextVar("owner", default="")
"""Whose tasks are created here: one manager's are found, and killed, by its name."""

STEP_S = 1e-6  # thinking takes time: without it a time-out a rounding error away would never come
THREAD_S = 0.001
SPINNING_AFTER = 200_000  # steps of the loop without time moving on


class Deadlock(Exception):
    """Nothing is scheduled: in a real process everybody would wait for ever."""


class Spinning(Exception):
    """Somebody keeps the loop busy without ever waiting."""


class _Clockwork(selectors.SelectSelector):
    """Instead of waiting for sockets, of which there are none, it moves the clock."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self.loop
        loop.now += STEP_S
        if timeout is None:
            raise Deadlock(f"nothing is scheduled any more at {loop.now:.3f} s")
        if timeout <= 0:
            loop.steps += 1
            if loop.steps > SPINNING_AFTER:
                raise Spinning(f"{loop.steps} steps without a pause at {loop.now:.3f} s")
            return []
        loop.steps = 0
        if loop.on_quiet is not None:
            loop.on_quiet()
        loop.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now` is the only clock. `on_quiet` is called whenever everybody waits, before time moves on."""

    def __init__(self, *, start_s: float = 1000.0) -> None:
        self.now = start_s
        self.steps = 0
        self.on_quiet: Callable[[], None] | None = None
        clockwork = _Clockwork()
        clockwork.loop = self
        super().__init__(clockwork)
        self._owned: dict[asyncio.Task[Any], str] = {}  # in the order of their creation
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """The function runs now; that it is done is heard of a moment later."""
        future = self.create_future()
        try:
            result, error = func(*args), None
        except Exception as raised:  # noqa: BLE001  # it is the awaiting one's
            result, error = None, raised

        def deliver() -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.call_later(THREAD_S, deliver)
        return future

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, context=context)
        owner = OWNER.get() if context is None else context.get(OWNER, "")
        if owner:
            self._owned[task] = owner
            task.add_done_callback(lambda done: self._owned.pop(done, None))
        return task

    def tasks_of(self, owner: str) -> list[asyncio.Task[Any]]:
        return [task for task, whose in self._owned.items() if whose == owner]

    def drain(self) -> None:
        """Cancel whatever is left and let it end, before the loop is closed."""
        self.on_quiet = None
        self.set_exception_handler(lambda *_: None)
        while left := [task for task in asyncio.all_tasks(self) if not task.done()]:
            for task in left:
                task.cancel()
            self.steps = 0
            self.run_until_complete(asyncio.wait(left, timeout=60.0))
