"""One machine of the cluster as the manager sees it: its agent, looked at all the time, and what is believed of it."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vllama.domain.observed import Node, NodeState
from vllama.runtime.base import EngineProcess, Reading, RuntimeFailed
from vllama.runtime.ray.messages import AgentGone, Answer, Asks, Attached, Call, RayNode, Report, Unreachable
from vllama.runtime.ray.settings import AgentSettings
from vllama.runtime.ray.transport import control_url

LOOK_S = 1.0  # an agent that has nothing new says so after this long
ATTACH_WITHIN_S = 90.0
AGAIN_AFTER_S = 0.2
ATTACH_AGAIN_AFTER_S = 2.0
ATTACH_AFTER_S = 20.0  # of silence: Ray restarts an agent in seconds, which is not to be disturbed
BLIND_FOR_S = 60.0  # while the manager's own part of Ray is gone, nobody else is at fault
CALL_WITHIN_S = 10.0
STOP_ALL_WITHIN_S = 60.0
_TO_BE_FOUND = frozenset({"claim", "look"})  # all that is asked of a lost machine


class Member:
    """`node` is what Ray says of it. Everything that is asked of the agent goes through `call`."""

    def __init__(
        self, node: RayNode, *, link: Asks, settings: Callable[[RayNode], AgentSettings],
        clock: Callable[[], float], bell: Callable[[], None], silence_s: float,
    ) -> None:  # fmt: skip
        self.node = node
        self._link, self._settings, self._clock, self._bell = link, settings, clock, bell
        self._silence_s = silence_s
        self._state, self._said = NodeState.LOST, "Its agent is being started."
        self._heard_at: float | None = None
        self._silent_since = clock()
        self._attached = self._dead = self._fenced = self._refused = False
        self._generation: int | None = None
        self._report: Report | None = None
        self._ahead_s = 0.0  # our clock less the agent's
        self._device_node: Node | None = None
        self._read_at: float | None = None
        self._nothing_here = ""

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def is_ready(self) -> bool:
        return self._state is NodeState.READY

    @property
    def was_heard(self) -> bool:
        return self._heard_at is not None

    @property
    def is_awaited(self) -> bool:
        """Nothing is known of it yet, and something soon will be."""
        return not self.was_heard and not self._refused

    @property
    def said(self) -> str:
        return self._said

    def declared(self, node: RayNode) -> None:
        """Ray says this of it now. One that was dead, or that joined anew, must show that it has nothing left."""
        if node.ray_id != self.node.ray_id or not node.alive:
            self._dead = self._dead or not node.alive
            self._fenced = self._fenced or self.was_heard
            self._attached = False
            why = "Ray declared it dead." if not node.alive else "It joined anew; its agent is being started."
            self._become(NodeState.LOST, why)
        elif self._dead:
            self._dead, self._silent_since = False, self._clock()
        self.node = node

    def _become(self, state: NodeState, said: str) -> None:
        changed = state is not self._state
        self._state, self._said = state, said
        if changed:
            self._bell()

    # what its agent told

    def engines(self) -> tuple[EngineProcess, ...]:
        """As they were when it was last heard, in our time."""
        found = () if self._report is None else self._report.engines
        return tuple(self._ours(engine) for engine in found)

    def _ours(self, engine: EngineProcess) -> EngineProcess:
        return replace(
            engine, started_at=engine.started_at + self._ahead_s, control_url=control_url(self.name, engine.engine_id)
        )

    def told(self) -> Node:
        """The machine as it was read last, and as it is believed to be now."""
        known = self._device_node or Node(
            name=self.name, devices=(), host_budget_bytes=0, sleep_frees_memory=True
        )  # fmt: skip
        said = self._said or self._nothing_here
        return replace(known, state=self._state, said=said, seen_at=self._read_at, address=self.node.address)

    async def read(self, *, within_s: float) -> Reading:
        """Of this machine. Where its agent does not answer, its devices are as unknown as if they could not be read."""
        if not self.is_ready:
            return Reading(nodes=(self.told(),))
        began = self._clock()
        try:
            reading: Reading = await self.call("read", within_s=within_s)
        except Unreachable:  # which is told where it lasts
            self._forget_used()
            return Reading(nodes=(self.told(),))
        except RuntimeFailed as error:
            self._forget_used()
            return Reading(nodes=(self.told(),), troubles=(f"{self.name}: {error}",))
        if reading.nodes:
            (self._device_node,) = reading.nodes
        self._read_at = began
        troubles = tuple(f"{self.name}: {trouble}" for trouble in reading.troubles)
        return replace(reading, nodes=(self.told(),), troubles=troubles)

    def _forget_used(self) -> None:
        if self._device_node is not None:
            devices = tuple(replace(device, used_bytes=None) for device in self._device_node.devices)
            self._device_node = replace(self._device_node, devices=devices)

    # asking

    async def call(self, verb: str, *args: Any, within_s: float = CALL_WITHIN_S) -> Any:
        """Unreachable where nobody answers; RuntimeFailed and ValueError are the agent's own."""
        lost = self._state is NodeState.LOST and verb not in _TO_BE_FOUND
        if self._dead or not self._attached or lost:
            raise Unreachable(f"{self.name} cannot be asked: {self._said}")
        call = Call(verb=verb, args=args, generation=self._generation)
        try:
            answer: Answer = await self._link.ask("call", self.name, call, within_s=within_s)
        except Unreachable as error:
            raise type(error)(f"{self.name} does not answer: {error}") from None
        if answer.superseded:
            self._become(NodeState.LOST, answer.said)
        if answer.report is not None:
            self._take(answer.report)
        if answer.failure is not None or answer.superseded:
            raise (RuntimeFailed if answer.failure is None else answer.failure.value)(answer.said)
        return answer.value

    def _take(self, report: Report) -> None:
        """Answers may overtake each other: only the newest counts."""
        known, now = self._report, self._clock()
        if known is None or known.incarnation != report.incarnation:
            self._ahead_s = now - report.now
        elif report.version < known.version:
            return
        changed = known is None or known.engines != report.engines
        self._report = report
        if changed:
            self._bell()

    # for ever

    async def run(self) -> None:
        """Have an agent there and look at it. Until cancelled."""
        while True:
            if self._dead:
                await asyncio.sleep(ATTACH_AGAIN_AFTER_S)
            elif not self._attached:
                await self._attach()
            else:
                await self._look()

    async def _attach(self) -> None:
        node = self.node
        try:
            outcome: Attached = await self._link.ask(
                "attach", node, self._settings(node), within_s=ATTACH_WITHIN_S
            )  # fmt: skip
            if node.ray_id != self.node.ray_id or self._dead:
                return
            if outcome.ready:
                self._attached, self._silent_since = True, self._clock()
                await self._claim()
                return
            said, self._refused = outcome.said, not outcome.soon
        except RuntimeFailed as error:
            said = str(error)
        self._attached = False
        self._mark_silent(said)
        await asyncio.sleep(ATTACH_AGAIN_AFTER_S)

    async def _claim(self) -> None:
        self._generation = await self.call("claim", self._generation, within_s=ATTACH_WITHIN_S)

    async def _look(self) -> None:
        """Silence is counted from the last answer, however the questions since then ended."""
        known = None if self._report is None else (self._report.incarnation, self._report.version)
        left_s = self._silence_s - (self._clock() - (self._heard_at or self._silent_since))
        wait_s = min(LOOK_S, self._silence_s / 3)
        try:
            self._nothing_here = await self.call("look", known, wait_s, within_s=max(left_s, 2 * wait_s))
        except Unreachable as error:
            self._mark_silent("Its agent does not answer." if self._link.is_up else "Ray cannot be asked.")
            is_over = isinstance(error, AgentGone) or self._clock() - self._silent_since > ATTACH_AFTER_S
            if is_over and self._link.is_up:
                self._attached = False
            await asyncio.sleep(AGAIN_AFTER_S)
        except RuntimeFailed as error:
            self._become(NodeState.LOST, str(error))
            await asyncio.sleep(ATTACH_AGAIN_AFTER_S)
        else:
            self._heard_at = self._silent_since = self._clock()
            await self._believe()

    def _mark_silent(self, why: str) -> None:
        """Lost at once, whatever Ray says, but where it is we who are blind. `why` does not change with every look."""
        patience_s = self._silence_s if self._link.is_up else BLIND_FOR_S
        if self._state is NodeState.LOST or self._clock() - self._silent_since >= patience_s:
            self._become(NodeState.LOST, why)

    async def _believe(self) -> None:
        """It was heard just now."""
        if not self._fenced:
            self._become(NodeState.READY, "")
            return
        self._become(NodeState.FENCED, "It is back; what was left there is ended before it is used again.")
        if self._report is not None and not self._report.engines:
            self._fenced = False
            return
        with contextlib.suppress(RuntimeFailed):  # tried again
            await self.call("stop_all", within_s=STOP_ALL_WITHIN_S)
