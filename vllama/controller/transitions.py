"""Since when each condition is as it is."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from vllama.controller.condition import Condition


class Transitions:
    """To be asked often enough: a change is dated when it is first seen."""

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._since: dict[str, tuple[bool, float]] = {}  # by type

    def dated(self, conditions: Iterable[Condition]) -> tuple[Condition, ...]:
        return tuple(replace(condition, since=self._of(condition)) for condition in conditions)

    def _of(self, condition: Condition) -> float:
        ok, since = self._since.get(condition.type, (None, 0.0))
        if ok is not condition.ok:
            since = self._wall()
            self._since[condition.type] = condition.ok, since
        return since
