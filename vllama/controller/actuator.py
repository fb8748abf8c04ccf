"""Carries out actions, and has no opinion of them. The one `match` over Action is here."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import assert_never

from vllama.controller.board import Board
from vllama.controller.condition import Condition
from vllama.controller.events import Events
from vllama.controller.observer import Observer
from vllama.controller.profiles import Profiles
from vllama.controller.sleep import Outdated, VerifiedSleep
from vllama.controller.tally import Tally
from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.observed import Broken, Footprint, Operation, Verb
from vllama.domain.spec import ModelSpec, Policy
from vllama.domain.units import MIB, format_bytes
from vllama.engine.client import EngineClient, EngineRefused, EngineUnanswered
from vllama.runtime.base import NoProcess, Runtime, RuntimeFailed

Free = tuple[int | None, ...]  # bytes, by device

MOVED_BYTES = 64 * MIB  # less free than planned with: somebody came, and may not leave what others grow into
LOOK_WITHIN_S = 1.0
NO_PROCESS_COUNTS_S = 330.0  # while it is wanted it is tried again sooner
_BESIDE_ITS_DEADLINE_S = 180.0  # of an operation: canaries, looks at memory, a kernel that is slow to let go

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
        tally: Tally,
    ) -> None:
        """`start_failed(model, cause)` is told of an engine that could not even be spawned."""
        self._runtime, self._observer, self._board = runtime, observer, board
        self._events, self._clock, self._bell, self._start_failed = events, clock, bell, start_failed
        self._tally = tally
        self._sleeps = VerifiedSleep(client=client, observer=observer, profiles=profiles, events=events, clock=clock)
        self.operations: dict[str, Operation] = {}
        self.overdue: dict[str, str] = {}  # those that should have ended, by engine: a sentence each
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._no_process: tuple[float, str] | None = None  # when no process could be started, and what was said

    def carry_out(self, action: Action, *, spec: ModelSpec | None, footprint: Footprint | None, policy: Policy) -> bool:
        """Begin it. False: a request slipped in since the plan was made, and nothing was begun."""
        match action:
            case Start():
                if spec is None:
                    raise AssertionError(_UNDECLARED)
                self._begin(Verb.START, uuid.uuid4().hex[:12], action, self._start(action, spec), within_s=0.0)
            case Sleep():
                if spec is None:
                    raise AssertionError(_UNDECLARED)
                if not self._close(action.model, action.engine_id, cut=False):
                    return False
                asleep = self._sleeps.put_to_sleep(action, spec, footprint, within_s=policy.sleep_deadline_s)
                within_s = policy.sleep_deadline_s
                self._begin(Verb.SLEEP, action.engine_id, action, lambda _: asleep, within_s=within_s)
            case Wake():
                if spec is None:
                    raise AssertionError(_UNDECLARED)
                awake = self._wake(action, spec, self._free(action), within_s=policy.wake_deadline_s)
                within_s = policy.wake_deadline_s
                self._begin(Verb.WAKE, action.engine_id, action, lambda _: awake, within_s=within_s)
            case Stop():
                if not self._close(action.model, action.engine_id, cut=action.cut):
                    return False
                within_s = policy.stop_deadline_s
                stop = partial(self._runtime.stop, deadline_s=within_s)
                self._begin(Verb.STOP, action.engine_id, action, stop, within_s=within_s)
            case _:
                assert_never(action)
        return True

    def _close(self, model: str, engine_id: str, *, cut: bool) -> bool:
        """A surplus engine goes without closing the model: its requests go to another."""
        if self._board.engine_of(model) not in {None, engine_id}:
            return True
        return self._board.close(model, cut=cut)

    def _begin(
        self, verb: Verb, engine_id: str, action: Action, work: Callable[[str], Awaitable[None]], *, within_s: float
    ) -> None:  # fmt: skip
        operation = Operation(
            verb=verb, engine_id=engine_id, model=action.model, node=action.node, devices=action.devices,
            further=action.further, started_at=self._clock(),
            memory_bytes=action.memory_bytes if isinstance(action, Start) else 0,
            level=action.level if isinstance(action, Sleep) else None,
        )  # fmt: skip
        self.operations[engine_id] = operation
        if (probe := self._observer.probes.get(engine_id)) is not None:
            probe.paused = True
        late_after_s = within_s + _BESIDE_ITS_DEADLINE_S
        late = asyncio.get_running_loop().call_later(late_after_s, self._is_late, operation, late_after_s)
        task = asyncio.create_task(self._see_through(operation, work(engine_id)), name=f"{verb} {action.model}")
        self._tasks[engine_id] = task
        task.add_done_callback(lambda _: self._is_over(engine_id, late))

    def _is_over(self, engine_id: str, late: asyncio.TimerHandle) -> None:
        late.cancel()
        self._tasks.pop(engine_id, None)
        self.overdue.pop(engine_id, None)

    def _is_late(self, operation: Operation, after_s: float) -> None:
        """All that it does has a deadline but the kernel and the disk. To break it off would leave half of it."""
        message = (
            f"The {operation.verb} of {operation.model} is under way for more than {after_s:.0f} s: a disk or driver "
            "that does not answer (see `dmesg`). Its devices are held until it ends."
        )
        self.overdue[operation.engine_id] = message
        self._events.record("OperationOverdue", message, model=operation.model, warning=True)

    async def _see_through(self, operation: Operation, work: Awaitable[None]) -> None:
        began = self._clock()
        try:
            await work
            await self._settle(operation)
            # what it freed or took must be seen before anybody plans with it
            await self._observer.look()
        except Outdated as error:
            self._events.record(f"{operation.verb}PutOff", str(error), model=operation.model)
        except NoProcess as error:
            self._no_process = self._clock(), str(error)
            self._failed(operation, str(error))
        except (RuntimeFailed, EngineRefused, EngineUnanswered) as error:
            self._failed(operation, str(error))
            await self._observer.look()
        except Exception as error:  # noqa: BLE001  # a bug in one operation must not hold its devices for ever
            self._failed(operation, f"{type(error).__name__}: {error}")
        else:
            if operation.verb is Verb.START:
                self._no_process = None
            took = self._clock() - began
            self._events.record(f"{operation.verb}Done", f"took {took:.2f} s", model=operation.model)
            if operation.verb is not Verb.START:  # that has only begun
                self._tally.took(operation.model, operation.verb, took)
        finally:
            self.operations.pop(operation.engine_id, None)
            if (probe := self._observer.probes.get(operation.engine_id)) is not None:
                probe.paused = False
            self._bell()

    async def _settle(self, operation: Operation) -> None:
        if operation.verb in {Verb.SLEEP, Verb.WAKE}:  # a stop has seen to that itself, a start has only begun
            for place in operation.places:
                await self._runtime.settled(place.node, place.devices)

    def _failed(self, operation: Operation, cause: str) -> None:
        self._events.record(f"{operation.verb}Failed", cause, model=operation.model, warning=True)
        probe = self._observer.probes.get(operation.engine_id)
        if probe is not None:
            probe.become(Broken(cause=f"Its {operation.verb} failed: {cause}"))
        elif operation.verb is Verb.START:
            self._start_failed(operation.model, cause)

    def _start(self, action: Start, spec: ModelSpec) -> Callable[[str], Awaitable[None]]:
        free = self._free(action)

        async def start(engine_id: str) -> None:
            await self._look_before_it_leaps(action, free, needs=action.memory_bytes)
            self._observer.add(await self._runtime.start(engine_id, spec, action))

        return start

    async def _wake(self, action: Wake, spec: ModelSpec, free: Free, *, within_s: float) -> None:
        if (probe := self._observer.probes.get(action.engine_id)) is not None:
            held = self._observer.measured_bytes(action.engine_id) or 0
            await self._look_before_it_leaps(action, free, needs=probe.engine.memory_bytes - held)
        await self._sleeps.wake(action, spec, within_s=within_s)

    def _free(self, action: Start | Wake) -> Free:
        devices = (self._observer.device(*key) for key in action.keys)
        return tuple(
            None if device is None or device.used_bytes is None else device.total_bytes - device.used_bytes
            for device in devices
        )

    async def _look_before_it_leaps(self, action: Start | Wake, planned_with: Free, *, needs: int) -> None:
        """The plan's reading may be seconds old. No engine survives that others were quicker, so it is not even tried:
        the next plan knows. A driver that takes its time is not waited for.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_WITHIN_S):
                await self._observer.look()
        if (why := self._observer.away(action.nodes)) is not None:
            raise Outdated(f"{why}.")
        for (_, device), before, now in zip(action.keys, planned_with, self._free(action), strict=True):
            if before is None or now is None:
                raise Outdated(f"How much of gpu{device} is free cannot be read any more.")
            if now < before - MOVED_BYTES or (now < needs and now < before):
                said = f"{format_bytes(needs)} are needed of gpu{device}, {format_bytes(now)} are free"
                raise Outdated(f"{said}: {format_bytes(before - now)} less than when it was planned.")

    def conditions(self) -> tuple[Condition, ...]:
        return self._operations_end(), self._processes_start()

    def _processes_start(self) -> Condition:
        if self._no_process is not None and self._clock() < self._no_process[0] + NO_PROCESS_COUNTS_S:
            return Condition(type="ProcessesStart", ok=False, reason="Refused", message=self._no_process[1])
        return Condition(type="ProcessesStart", ok=True, reason="Started", message="Processes can be started.")

    def _operations_end(self) -> Condition:
        if self.overdue:
            text = "\n".join(self.overdue.values())
            return Condition(type="OperationsEnd", ok=False, reason="Overdue", message=text)
        return Condition(type="OperationsEnd", ok=True, reason="Ending", message="Starts and stops end in their time.")

    async def close(self) -> None:
        """Give up what is under way, but see starts through: half of one would be an orphan."""
        starting = {op.engine_id for op in self.operations.values() if op.verb is Verb.START}
        for engine_id, task in self._tasks.items():
            if engine_id not in starting:
                task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
