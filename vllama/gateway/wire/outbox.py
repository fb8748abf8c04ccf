"""What is written in one turn of the loop is written at its end, all together, as long as that is more than a little.

A write to a socket of this machine wakes whoever reads there. Among the reads of a busy turn each write would find the
engine, or the client, asleep again, and waking it is what costs. Where turns have little to write there is nothing to
gain, and what is written is written at once; now and then it is tried again.
"""

import asyncio
from typing import Protocol

import structlog

log = structlog.get_logger("vllama")
LITTLE = 3


class Late(Protocol):
    def flush(self) -> None:
        """Write what is due, if it still is."""
        ...


class Outbox:
    """Ask `collects` for each write; where it says so, `add` whoever writes when it is told to."""

    __slots__ = ("_at_once", "_due", "_loop", "_tries_after")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, tries_after: int) -> None:
        """`tries_after`: so many writes at once, where a turn had little."""
        self._loop = loop
        self._due: list[Late] = []
        self._tries_after = tries_after
        self._at_once = 0  # so many more

    def collects(self) -> bool:
        """Always true where something waits already, so that nothing overtakes it."""
        if self._due or not self._at_once:
            return True
        self._at_once -= 1
        return False

    def add(self, late: Late) -> None:
        """`late.flush` is called when all is read that the loop found to be read in this turn."""
        if not self._due:
            self._loop.call_soon(self._flush)
        self._due.append(late)

    def _flush(self) -> None:
        due, self._due = self._due, []
        if len(due) < LITTLE:
            self._at_once = self._tries_after
        for late in due:
            try:
                late.flush()
            except Exception:  # whatever is wrong with one, the others are written
                log.exception("write failed")
