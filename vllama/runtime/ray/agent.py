"""On each machine of the cluster: an actor of Ray's that embeds the local runtime, and does what its manager says.

Ray restarts it where it crashed; engines do not notice, as they have sessions of their own. What it knows it finds in
/proc, so nothing is lost with it but the generation, which it writes down.
"""

import asyncio
import contextlib
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from vllama.runtime import clock, machine
from vllama.runtime.base import LogFile, NoProcess, Reading, RuntimeFailed
from vllama.runtime.local import rotation
from vllama.runtime.local.host import HostMemory
from vllama.runtime.local.runtime import LocalRuntime
from vllama.runtime.machine import Machine
from vllama.runtime.ray.messages import Answer, Call, Failure, Forwarded, Hello, Report
from vllama.runtime.ray.presence import AGENT, Lock, directory_of, start_keeper
from vllama.runtime.ray.settings import AgentSettings

STOP_ALL_WITHIN_S = 10.0
KEEPER_EVERY_S = 2.0
LOCK_WITHIN_S = 30.0


class Agent:
    """The actor. It never raises, as Ray would pack that up in ways of its own; the answer says what went wrong."""

    def __init__(self, settings: AgentSettings, environ: Mapping[str, str] | None = None) -> None:
        """`environ`: the machine's; None: that of whoever started Ray on it."""
        self._settings, self._environ = settings, environ
        self._duties: Duties | None = None
        self._asked_at = clock.now()
        self._lock: asyncio.Lock | None = None

    async def do(self, call: Call) -> Answer:
        try:
            return await self._do(call)
        except NoProcess as error:
            return Answer(failure=Failure.NO_PROCESS, said=str(error))
        except (RuntimeFailed, OSError) as error:
            return Answer(failure=Failure.FAILED, said=str(error))
        except ValueError as error:
            return Answer(failure=Failure.ERROR, said=str(error))

    async def close(self) -> None:
        if self._duties is not None:
            await self._duties.close()
            self._duties = None

    async def _do(self, call: Call) -> Answer:
        if call.verb == "hello":
            return Answer(value=Hello(settings=self._settings, unasked_s=clock.now() - self._asked_at))
        self._asked_at = clock.now()
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            if self._duties is None:
                environ = environ_of_this_node() if self._environ is None else self._environ
                self._duties = await Duties.begin(self._settings, environ)
        duties = self._duties
        if call.verb != "claim" and (call.generation or 0) < duties.generation:
            return Answer(superseded=True, said=duties.taken_over)
        method: Callable[..., Awaitable[Any]] = getattr(duties, call.verb)
        value = await method(*call.args)
        return Answer(value=value, report=await duties.report())


class Duties:
    """What can be asked of an agent: every public method is a verb."""

    def __init__(self, settings: AgentSettings, here: Machine, directory: Path, lock: Lock, why: str) -> None:
        """`why`: there is nothing to run engines on; empty: there is."""
        self._settings, self._directory, self._lock, self._why = settings, directory, lock, why
        self._incarnation, self._version, self._changed = uuid.uuid4().hex, 0, asyncio.Event()
        self._runtime = LocalRuntime(
            owner=settings.engine_owner, logs=directory / "logs", ports=range(*settings.ports), devices=here.devices,
            launcher=here.launcher, node=settings.node, host=settings.address,
        )  # fmt: skip
        self._runtime.watch(self._ring)
        self._http = httpx.AsyncClient(trust_env=False, timeout=None)  # noqa: S113  # who asks has a deadline
        self._tasks: list[asyncio.Task[None]] = []
        self.generation = _read_number(directory / "generation")

    @staticmethod
    async def begin(settings: AgentSettings, environ: Mapping[str, str]) -> "Duties":
        """RuntimeFailed says why this machine cannot be used."""
        if (mine := version("vllama")) != settings.version:
            raise RuntimeFailed(
                f"{settings.node} has vllama {mine}, its manager {settings.version}. Install the same on all machines."
            )
        environ = {**settings.environ, **environ}
        directory = directory_of(Path(environ.get("HOME") or Path.home()), settings.engine_owner)
        (directory / "logs").mkdir(parents=True, exist_ok=True)
        lock = Lock(directory / AGENT)
        if not await asyncio.to_thread(lock.take_within, LOCK_WITHIN_S, clock=clock.now):
            raise RuntimeFailed(f"An earlier agent of {settings.node}, or its keeper, has not ended yet.")
        here, why = await asyncio.to_thread(_machine, settings, directory, environ)
        duties = Duties(settings, here, directory, lock, why)
        await duties.recover()
        keeping = {"keeper": duties.have_a_keeper(environ), "logs": duties.bound_logs()}
        duties._tasks = [asyncio.create_task(work, name=name) for name, work in keeping.items()]
        return duties

    async def close(self) -> None:
        """As where the actor ends, for who embeds it otherwise. Engines are left as they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()
        await self._runtime.close()
        self._lock.release()

    @property
    def taken_over(self) -> str:
        return f"Another vllama has taken over the machine {self._settings.node}."

    async def recover(self) -> None:
        await self._runtime.recover()

    def _ring(self) -> None:
        self._version += 1
        self._changed.set()

    async def have_a_keeper(self, environ: Mapping[str, str]) -> None:
        """For ever."""
        settings = self._settings
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(
                    start_keeper, self._directory, settings.engine_owner, grace_s=settings.grace_s, environ=environ
                )
            await asyncio.sleep(KEEPER_EVERY_S)

    async def bound_logs(self) -> None:
        """For ever."""
        await rotation.keep_bounded(
            self._directory / "logs", max_bytes=self._settings.log_max_bytes, backups=self._settings.log_backups
        )

    async def claim(self, generation: int | None) -> int:
        """The next generation, for a manager that has none yet, or still has the newest. RuntimeFailed: it has not."""
        if generation is not None and generation < self.generation:
            raise RuntimeFailed(self.taken_over)
        self.generation = max(self.generation, generation or 0) + 1
        await asyncio.to_thread((self._directory / "generation").write_text, str(self.generation))
        return self.generation

    async def look(self, seen: tuple[str, int] | None, wait_s: float) -> str:
        """Returns when there is something that is not `seen` yet, or after `wait_s`; then there is a report.

        Its value is why no engine can run here, or nothing.
        """
        if seen == (self._incarnation, self._version):
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
        return self._why

    async def report(self) -> Report:
        return Report(
            incarnation=self._incarnation, version=self._version, now=clock.now(), engines=await self._runtime.engines()
        )  # fmt: skip

    async def read(self) -> Reading:
        if self._why:
            return Reading(nodes=())
        return await self._runtime.read()

    async def settled(self, devices: tuple[int, ...]) -> bool:
        return await self._runtime.settled(self._settings.node, devices)

    async def start(self, engine_id: str, *rest: Any) -> Any:
        if self._why:
            raise RuntimeFailed(self._why)
        started = await self._runtime.start(engine_id, *rest)
        self._ring()
        return started

    async def a_free_port(self) -> int:
        return await self._runtime.a_free_port()

    async def stop(self, engine_id: str, deadline_s: float) -> None:
        await self._runtime.stop(engine_id, deadline_s=deadline_s)
        self._ring()

    async def stop_all(self) -> None:
        """Nothing of before is to be left. RuntimeFailed where something survives."""
        engines = await self._runtime.engines()
        await asyncio.gather(*(self.stop(engine.engine_id, STOP_ALL_WITHIN_S) for engine in engines))

    async def listening(self, engine_id: str) -> bool:
        return await self._runtime.listening(engine_id)

    async def moved_bytes(self, engine_id: str) -> int:
        return await self._runtime.moved_bytes(engine_id)

    async def footprint(self, spec: Any) -> Any:
        return await self._runtime.footprint(spec)

    async def preview(self, spec: Any, action: Any, port: int | None) -> Any:
        return await self._runtime.preview(spec, action, port=port)

    async def read_log(self, log: LogFile, after: Any) -> Any:
        return await self._runtime.read_log(self._here(log), after)

    async def log_tail(self, log: LogFile, limit_bytes: int) -> tuple[str, ...]:
        return await self._runtime.log_tail(self._here(log), limit_bytes=limit_bytes)

    def _here(self, log: LogFile) -> LogFile:
        """Managers know a log by its place below a home that they have never seen."""
        if log.path.parts[:1] != ("~",):
            return log
        return LogFile(node=log.node, path=self._directory / "logs" / log.path.name)

    async def cached_models(self) -> tuple[str, ...]:
        return await self._runtime.cached_models()

    async def ask(self, engine_id: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Forwarded:
        """An engine, from its own host. `headers` are the manager's; the key is the engine's in any case."""
        found = [engine for engine in await self._runtime.engines() if engine.engine_id == engine_id]
        if not found:
            return Forwarded(refused=True)
        address = found[0].address
        shown = {**headers, **({} if address.key is None else {"authorization": f"Bearer {address.key}"})}
        try:
            answer = await self._http.request(method, address.base_url + path, headers=shown, content=body)
        except httpx.ConnectError:
            return Forwarded(refused=True)
        except httpx.HTTPError as error:
            return Forwarded(error=str(error) or type(error).__name__)
        return Forwarded(status=answer.status_code, headers=dict(answer.headers), body=answer.content)


def _machine(settings: AgentSettings, directory: Path, environ: Mapping[str, str]) -> tuple[Machine, str]:
    if settings.simulate:
        return machine.simulated(settings.node, directory / "simulated", settings.simulate, environ), ""
    try:
        return machine.real(settings.node, environ), ""
    except machine.NothingToRunOn as error:
        without = machine.nowhere(settings.node, environ)
        return Machine(
            devices=HostMemory(node=settings.node), launcher=without.launcher, describe="", place=""
        ), str(error).partition("\n")[0]  # fmt: skip


def environ_of_this_node() -> dict[str, str]:
    """As whoever runs Ray here set it: Ray gives its workers another one, with its secrets and one thread for OpenMP.

    The raylet is the parent of its workers and started with that of `ray start`.
    """
    try:
        parts = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
        pairs = [part.decode(errors="surrogateescape").partition("=") for part in parts if b"=" in part]
        found = {name: value for name, _, value in pairs}
    except OSError:
        found = dict(os.environ)
    allocator = found.get("LD_PRELOAD", "")
    if "ray/core" in allocator:
        del found["LD_PRELOAD"]  # the raylet's own, and nobody's else
    return {name: value for name, value in found.items() if not name.startswith("RAY_")}


def _read_number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
