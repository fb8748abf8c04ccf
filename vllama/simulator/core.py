"""The EngineCore process: holds the device memory, runs the requests, sleeps and wakes.

It outlives an API server that is killed, and goes on holding its memory, as vLLM's does.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, assert_never

import setproctitle

from vllama.simulator.command import ServeCommand
from vllama.simulator.load import LoadFailed, load
from vllama.simulator.log import log, log_traceback
from vllama.simulator.memory import DeviceMemory
from vllama.simulator.methods import CoreDied, Methods
from vllama.simulator.ranks import Ranks
from vllama.simulator.scheduler import Scheduler
from vllama.simulator.settings import Settings
from vllama.simulator.wire import Abort, Add, Call, Dead, Event, Ready, Reply, decode_command, encode

_LONGEST_LINE = 64 << 20
_say = partial(log, "EngineCore")


def run_core(connection: socket.socket, command: ServeCommand, settings: Settings) -> int:
    """Load, tell the API server, and serve it until the end. Returns the exit code."""
    setproctitle.setproctitle("VLLM::EngineCore")
    told_to_stop = _hear_signals(ignore=settings.faults.ignore_sigterm)
    if settings.faults.log_flood:
        threading.Thread(target=_flood, daemon=True).start()
    memory = DeviceMemory(settings, tensor_parallel_size=command.tensor_parallel_size)
    try:
        if command.nodes > 1:
            memory.elsewhere = Ranks(command).hold
        load(command, settings, memory)
    except TimeoutError:
        log_traceback("EngineCore", "torch.distributed.DistStoreError: Timed out, not all clients joined")
        return 1
    except LoadFailed as failure:
        _say("core.py:1510", "EngineCore failed to start.", level="ERROR")
        log_traceback("EngineCore", str(failure))
        return 1
    if told_to_stop:  # heard while loading, but heeded only now
        return 0
    with suppress(BrokenPipeError):  # an API server that was killed meanwhile is no reason to end
        connection.sendall(encode(Ready()) + b"\n")
    return asyncio.run(_Core(connection, command, settings, memory).serve())


class _Core:
    def __init__(
        self, connection: socket.socket, command: ServeCommand, settings: Settings, memory: DeviceMemory
    ) -> None:
        self._connection = connection
        self._drains = command.shutdown_timeout_s > 0
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ignore_sigterm = settings.faults.ignore_sigterm
        self._scheduler = Scheduler(
            model=command.model,
            token_s=settings.token_s,
            max_running=command.max_num_seqs,
            faults=settings.faults,
            emit=self._emit,
        )
        self._methods = Methods(
            scheduler=self._scheduler, memory=memory, settings=settings, sleep_mode=command.sleep_mode
        )

    async def serve(self) -> int:
        reader, self._writer = await asyncio.open_connection(sock=self._connection, limit=_LONGEST_LINE)
        loop = asyncio.get_running_loop()
        for number in () if self._ignore_sigterm else (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number.name)
        self._start(self._read(reader))
        await self._ended.wait()
        return 0

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            match decode_command(line):
                case Add() as request:
                    self._scheduler.add(request)
                case Abort(request_ids=request_ids):
                    self._scheduler.abort(request_ids)
                case Call() as call:
                    self._start(self._answer(call))
                case unknown:
                    assert_never(unknown)

    async def _answer(self, call: Call) -> None:
        try:
            reply = Reply(call.number, await self._methods.call(call.method, call.arguments))
        except CoreDied as death:
            self._emit(Reply(call.number, error=f"Call to {call.method} method failed: {death}"))
            self._die()
            return
        except Exception as error:  # noqa: BLE001 - any failure of a method is its caller's to hear of
            reply = Reply(call.number, error=f"Call to {call.method} method failed: {error}")
        self._emit(reply)

    def _emit(self, event: Event) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(event) + b"\n")

    def _stop(self, name: str) -> None:
        _say("core.py:1480", f"[shutdown] EngineCore: trigger received signal={name}")
        if not self._drains:
            self._die()

    def _die(self) -> None:
        self._emit(Dead())
        self._ended.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _hear_signals(*, ignore: bool) -> list[int]:
    """While the model loads, a signal is noted and changes nothing. Returns the (growing) list of those noted."""
    noted: list[int] = []

    def note(number: int, _frame: object) -> None:
        _say("core.py:1480", f"[shutdown] EngineCore: trigger received signal={signal.Signals(number).name}")
        noted.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if ignore else note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))  # blocked across the fork
    return noted


def _flood() -> None:
    """Some MB a second of what nobody wants in a log: a long line, half a line, bytes that are no text."""
    junk = b"A" * (60 << 10) + b"\n" + b"half a line, and then \xff\xfe\x00\x1b[31m\r" + b"short\n" * 500
    while True:
        os.write(sys.stdout.fileno(), junk)
        time.sleep(0.02)
