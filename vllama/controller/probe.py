"""What one engine says of itself, asked beside the loop: it rings when the answer changes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vllama.controller.bell import Bell
from vllama.controller.stall import LOOKS, Stall, Work
from vllama.domain.observed import Asleep, Awake, Broken, EngineState, Exited, Loading, Lost, Unknown
from vllama.domain.units import KIB, MIB
from vllama.engine.canary import Answer, agree
from vllama.engine.cause import root_cause
from vllama.engine.client import (
    EngineClient,
    EngineRefused,
    EngineUnanswered,
    Healthy,
    Refused,
    Unanswered,
    Unhealthy,
)
from vllama.engine.learned import LearnedFootprint, learn
from vllama.engine.logs import LogLines
from vllama.engine.metrics import NoLevel
from vllama.engine.stage import Stage, only_wait, part_of, stage_of
from vllama.runtime.base import EngineProcess, Runtime, RuntimeFailed

LOADING_EVERY_S = 0.05
TROUBLED_EVERY_S = 0.5
RESTING_EVERY_S = 30.0  # on this machine, where the end of a process is seen at once, whatever this is
FAR_EVERY_S = 2.0
FAR_TIMEOUT_S = 2.0
LOG_EVERY_S = 1.0
MOVED_EVERY_S = 5.0
MOVED_BYTES = MIB  # between two looks: less is what processes say to each other while they wait
TIMEOUT_S = 5.0
TAIL_BYTES = 256 * KIB  # of a log, for a cause of death
UNHEALTHY_IS_DEAD_AFTER = 3  # answers in a row; vLLM's 503 means that its core is gone
FAR_IS_SILENT_AFTER = 2  # questions in a row without an answer: one may have met a long step of its event loop
_KEY_REFUSED = 401


@dataclass(slots=True, eq=False)
class Probe:
    """`state` is the latest that is known. While an operation is under way on the engine, `paused` holds the asking."""

    engine: EngineProcess
    runtime: Runtime
    client: EngineClient
    clock: Callable[[], float]
    bell: Callable[[], None]
    state: EngineState = field(init=False)
    host_copy_bytes: int = 0  # since a sleep at level 1 was asked for, however it ended; gone with the process
    first_residue_bytes: int | None = None  # per device; of an adopted engine nobody knows
    paused: bool = False
    was_ready: bool = False  # ever: what fails after that is no failure to load
    _unhealthy: int = 0
    at_work: Callable[[EngineProcess], Work | None] = lambda _: None
    far_every_s: Callable[[], float] = lambda: FAR_EVERY_S
    canary: Answer | None = None  # what it answered before it first slept
    wakes: int = 0
    learned: LearnedFootprint = field(default_factory=LearnedFootprint)
    _log: LogLines = field(init=False)
    _log_read_at: float = 0.0
    _stage: Stage | None = None
    _moved_at: float = 0.0
    _moved_bytes: int | None = None
    _unanswered: int = 0
    _soon: Bell = field(init=False)
    _stall: Stall = field(init=False)

    def __post_init__(self) -> None:
        self.state = Loading(progress_at=self.clock())
        self._soon = Bell()
        self._log = LogLines(begin=self.engine.log_offset)
        self._stall = Stall(engine=self.engine, client=self.client, clock=self.clock)

    def become(self, state: EngineState) -> None:
        """The outcome of an operation, or of a question."""
        changed = type(state) is not type(self.state)
        if changed:
            self._stall.forget()
        self.was_ready = self.was_ready or isinstance(state, Awake | Asleep)
        self.state = state
        if changed:
            self.bell()

    async def run(self) -> None:
        """Ask for ever, more often while something is about to change. Cancelled when the engine is gone."""
        while True:
            if not self.paused:
                await self._ask()
            await self._soon.wait(self._pause_s())

    def _pause_s(self) -> float:
        match self.state:
            case Loading():
                return LOADING_EVERY_S
            case Unknown() | Broken() | Exited() | Lost():
                return TROUBLED_EVERY_S
            case Awake() | Asleep():
                if self._unhealthy or self._unanswered:
                    return TROUBLED_EVERY_S
                work = self.at_work(self.engine)
                rests_s = RESTING_EVERY_S if work is None else min(RESTING_EVERY_S, work.stall_timeout_s / LOOKS)
                is_called = self.engine.is_far and isinstance(self.state, Awake)
                return min(rests_s, self.far_every_s()) if is_called else rests_s

    def doubt(self) -> None:
        """The gateway lost a connection of it. On this machine that is left to the next look."""
        if self.engine.is_far:
            self._soon.ring()

    def unreachable(self, why: str) -> None:
        """The gateway got no connection to it, which is on another machine. It is proven anew before it is ready."""
        if isinstance(self.state, Awake) and not self.paused:
            self._no_answer(why)
            self._soon.ring()

    def is_heard_again(self) -> None:
        """Its node was away and is back. That nothing was heard of it meanwhile is not held against it."""
        match self.state:
            case Unknown():
                self.state = replace(self.state, since=self.clock())
            case Loading():
                self.state = replace(self.state, progress_at=self.clock())
            case _:
                pass
        self._soon.ring()

    async def exited(self, engine: EngineProcess) -> None:
        """The leader is gone: find out why, once."""
        self.engine = engine
        if engine.exit is None or isinstance(self.state, Exited):
            return
        tail = await self.runtime.log_tail(engine.last_words, limit_bytes=TAIL_BYTES)
        cause = root_cause(tail) or f"its log ends without a word ({engine.last_words})"
        self.become(Exited(code=engine.exit.code, cause=cause))

    async def _ask(self) -> None:
        match self.state:
            case Exited() | Broken():
                return
            case Loading():
                await self._follow_log()
                await self._ask_loading()
            case Awake() | Unknown():
                await self._ask_serving(self.state)
            case Asleep():
                await self._ask_asleep(self.state)

    async def _follow_log(self) -> None:
        if self.clock() - self._log_read_at < LOG_EVERY_S:
            return
        self._log_read_at = self.clock()
        seen = self._log.seen_bytes
        lines = await self._new_lines()
        self.learned, self._stage = learn(lines, self.learned), stage_of(lines, self._stage)
        moved = self._log.seen_bytes > seen and not only_wait(lines)
        if (moved or await self._reads_or_writes()) and isinstance(self.state, Loading):
            self.state = Loading(progress_at=self.clock(), part=part_of(self._stage), stage=self._stage or "")

    async def _new_lines(self) -> tuple[str, ...]:
        return self._log.take(await self.runtime.read_log(self.engine.log_file, self._log.mark))

    async def _reads_or_writes(self) -> bool:
        """A log may be silent for as long as it takes to fetch or to read a large model."""
        if self.clock() - self._moved_at < MOVED_EVERY_S:
            return False
        self._moved_at, before = self.clock(), self._moved_bytes
        try:
            self._moved_bytes = await self.runtime.moved_bytes(self.engine.engine_id)
        except (RuntimeFailed, OSError):
            return False
        return before is not None and abs(self._moved_bytes - before) >= MOVED_BYTES

    async def _ask_loading(self) -> None:
        was = self.state
        health = await self.client.health(self.engine.address, timeout_s=TIMEOUT_S)
        if not isinstance(health, Healthy):
            return
        self.learned = learn(await self._new_lines(), self.learned)
        try:
            proven = await self._prove()
        except (EngineRefused, EngineUnanswered, RuntimeFailed):
            return  # not ready after all, or not to be seen now; asked again soon
        if not self.paused and self.state is was:
            self.become(proven)

    async def _prove(self) -> EngineState:
        """Ready is only who was started, serves what it should, and does not sleep. Raises what the client raises."""
        if not await self.runtime.listening(self.engine.engine_id):
            return Broken(cause=f"Port {self.engine.port} is answered by another program.")
        served = await self.client.served_models(self.engine.address, timeout_s=TIMEOUT_S)
        if self.engine.model not in served:
            return Broken(cause=f"It serves {', '.join(served) or 'nothing'} instead of {self.engine.model}.")
        # the core answers this one, so after the sleep or wake that an earlier manager may have begun
        sleeps = await self.client.is_sleeping(self.engine.address, timeout_s=TIMEOUT_S)
        match await self.client.sleep_level(self.engine.address, timeout_s=TIMEOUT_S):
            case None | NoLevel():
                # no metric to tell: awake is still certain, and any level would be a guess
                if sleeps:
                    return Broken(cause="It sleeps or is paused, and does not tell at which level.")
                return await self._prove_awake()
            case level:
                return Asleep(level=level)

    async def _prove_awake(self) -> EngineState:
        """Adopted, it may have been on its way up from a sleep when its manager died: awake, and without weights."""
        if self.canary is not None and self.engine.adopted and not self.was_ready:
            engine, tasks = self.engine, self.learned.supported_tasks
            heard = await self.client.canary(engine.address, engine.model, tasks, timeout_s=TIMEOUT_S)
            if heard is None or not agree(self.canary, heard):
                return Broken(cause="It answers otherwise than before an earlier manager put it to sleep.")
        return Awake(ready_at=self.clock())

    async def _ask_serving(self, was: Awake | Unknown) -> None:
        timeout_s = FAR_TIMEOUT_S if self.engine.is_far else TIMEOUT_S
        health = await self.client.health(self.engine.address, timeout_s=timeout_s)
        if self.paused or self.state is not was:
            return
        match health:
            case Healthy():
                self._unhealthy = self._unanswered = 0
                if isinstance(was, Unknown):
                    await self._ask_loading()  # proven anew before it counts as ready
                else:
                    await self._see_it_move(was)
            case Unhealthy(status=status):
                self._unhealthy += 1
                if self._unhealthy >= UNHEALTHY_IS_DEAD_AFTER:
                    why = "it does not take its key" if status == _KEY_REFUSED else "its core is dead"
                    self.become(Broken(cause=f"Its /health answers {status}: {why}."))
            case Refused():
                self._no_answer("connection refused")
            case Unanswered(error=error):
                self._unanswered += 1
                if self._unanswered >= FAR_IS_SILENT_AFTER or not self.engine.is_far:
                    self._no_answer(error)

    async def _see_it_move(self, was: Awake) -> None:
        """Its /health answers whatever its core does."""
        hangs = await self._stall.look(self.at_work(self.engine), self.learned.supported_tasks)
        if hangs is not None and not self.paused and self.state is was:
            self.become(Broken(cause=hangs))

    def _no_answer(self, error: str) -> None:
        self._unanswered = 0
        since = self.state.since if isinstance(self.state, Unknown) else self.clock()
        self.become(Unknown(since=since, error=error))

    async def _ask_asleep(self, was: Asleep) -> None:
        try:
            sleeps = await self.client.is_sleeping(self.engine.address, timeout_s=TIMEOUT_S)
        except EngineRefused as error:
            self._judge_sleeper(was, Broken(cause=str(error)))
        except EngineUnanswered as error:
            self._judge_sleeper(was, Unknown(since=self.clock(), error=str(error)))
        else:
            if not sleeps:
                self._judge_sleeper(was, Broken(cause="It is awake although it was put to sleep."))

    def _judge_sleeper(self, was: Asleep, state: EngineState) -> None:
        if not self.paused and self.state is was:
            self.become(state)

    def slept_with(self, residue_bytes: int) -> None:
        """What the device says that it holds asleep. The first one of an engine is what the later ones grew from."""
        if self.first_residue_bytes is None and not self.engine.adopted:
            self.first_residue_bytes = residue_bytes
