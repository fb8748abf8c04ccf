"""The Runtime of several machines: each has an agent, and Ray sees to it that it has."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vllama.domain.action import Start
from vllama.domain.observed import Footprint, NodeState, Place
from vllama.domain.spec import ModelSpec
from vllama.engine.command import EngineCommand, Rank
from vllama.engine.logs import LogMark, LogPart
from vllama.runtime.base import EngineProcess, LogFile, Reading, RuntimeFailed
from vllama.runtime.local.runtime import log_name
from vllama.runtime.ray.member import Member
from vllama.runtime.ray.messages import Asks, Forwarded, RayNode, Unreachable
from vllama.runtime.ray.presence import directory_of
from vllama.runtime.ray.settings import AgentSettings, RaySettings, given
from vllama.runtime.ray.whole import whole_engines

NODES_EVERY_S = 1.0
NODES_WITHIN_S = 5.0
HEAD_SILENT_AFTER_S = 15.0
HEAD_SILENT = (
    "The head of the Ray cluster does not answer. What runs goes on, and can be started and stopped; but machines that "
    "join are not seen, and after Ray's own time-out (RAY_gcs_rpc_server_reconnect_timeout_s) they all give up."
)
HEARD_WITHIN_S = 30.0  # of the machines that are there when we begin
READ_WITHIN_S = 2.5
START_WITHIN_S = 60.0
SETTLED_WITHIN_S = 10.0
BESIDE_STOPPING_S = 30.0  # kills, a kernel that is slow to let go, memory that is waited for
FORWARD_WITHIN_S = 3600.0  # who asks has a deadline of its own
LET_GO_WITHIN_S = 10.0
LOG_WITHIN_S = 3.0


class RayRuntime:
    """Use `await recover()` once before anything else: it joins the cluster."""

    def __init__(
        self, *, link: Asks, settings: RaySettings, owner: str, simulate: str | None, environ: Mapping[str, str],
        ports: range, clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._link, self._settings, self._clock = link, settings, clock
        self._owner, self._simulate, self._given, self._ports = owner, simulate, given(environ), ports
        self._members: dict[str, Member] = {}
        self._starting: set[str] = set()
        self._where: dict[str, str] = {}  # model -> the node of its latest engine
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._bell: Callable[[], None] = lambda: None
        self._nodes_at = clock()

    async def recover(self) -> None:
        """Join, and hear every machine that is there, so that what runs already is not started again."""
        await self._link.open()
        self._tasks["link"] = asyncio.create_task(self._link.keep(), name="link")
        await self._look_at_nodes()
        self._tasks["nodes"] = asyncio.create_task(self._follow_nodes(), name="nodes")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARD_WITHIN_S):
                while any(member.is_awaited for member in self._members.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    async def _follow_nodes(self) -> None:
        while True:
            await asyncio.sleep(NODES_EVERY_S)
            with contextlib.suppress(Unreachable):
                await self._look_at_nodes()

    async def _look_at_nodes(self) -> None:
        found: list[RayNode] = await self._link.ask("nodes", within_s=NODES_WITHIN_S)
        self._nodes_at = self._clock()
        for node in found:
            if node.name in self._members:
                self._members[node.name].declared(node)
            elif node.alive:
                member = Member(
                    node, link=self._link, settings=self._agent_settings, clock=self._clock, bell=self._ring,
                    silence_s=self._settings.silence_s,
                )  # fmt: skip
                self._members[node.name] = member
                self._tasks[f"member {node.name}"] = asyncio.create_task(member.run(), name=f"member {node.name}")
                self._ring()

    def _agent_settings(self, node: RayNode) -> AgentSettings:
        return AgentSettings(
            owner=self._owner, node=node.name, ray_node=node.ray_id, address=node.address, version=version("vllama"),
            simulate=self._simulate, ports=(self._ports.start, self._ports.stop), grace_s=self._settings.grace_s,
            log_max_bytes=self._settings.log_max_bytes, log_backups=self._settings.log_backups, environ=self._given,
        )  # fmt: skip

    def _ring(self) -> None:
        self._bell()

    async def engines(self) -> tuple[EngineProcess, ...]:
        found = whole_engines(self._parts(), starting=self._starting)
        self._where |= {engine.name: engine.node for engine in found}
        return found

    def _parts(self) -> list[EngineProcess]:
        return [engine for member in self._members.values() for engine in member.engines()]

    async def read(self) -> Reading:
        if not self._members:
            raise RuntimeFailed("No machine of the cluster was heard yet.")
        readings = await asyncio.gather(
            *(member.read(within_s=READ_WITHIN_S) for _, member in sorted(self._members.items()))
        )
        measured = {k: v for each in readings for k, v in each.measured_bytes.items()}
        host = {k: v for each in readings for k, v in each.host_bytes.items()}
        troubles = [trouble for each in readings for trouble in each.troubles]
        nodes = tuple(node for each in readings for node in each.nodes)
        troubles += [f"{node.name}: {node.said}" for node in nodes if node.state is not NodeState.READY]
        if not self._link.is_up:
            troubles.append(f"Ray cannot be asked: {self._link.said}")
        elif self._clock() - self._nodes_at > HEAD_SILENT_AFTER_S:
            troubles.append(HEAD_SILENT)
        return Reading(nodes=nodes, measured_bytes=measured, host_bytes=host, troubles=tuple(troubles))

    async def settled(self, node: str, devices: Collection[int]) -> bool:
        try:
            return bool(await self._at(node).call("settled", tuple(devices), within_s=SETTLED_WITHIN_S))
        except RuntimeFailed:
            return False

    def _at(self, node: str) -> Member:
        if node not in self._members:
            raise RuntimeFailed(f"There is no machine {node} in the cluster.")
        return self._members[node]

    def _anywhere(self) -> list[Member]:
        return [member for _, member in sorted(self._members.items()) if member.is_ready]

    def _members_of(self, engine_id: str) -> list[Member]:
        """Those that have a part of it, the one with the least rank first."""
        found = [
            (engine.rank, name, member)
            for name, member in self._members.items()
            for engine in member.engines()
            if engine.engine_id == engine_id
        ]
        return [member for _, _, member in sorted(found, key=lambda each: each[:2])]

    async def start(self, engine_id: str, spec: ModelSpec, action: Start) -> EngineProcess:
        self._where[spec.model] = action.node
        if not action.further:
            await self._start_at(action.places[0], engine_id, spec, action, None)
            return self._found(engine_id)
        self._starting.add(engine_id)
        try:
            await self._start_ranks(engine_id, spec, action)
        except BaseException:
            with contextlib.suppress(RuntimeFailed):
                await self.stop(engine_id, deadline_s=0.0)
            raise
        finally:
            self._starting.discard(engine_id)
        return self._found(engine_id)

    async def _start_ranks(self, engine_id: str, spec: ModelSpec, action: Start) -> None:
        """All at once: they wait for each other."""
        first = self._at(action.node)
        port = await first.call("a_free_port")
        ranks = [
            Rank(
                index=index, count=len(action.places), devices=len(action.keys), master_address=first.node.address,
                master_port=port,
            )
            for index in range(len(action.places))
        ]  # fmt: skip
        outcomes = await asyncio.gather(
            *(
                self._start_at(place, engine_id, spec, action, rank)
                for place, rank in zip(action.places, ranks, strict=True)
            ),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _start_at(
        self, place: Place, engine_id: str, spec: ModelSpec, action: Start, rank: Rank | None
    ) -> None:  # fmt: skip
        here = replace(action, node=place.node, devices=place.devices, further=())
        await self._at(place.node).call("start", engine_id, spec, here, rank, within_s=START_WITHIN_S)

    def _found(self, engine_id: str) -> EngineProcess:
        for engine in whole_engines(self._parts(), starting=()):
            if engine.engine_id == engine_id:
                return engine
        raise RuntimeFailed("The engine was started, and its machine does not tell of it.")

    async def stop(self, engine_id: str, *, deadline_s: float) -> None:
        within_s = deadline_s + BESIDE_STOPPING_S
        stops = (
            member.call("stop", engine_id, deadline_s, within_s=within_s) for member in self._members_of(engine_id)
        )
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def listening(self, engine_id: str) -> bool:
        owners = self._members_of(engine_id)
        return bool(owners) and bool(await owners[0].call("listening", engine_id))

    async def moved_bytes(self, engine_id: str) -> int:
        moved = (member.call("moved_bytes", engine_id) for member in self._members_of(engine_id))
        return sum(await asyncio.gather(*moved))

    async def forward(
        self, engine_id: str, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Forwarded:  # fmt: skip
        owners = self._members_of(engine_id)
        if not owners:
            return Forwarded(refused=True)
        call = owners[0].call("ask", engine_id, method, path, dict(headers), body, within_s=FORWARD_WITHIN_S)
        answer: Forwarded = await call
        return answer

    async def footprint(self, spec: ModelSpec) -> Footprint | None:
        """By the first machine that has its files. Files that are wrong on one may be right on another."""
        wrong: ValueError | None = None
        for member in self._anywhere():
            try:
                found: Footprint | None = await member.call("footprint", spec)
            except RuntimeFailed:
                continue
            except ValueError as error:
                wrong = error
                continue
            if found is not None:
                return found
        if wrong is not None:
            raise wrong
        return None

    async def preview(self, spec: ModelSpec, action: Start, *, port: int | None) -> EngineCommand:
        command: EngineCommand = await self._at(action.node).call("preview", spec, action, port)
        return command

    def log_of(self, model: str) -> LogFile:
        """On the node of its latest engine; where there was none yet, on any."""
        node = self._where.get(model, next(iter(sorted(self._members)), ""))
        owner = self._members[node].node if node in self._members else None
        home = "" if owner is None else self._agent_settings(owner).engine_owner
        return LogFile(node=node, path=directory_of(Path("~"), home) / "logs" / log_name(model))

    async def read_log(self, log: LogFile, after: LogMark) -> LogPart:
        part: LogPart = await self._or(LogPart(data=b"", mark=after), log.node, "read_log", log, after)
        return part

    async def log_tail(self, log: LogFile, *, limit_bytes: int) -> tuple[str, ...]:
        lines: tuple[str, ...] = await self._or((), log.node, "log_tail", log, limit_bytes)
        return lines

    async def _or(self, nothing: Any, node: str, verb: str, *args: Any) -> Any:
        try:
            return await self._at(node).call(verb, *args, within_s=LOG_WITHIN_S)
        except (RuntimeFailed, ValueError):
            return nothing

    async def cached_models(self) -> tuple[str, ...]:
        asked: list[Awaitable[tuple[str, ...]]] = [member.call("cached_models") for member in self._anywhere()]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return tuple(sorted({model for models in found if not isinstance(models, BaseException) for model in models}))

    def watch(self, bell: Callable[[], None]) -> None:
        self._bell = bell

    async def close(self) -> None:
        """Machines that have nothing left of ours are given back; the others keep their agents for the next manager."""
        members = [member for member in self._anywhere() if not member.engines()]
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        gone = (self._link.ask("let_go", member.name, within_s=LET_GO_WITHIN_S) for member in members)
        await asyncio.gather(*gone, return_exceptions=True)
        await self._link.close()
