"""The API server's end of the wire to its core: start it, wait for it, send requests, hear that it died."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Collection
from typing import Any, assert_never

import msgspec

from vllama.simulator.command import ServeCommand
from vllama.simulator.core import run_core
from vllama.simulator.settings import Settings
from vllama.simulator.wire import Abort, Add, Call, Dead, Output, Ready, Reply, Stats, decode_event, encode

_LONGEST_LINE = 64 << 20


class EngineDeadError(Exception):
    def __init__(self) -> None:
        super().__init__("EngineCore encountered an issue. See stack trace (above) for the root cause.")


class CallFailed(Exception):
    """A method of the core raised; the text is vLLM's."""


def start_core(command: ServeCommand, settings: Settings, listener: socket.socket) -> tuple[int, socket.socket]:
    """Fork the core. Returns its pid and our end of the wire. The core must not keep the listener's port bound."""
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    pid = _fork_twice() if settings.faults.double_fork else os.fork()
    if pid:
        theirs.close()
        return pid, ours
    if settings.faults.own_session:
        os.setsid()
    ours.close()
    listener.close()
    code = 1
    try:
        code = run_core(theirs, command, settings)
    except Exception:  # noqa: BLE001 - nothing may climb into the API server's half of the fork
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _fork_twice() -> int:
    """As `os.fork`, except that the child is nobody's: the process between the two has ended."""
    reading, writing = os.pipe()
    if middle := os.fork():
        os.waitpid(middle, 0)
        pid = int(os.read(reading, 20))
    elif child := os.fork():
        os.write(writing, b"%d" % child)
        os._exit(0)
    else:
        pid = 0
    os.close(reading)
    os.close(writing)
    return pid


def wait_until_loaded(connection: socket.socket) -> bool:
    """Block until the core says that it is ready; False if it ended instead."""
    return connection.recv(1 << 16) == encode(Ready()) + b"\n"


class CoreClient:
    def __init__(self, *, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.died = asyncio.Event()
        self.stopping = False  # we end it ourselves: its silence is no news for anybody
        self.stats = Stats(0, 0)
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished: Counter[str] = Counter()
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count()
        self._idle = asyncio.Event()
        self._idle.set()
        self._outputs: dict[str, asyncio.Queue[Output | None]] = {}
        self._replies: dict[int, asyncio.Future[Any]] = {}

    @property
    def in_flight(self) -> int:
        return len(self._outputs)

    async def generate(self, request: Add, *, prompt_tokens: int) -> AsyncIterator[Output]:
        """Outputs up to the one with a finish reason. Leaving early aborts. EngineDeadError if the core dies."""
        if self.died.is_set():
            raise EngineDeadError
        request = msgspec.structs.replace(request, request_id=f"{request.request_id}#{next(self._numbers)}")
        queue = self._outputs[request.request_id] = asyncio.Queue()
        self._send(request)
        self._idle.clear()
        finish_reason: str | None = None
        try:
            while finish_reason is None:
                output = await queue.get()
                if output is None:
                    raise EngineDeadError
                self.prompt_tokens += prompt_tokens  # known as computed with the first token
                prompt_tokens = 0
                self.generation_tokens += output.tokens if request.steps else 0
                finish_reason = output.finish_reason
                yield output
        finally:
            del self._outputs[request.request_id]
            if not self._outputs:
                self._idle.set()
            if finish_reason is None and not self.died.is_set():
                self._send(Abort([request.request_id]))
            self.finished[finish_reason or "abort"] += 1

    async def call(self, method: str, /, **arguments: Any) -> Any:
        """CallFailed if the method raised, EngineDeadError if the core is dead."""
        if self.died.is_set():
            raise EngineDeadError
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        self._send(Call(number, method, arguments))
        try:
            return await reply
        finally:
            self._replies.pop(number, None)

    async def idle(self) -> None:
        """Wait until no request is under way."""
        await self._idle.wait()

    def abort(self, request_ids: Collection[str]) -> None:
        """By the names their callers know; several requests may have the same one."""
        self._send(Abort([known for known in self._outputs if known.rpartition("#")[0] in request_ids]))

    def kill(self) -> None:
        """At once, and without a word to those who wait for it. Its zombie stays, as vLLM's does."""
        self.stopping = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def listen(self) -> None:
        """Pass on what the core says until it ends."""
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                match decode_event(line):
                    case Output() as output:
                        if queue := self._outputs.get(output.request_id):
                            queue.put_nowait(output)
                    case Reply() as reply:
                        self._take(reply)
                    case Stats() as stats:
                        self.stats = stats
                    case Dead():
                        self._tell_everybody()
                    case Ready():
                        pass
                    case unknown:
                        assert_never(unknown)
        if not self.stopping:
            self._tell_everybody()

    def _take(self, reply: Reply) -> None:
        future = self._replies.get(reply.number)
        if future is None or future.done():
            return
        if reply.error is None:
            future.set_result(reply.result)
        else:
            future.set_exception(CallFailed(reply.error))

    def _tell_everybody(self) -> None:
        self.died.set()
        for queue in self._outputs.values():
            queue.put_nowait(None)
        for future in self._replies.values():
            if not future.done():
                future.set_exception(EngineDeadError())

    def _send(self, command: Add | Abort | Call) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(command) + b"\n")


async def connect(pid: int, connection: socket.socket) -> CoreClient:
    reader, writer = await asyncio.open_connection(sock=connection, limit=_LONGEST_LINE)
    return CoreClient(pid=pid, reader=reader, writer=writer)
