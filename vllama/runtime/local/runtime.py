"""The Runtime of one machine: engines are processes, devices are NVML's, the host's or made up."""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from vllama.domain.action import Start
from vllama.domain.observed import Footprint
from vllama.domain.spec import ModelSpec
from vllama.engine.command import ALONE, EngineCommand, Rank, Seat
from vllama.engine.door import Door, new_key
from vllama.engine.logs import LogMark, LogPart, read_part, read_tail
from vllama.engine.shown import shown
from vllama.runtime import clock
from vllama.runtime.base import LOCAL, LOOPBACK, EngineProcess, LogFile, Reading, RuntimeFailed
from vllama.runtime.local import proc
from vllama.runtime.local.devices import DeviceSource
from vllama.runtime.local.identity import VARIABLE, Identity
from vllama.runtime.local.ports import Port, claim, free_port
from vllama.runtime.local.recovery import leaders_of
from vllama.runtime.local.settling import memory_settles
from vllama.runtime.local.signals import reap_strangers
from vllama.runtime.local.spawn import Leader, end, spawn
from vllama.runtime.local.stopping import stop_tree

READ_WITHIN_S = 10.0  # a driver that lost a GPU may hang for ever

_NO_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})

T = TypeVar("T")


class Launcher(Protocol):
    """What to run for a model: real vLLM, or the simulator."""

    def command(
        self, spec: ModelSpec, action: Start, *, port: int, tag: tuple[str, str], seat: Seat = ALONE
    ) -> EngineCommand:  # fmt: skip
        """Pure but for finding the program. RuntimeFailed says what is missing."""
        ...

    def footprint(self, spec: ModelSpec) -> Footprint | None:
        """As the Runtime's; may block."""
        ...

    def cached_models(self) -> tuple[str, ...]:
        """As the Runtime's; may block."""
        ...

    def arrived_bytes(self, model: str) -> int:
        """How much of it is on disk, half files included; may block."""
        ...


class LocalRuntime:
    """Use `await recover()` once before anything else: it finds the engines that an earlier manager left."""

    def __init__(
        self, *, owner: str, logs: Path, ports: range, devices: DeviceSource, launcher: Launcher,
        read_within_s: float = READ_WITHIN_S, node: str = LOCAL, host: str = LOOPBACK,
    ) -> None:  # fmt: skip
        """`host`: where engines listen. Anywhere but on loopback each has a door, and a key of its own."""
        self._node, self._host = node, host
        self._owner, self._logs, self._ports = owner, logs, ports
        self._devices, self._launcher, self._read_within_s = devices, launcher, read_within_s
        self._devices_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="devices")
        self._leaders: dict[str, Leader] = {}
        self._adopted: set[str] = set()
        self._last_port = ports.stop
        self._bell: Callable[[], None] = lambda: None
        self._starting = asyncio.Lock()

    async def recover(self) -> None:
        """Take up every engine of ours that is there already, the orphans of dead leaders included."""
        for leader in await asyncio.to_thread(leaders_of, self._owner):
            engine_id = leader.identity.engine_id
            if engine_id not in self._leaders:
                leader.watch(self._ring)
                self._leaders[engine_id] = leader
                self._adopted.add(engine_id)

    async def engines(self) -> tuple[EngineProcess, ...]:
        reap_strangers({leader.sid for leader in self._leaders.values() if leader.popen is not None})
        return tuple(self._process(leader) for leader in self._leaders.values())

    async def read(self) -> Reading:
        sessions = {leader.sid: engine_id for engine_id, leader in self._leaders.items()}
        return await self._ask_devices(partial(self._devices.read, sessions))

    async def settled(self, node: str, devices: Collection[int]) -> bool:  # noqa: ARG002  # there is one node here
        try:
            return await memory_settles(self._used, devices, clock=clock.now)
        except RuntimeFailed:
            return False

    async def _used(self) -> Mapping[int, int | None]:
        return await self._ask_devices(self._devices.used)

    async def _ask_devices(self, question: Callable[[], T]) -> T:
        """One at a time, in their own thread: when the driver hangs, only who asks it waits, and not for ever."""
        answer = asyncio.get_running_loop().run_in_executor(self._devices_thread, question)
        try:
            async with asyncio.timeout(self._read_within_s):
                return await answer
        except TimeoutError:
            raise RuntimeFailed(
                f"The devices do not tell their memory: no answer within {self._read_within_s:g} s. Where `nvidia-smi` "
                "hangs as well, the driver hangs: see `dmesg`; a reboot may be all that helps."
            ) from None

    async def start(
        self, engine_id: str, spec: ModelSpec, action: Start, rank: Rank | None = None
    ) -> EngineProcess:  # fmt: skip
        """`rank`: the part of an engine that spans nodes which is to run here; `action` has the devices of this one."""
        async with self._starting:  # a port is chosen and taken in one step
            if engine_id not in self._leaders:
                self._leaders[engine_id] = await self._spawn(engine_id, spec, action, rank)
        return self._process(self._leaders[engine_id])

    async def a_free_port(self) -> int:
        """For what the ranks of an engine say to each other. Nobody holds it until the engine does."""
        async with self._starting:
            taken = {leader.identity.port for leader in self._leaders.values()}
            port = free_port(self._ports, taken, after=self._last_port, host=self._host)
            self._last_port = port.number
            port.release()
            return port.number

    async def _spawn(self, engine_id: str, spec: ModelSpec, action: Start, rank: Rank | None) -> Leader:
        port = self._port_for(spec)
        try:
            leader = await self._spawn_on(port, engine_id, spec, action, rank)
        except BaseException:
            port.release()
            raise
        self._ring()
        return leader

    async def _spawn_on(
        self, port: Port, engine_id: str, spec: ModelSpec, action: Start, rank: Rank | None
    ) -> Leader:  # fmt: skip
        door = None if self._host == LOOPBACK else Door(host=self._host, key=new_key())
        log, offset = await asyncio.to_thread(self._open_log, spec.model, engine_id)
        identity = Identity(
            owner=self._owner, engine_id=engine_id, model=spec.served_name, replica=spec.replica,
            spec_hash=action.spec_hash, node=action.node, devices=action.devices, memory_bytes=action.memory_bytes,
            port=port.number, log=str(log), log_offset=offset, host=self._host, key=None if door is None else door.key,
            rank=0 if rank is None else rank.index, ranks=1 if rank is None else rank.count,
        )  # fmt: skip
        command = await asyncio.to_thread(
            self._launcher.command, spec, action, port=port.number, tag=(VARIABLE, identity.encode()),
            seat=Seat(door=door, rank=rank),
        )  # fmt: skip
        leader = await asyncio.to_thread(spawn, identity, command.argv, dict(command.env), port)
        try:
            leader.watch(self._ring)
        except OSError as error:
            if leader.popen is not None:
                await asyncio.to_thread(end, leader.popen)
            raise RuntimeFailed(f"The engine of {spec.model} was started, but cannot be watched: {error}.") from error
        return leader

    def _port_for(self, spec: ModelSpec) -> Port:
        taken = {leader.identity.port for leader in self._leaders.values()}
        if spec.launch.port is None:
            port = free_port(self._ports, taken, after=self._last_port, host=self._host)
            self._last_port = port.number
            return port
        given = None if spec.launch.port in taken else claim(spec.launch.port, host=self._host)
        if given is None:
            raise RuntimeFailed(
                f"Port {spec.launch.port}, which models.yaml gives to {spec.model}, is in use. "
                "Choose another, or leave `port` out and a free one is found."
            )
        return given

    def _open_log(self, model: str, engine_id: str) -> tuple[Path, int]:
        """One file per replica, appended to; a header line tells its engines apart.

        A disk that takes no more costs this engine its log: vLLM would die of what it cannot write there.
        """
        path = self._log_path(model)
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as log:
                log.write(f"--- vllama: engine {engine_id} of {model}\n".encode())
                return path, log.tell()
        except OSError as error:
            if error.errno in _NO_DISK:
                return Path(os.devnull), 0
            raise RuntimeFailed(f"Cannot write the log {path}: {error}.") from error

    async def stop(self, engine_id: str, *, deadline_s: float) -> None:
        leader = self._leaders.get(engine_id)
        if leader is None:
            return
        try:
            await stop_tree(leader, deadline_s=deadline_s, clock=clock.now)
        except OSError as error:
            text = f"Nobody can see whether the engine of {leader.identity.model} is gone: {error}."
            raise RuntimeFailed(text) from error
        await self.settled(leader.identity.node, leader.identity.devices)
        leader.unwatch()
        if leader.port is not None:
            leader.port.release()
        self._leaders.pop(engine_id, None)
        self._adopted.discard(engine_id)

    async def listening(self, engine_id: str) -> bool:
        """Whether the engine's own processes listen on its port: who answers there is who was started."""
        leader = self._leaders.get(engine_id)
        if leader is None:
            return False
        try:
            return await asyncio.to_thread(_tree_listens, leader)
        except OSError as error:
            raise RuntimeFailed(f"Nobody can see who listens on port {leader.identity.port}: {error}.") from error

    async def moved_bytes(self, engine_id: str) -> int:
        leader = self._leaders.get(engine_id)
        return 0 if leader is None else await asyncio.to_thread(self._moved_bytes, leader)

    def _moved_bytes(self, leader: Leader) -> int:
        members = proc.tree(leader.sid, leader.since_ticks, leader.identity.engine_id)
        return sum(proc.io_bytes(each.pid) for each in members) + self._launcher.arrived_bytes(leader.identity.model)

    async def footprint(self, spec: ModelSpec) -> Footprint | None:
        return await asyncio.to_thread(self._launcher.footprint, spec)

    async def preview(self, spec: ModelSpec, action: Start, *, port: int | None) -> EngineCommand:
        seat = ALONE if self._host == LOOPBACK else Seat(door=Door(host=self._host, key=""))
        command = await asyncio.to_thread(
            self._launcher.command, spec, action, port=port or 0, tag=(VARIABLE, ""), seat=seat
        )
        seen = shown(command, os.environ, port_known=port is not None)
        return EngineCommand(argv=seen.argv, env=tuple(entry for entry in seen.env if entry[0] != VARIABLE))

    def log_of(self, model: str) -> LogFile:
        return LogFile(node=self._node, path=self._log_path(model))

    def _log_path(self, model: str) -> Path:
        return self._logs / log_name(model)

    async def read_log(self, log: LogFile, after: LogMark) -> LogPart:
        return await asyncio.to_thread(read_part, log.path, after)

    async def log_tail(self, log: LogFile, *, limit_bytes: int) -> tuple[str, ...]:
        return await asyncio.to_thread(read_tail, log.path, limit_bytes=limit_bytes)

    async def cached_models(self) -> tuple[str, ...]:
        return await asyncio.to_thread(self._launcher.cached_models)

    def watch(self, bell: Callable[[], None]) -> None:
        self._bell = bell

    def _ring(self) -> None:
        self._bell()

    async def close(self) -> None:
        for leader in self._leaders.values():
            with contextlib.suppress(OSError):
                leader.unwatch()
        self._devices_thread.shutdown(wait=False, cancel_futures=True)

    def _process(self, leader: Leader) -> EngineProcess:
        identity = leader.identity
        return EngineProcess(
            engine_id=identity.engine_id, model=identity.model, replica=identity.replica,
            spec_hash=identity.spec_hash, node=identity.node, devices=identity.devices,
            memory_bytes=identity.memory_bytes, pid=leader.sid, port=identity.port,
            started_at=leader.started_at, log=Path(identity.log), log_offset=identity.log_offset, exit=leader.exit,
            adopted=identity.engine_id in self._adopted, host=identity.host, key=identity.key, rank=identity.rank,
            ranks=identity.ranks,
        )  # fmt: skip


def _tree_listens(leader: Leader) -> bool:
    members = proc.tree(leader.sid, leader.since_ticks, leader.identity.engine_id)
    return proc.listens([each.pid for each in members], leader.identity.port)


def log_name(model: str) -> str:
    """A file name that any model name may safely have: readable, bounded, and not two models' at once."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", model).lstrip(".")[:80]
    return f"{readable}-{hashlib.sha256(model.encode()).hexdigest()[:8]}.log"
