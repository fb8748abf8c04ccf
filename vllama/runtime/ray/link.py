"""The manager's end of its driver, the process that speaks Ray. Where that one ends or hangs another takes its place.

Every question has a deadline, and nothing here waits for Ray in any other way.
"""

import asyncio
import contextlib
import itertools
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vllama.runtime.base import RuntimeFailed
from vllama.runtime.ray import frames
from vllama.runtime.ray.messages import Unreachable
from vllama.runtime.ray.settings import RaySettings
from vllama.runtime.ray.token import check_token

BEGINS_WITHIN_S = 60.0
PING_EVERY_S = 2.0
PING_WITHIN_S = 10.0
AGAIN_AFTER_S = 1.0  # twice as long each time
AGAIN_AFTER_AT_MOST_S = 15.0
BESIDE_S = 0.5  # the driver's own deadline comes first, and says more

# For as long a head may be gone before the manager's part of Ray gives up: never.
_ENVIRON = {"RAY_gcs_rpc_server_reconnect_timeout_s": str(30 * 86400), "RAY_DEDUP_LOGS": "0"}


class Link:
    """`is_up`: a driver is connected. `said`: why not, for people."""

    def __init__(
        self, settings: RaySettings, *, environ: Mapping[str, str], log: Path, clock: Callable[[], float]
    ) -> None:  # fmt: skip
        """`log`: where Ray's own words go. RuntimeFailed: Ray is not installed, or nothing keeps strangers out."""
        if find_spec("ray") is None:
            raise RuntimeFailed("Ray is not installed here. Install it, on every machine: pip install 'vllama[ray]'")
        if not settings.insecure:
            check_token(environ)
        self._address, self._log, self._clock = settings.address, log, clock
        self._flags = ("--insecure",) if settings.insecure else ()
        self._environ = {**environ, **_ENVIRON}
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self.is_up = False
        self.said = "it was not asked yet"
        self.down_since = clock()

    async def open(self) -> None:
        """Unreachable says why not."""
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.to_thread(self._spawn, theirs)
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            async with asyncio.timeout(BEGINS_WITHIN_S):
                _, right, said = await frames.read(reader)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            right, said = False, Unreachable(f"no answer within {BEGINS_WITHIN_S:.0f} s; see {self._log}")
        if not right:
            await self._end()
            raise Unreachable(f"Ray at {self._address} cannot be joined: {said}")
        self._reading = asyncio.create_task(self._read(reader), name="ray's answers")
        self.is_up = True

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "vllama.runtime.ray.driver", str(theirs.fileno()), self._address, *self._flags]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                argv, env=self._environ, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, cwd="/",
            )  # fmt: skip

    async def ask(self, operation: str, *arguments: Any, within_s: float) -> Any:
        """Unreachable: no answer in time, or none at all, or Ray raised something."""
        if not self.is_up or self._writer is None:
            raise Unreachable(f"Ray cannot be asked now: {self.said}.")
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        frames.write(self._writer, (number, operation, arguments, within_s))
        try:
            async with asyncio.timeout(within_s + BESIDE_S):
                right, value = await answer
        except TimeoutError:
            raise Unreachable(f"Ray does not answer: nothing within {within_s:g} s.") from None
        except asyncio.CancelledError:
            if self.is_up:
                frames.write(self._writer, (number, None, (), 0.0))
            raise
        finally:
            self._waiting.pop(number, None)
        if not right:
            raise value
        return value

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, right, value = await frames.read(reader)
                if (answer := self._waiting.get(number)) is not None and not answer.done():
                    answer.set_result((right, value))
        self._down("its process has ended")

    def _down(self, why: str) -> None:
        if self.is_up:
            self.is_up, self.said, self.down_since = False, why, self._clock()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result((False, Unreachable(f"Ray cannot be asked now: {why}.")))

    async def keep(self) -> None:
        """A driver that is there and answers. For ever."""
        pause_s = AGAIN_AFTER_S
        while True:
            await asyncio.sleep(PING_EVERY_S if self.is_up else pause_s)
            if self.is_up:
                pause_s = AGAIN_AFTER_S
                try:
                    await self.ask("ping", within_s=PING_WITHIN_S)
                except Unreachable:
                    self._down("its process hung")
                continue
            await self._end()
            try:
                await self.open()
            except (Unreachable, OSError) as error:
                self.said = str(error)
                pause_s = min(2 * pause_s, AGAIN_AFTER_AT_MOST_S)

    async def close(self) -> None:
        self._down("vllama ends")
        await self._end()

    async def _end(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._process is not None:
            process, self._process = self._process, None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.to_thread(process.wait)
