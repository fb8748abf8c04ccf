"""Carries out actions, and has no opinion of them. The one `match` over Action is here."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import assert_never

from vllama.controller.board import Board
from vllama.controller.events import Events
from vllama.controller.observer import Observer
from vllama.controller.probe import Probe
from vllama.controller.profiles import Profiles
from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.observed import Awake, Broken, Footprint, Operation, Verb
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import format_bytes
from vllama.engine.client import EngineClient, EngineRefused, EngineUnanswered
from vllama.planner.ledger import host_copy_bytes
from vllama.runtime.base import Runtime, RuntimeFailed

SLEEP_WITHIN_S = 120.0  # 235 GB take 6 s; a slow host with pinning on first sleep, many times that
FREED_WITHIN_S = 5.0  # the driver gives memory back when it gets to it
LOOK_AGAIN_S = 0.05
MOST_OF_IT_MAY_STAY = 0.6  # of a tiny model the context is most of what there is
WAKE_WITHIN_S = 600.0  # level 2 reads the weights from disk
_UNDECLARED = "an action on a model that nobody declared"


class Actuator:
    """`operations` are those under way, by engine. Each ends with a look at what came of it, and a ring."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        client: EngineClient,
        observer: Observer,
        board: Board,
        events: Events,
        clock: Callable[[], float],
        bell: Callable[[], None],
        profiles: Profiles,
        start_failed: Callable[[str, str], None],
    ) -> None:
        """`start_failed(model, cause)` is told of an engine that could not even be spawned."""
        self._runtime, self._client, self._observer, self._board = runtime, client, observer, board
        self._events, self._clock, self._bell, self._start_failed = events, clock, bell, start_failed
        self._profiles = profiles
        self.operations: dict[str, Operation] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def carry_out(
        self, action: Action, *, spec: ModelSpec | None, footprint: Footprint | None, stop_deadline_s: float
    ) -> bool:
        """Begin it. False: a request slipped in since the plan was made, and nothing was begun."""
        match action:
            case Start():
                if spec is None:
                    raise AssertionError(_UNDECLARED)
                self._begin(Verb.START, uuid.uuid4().hex[:12], action, self._start(action, spec))
            case Sleep():
                if not self._close(action.model, action.engine_id, cut=False):
                    return False
                if spec is None:
                    raise AssertionError(_UNDECLARED)
                self._begin(Verb.SLEEP, action.engine_id, action, lambda _: self._sleep(action, spec, footprint))
            case Wake():
                if spec is None:
                    raise AssertionError(_UNDECLARED)
                self._begin(Verb.WAKE, action.engine_id, action, lambda _: self._wake(action, spec))
            case Stop():
                if not self._close(action.model, action.engine_id, cut=action.cut):
                    return False
                self._begin(Verb.STOP, action.engine_id, action, lambda _: self._stop(action, stop_deadline_s))
            case _:
                assert_never(action)
        return True

    def _close(self, model: str, engine_id: str, *, cut: bool) -> bool:
        """A surplus engine goes without closing the model: its requests go to another."""
        if self._board.engine_of(model) not in {None, engine_id}:
            return True
        return self._board.close(model, cut=cut)

    def _begin(self, verb: Verb, engine_id: str, action: Action, work: Callable[[str], Awaitable[None]]) -> None:
        operation = Operation(
            verb=verb, engine_id=engine_id, model=action.model, node=action.node, devices=action.devices,
            started_at=self._clock(), memory_bytes=action.memory_bytes if isinstance(action, Start) else 0,
        )  # fmt: skip
        self.operations[engine_id] = operation
        if (probe := self._observer.probes.get(engine_id)) is not None:
            probe.paused = True
        task = asyncio.create_task(self._see_through(operation, work(engine_id)), name=f"{verb} {action.model}")
        self._tasks[engine_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(engine_id, None))

    async def _see_through(self, operation: Operation, work: Awaitable[None]) -> None:
        began = self._clock()
        try:
            await work
            # what it freed or took must be seen before anybody plans with it
            await self._observer.look()
        except (RuntimeFailed, EngineRefused, EngineUnanswered) as error:
            self._failed(operation, str(error))
            await self._observer.look()
        except Exception as error:  # noqa: BLE001  # a bug in one operation must not hold its devices for ever
            self._failed(operation, f"{type(error).__name__}: {error}")
        else:
            took = self._clock() - began
            self._events.record(f"{operation.verb}Done", f"took {took:.2f} s", model=operation.model)
        finally:
            self.operations.pop(operation.engine_id, None)
            if (probe := self._observer.probes.get(operation.engine_id)) is not None:
                probe.paused = False
            self._bell()

    def _failed(self, operation: Operation, cause: str) -> None:
        self._events.record(f"{operation.verb}Failed", cause, model=operation.model, warning=True)
        probe = self._observer.probes.get(operation.engine_id)
        if probe is not None:
            probe.become(Broken(cause=f"Its {operation.verb} failed: {cause}"))
        elif operation.verb is Verb.START:
            self._start_failed(operation.model, cause)

    def _start(self, action: Start, spec: ModelSpec) -> Callable[[str], Awaitable[None]]:
        async def start(engine_id: str) -> None:
            self._observer.add(await self._runtime.start(engine_id, spec, action))

        return start

    async def _sleep(self, action: Sleep, spec: ModelSpec, footprint: Footprint | None) -> None:
        probe, began = self._probe(action.engine_id), self._clock()
        await self._observer.read_memory()  # the last reading may be from before it had loaded
        held = self._observer.measured_bytes(action.engine_id)
        # `wait`: should a request have reached the engine by another way, it is finished, not aborted
        await self._client.sleep(probe.engine.base_url, action.level, "wait", timeout_s=SLEEP_WITHIN_S)
        if not await self._client.is_sleeping(probe.engine.base_url, timeout_s=SLEEP_WITHIN_S):
            raise EngineRefused("POST /sleep", 200, "and is awake")
        self._profiles.note(spec, sleep_s=round(self._clock() - began, 3))
        if held is not None:
            await self._see_freed(action, spec, held)
        copy = host_copy_bytes(footprint) if action.level is SleepLevel.WEIGHTS_OFFLOADED else 0
        probe.slept_at(action.level, host_copy_bytes=copy)

    async def _see_freed(self, action: Sleep, spec: ModelSpec, held: int) -> None:
        """The device must say so too: vLLM has answered 200 and freed nothing. Else never again at this level."""
        end = self._clock() + FREED_WITHIN_S
        while True:
            await self._observer.read_memory()
            left = self._observer.measured_bytes(action.engine_id)
            if left is None:
                return  # not to be seen any more; the next plan takes what should be true
            if left <= held * MOST_OF_IT_MAY_STAY:
                self._profiles.note(spec, asleep_bytes=left)
                return
            if self._clock() >= end:
                self._profiles.refuse(spec, action.level)
                said = f"and still holds {format_bytes(left)} of {format_bytes(held)}"
                raise EngineRefused(f"POST /sleep?level={action.level}", 200, said)
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _wake(self, action: Wake, spec: ModelSpec) -> None:
        probe, began = self._probe(action.engine_id), self._clock()
        await self._client.wake(probe.engine.base_url, action.level, timeout_s=WAKE_WITHIN_S)
        if await self._client.is_sleeping(probe.engine.base_url, timeout_s=WAKE_WITHIN_S):
            raise EngineRefused("POST /wake_up", 200, "and still sleeps")
        self._profiles.note(spec, wake_s=round(self._clock() - began, 3))
        probe.become(Awake(ready_at=self._clock()))

    async def _stop(self, action: Stop, deadline_s: float) -> None:
        await self._runtime.stop(action.engine_id, deadline_s=deadline_s)

    def _probe(self, engine_id: str) -> Probe:
        probe = self._observer.probes.get(engine_id)
        if probe is None:
            raise RuntimeFailed("the engine is gone")
        return probe

    async def close(self) -> None:
        """Give up what is under way, but see starts through: half of one would be an orphan."""
        starting = {op.engine_id for op in self.operations.values() if op.verb is Verb.START}
        for engine_id, task in self._tasks.items():
            if engine_id not in starting:
                task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
