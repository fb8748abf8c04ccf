"""What happened and why, newest last, bounded. The log gets every line too."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

KEPT = 2000

log = structlog.get_logger("vllama")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`at` is seconds of the wall clock: events are for people. `warning`: somebody may have to act."""

    at: float
    model: str | None
    reason: str
    message: str
    warning: bool = False


class Events:
    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=KEPT)

    def record(self, reason: str, message: str, *, model: str | None = None, warning: bool = False) -> None:
        event = Event(at=time.time(), model=model, reason=reason, message=message, warning=warning)
        self._kept.append(event)
        (log.warning if warning else log.info)(reason, model=model, message=message)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._kept)
