"""`vllama serve`: bind, take the lease, recover what an earlier manager left, serve until told to stop."""

import asyncio
import contextlib
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import uvicorn
import uvloop

from vllama.cli import lease, wiring
from vllama.cli.doors import DoorSettings
from vllama.cli.logging import LogSettings, configure, to_file
from vllama.cli.notify import Notify, notify_of
from vllama.cli.state import StateKept
from vllama.cli.threads import all_at_once
from vllama.cli.watch_over import tell, watchdog
from vllama.cli.wiring import CannotServe, House, Settings
from vllama.controller.manifest import ManifestInvalid, load
from vllama.domain.status import one_per_model
from vllama.engine.cache import hub_directory
from vllama.engine.client import EngineClient
from vllama.gateway.access.line import ForEyes, Json, Lines
from vllama.gateway.access.log import AccessLog
from vllama.gateway.access.outlet import Outlet
from vllama.gateway.app import create_app
from vllama.gateway.guard import Guard
from vllama.gateway.info import ServerFacts
from vllama.gateway.recording import RECORDING, Recording
from vllama.gateway.telling import Telling
from vllama.gateway.wire.limits import Limits, connections_within
from vllama.gateway.wire.memory import settle
from vllama.gateway.wire.server import DataPath
from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local.rotation import keep_bounded
from vllama.runtime.local.signals import become_subreaper
from vllama.runtime.ray.settings import RaySettings

BACKLOG = 2048
FINISH_WITHIN_S = 5  # answers that are still being sent when all engines have ended


class _Server(uvicorn.Server):
    """Signals are ours: uvicorn would stop at the first, before engines are drained."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def run(
    *,
    host: str,
    port: int,
    config_dir: Path,
    simulate: str | None,
    logs: LogSettings,
    doors: DoorSettings | None = None,
    ray: RaySettings | None = None,
    say: Callable[[str], str] = lambda _: "",
) -> None:
    """Returns when stopped. `say(url)` is printed once it serves. Raises CannotServe with a text for a person."""
    configure(logs)
    settings = Settings(
        config_dir=config_dir.expanduser().absolute(), simulate=simulate, environ=wiring.environment(),
        doors=doors or DoorSettings(), ray=ray,
    )  # fmt: skip
    held = lease.take(settings.config_dir)
    try:
        with contextlib.ExitStack() as stack, _bound(host, port) as listener:
            _check_manifest(settings)
            house = wiring.build(settings)
            limits = Limits(connections=connections_within(_raise_file_limit()))
            become_subreaper()
            stack.callback(_log_to_file(settings.config_dir / "logs" / "vllama.log", logs))
            port_now, certificate = listener.getsockname()[1], settings.doors.tls_cert
            announce = partial(held.announce, host=host, port=port_now, certificate=certificate)
            announce()
            state = StateKept(
                settings.config_dir, settings.config_dir / "logs", events=house.controller.events, mended=announce
            )  # fmt: skip
            house.controller.further_conditions.append(state.condition)
            uvloop.run(_serve(house, settings, listener, logs, state, limits=limits, say=say))
    finally:
        held.release()


def _log_to_file(path: Path, logs: LogSettings) -> Callable[[], None]:
    try:
        return to_file(path, logs)
    except PermissionError as error:
        raise CannotServe(f"Cannot write the log {path}: {error.strerror or error}.") from error
    except OSError as error:
        # a disk that is full or broken is no reason to serve nobody; the condition StateKept says so further on
        print(f"Cannot write the log {path}: {error.strerror or error}. Serves without it.", file=sys.stderr)
        return lambda: None


def _check_manifest(settings: Settings) -> None:
    """There is no last good version yet to stay with, and no models at all would be a surprise."""
    try:
        load(settings.manifest, environ=settings.environ)
    except ManifestInvalid as invalid:
        raise CannotServe(f"{invalid}\nNothing was started. Check again with: vllama validate") from invalid


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotServe(
            f"Cannot listen on {host}:{port}: {error.strerror}. "
            f"See who does with `ss -ltnp 'sport = :{port}'`, or choose another with --port."
        ) from error
    return listener


def _raise_file_limit() -> int:
    """Returns what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


async def _serve(
    house: House, settings: Settings, listener: socket.socket, logs: LogSettings, state: StateKept, *,
    limits: Limits, say: Callable[[str], str],
) -> None:  # fmt: skip
    asyncio.get_running_loop().set_default_executor(all_at_once())
    notify = notify_of(settings.environ)
    notify.say(STATUS="Looking for engines and models.")
    try:
        await house.runtime.recover()
    except RuntimeFailed as error:
        raise CannotServe(f"{error}\nNothing was started.") from error
    await house.controller.start_up()
    doors = house.doors
    hub, facts = hub_directory(settings.environ), _facts(listener, settings, house)
    access_log = _access_log(logs, doors.guard) if logs.access else None
    recording = Recording(settings.config_dir / RECORDING) if logs.recording else None
    telling = Telling(client=EngineClient(house.http), access_log=access_log, recording=recording)
    app = create_app(
        house.controller, version=version("vllama"), telling=telling, guard=doors.guard, hub=hub, facts=facts
    )  # fmt: skip
    data_path = DataPath(
        house.controller, finished=telling.finished, limits=limits, keyring=doors.guard.keyring, origins=doors.origins
    )  # fmt: skip
    config = uvicorn.Config(
        app, http=data_path.protocol, proxy_headers=False, server_header=False, date_header=False,
        log_config=None, access_log=False, lifespan="on", backlog=BACKLOG, timeout_graceful_shutdown=FINISH_WITHIN_S,
    )  # fmt: skip
    config.load()
    config.ssl = None if doors.certificate is None else doors.certificate.context
    server = _Server(config)
    settle()
    stop, hurry = _watch_signals(lambda: _reload(house))
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    running = asyncio.create_task(_run(house, settings.config_dir / "logs", logs, state, recording), name="controller")
    watched = asyncio.create_task(_watch_over(house, notify, server, url=_url(listener, settings)), name="watched over")
    _greet(listener, settings, house, say, logs)
    stopped = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({serving, running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    notify.say(STOPPING="1", STATUS="Finishing what is in flight, and stopping the engines.")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    data_path.close_tunnels()
    await house.controller.shut_down(hurry=hurry)
    server.should_exit = True
    await serving
    data_path.close()
    if access_log is not None:
        access_log.close()
    if recording is not None:
        recording.close()
    await house.http.aclose()
    watched.cancel()
    await asyncio.wait({watched})


def _access_log(logs: LogSettings, guard: Guard) -> AccessLog:
    lines = Lines(keyring=guard.keyring, proxies=guard.proxies)
    return AccessLog(Outlet(sys.stderr.fileno()), ForEyes() if logs.for_eyes else Json(), lines)


async def _run(
    house: House, directory: Path, logs: LogSettings, state: StateKept, recording: Recording | None
) -> None:  # fmt: skip
    """Until cancelled."""
    bounded = partial(keep_bounded, directory, max_bytes=logs.max_bytes, backups=logs.backup_count)
    keep = house.controller.tending.keep
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep("logs", bounded), name="logs")
        tasks.create_task(house.controller.run(), name="controller")
        tasks.create_task(keep("doors", house.doors.follow), name="doors")
        tasks.create_task(keep("state", state.run), name="state")
        if recording is not None:
            tasks.create_task(keep("recording", recording.run), name="recording")


async def _watch_over(house: House, notify: Notify, server: uvicorn.Server, *, url: str) -> None:
    """To the very end: while it drains the event loop may stand still, too. Until cancelled."""
    controller = house.controller
    with watchdog(controller.pulse):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(controller.tending.keep("pulse", controller.pulse.run), name="pulse")
            told = partial(tell, notify, controller, url=url, is_open=lambda: server.started)
            tasks.create_task(controller.tending.keep("status", told), name="status")


def _facts(listener: socket.socket, settings: Settings, house: House) -> ServerFacts:
    host, port = listener.getsockname()[:2]
    return ServerFacts(
        host=host, port=port, started_at=time.time(), config_dir=str(settings.config_dir),
        models_yaml=str(settings.manifest), logs=str(settings.config_dir / "logs"),
        model_cache=str(hub_directory(settings.environ)), engine_ports=(settings.ports[0], settings.ports[-1]),
        runs_on=house.describe, simulated=settings.simulate is not None,
    )  # fmt: skip


async def _reload(house: House) -> None:
    await house.controller.rescan()
    house.controller.events.record("Reloaded", "SIGHUP: models.yaml and the model cache were looked at.")


def _watch_signals(reload: Callable[[], Coroutine[None, None, None]]) -> tuple[asyncio.Event, asyncio.Event]:
    """The first SIGTERM or SIGINT stops, the second hurries. SIGHUP reloads, except from a terminal that is closed."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    on_terminal, reloads = sys.stderr.isatty(), set[asyncio.Task[None]]()

    def told() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    def hung_up() -> None:
        if on_terminal and not sys.stderr.isatty():
            told()
            return
        task = asyncio.create_task(reload(), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    return stop, hurry


def _url(listener: socket.socket, settings: Settings) -> str:
    host, port = listener.getsockname()[:2]
    scheme = settings.doors.scheme
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _greet(
    listener: socket.socket, settings: Settings, house: House, say: Callable[[str], str], logs: LogSettings
) -> None:  # fmt: skip
    url = _url(listener, settings)
    models = f"{len(one_per_model(house.controller.statuses()))} models; settings in {settings.manifest}"
    logged = "each request is logged" if logs.access else "--access-log logs each request"
    lines = (
        f"vllama serves {url} on {house.describe}.",
        f"{models}, logs in {settings.config_dir / 'logs'}.",
        f"In a browser: {url}/ui. Metrics are at {url}/metrics; {logged}.",
        say(url),
    )
    print("\n".join(lines), file=sys.stderr, flush=True)  # for the person at the terminal
