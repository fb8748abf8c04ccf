"""Carries out actions, and has no opinion of them. The one `match` over Action is here."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import assert_never

from vllama.controller.board import Board
from vllama.controller.events import Events
from vllama.controller.observer import Observer
from vllama.controller.profiles import Profiles
from vllama.controller.sleep import VerifiedSleep
from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.observed import Broken, Footprint, Operation, Verb
from vllama.domain.spec import ModelSpec
from vllama.engine.client import EngineClient, EngineRefused, EngineUnanswered
from vllama.runtime.base import Runtime, RuntimeFailed

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
        self._runtime, self._observer, self._board = runtime, observer, board
        self._events, self._clock, self._bell, self._start_failed = events, clock, bell, start_failed
        self._sleeps = VerifiedSleep(client=client, observer=observer, profiles=profiles, events=events, clock=clock)
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
                if spec is None:
                    raise AssertionError(_UNDECLARED)
                if not self._close(action.model, action.engine_id, cut=False):
                    return False
                self._begin(
                    Verb.SLEEP, action.engine_id, action, lambda _: self._sleeps.put_to_sleep(action, spec, footprint)
                )
            case Wake():
                if spec is None:
                    raise AssertionError(_UNDECLARED)
                self._begin(Verb.WAKE, action.engine_id, action, lambda _: self._sleeps.wake(action, spec))
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
            level=action.level if isinstance(action, Sleep) else None,
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
            if operation.verb in {Verb.SLEEP, Verb.WAKE}:  # a stop has seen to that itself, a start has only begun
                await self._runtime.settled(operation.node, operation.devices)
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

    async def _stop(self, action: Stop, deadline_s: float) -> None:
        await self._runtime.stop(action.engine_id, deadline_s=deadline_s)

    async def close(self) -> None:
        """Give up what is under way, but see starts through: half of one would be an orphan."""
        starting = {op.engine_id for op in self.operations.values() if op.verb is Verb.START}
        for engine_id, task in self._tasks.items():
            if engine_id not in starting:
                task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
