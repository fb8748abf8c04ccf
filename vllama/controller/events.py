"""What happened and why, newest last, bounded. The log gets every line too."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import structlog

KEPT = 2000
LONGEST_CHARS = 4000  # of a message: engines and files may have said anything
LOOK_EVERY_S = 1.0  # for what was recorded in another thread

log = structlog.get_logger("vllama")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`at` is seconds of the wall clock: events are for people. `warning`: somebody may have to act.

    `number` counts from 1 with every start of the server. `count`: how often the same was said of the same until then,
    this time included, and `first_at` when it was said first (None: now).
    """

    at: float
    model: str | None
    reason: str
    message: str
    warning: bool = False
    number: int = 0
    count: int = 1
    first_at: float | None = None


class Events:
    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._numbers = itertools.count(1)
        self._said: dict[tuple[str | None, str, bool], tuple[int, float]] = {}  # how often, and when first
        self._news = asyncio.Event()
        self.closed = False

    def record(self, reason: str, message: str, *, model: str | None = None, warning: bool = False) -> None:
        message = message if len(message) <= LONGEST_CHARS else message[: LONGEST_CHARS - 3] + "..."
        now, key = time.time(), (model, reason, warning)
        count, first_at = self._said.pop(key, (0, now))
        self._said[key] = count + 1, first_at
        if len(self._said) > KEPT:
            del self._said[next(iter(self._said))]
        event = Event(
            at=now, model=model, reason=reason, message=message, warning=warning, number=next(self._numbers),
            count=count + 1, first_at=first_at,
        )  # fmt: skip
        self._kept.append(event)
        self._news.set()
        (log.warning if warning else log.info)(reason, model=model, message=message)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._kept)

    def close(self) -> None:
        """Nothing will happen any more: whoever follows has come to the end."""
        self.closed = True
        self._news.set()

    async def follow(self, *, after: int) -> AsyncIterator[Event | None]:
        """Every event with a higher number, those that are kept first. None: nothing new for a moment.

        Who is too slow misses those that are kept no longer.
        """
        while True:
            for event in [each for each in self._kept if each.number > after]:
                after = event.number
                yield event
            if self.closed:
                return
            self._news = news = self._news if not self._news.is_set() else asyncio.Event()
            if self._kept and self._kept[-1].number > after:
                continue
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await news.wait()
            except TimeoutError:
                yield None
