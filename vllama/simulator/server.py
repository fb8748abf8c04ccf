"""The API server process: bind, start the core, wait for it, serve, and end the way vLLM does."""

import asyncio
import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import uvicorn
import uvloop

from vllama.simulator.answers.realtime import Realtime
from vllama.simulator.app import App
from vllama.simulator.command import ServeCommand
from vllama.simulator.core_client import CoreClient, connect, start_core, wait_until_loaded
from vllama.simulator.log import log, log_traceback
from vllama.simulator.middleware import passed, wrapped
from vllama.simulator.routes import supported_tasks
from vllama.simulator.server_state import ServerState
from vllama.simulator.settings import Settings

_ABORT_GRACE_S = 0.05  # a core that got the same signal has this long to say goodbye to its requests
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_say = partial(log, "APIServer")


class _LoadSignals:
    """While the model loads the first signal is lost, as it is in vLLM; the second one interrupts."""

    def __init__(self, *, ignore: bool) -> None:
        self.core_pid: int | None = None
        self._heard = 0
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN if ignore else self._hear)

    def _hear(self, _number: int, _frame: object) -> None:
        self._heard += 1
        if self.core_pid is None or self._heard > 1:
            raise KeyboardInterrupt("terminated")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # ours stay


def run_server(command: ServeCommand, settings: Settings) -> int:
    """Serve until told to stop. Returns the exit code, or ends by SIGINT when interrupted while loading."""
    signals = _LoadSignals(ignore=settings.faults.ignore_sigterm)
    try:
        options = {name: " ".join(words) for name, words in command.options.items() if name != "--api-key"}
        _say("api_utils.py:286", f"non-default args: { {'model_tag': command.model, **options} }")
        if settings.dev_mode:
            _say(
                "api_server.py:120",
                "SECURITY WARNING: Development endpoints are enabled! This should NOT be used in production!",
                level="WARNING",
            )
        try:
            listener = _bind(command)
        except OSError as error:
            log_traceback("APIServer", f"OSError: {error}")
            return 1
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # none between the fork and knowing whom to kill
        signals.core_pid, connection = start_core(command, settings, listener)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if not wait_until_loaded(connection):
            return _load_failed(signals.core_pid, settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(command, settings, listener, signals.core_pid, connection))
    except KeyboardInterrupt as interrupt:
        _interrupted(signals.core_pid, interrupt)
        raise


def _bind(command: ServeCommand) -> socket.socket:
    """Bound, but not listening: until the model is loaded connections are refused."""
    if command.uds:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(command.uds)
        return listener
    listener = socket.socket(socket.AF_INET6 if ":" in command.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((command.host, command.port))
    return listener


def _load_failed(core_pid: int, settings: Settings) -> int:
    code = 1
    with suppress(ChildProcessError):  # not ours, after a double fork
        _, status = os.waitpid(core_pid, 0)
        code = os.waitstatus_to_exitcode(status)
    planned = settings.faults.exit_at_load
    if planned is not None:
        return planned
    log_traceback(
        "APIServer",
        "RuntimeError: Engine core initialization failed. See root cause above. "
        f"Failed core proc(s): {{'EngineCore': {code}}}",
    )
    return 1


def _interrupted(core_pid: int | None, interrupt: KeyboardInterrupt) -> None:
    """End as Python ends on an interrupt nobody catches: by SIGINT, so that the exit code is -2."""
    if core_pid is not None:
        os.kill(core_pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(core_pid, 0)
    log_traceback("APIServer", f"KeyboardInterrupt: {interrupt}")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


async def _serve(
    command: ServeCommand, settings: Settings, listener: socket.socket, core_pid: int, connection: socket.socket
) -> int:
    core = await connect(core_pid, connection)
    state = ServerState(command=command, settings=settings, core=core)
    app = cast("Any", wrapped(App(state), command.middleware))
    config = uvicorn.Config(
        app, host=command.host, port=command.port, access_log=command.access_log, lifespan="on",
        ws=cast("type[asyncio.Protocol]", partial(Realtime, state, wrapped(passed, command.middleware))),
    )  # fmt: skip
    server = _Server(config)
    told = asyncio.Event()
    for number in () if settings.faults.ignore_sigterm else _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    address = f"unix:{command.uds}" if command.uds else f"http://{command.host}:{command.port}"
    _say("entry.py:136", f"Supported tasks: {supported_tasks(settings.task)}")
    _say("entry.py:140", f"Starting vLLM server on {address}")
    background = [
        asyncio.create_task(core.listen()),
        asyncio.create_task(_end_after_core(server, core, settings)),
        asyncio.create_task(_end_when_told(server, told, state)),
    ]
    try:
        await server.serve(sockets=[listener])
    finally:
        core.kill()
        for task in background:
            task.cancel()
    return 0


async def _end_after_core(server: uvicorn.Server, core: CoreClient, settings: Settings) -> None:
    """A dead core takes the API server with it, a little later, and the exit code says that all is well."""
    await core.died.wait()
    _say("core_client.py:620", "Engine core proc EngineCore died unexpectedly, shutting down client.", level="ERROR")
    if not settings.keep_alive_on_engine_death:
        await asyncio.sleep(settings.dead_s)
        server.should_exit = True


async def _end_when_told(server: uvicorn.Server, told: asyncio.Event, state: ServerState) -> None:
    """With no --shutdown-timeout the core is killed under its requests, whose streams just stop."""
    await told.wait()
    timeout_s = state.command.shutdown_timeout_s
    _say("launcher.py:280", "[shutdown] API server: shutdown triggered")
    mode = "drain" if timeout_s else "abort"
    _say("launcher.py:293", f"[shutdown] API server: stopping engine client mode={mode} timeout={timeout_s:g}s")
    state.draining = timeout_s > 0
    if state.draining:
        with suppress(TimeoutError):
            await asyncio.wait_for(state.core.idle(), timeout_s)
    else:
        await asyncio.sleep(_ABORT_GRACE_S)
    state.core.kill()
    _say("launcher.py:302", "[shutdown] API server: engine client stopped")
    server.should_exit = True
