"""An engine that says that it is well and does nothing: suspected by what moves, convicted by a question.

Slow is not hung. Suspected is who has had requests for `stall_timeout_s` while none of its own figures moved; it is
then asked for one token (or, where it makes none, what only its core knows), and who answers, or moves meanwhile, is
well. Who tells no figures is asked several times.
"""

from collections.abc import Callable
from dataclasses import dataclass

from vllama.domain.units import format_duration
from vllama.engine.client import EngineClient, EngineRefused, EngineUnanswered
from vllama.engine.progress import Progress
from vllama.runtime.base import EngineProcess

ANSWER_WITHIN_S = 60.0
METRICS_WITHIN_S = 5.0
ASKED_WITHOUT_FIGURES = 3  # times in a row: the question may have waited behind a long prompt
LOOKS = 4  # at least, before anybody is suspected


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an engine has to do now, and how long it may do nothing about it."""

    in_flight: int
    stall_timeout_s: float


@dataclass(slots=True, kw_only=True)
class Stall:
    """Of one engine. `look` now and then while it serves; `forget` when something was done to it."""

    engine: EngineProcess
    client: EngineClient
    clock: Callable[[], float]
    _still_since: float | None = None
    _progress: Progress | None = None
    _unanswered: int = 0

    def forget(self) -> None:
        self._still_since, self._unanswered = None, 0

    async def look(self, work: Work | None, tasks: tuple[str, ...]) -> str | None:
        """The figures of the case where it hangs; None: it does not, or nobody can say. `tasks`: what it can do."""
        if work is None or not work.in_flight:
            self.forget()
            return None
        told = await self._told()
        if self._still_since is None or told != self._progress:
            self._still_since, self._progress, self._unanswered = self.clock(), told, 0
            return None
        if self.clock() - self._still_since < work.stall_timeout_s * (1 + self._unanswered):
            return None
        return await self._ask(work, self._still_since, tasks)

    async def _told(self) -> Progress | None:
        try:
            return await self.client.progress(self.engine.address, timeout_s=METRICS_WITHIN_S)
        except (EngineRefused, EngineUnanswered):
            return None

    async def _ask(self, work: Work, since: float, tasks: tuple[str, ...]) -> str | None:
        within_s = min(ANSWER_WITHIN_S, work.stall_timeout_s)
        answered = await self._answers(tasks, within_s=within_s)
        told = await self._told()
        if answered or told != self._progress:
            self.forget()
            return None
        self._unanswered += 1
        if told is None and self._unanswered < ASKED_WITHOUT_FIGURES:
            return None
        return (
            f"It hangs: {work.in_flight} in flight, and for {format_duration(self.clock() - since)} nothing moved "
            f"({told or 'it tells no figures'}); its core answered no question within {within_s:g} s."
        )

    async def _answers(self, tasks: tuple[str, ...], *, within_s: float) -> bool:
        """Its core, that is. Who says no does not hang either."""
        at = self.engine.address
        try:
            if await self.client.one_token(at, self.engine.model, tasks, timeout_s=within_s) is None:
                await self.client.is_sleeping(at, timeout_s=within_s)  # of what it computes none is a short question
        except EngineRefused:
            return True
        except EngineUnanswered:
            return False
        return True
